//! Which photos a job works on: found, divided into parts, each read once.

use std::path::{Path, PathBuf};

use super::unlabeled::{self, Unlabeled};
use crate::audit::Audit;
use crate::data::{Dataset, Few, OnUnreadable, SplitConfig, Unreadable, inspect_files};
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
    /// How many training photos keep their label; all by default.
    pub few: Option<Few>,
    /// Photos to learn from without labels.
    pub unlabeled: Option<Unlabeled>,
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
    /// Photos without labels.
    pub unlabeled: Vec<PathBuf>,
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
            few: None,
            unlabeled: None,
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
        let mut found = Vec::new();
        let mut without = match &self.unlabeled {
            Some(Unlabeled::Folder(folder)) => unlabeled::below(folder, &seen, &mut found)?,
            _ => Vec::new(),
        };
        let audit = Audit::of_dataset(&data, seen, &unreadable);
        if data.val.is_empty() {
            return Err(self.nothing_to_validate());
        }
        if let Some(few) = self.few {
            let rest = data.keep_few(few, self.seed)?;
            found.push(format!("{} training photos keep their label ({few})", data.train.len()));
            if self.unlabeled == Some(Unlabeled::Rest) {
                found.push(format!("the other {} take part without theirs", rest.len()));
                without = rest.into_iter().map(|sample| sample.path).collect();
            }
        }
        if self.unlabeled == Some(Unlabeled::Rest) && without.is_empty() {
            return Err(Error::BadData {
                place: "--unlabeled rest".into(),
                what: "no training photo is left over".into(),
                hint: "say how many keep their label: `--labels-per-class 10` or `--fraction 0.1`".into(),
            });
        }
        let mut notes = data.notes.clone();
        notes.push(audit.line());
        notes.extend(found);
        if let Some(list) = self.exclude.as_deref().filter(|_| !excluded.is_empty()) {
            notes.push(format!("left out {} pictures by `{}`", excluded.len(), list.display()));
        }
        for bad in &unreadable {
            notes.push(format!("left out `{}`: {}", bad.path.display(), bad.reason));
        }
        Ok(Opened { data, unreadable, excluded, unlabeled: without, audit, notes })
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
