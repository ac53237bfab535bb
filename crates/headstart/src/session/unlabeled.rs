//! Photos without labels: found, read, and none of them known already.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::data::audit::plain;
use crate::data::{Inspected, Sample, Unreadable, digest_files, folder, inspect};
use crate::error::{Error, Result};
use crate::train::{self, Recipe};

/// Where photos without labels come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlabeled {
    /// All photos below a folder, whatever its sub-folders are called.
    Folder(PathBuf),
    /// The training photos whose label is not used.
    Rest,
}

/// Reads the photos below `folder` and leaves out those that `known` has, by their pixels: a validation photo must not
/// be learned from.
pub(super) fn below(folder: &Path, known: &[Inspected], notes: &mut Vec<String>) -> Result<Vec<PathBuf>> {
    let paths = folder::pictures_below(folder)?;
    let seen: Vec<_> = paths.par_iter().map(|path| inspect(path).map_err(plain)).collect();
    let mut taken: HashSet<[u8; 32]> = known.iter().map(|k| k.pixels).collect();
    let (mut found, mut copies, mut unreadable) = (Vec::new(), 0, Vec::new());
    for (path, seen) in paths.into_iter().zip(seen) {
        match seen {
            Ok(seen) if taken.insert(seen.pixels) => found.push(path),
            Ok(_) => copies += 1,
            Err(reason) => unreadable.push(Unreadable { path, reason }),
        }
    }
    if copies > 0 {
        notes.push(format!(
            "left out {copies} photos without labels that are copies of one another or of photos with labels"
        ));
    }
    for bad in &unreadable {
        notes.push(format!("left out `{}`: {}", bad.path.display(), bad.reason));
    }
    if found.is_empty() {
        return Err(Error::BadData {
            place: folder.display().to_string(),
            what: "no readable picture without a label that is not known already".into(),
            hint: "`--unlabeled` takes a folder of photos, with or without sub-folders".into(),
        });
    }
    notes.push(format!("{} photos without labels in `{}`", found.len(), folder.display()));
    Ok(found)
}

/// Prepares photos without labels in the recipe's two ways; none where there are none.
pub(super) fn photos(
    paths: &[PathBuf],
    root: &Path,
    recipe: &Recipe,
) -> Result<Option<train::semi::Unlabeled>> {
    if paths.is_empty() {
        return Ok(None);
    }
    let content = format!("{} without labels", digest_files(root, paths)?);
    // The label is not looked at.
    let samples: Vec<Sample> = paths.iter().map(|path| Sample { path: path.clone(), label: 0 }).collect();
    let strong = recipe.strong.as_ref().unwrap_or(&recipe.train);
    // Another seed, or both views would be cut out at the same place.
    let set =
        |pipeline: &str, seed: u64| super::photos(&samples, pipeline, seed, recipe.batch_size, &content);
    let (weak, strong) = (set(&recipe.train, recipe.seed)?, set(strong, recipe.seed ^ 0x57_60_46)?);
    Ok(Some(train::semi::Unlabeled { weak, strong }))
}
