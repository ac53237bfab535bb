//! What data hold before anything is refused: for the audit, which must see what training would not take.

use std::path::{Path, PathBuf};

use super::dataset;
use super::folder::Found;
use super::table::Table;
use crate::error::Result;
use crate::task::{Task, TaskSpec};

/// What a picture is said to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// In words: its class, its labels, its numbers.
    pub words: String,
    /// The classes or labels it counts for; numbers are none.
    pub names: Vec<String>,
}

impl Marked {
    /// A picture of one class.
    pub fn class(name: &str) -> Self {
        Self { words: name.into(), names: vec![name.into()] }
    }

    /// A picture with any number of labels.
    pub fn labels<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<String> = names.into_iter().map(String::from).collect();
        let words = if names.is_empty() { "no label".into() } else { names.join(", ") };
        Self { words, names }
    }

    /// A picture with a number for each target.
    pub fn numbers(targets: &[String], values: &[f64]) -> Self {
        let words: Vec<String> = targets.iter().zip(values).map(|(t, v)| format!("{t} {v}")).collect();
        Self { words: words.join(", "), names: vec![] }
    }
}

/// The labelled pictures of a folder or manifest.
pub struct Listing {
    /// The folder that paths count from.
    pub root: PathBuf,
    /// What they are labelled for.
    pub task: Task,
    /// Pictures and what lies beside them.
    pub found: Found,
    /// What each picture is said to show, in the order of `found.entries`.
    pub marked: Vec<Marked>,
}

/// Lists the labelled pictures of a folder or manifest, for the task that `spec` says.
pub fn listing(path: &Path, spec: &TaskSpec) -> Result<Listing> {
    let (root, manifests) = dataset::manifests(path)?;
    if let Some(table) = Table::read(&manifests, spec)? {
        let marked = table.lines.iter().map(|line| table.marked(line)).collect();
        let found = Found { entries: table.entries(), ..Found::default() };
        return Ok(Listing { root, task: table.task, found, marked });
    }
    let found = dataset::find(path, &manifests)?;
    let marked = found.entries.iter().map(|e| Marked::class(&e.class)).collect();
    Ok(Listing { root, task: Task::Classify, found, marked })
}
