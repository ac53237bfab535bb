//! What a user may name as weights: a file, a folder, a hub repository, an address, a model.

use std::path::{Path, PathBuf};

use super::hub_repo::HubRepo;
use crate::error::{Error, Result};

/// Says where weights are to come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file on the disk.
    File(PathBuf),
    /// A folder with a weights file and perhaps timm's `config.json`.
    LocalDir(PathBuf),
    /// A repository on the Hugging Face hub.
    Hub(HubRepo),
    /// A file on a server, and the first digits its sha256 must have.
    Url {
        /// The address.
        url: String,
        /// Hexadecimal digits, from the file name where it promises some.
        sha_prefix: Option<String>,
    },
    /// A name that the registry of models must know: `resnet18`, `resnet18.a1_in1k` or
    /// `ResNet18_Weights.IMAGENET1K_V1`.
    Registry(String),
}

/// File names in a folder of weights, the first one present wins (timm, `models/_hub.py`); the
/// indexes of shards come right after the single file they replace.
pub(super) const PREFERRED: [&str; 10] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pytorch_model.pth",
    "model.pth",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
];

/// Endings of weights files, in timm's order of preference; the last is ours.
const ENDINGS: [&str; 5] = [".safetensors", ".pth", ".pth.tar", ".bin", ".pt"];

impl Source {
    /// Understands what a user typed after `--weights` or `--model`.
    ///
    /// A file that exists wins over a model of the same name; a folder does so only when it is
    /// written like a path, because a run folder may well be called `resnet18`.
    pub fn parse(text: &str) -> Result<Source> {
        if let Some(repo) = text.strip_prefix("hf-hub:").or_else(|| text.strip_prefix("hf_hub:")) {
            return HubRepo::parse(repo).map(Source::Hub);
        }
        if let Some(folder) = text.strip_prefix("local-dir:").or_else(|| text.strip_prefix("local_dir:")) {
            let folder = PathBuf::from(folder);
            return match folder.is_dir() {
                true => Ok(Source::LocalDir(folder)),
                false => Err(Error::NotFound { path: folder }),
            };
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            let sha_prefix = sha_prefix(file_name(text)).map(String::from);
            return Ok(Source::Url { url: text.into(), sha_prefix });
        }
        let path = Path::new(text);
        let like_path = text.contains(['/', '\\']) || text.starts_with(['.', '~']);
        if path.is_file() {
            return Ok(Source::File(path.into()));
        }
        if path.is_dir() && like_path {
            return Ok(Source::LocalDir(path.into()));
        }
        // `org/name` is refused as in timm: it could be a folder, a repository or a typing error.
        if text.matches('/').count() == 1 && !text.starts_with(['.', '/', '~']) && !has_ending(text) {
            return Err(Error::BadModel {
                what: format!("`{text}` is neither a file nor the name of a model"),
                hint: format!("for the repository on the Hugging Face hub write `hf-hub:{text}`"),
            });
        }
        if like_path || has_ending(text) {
            return Err(Error::NotFound { path: path.into() });
        }
        Ok(Source::Registry(text.into()))
    }
}

/// Finds the weights file in a folder, in timm's order of search.
pub fn weights_in(folder: &Path) -> Result<PathBuf> {
    if let Some(found) = PREFERRED.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
        return Ok(found);
    }
    let entries = std::fs::read_dir(folder).map_err(Error::read(folder))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.is_file()).collect();
    files.sort();
    let named = |ending: &str| {
        files.iter().find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().ends_with(ending)))
    };
    ENDINGS.iter().find_map(|ending| named(ending)).cloned().ok_or_else(|| Error::BadWeights {
        path: folder.into(),
        reason: "the folder holds no weights file".into(),
        hint: format!("looked for {} and for any {}", PREFERRED[0], ENDINGS.join(", ")),
    })
}

/// Reads the promise in names such as `resnet18-f37072fd.pth`: the file's sha256 starts so.
///
/// The pattern is torch's `-([a-f0-9]*)\.`; under eight digits it is a version, not a promise.
pub(super) fn sha_prefix(file_name: &str) -> Option<&str> {
    let stem = file_name.split('.').next()?;
    let (_, digits) = stem.rsplit_once('-')?;
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    ((8..=64).contains(&digits.len()) && digits.bytes().all(hex)).then_some(digits)
}

/// Returns the last segment of an address, without query.
pub(super) fn file_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.rsplit('/').next().unwrap_or(path)
}

fn has_ending(text: &str) -> bool {
    ENDINGS.iter().any(|ending| text.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood() {
        for name in ["resnet18", "resnet18.a1_in1k", "ResNet18_Weights.IMAGENET1K_V1"] {
            assert_eq!(Source::parse(name).unwrap(), Source::Registry(name.into()));
        }
        let hub = |name: &str, revision: &str| {
            Source::Hub(HubRepo { name: name.into(), revision: revision.into() })
        };
        assert_eq!(
            Source::parse("hf-hub:timm/resnet18.a1_in1k").unwrap(),
            hub("timm/resnet18.a1_in1k", "main")
        );
        assert_eq!(Source::parse("hf_hub:me/x@v1.0").unwrap(), hub("me/x", "v1.0"));
        assert_eq!(
            Source::parse("https://x.org/a/resnet18-f37072fd.pth?download=1").unwrap(),
            Source::Url {
                url: "https://x.org/a/resnet18-f37072fd.pth?download=1".into(),
                sha_prefix: Some("f37072fd".into())
            }
        );
    }

    #[test]
    fn mistakes_get_a_hint() {
        let error = Source::parse("timm/resnet18.a1_in1k").unwrap_err();
        assert!(error.hints()[0].contains("hf-hub:timm/resnet18.a1_in1k"), "{error}");
        for text in ["weights.pth", "/nowhere/w.safetensors", "local-dir:/nowhere", "./nowhere"] {
            assert!(matches!(Source::parse(text), Err(Error::NotFound { .. })), "{text}");
        }
        for text in
            ["hf-hub:", "hf-hub:name", "hf-hub:a/b/c", "hf-hub:../b", "hf-hub:a/b@", "hf-hub:a/b@../c"]
        {
            assert!(matches!(Source::parse(text), Err(Error::BadModel { .. })), "{text}");
        }
    }

    #[test]
    fn folders_are_searched_in_timms_order() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| std::fs::write(dir.path().join(name), "x").unwrap();
        let found = || weights_in(dir.path()).map(|p| p.file_name().unwrap().to_string_lossy().into_owned());
        assert!(found().unwrap_err().to_string().contains("no weights file"));
        for name in
            ["z.bin", "last.pth.tar", "b.safetensors", "a.safetensors", "model.pth", "pytorch_model.bin"]
        {
            put(name);
            let expected = if name == "a.safetensors" { "a.safetensors" } else { name };
            assert_eq!(found().unwrap(), expected);
        }
        assert_eq!(Source::parse(dir.path().to_str().unwrap()).unwrap(), Source::LocalDir(dir.path().into()));
    }

    #[test]
    fn promised_digits_are_found() {
        assert_eq!(sha_prefix("alexnet-owt-7be5be79.pth"), Some("7be5be79"));
        assert_eq!(sha_prefix("shufflenetv2_x1-5666bf0f80.pth"), Some("5666bf0f80"));
        assert_eq!(sha_prefix("model-v2.pth"), None);
        assert_eq!(file_name("https://h/x/y.pth?z=1/2"), "y.pth");
    }
}
