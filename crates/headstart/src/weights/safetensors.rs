//! Reads and writes `.safetensors` files.
//!
//! The header is validated by the `safetensors` crate (offsets without holes or overlaps, sizes
//! that match shapes). Tensors are then read one by one into their entries, so that the peak
//! memory is one file. Index files that list several shards are the business of `sharded.rs`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use ::safetensors::Dtype as Stored;
use ::safetensors::tensor::{Metadata, TensorInfo};

use super::atomic::write_atomically;
use super::state_dict::{Dtype, Entry, StateDict};
use crate::error::{Error, Result};

/// Caps the header at the size the reference implementation allows, before any memory is taken.
const MAX_HEADER: u64 = 100_000_000;

/// Reads every tensor of a `.safetensors` file.
pub fn read(path: &Path) -> Result<StateDict> {
    let file = File::open(path).map_err(Error::read(path))?;
    let file_len = file.metadata().map_err(Error::read(path))?.len();
    read_from(BufReader::with_capacity(1 << 20, file), file_len, path)
}

/// Reads every tensor of a safetensors file in memory; `path` is what errors call it.
pub fn read_bytes(bytes: &[u8], path: &Path) -> Result<StateDict> {
    read_from(bytes, bytes.len() as u64, path)
}

fn read_from(mut input: impl Read, file_len: u64, path: &Path) -> Result<StateDict> {
    let metadata = read_header(&mut input, file_len, path)?;

    let mut dict = StateDict::new(path);
    dict.metadata.extend(metadata.metadata().clone().unwrap_or_default());
    for name in metadata.offset_keys() {
        let info = metadata.info(&name).expect("a key that the header just listed");
        let Some(dtype) = from_stored(info.dtype) else {
            dict.notes.push(format!("left out `{name}`: its type {:?} is not supported", info.dtype));
            let (start, end) = info.data_offsets;
            std::io::copy(&mut (&mut input).take((end - start) as u64), &mut std::io::sink())
                .map_err(Error::read(path))?;
            continue;
        };
        let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
        input.read_exact(&mut bytes).map_err(Error::read(path))?;
        dict.insert(name, Entry { dtype, shape: info.shape.clone(), bytes });
    }
    Ok(dict)
}

/// Checks the promises of the header against the length of the file before believing them.
fn read_header(input: &mut impl Read, file_len: u64, path: &Path) -> Result<Metadata> {
    let bad = |reason: String| bad_weights(path, reason);
    if file_len < 8 {
        return Err(bad(format!("it has only {file_len} bytes: the download was cut short?")));
    }
    let mut length = [0; 8];
    input.read_exact(&mut length).map_err(Error::read(path))?;
    let header_len = u64::from_le_bytes(length);
    if header_len > MAX_HEADER {
        return Err(bad("it does not start like a safetensors file".into()));
    }
    if 8 + header_len > file_len {
        return Err(bad(format!(
            "the header needs {} bytes, the file has {file_len}: the download was cut short?",
            8 + header_len
        )));
    }
    let mut header = vec![0; header_len as usize];
    input.read_exact(&mut header).map_err(Error::read(path))?;
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|e| bad(format!("its header is garbled ({e})")))?;
    let promised = 8 + header_len + metadata.data_len() as u64;
    if promised > file_len {
        return Err(bad(format!(
            "the header promises {promised} bytes, the file has {file_len}: the download was cut short?"
        )));
    }
    if promised < file_len {
        return Err(bad(format!(
            "the header promises {promised} bytes, the file has {file_len}: something was appended"
        )));
    }
    Ok(metadata)
}

/// Writes `dict` as one `.safetensors` file with `format: pt`, replacing `path` only at the end.
///
/// Tensors are ordered by falling alignment and then by name, as the reference implementation
/// does, so that every reader can map them without copying.
pub fn write(path: &Path, dict: &StateDict) -> Result<()> {
    let mut order: Vec<(&str, &Entry)> = dict.iter().collect();
    order.sort_by(|(a, x), (b, y)| y.dtype.size().cmp(&x.dtype.size()).then(a.cmp(b)));
    let mut end = 0;
    let infos = order.iter().map(|(name, entry)| {
        let start = end;
        end += entry.bytes.len();
        let dtype = to_stored(entry.dtype);
        (name.to_string(), TensorInfo { dtype, shape: entry.shape.clone(), data_offsets: (start, end) })
    });
    let infos = infos.collect();
    let mut notes: HashMap<String, String> = dict.metadata.clone().into_iter().collect();
    notes.entry("format".into()).or_insert_with(|| "pt".into());
    let header = serialize_header(notes, infos)
        .unwrap_or_else(|e| panic!("entries whose bytes do not fill their shape cannot be saved: {e}"));

    write_atomically(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for (_, entry) in &order {
            out.write_all(&entry.bytes)?;
        }
        Ok(())
    })
}

