//! Reads weights that are split over several files, listed in a `*.index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::safetensors::bad_weights;
use super::state_dict::StateDict;
use crate::error::{Error, Result};

/// The index file the Hugging Face tools write beside the shards; `metadata` is of no use here.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads every tensor an index lists, from shards in the same folder.
///
/// A shard that lacks a listed tensor, or a listed path outside the folder, is an error.
pub fn read(path: &Path) -> Result<StateDict> {
    let index = parse(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut dict = StateDict::new(path);
    for shard in index.weight_map.values().collect::<BTreeSet<_>>() {
        let part = super::read_file(&folder.join(shard))?;
        dict.notes.extend(part.notes.iter().cloned());
        dict.metadata.extend(part.metadata.clone());
        for (name, entry) in part.into_tensors() {
            if index.weight_map.get(&name) == Some(shard) {
                dict.insert(name, entry);
            }
        }
    }
    match index.weight_map.iter().find(|(name, _)| !dict.contains(name)) {
        Some((name, shard)) => Err(bad_weights(path, format!("it lists `{name}`, which `{shard}` lacks"))),
        None => Ok(dict),
    }
}

/// Lists the shards of an index file, each once, without reading them.
pub fn shards(path: &Path) -> Result<Vec<String>> {
    let names: BTreeSet<String> = parse(path)?.weight_map.into_values().collect();
    Ok(names.into_iter().collect())
}

fn parse(path: &Path) -> Result<Index> {
    let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
    let index: Index = serde_json::from_str(&text)
        .map_err(|e| bad_weights(path, format!("it is not an index of weight files ({e})")))?;
    // An index may come from a stranger: it must not name files elsewhere on the disk.
    match index.weight_map.values().find(|s| s.contains(['/', '\\']) || s.starts_with('.') || s.is_empty()) {
        Some(outside) => Err(bad_weights(path, format!("it names a file outside its folder: `{outside}`"))),
        None => Ok(index),
    }
}

#[cfg(test)]
mod tests {
    use super::super::safetensors;
    use super::super::state_dict::Entry;
    use super::*;

    #[test]
    fn shards_are_joined_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        for (file, name) in [("m-1.safetensors", "a"), ("m-2.safetensors", "b")] {
            let mut dict = StateDict::new("");
            dict.insert(name, Entry::from_f32(&[1], &[1.0]));
            safetensors::write(&dir.path().join(file), &dict).unwrap();
        }
        let index = dir.path().join("model.safetensors.index.json");
        let write = |map: &str| std::fs::write(&index, format!(r#"{{"weight_map":{map}}}"#)).unwrap();
        write(r#"{"a":"m-1.safetensors","b":"m-2.safetensors"}"#);
        assert_eq!(read(&index).unwrap().len(), 2);
        assert_eq!(shards(&index).unwrap().len(), 2);
        write(r#"{"a":"m-2.safetensors"}"#);
        assert!(read(&index).unwrap_err().to_string().contains("lacks"));
        write(r#"{"a":"../../etc/passwd"}"#);
        assert!(read(&index).unwrap_err().to_string().contains("outside"));
        write(r#"{"a":"m-9.safetensors"}"#);
        assert!(matches!(read(&index), Err(Error::NotFound { .. })));
    }
}
