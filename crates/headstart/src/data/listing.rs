//! What data hold before anything is refused: for the audit, which must see what training would not take.

use std::path::{Path, PathBuf};

use super::dataset;
use super::folder::Found;
use crate::error::Result;

/// Lists the labelled pictures of a folder or manifest, with the folder that paths count from.
pub fn listing(path: &Path) -> Result<(PathBuf, Found)> {
    let (root, manifests) = dataset::manifests(path)?;
    Ok((root, dataset::find(path, &manifests)?))
}
