//! Which photos a job works on: found, divided into parts, each read once.

use std::path::{Path, PathBuf};

use crate::audit::Audit;
use crate::data::{Dataset, OnUnreadable, SplitConfig, Unreadable, inspect_files};
use crate::error::{Error, Result};
use crate::task::TaskSpec;

/// What to look for, and where.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Folder or manifest.
    pub data: PathBuf,
    /// What the photos are labelled for, where that is not left to a manifest's columns.
    pub task: TaskSpec,
    /// Share set aside when the data has no validation part.
    pub val_share: f64,
    /// Seed of that division.
    pub seed: u64,
    /// Where the division is saved, and found again.
    pub split: Option<PathBuf>,
    /// Whether unreadable photos are an error.
    pub strict: bool,
    /// A list of files to leave out.
    pub exclude: Option<PathBuf>,
}

/// What was found.
#[derive(Debug)]
pub struct Opened {
    /// The photos that can be read.
    pub data: Dataset,
    /// The others, with reasons.
    pub unreadable: Vec<Unreadable>,
    /// Files that the list left out.
    pub excluded: Vec<PathBuf>,
    /// What would spoil a training.
    pub audit: Audit,
    /// What the user should know.
    pub notes: Vec<String>,
}

impl Selection {
    /// All photos of a folder or manifest, unreadable ones left out, a fifth set aside where nothing is.
    pub fn of(data: &Path) -> Self {
        Self {
            data: data.to_path_buf(),
            task: TaskSpec::default(),
            val_share: 0.2,
            seed: 0,
            split: None,
            strict: false,
            exclude: None,
        }
    }

    /// Finds, divides and reads the photos.
    pub fn open(&self) -> Result<Opened> {
        let config = SplitConfig {
            val_frac: self.val_share as f32,
            seed: self.seed,
            file: self.split.clone(),
            ..SplitConfig::default()
        };
        let mut data = Dataset::open_as(&self.data, &config, &self.task)?;
        let refuse = if self.strict { OnUnreadable::Refuse } else { OnUnreadable::LeaveOut };
        let excluded = data.exclude_list(self.exclude.as_deref())?;
        let (unreadable, seen) = inspect_files(&mut data, refuse, &|_, _| {})?;
        let audit = Audit::of_dataset(&data, seen, &unreadable);
        if data.val.is_empty() {
            return Err(self.nothing_to_validate());
        }
        let mut notes = data.notes.clone();
        notes.push(audit.line());
        if let Some(list) = self.exclude.as_deref().filter(|_| !excluded.is_empty()) {
            notes.push(format!("left out {} pictures by `{}`", excluded.len(), list.display()));
        }
        for bad in &unreadable {
            notes.push(format!("left out `{}`: {}", bad.path.display(), bad.reason));
        }
        Ok(Opened { data, unreadable, excluded, audit, notes })
    }

    fn nothing_to_validate(&self) -> Error {
        let saved = self.split.as_deref().filter(|file| file.exists()).map_or(String::new(), |file| {
            format!(", or delete `{}` to divide the pictures anew", file.display())
        });
        Error::BadData {
            place: self.data.display().to_string(),
            what: "no readable picture to validate on".into(),
            hint: format!("give every class two pictures, or put some into `val/<class>/`{saved}"),
        }
    }
}
