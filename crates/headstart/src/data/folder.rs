//! Finding pictures in folders: `root/{train,val,test}/class/…` or `root/class/…`.
//!
//! Names starting with a dot and `__MACOSX` are skipped; files without a picture's extension are
//! ignored; both are counted, so that nothing disappears in silence. Sub-folders of a class belong
//! to the class.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::split::Split;
use crate::error::{Error, Result};

/// File name endings of pictures: torchvision's list, GIF, and JPEG's other name.
pub const EXTENSIONS: [&str; 11] =
    ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "gif", "jfif"];

/// A labelled picture before classes have numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The part it belongs to, where folder or manifest says so.
    pub split: Option<Split>,
    /// Name of its class.
    pub class: String,
    /// The file.
    pub path: PathBuf,
}

/// What a folder or manifest holds.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Pictures, sorted by split, class and path.
    pub entries: Vec<Entry>,
    /// Class folders without a single picture.
    pub empty: Vec<(Option<Split>, String)>,
    /// Hidden files and folders skipped.
    pub hidden: Vec<PathBuf>,
    /// Files ignored because they are no pictures by name.
    pub ignored: Vec<PathBuf>,
    /// Folders beside `train` that are no split.
    pub strangers: Vec<String>,
}

/// Lists the pictures below `root`.
pub fn scan(root: &Path) -> Result<Found> {
    let mut found = Found::default();
    let top = children(root, &mut found)?;
    let splits: Vec<Option<Split>> = top.folders.iter().map(|f| Split::of_folder(&f.name)).collect();
    // A class may be called `test`; a folder `train` leaves no doubt.
    let is_split =
        splits.contains(&Some(Split::Train)) || (!splits.is_empty() && splits.iter().all(Option::is_some));
    found.ignored.extend(top.files.into_iter().map(|f| f.path));
    for (folder, split) in top.folders.iter().zip(splits) {
        match (is_split, split) {
            (true, Some(split)) => {
                let inside = children(&folder.path, &mut found)?;
                found.ignored.extend(inside.files.into_iter().map(|f| f.path));
                for class in &inside.folders {
                    scan_class(class, Some(split), &mut found)?;
                }
            }
            (true, None) => found.strangers.push(folder.name.clone()),
            (false, _) => scan_class(folder, None, &mut found)?,
        }
    }
    found.entries.sort();
    Ok(found)
}

fn scan_class(class: &Child, split: Option<Split>, found: &mut Found) -> Result<()> {
    let before = found.entries.len();
    // Links are followed, but no folder twice: a link to a parent would never end.
    let mut visited = HashSet::new();
    let mut waiting = vec![class.path.clone()];
    while let Some(folder) = waiting.pop() {
        if !visited.insert(folder.canonicalize().map_err(Error::read(&folder))?) {
            continue;
        }
        let inside = children(&folder, found)?;
        for file in inside.files {
            if is_picture_name(&file.path) {
                found.entries.push(Entry { split, class: class.name.clone(), path: file.path });
            } else {
                found.ignored.push(file.path);
            }
        }
        waiting.extend(inside.folders.into_iter().map(|f| f.path));
    }
    if found.entries.len() == before {
        found.empty.push((split, class.name.clone()));
    }
    Ok(())
}

/// Tells whether the name ends like a picture's, in upper or lower case.
pub fn is_picture_name(path: &Path) -> bool {
    path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)))
}

struct Child {
    name: String,
    path: PathBuf,
}

#[derive(Default)]
struct Children {
    folders: Vec<Child>,
    files: Vec<Child>,
}

/// Lists all pictures below `folder`, sorted, whatever its folders are called.
pub fn pictures_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, whole) = (Found::default(), Child { name: String::new(), path: folder.to_path_buf() });
    scan_class(&whole, None, &mut found)?;
    found.entries.sort();
    Ok(found.entries.into_iter().map(|entry| entry.path).collect())
}

/// Lists a folder, without what is hidden; links count as what they point to.
fn children(folder: &Path, found: &mut Found) -> Result<Children> {
    let mut out = Children::default();
    for item in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let item = item.map_err(Error::read(folder))?;
        let name = item.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "__MACOSX" {
            found.hidden.push(item.path());
            continue;
        }
        let path = item.path();
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => out.folders.push(Child { name, path }),
            // A link to nowhere is listed as a file: the audit will name it.
            _ => out.files.push(Child { name, path }),
        }
    }
    // The system lists in any order.
    out.folders.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        dir
    }

    fn names(found: &Found) -> Vec<(Option<Split>, &str, &str)> {
        let name = |e: &Entry| e.path.file_name().unwrap().to_str().unwrap().to_owned();
        found.entries.iter().map(|e| (e.split, e.class.as_str(), &*name(e).leak())).collect()
    }

    #[test]
    fn split_folders_have_several_names() {
        let dir = tree(&["train/a/1.jpg", "Validation/a/2.JPG", "test/a/3.png", "notes/read.txt"]);
        let found = scan(dir.path()).unwrap();
        assert_eq!(
            names(&found),
            [
                (Some(Split::Train), "a", "1.jpg"),
                (Some(Split::Val), "a", "2.JPG"),
                (Some(Split::Test), "a", "3.png")
            ]
        );
        assert_eq!(found.strangers, ["notes"]);
    }

    #[test]
    fn without_train_the_folders_are_classes() {
        let dir = tree(&["test/1.jpg", "rose/2.jfif", "rose/deep/er/3.tiff", "top.jpg"]);
        let found = scan(dir.path()).unwrap();
        assert_eq!(
            names(&found),
            [(None, "rose", "2.jfif"), (None, "rose", "3.tiff"), (None, "test", "1.jpg")]
        );
        assert_eq!(found.ignored, [dir.path().join("top.jpg")]);
    }

    #[test]
    fn hidden_things_are_skipped_and_counted() {
        let dir = tree(&[
            "a/1.jpg",
            "a/.DS_Store",
            "a/._1.jpg",
            "a/notes.txt",
            ".ipynb_checkpoints/1.jpg",
            "__MACOSX/a/1.jpg",
            "b/readme",
        ]);
        let found = scan(dir.path()).unwrap();
        assert_eq!(names(&found), [(None, "a", "1.jpg")]);
        assert_eq!((found.hidden.len(), found.ignored.len()), (4, 2));
        assert_eq!(found.empty, [(None, "b".to_string())]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_once() {
        let dir = tree(&["a/1.jpg", "elsewhere.d/2.jpg"]);
        std::os::unix::fs::symlink(dir.path().join("a"), dir.path().join("a/again")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere.d"), dir.path().join("a/linked")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("a/broken.jpg")).unwrap();
        let found = scan(dir.path()).unwrap();
        let in_a: Vec<_> = names(&found).into_iter().filter(|n| n.1 == "a").map(|n| n.2).collect();
        assert_eq!(in_a, ["1.jpg", "broken.jpg", "2.jpg"]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        assert!(matches!(scan(Path::new("/no/such/folder")), Err(Error::NotFound { .. })));
    }
}
