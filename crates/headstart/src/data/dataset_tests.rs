//! Tests of opening data: labels by name, and every way it can be wrong.

use std::path::Path;

use super::classes::Classes;
use super::dataset::Dataset;
use super::split::{Split, SplitConfig};
use crate::error::{Error, Result};

fn tree(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        if file.ends_with('/') {
            std::fs::create_dir_all(path).unwrap();
            continue;
        }
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"x").unwrap();
    }
    dir
}

fn open(dir: &Path) -> Result<Dataset> {
    Dataset::open(dir, &SplitConfig::default())
}

fn complaint(files: &[&str]) -> String {
    let dir = tree(files);
    let error = open(dir.path()).unwrap_err();
    assert!(!error.hints().is_empty(), "no hint: {error}");
    error.to_string().replace(&dir.path().display().to_string(), "DATA")
}

#[test]
fn labels_follow_names_not_positions() {
    // `a` is missing in val: by position, `b` would become 0 there.
    let dir =
        tree(&["train/a/1.jpg", "train/b/2.jpg", "train/c/3.jpg", "val/b/4.jpg", "val/c/5.jpg", ".DS_Store"]);
    let data = open(dir.path()).unwrap();
    assert_eq!(data.classes.names(), ["a", "b", "c"]);
    assert_eq!(data.val.iter().map(|s| s.label).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(data.notes, ["1 hidden file or folder was skipped", "no validation picture for `a`"]);
    assert_eq!(data.class_counts(Split::Val), [0, 1, 1]);
}

#[test]
fn what_cannot_be_trained_on_is_refused_with_a_reason() {
    assert_eq!(complaint(&["notes.txt"]), "no picture in `DATA`");
    assert_eq!(complaint(&["a/1.jpg", "a/2.jpg"]), "only one class (`a`) in `DATA`");
    assert_eq!(complaint(&["a/1.jpg"]), "only one picture in `DATA`");
    assert_eq!(complaint(&["a/1.jpg", "a/2.jpg", "b/"]), "the class folder `b` holds no picture in `DATA`");
    assert_eq!(
        complaint(&["train/a/1.jpg", "train/b/2.jpg", "train/c/"]),
        "the class folder `train/c` holds no picture in `DATA`"
    );
    assert_eq!(complaint(&["val/a/1.jpg", "val/b/1.jpg"]), "no training part in `DATA`");
    assert_eq!(
        complaint(&["train/a/1.jpg", "train/b/2.jpg", "val/B/3.jpg", "val/a/4.jpg"]),
        "`val` has classes that are not among training classes: `B` in `DATA`"
    );
    assert!(matches!(open(Path::new("/no/such/data")), Err(Error::NotFound { .. })));
}

#[test]
fn an_undivided_folder_is_divided_once_and_for_all() {
    let names: Vec<String> =
        (0..40).map(|i| format!("{}/{i}.jpg", if i % 2 == 0 { "a" } else { "b" })).collect();
    let dir = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let run = tempfile::tempdir().unwrap();
    let config = SplitConfig { file: Some(run.path().join("split.csv")), seed: 5, ..Default::default() };
    let first = Dataset::open(dir.path(), &config).unwrap();
    assert_eq!((first.train.len(), first.val.len()), (32, 8));
    // Another seed changes nothing once the division is saved; a new picture is trained on.
    std::fs::write(dir.path().join("a/new.jpg"), b"x").unwrap();
    let again = Dataset::open(dir.path(), &SplitConfig { seed: 6, ..config }).unwrap();
    assert_eq!(again.val, first.val);
    assert_eq!(again.train.len(), 33);
    assert!(again.notes[0].ends_with("trained on: 1 new pictures"), "{:?}", again.notes);
}

#[test]
fn a_test_part_is_kept_out_of_the_division() {
    let dir = tree(&["train/a/1.jpg", "train/a/2.jpg", "train/b/3.jpg", "train/b/4.jpg", "test/a/5.jpg"]);
    let data = open(dir.path()).unwrap();
    assert_eq!((data.train.len(), data.val.len(), data.test.len()), (2, 2, 1));
}

#[test]
fn manifests_open_like_folders() {
    let dir = tree(&["x/1.jpg", "x/2.jpg", "3.jpg", "4.jpg"]);
    let csv = "file_name,label,split\nx/1.jpg,b,train\nx/2.jpg,a,train\n3.jpg,b,val\n4.jpg,a,val\n";
    for name in ["all.csv", "metadata.csv"] {
        std::fs::write(dir.path().join(name), csv).unwrap();
    }
    for path in [dir.path().join("all.csv"), dir.path().to_path_buf()] {
        let data = open(&path).unwrap();
        assert_eq!(data.root, dir.path());
        assert_eq!(data.val.iter().map(|s| s.label).collect::<Vec<_>>(), [0, 1]);
    }
}

#[test]
fn hugging_face_tables_lie_in_the_split_folders() {
    let dir = tree(&["train/1.jpg", "train/2.jpg", "validation/3.jpg"]);
    std::fs::write(dir.path().join("train/metadata.csv"), "file_name,label\n1.jpg,a\n2.jpg,b\n").unwrap();
    std::fs::write(dir.path().join("validation/metadata.csv"), "file_name,label\n3.jpg,b\n").unwrap();
    let data = open(dir.path()).unwrap();
    assert_eq!((data.train.len(), data.val.len(), data.val[0].label), (2, 1, 1));
}

#[test]
fn a_trained_network_s_classes_decide() {
    let dir = tree(&["cat/1.jpg", "dog/2.jpg"]);
    let ordered = |names: &[&str]| Classes::ordered(names.iter().map(|n| n.to_string()).collect()).unwrap();
    let data = Dataset::open_with(dir.path(), &ordered(&["zebra", "dog", "cat"])).unwrap();
    assert_eq!(data.val.iter().map(|s| s.label).collect::<Vec<_>>(), [2, 1]);
    let error = Dataset::open_with(dir.path(), &ordered(&["zebra", "dog"])).unwrap_err();
    assert!(error.to_string().contains("not among the network's classes: `cat`"), "{error}");
}

#[test]
fn look_alike_classes_are_pointed_out() {
    let dir = tree(&["Rose/1.jpg", "Rose/2.jpg", "rose/3.jpg", "rose/4.jpg"]);
    if std::fs::read_dir(dir.path()).unwrap().count() < 2 {
        return; // a file system that does not tell case apart
    }
    let notes = open(dir.path()).unwrap().notes;
    assert_eq!(notes, ["the classes `Rose`, `rose` differ only in case or spaces"]);
}
