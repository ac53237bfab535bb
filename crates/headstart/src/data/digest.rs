//! Content keys: whether two lists of files are the same, down to the last byte.

use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::dataset::Dataset;
use super::split::{Split, relative};
use crate::error::{Error, Result};
use crate::task::Task;

/// Returns the SHA-256 of a file, in hexadecimal.
pub fn file_sha256(path: impl AsRef<Path>) -> Result<String> {
    hash_file(path.as_ref()).map(|(_, hash)| hash)
}

/// Returns size and SHA-256 of a file.
fn hash_file(path: &Path) -> Result<(u64, String)> {
    let mut file = std::fs::File::open(path).map_err(Error::read(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        match file.read(&mut buffer).map_err(Error::read(path))? {
            0 => return Ok((size, hex(&hasher.finalize()))),
            n => {
                hasher.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
}

/// Returns one key for a list of files: their names relative to `root`, sizes and contents.
///
/// The order of the list does not matter.
pub fn digest_files(root: &Path, paths: &[PathBuf]) -> Result<String> {
    digest_lines(paths.par_iter().map(|path| line("", root, path)).collect::<Result<_>>()?)
}

impl Dataset {
    /// Returns one key for the whole data set: files, contents, parts and classes.
    pub fn digest(&self) -> Result<String> {
        let mut lines = Vec::new();
        for split in [Split::Train, Split::Val, Split::Test] {
            let part = self.part(split).par_iter().map(|sample| {
                let said = match self.task {
                    Task::Classify => self.classes.name(sample.label).to_string(),
                    _ => self.rows[sample.label].iter().map(f64::to_string).collect::<Vec<_>>().join(" "),
                };
                line(&format!("{}\t{said}", split.name()), &self.root, &sample.path)
            });
            lines.extend(part.collect::<Result<Vec<_>>>()?);
        }
        if self.task != Task::Classify {
            lines.push(format!("task\t{}", self.task));
        }
        lines.extend(self.classes.names().iter().enumerate().map(|(i, name)| format!("class\t{i}\t{name}")));
        digest_lines(lines)
    }
}

fn line(label: &str, root: &Path, path: &Path) -> Result<String> {
    let (size, hash) = hash_file(path)?;
    Ok(format!("{label}\t{}\t{size}\t{hash}", relative(root, path)))
}

fn digest_lines(mut lines: Vec<String>) -> Result<String> {
    lines.sort_unstable();
    let mut hasher = Sha256::new();
    for line in &lines {
        // The length first: no file name can imitate a line end.
        hasher.update((line.len() as u64).to_le_bytes());
        hasher.update(line);
    }
    Ok(hex(&hasher.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_sees_names_and_contents_and_nothing_else() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |dir: &tempfile::TempDir, name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let a = [write(&one, "a", "1"), write(&one, "b", "2")];
        let b = [write(&two, "b", "2"), write(&two, "a", "1")];
        let key = digest_files(one.path(), &a).unwrap();
        assert_eq!(key, digest_files(two.path(), &b).unwrap());
        write(&two, "a", "3");
        assert_ne!(key, digest_files(two.path(), &b).unwrap());
        // sha256sum of a file that holds "1"
        assert_eq!(
            file_sha256(&a[0]).unwrap(),
            "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
        );
    }
}