fn serialize_header(
    notes: HashMap<String, String>,
    infos: Vec<(String, TensorInfo)>,
) -> std::result::Result<Vec<u8>, Box<dyn std::error::Error>> {
    // The notes go in by hand and sorted: a `HashMap` would give other bytes in every process.
    let tensors = serde_json::to_value(Metadata::new(None, infos)?)?;
    let mut header = serde_json::Map::new();
    let notes: std::collections::BTreeMap<_, _> = notes.into_iter().collect();
    header.insert("__metadata__".into(), serde_json::to_value(notes)?);
    if let serde_json::Value::Object(tensors) = tensors {
        header.extend(tensors);
    }
    let mut header = serde_json::to_vec(&header)?;
    // Spaces up to a multiple of eight keep the first tensor aligned.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

pub(super) fn bad_weights(path: &Path, reason: impl Into<String>) -> Error {
    let reason = reason.into();
    let hint = if reason.contains("cut short") {
        "download it again; `headstart pull` verifies and resumes".into()
    } else {
        "`.safetensors`, `.pth`, `.pt`, `.pth.tar` and `.bin` files of PyTorch are read".into()
    };
    Error::BadWeights { path: path.to_path_buf(), reason, hint }
}

fn from_stored(dtype: Stored) -> Option<Dtype> {
    Some(match dtype {
        Stored::BOOL => Dtype::Bool,
        Stored::U8 => Dtype::U8,
        Stored::I8 => Dtype::I8,
        Stored::U16 => Dtype::U16,
        Stored::I16 => Dtype::I16,
        Stored::U32 => Dtype::U32,
        Stored::I32 => Dtype::I32,
        Stored::U64 => Dtype::U64,
        Stored::I64 => Dtype::I64,
        Stored::F16 => Dtype::F16,
        Stored::BF16 => Dtype::BF16,
        Stored::F32 => Dtype::F32,
        Stored::F64 => Dtype::F64,
        _ => return None,
    })
}

fn to_stored(dtype: Dtype) -> Stored {
    match dtype {
        Dtype::Bool => Stored::BOOL,
        Dtype::U8 => Stored::U8,
        Dtype::I8 => Stored::I8,
        Dtype::U16 => Stored::U16,
        Dtype::I16 => Stored::I16,
        Dtype::U32 => Stored::U32,
        Dtype::I32 => Stored::I32,
        Dtype::U64 => Stored::U64,
        Dtype::I64 => Stored::I64,
        Dtype::F16 => Stored::F16,
        Dtype::BF16 => Stored::BF16,
        Dtype::F32 => Stored::F32,
        Dtype::F64 => Stored::F64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> StateDict {
        let mut dict = StateDict::new("");
        dict.insert("steps", Entry::from_i64(&[], &[7]));
        dict.insert("w", Entry::from_f32(&[2, 1], &[1.0, -2.0]));
        let half = [half::f16::from_f32(0.1), half::f16::NAN].iter().flat_map(|v| v.to_le_bytes()).collect();
        dict.insert("h", Entry { dtype: Dtype::F16, shape: vec![2], bytes: half });
        dict
    }

    #[test]
    fn what_is_written_comes_back_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.safetensors"), dir.path().join("b.safetensors"));
        write(&a, &sample()).unwrap();
        write(&b, &sample()).unwrap();
        assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
        let back = read(&a).unwrap();
        assert_eq!(back.len(), 3);
        for (name, entry) in sample().iter() {
            assert_eq!(back.get(name), Some(entry));
        }
        assert_eq!(back.metadata["format"], "pt");
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_in_plain_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        write(&path, &sample()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("cut short"), "{length}: {error}");
        }
        let longer = [&whole[..], b"x"].concat();
        std::fs::write(&path, longer).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("appended"));
    }

    #[test]
    fn a_lying_header_takes_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        for header in [
            r#"{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}"#,
            r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#,
            r#"{"w":{"dtype":"F32","shape":[18446744073709551615,4],"data_offsets":[0,8]}}"#,
            r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            r#"[1]"#,
        ] {
            let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat();
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(read(&path), Err(Error::BadWeights { .. })), "{header}");
        }
    }
}
