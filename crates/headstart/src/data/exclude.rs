//! Leaving files out by a list, such as `headstart audit --fix-list` writes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::dataset::{Dataset, Sample};
use super::manifest::{Manifest, field};
use super::split::{Split, relative};
use crate::error::{Error, Result};

/// Reads the files to leave out: a CSV table with a column `file_name` (or `path`, `file`, …), names relative to the
/// data's root or absolute. Names that do not exist any more are no error.
pub fn read_list(path: &Path) -> Result<Vec<String>> {
    let table = Manifest::read(path)?;
    let names = table.file_names()?;
    Ok(names.into_iter().map(String::from).collect())
}

impl Dataset {
    /// Takes the files `names` out of every part and returns them.
    ///
    /// `list` names the table in errors: it is one if none of its names is in the data, or if a class loses its last
    /// training picture.
    pub fn exclude(&mut self, names: &[String], list: &Path) -> Result<Vec<PathBuf>> {
        let named: HashSet<&str> = names.iter().map(String::as_str).collect();
        let root = self.root.clone();
        let listed = |s: &Sample| {
            named.contains(relative(&root, &s.path).as_str())
                || named.contains(s.path.to_string_lossy().as_ref())
        };
        let had = self.class_counts(Split::Train);
        let mut out = Vec::new();
        for split in [Split::Train, Split::Val, Split::Test] {
            let (gone, kept): (Vec<Sample>, Vec<Sample>) =
                self.part(split).iter().cloned().partition(&listed);
            *self.part_mut(split) = kept;
            out.extend(gone.into_iter().map(|s| s.path));
        }
        let bad = |what: String, hint: &str| Error::BadData {
            place: list.display().to_string(),
            what,
            hint: hint.into(),
        };
        if out.is_empty() && !names.is_empty() {
            return Err(bad(
                format!("none of the {} files to leave out is in `{}`", names.len(), root.display()),
                "names are relative to the data, as `headstart audit --fix-list` writes them",
            ));
        }
        let left = self.class_counts(Split::Train);
        if let Some(class) = (0..had.len()).find(|&c| had[c] > 0 && left[c] == 0) {
            return Err(bad(
                format!("the list leaves no training picture of class `{}`", self.classes.name(class)),
                "leave fewer files out, or remove the class's folder",
            ));
        }
        Ok(out)
    }
}

/// Writes a table of files to leave out, each with its reason; the first reason given for a file counts.
pub fn list_text(rows: &[(String, String)]) -> String {
    let mut seen = HashSet::new();
    let mut text = String::from("file_name,reason\n");
    for (name, reason) in rows.iter().filter(|(name, _)| seen.insert(name)) {
        text += &format!("{},{}\n", field(name), field(reason));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::SplitConfig;
    use super::*;

    fn data() -> (Dataset, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["train/a/1.png", "train/a/2,b.png", "train/b/3.png", "val/a/4.png", "val/b/5.png"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        (Dataset::open(dir.path(), &SplitConfig::default()).unwrap(), dir)
    }

    #[test]
    fn a_list_written_is_a_list_obeyed() {
        let (mut data, dir) = data();
        let rows = [
            ("train/a/2,b.png", "twice"),
            ("val/b/5.png", "cut"),
            ("val/b/5.png", "again"),
            ("gone.png", "?"),
        ];
        let rows = rows.map(|(n, r)| (n.to_string(), r.to_string()));
        let list = dir.path().join("out.csv");
        std::fs::write(&list, list_text(&rows)).unwrap();
        let names = read_list(&list).unwrap();
        assert_eq!(names, ["train/a/2,b.png", "val/b/5.png", "gone.png"]);
        let out = data.exclude(&names, &list).unwrap();
        assert_eq!(out, [dir.path().join("train/a/2,b.png"), dir.path().join("val/b/5.png")]);
        assert_eq!((data.train.len(), data.val.len()), (2, 1));
    }

    #[test]
    fn a_list_that_fits_nothing_or_too_much_is_refused() {
        let (mut data, _dir) = data();
        let refused = |data: &mut Dataset, name: &str| {
            data.exclude(&[name.to_string()], Path::new("l.csv")).unwrap_err().to_string()
        };
        assert!(refused(&mut data, "4.png").contains("none of the 1 files to leave out"));
        assert!(refused(&mut data, "train/b/3.png").contains("no training picture of class `b`"));
    }
}
