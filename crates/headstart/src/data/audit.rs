//! Decoding every picture once before training, so that a damaged file costs seconds, not hours.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::dataset::{Dataset, Sample};
use super::inspect::{Inspected, inspect};
use super::split::Split;
use crate::error::{Error, Result};
use crate::image;

/// A file that is no picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// Why, in plain words.
    pub reason: String,
}

/// What to do about files that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnUnreadable {
    /// Train without them.
    #[default]
    LeaveOut,
    /// Do not train.
    Refuse,
}

/// Decodes every picture and takes those that fail out of the data.
///
/// `progress` hears (done, all) from several threads. A class of which nothing is left is an error.
pub fn check_files(
    dataset: &mut Dataset,
    on_unreadable: OnUnreadable,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Unreadable>> {
    Ok(read_files(dataset, on_unreadable, progress, |path| image::check(path))?.0)
}

/// Does what [`check_files`] does and keeps what it saw of the rest, in the order of the parts: train, val, test.
pub fn inspect_files(
    dataset: &mut Dataset,
    on_unreadable: OnUnreadable,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Vec<Unreadable>, Vec<Inspected>)> {
    read_files(dataset, on_unreadable, progress, inspect)
}

/// Says in plain words why a picture could not be read.
pub fn plain(error: Error) -> String {
    match error {
        Error::CorruptImage { reason, .. } => reason,
        Error::Read { source, .. } => source.to_string(),
        Error::NotFound { .. } => "a link to a file that does not exist".into(),
        other => other.to_string(),
    }
}

fn read_files<T: Send>(
    dataset: &mut Dataset,
    on_unreadable: OnUnreadable,
    progress: &(dyn Fn(usize, usize) + Sync),
    read: impl Fn(&Path) -> Result<T> + Sync,
) -> Result<(Vec<Unreadable>, Vec<T>)> {
    let parts = [Split::Train, Split::Val, Split::Test];
    let all = parts.iter().map(|&p| dataset.part(p).len()).sum();
    let done = AtomicUsize::new(0);
    let look = |sample: &Sample| {
        let seen = read(&sample.path).map_err(plain);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, all);
        seen
    };
    let (mut unreadable, mut kept, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for &part in &parts {
        let samples = dataset.part(part);
        let looks: Vec<_> = samples.par_iter().map(look).collect();
        let mut good = Vec::with_capacity(samples.len());
        for (sample, look) in samples.iter().zip(looks) {
            match look {
                Ok(look) => {
                    good.push(sample.clone());
                    seen.push(look);
                }
                Err(reason) => unreadable.push(Unreadable { path: sample.path.clone(), reason }),
            }
        }
        kept.push(good);
    }
    if on_unreadable == OnUnreadable::Refuse && !unreadable.is_empty() {
        return Err(refusal(dataset, &unreadable));
    }
    let had = dataset.class_counts(Split::Train);
    for (&part, good) in parts.iter().zip(kept) {
        *dataset.part_mut(part) = good;
    }
    let left = dataset.class_counts(Split::Train);
    if let Some(class) = (0..had.len()).find(|&c| had[c] > 0 && left[c] == 0) {
        return Err(Error::BadData {
            place: dataset.root.display().to_string(),
            what: format!(
                "none of the {} training pictures of class `{}` can be read; the first is {}",
                had[class],
                dataset.classes.name(class),
                unreadable.first().map_or(String::new(), |u| format!("`{}`: {}", u.path.display(), u.reason)),
            ),
            hint: "replace the files or remove the class".into(),
        });
    }
    Ok((unreadable, seen))
}

fn refusal(dataset: &Dataset, unreadable: &[Unreadable]) -> Error {
    const SHOWN: usize = 10;
    let mut list = String::new();
    for Unreadable { path, reason } in unreadable.iter().take(SHOWN) {
        list += &format!("\n  {}: {reason}", path.display());
    }
    if unreadable.len() > SHOWN {
        list += &format!("\n  and {} more", unreadable.len() - SHOWN);
    }
    Error::Unreadable { place: dataset.root.clone(), count: unreadable.len(), list }
}

#[cfg(test)]
mod tests {
    use super::super::SplitConfig;
    use super::*;
    use crate::image::RgbImage;

    fn dataset(broken: &[&str]) -> (Dataset, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["train/a/1.png", "train/a/2.png", "train/b/3.png", "val/a/4.png", "val/b/5.png"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            RgbImage::new(4, 4).save(&path).unwrap();
            if broken.contains(&name) {
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..40]).unwrap();
            }
        }
        (Dataset::open(dir.path(), &SplitConfig::default()).unwrap(), dir)
    }

    #[test]
    fn a_damaged_file_is_named_and_left_out() {
        let (mut data, dir) = dataset(&["train/a/2.png"]);
        let seen = AtomicUsize::new(0);
        let progress = |_: usize, all: usize| {
            assert_eq!(all, 5);
            seen.fetch_add(1, Ordering::Relaxed);
        };
        let bad = check_files(&mut data, OnUnreadable::LeaveOut, &progress).unwrap();
        assert_eq!(bad.len(), 1);
        assert_eq!(bad[0].path, dir.path().join("train/a/2.png"));
        assert!(bad[0].reason.starts_with("truncated"), "{}", bad[0].reason);
        assert_eq!((data.train.len(), seen.into_inner()), (2, 5));
    }

    #[test]
    fn strictness_refuses_and_lists() {
        let (mut data, _dir) = dataset(&["train/a/2.png", "val/b/5.png"]);
        let error = check_files(&mut data, OnUnreadable::Refuse, &|_, _| {}).unwrap_err().to_string();
        assert!(error.contains("2 of the pictures") && error.contains("2.png: truncated"), "{error}");
        assert_eq!(data.train.len(), 3);
    }

    #[test]
    fn a_class_of_which_nothing_is_left_is_an_error() {
        let (mut data, _dir) = dataset(&["train/b/3.png"]);
        let error = check_files(&mut data, OnUnreadable::LeaveOut, &|_, _| {}).unwrap_err().to_string();
        assert!(error.contains("none of the 1 training pictures of class `b`"), "{error}");
    }
}
