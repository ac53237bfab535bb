//! A labelled set of pictures, divided and checked: what every command that takes DATA opens.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::classes::Classes;
use super::folder::{self, Entry, Found};
use super::listing::Marked;
use super::manifest::Manifest;
use super::split::{self, Split, SplitConfig};
use super::table::Table;
use crate::error::{Error, Result};
use crate::task::{Task, TaskSpec};

/// A picture and its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The file.
    pub path: PathBuf,
    /// Position of its class in [`Dataset::classes`]; for other tasks of its row in [`Dataset::rows`].
    pub label: usize,
}

/// Pictures with labels, in three parts.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    /// The folder that paths count from.
    pub root: PathBuf,
    /// What the pictures are labelled for.
    pub task: Task,
    /// The classes, in the order of the labels; for other tasks the labels or targets, in the order of a row.
    pub classes: Classes,
    /// For tasks other than classes, what each picture's line said: 0 or 1 for each label, or the targets.
    pub rows: Vec<Vec<f64>>,
    /// Pictures for the optimizer.
    pub train: Vec<Sample>,
    /// Pictures for choosing.
    pub val: Vec<Sample>,
    /// Pictures for the final word; often none.
    pub test: Vec<Sample>,
    /// What the user should know: skipped files, missing classes, look-alike names.
    pub notes: Vec<String>,
}

impl Dataset {
    /// Opens a folder or CSV manifest for training.
    ///
    /// Classes come from the training part, in torchvision's order; where there is no validation
    /// part, one is made from the training pictures. A manifest's columns decide the task.
    pub fn open(path: impl AsRef<Path>, config: &SplitConfig) -> Result<Dataset> {
        Self::open_as(path, config, &TaskSpec::default())
    }

    /// Opens a folder or CSV manifest for training, for the task that `spec` says.
    pub fn open_as(path: impl AsRef<Path>, config: &SplitConfig, spec: &TaskSpec) -> Result<Dataset> {
        let path = path.as_ref();
        let (root, manifests) = manifests(path)?;
        if let Some(table) = Table::read(&manifests, spec)? {
            return Self::of_table(path, root, table, config);
        }
        if manifests.is_empty() && spec.task.is_some_and(|t| t != Task::Classify) {
            return Err(bad(
                path,
                "folders say one class a picture and nothing else".into(),
                "describe the pictures in a CSV manifest: `file_name,labels` or a column for each target",
            ));
        }
        let found = find(path, &manifests)?;
        let mut notes = notes_on(&found);
        check_found(path, &found, &mut notes)?;
        let mut entries = found.entries;
        divide(&root, &mut entries, config, &mut notes)?;

        let in_train = entries.iter().filter(|e| e.split == Some(Split::Train));
        let classes = Classes::sorted(in_train.map(|e| e.class.clone()));
        if classes.len() < 2 {
            let names = classes.names().join("`, `");
            return Err(bad(
                path,
                format!("only one class (`{names}`)"),
                "a classifier needs two: make one sub-folder per class, such as `yes` and `no`",
            ));
        }
        for alike in classes.look_alikes() {
            notes.push(format!("the classes `{}` differ only in case or spaces", alike.join("`, `")));
        }
        let mut dataset = Dataset { root, classes, notes, ..Default::default() };
        dataset.label(path, entries, "training")?;
        dataset.note_missing();
        Ok(dataset)
    }

    /// Opens a folder or CSV manifest for a network that already has its classes.
    ///
    /// Names decide, never the order of the folders. Pictures without a part go to `val`.
    pub fn open_with(path: impl AsRef<Path>, classes: &Classes) -> Result<Dataset> {
        let path = path.as_ref();
        let (root, manifests) = manifests(path)?;
        let mut found = find(path, &manifests)?;
        let notes = notes_on(&found);
        if found.entries.is_empty() {
            return Err(nothing(path));
        }
        found.entries.iter_mut().for_each(|e| e.split = e.split.or(Some(Split::Val)));
        let mut dataset = Dataset { root, classes: classes.clone(), notes, ..Default::default() };
        dataset.label(path, found.entries, "the network's")?;
        Ok(dataset)
    }

    /// Returns the pictures of one part.
    pub fn part(&self, split: Split) -> &[Sample] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }

    /// Returns the pictures of one part, to change.
    pub fn part_mut(&mut self, split: Split) -> &mut Vec<Sample> {
        match split {
            Split::Train => &mut self.train,
            Split::Val => &mut self.val,
            Split::Test => &mut self.test,
        }
    }

    /// Counts the pictures of each class in one part; of regression, those with a number for each target.
    pub fn class_counts(&self, split: Split) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for sample in self.part(split) {
            match self.task {
                Task::Classify => counts[sample.label] += 1,
                Task::Regress => counts.iter_mut().for_each(|c| *c += 1),
                Task::Multilabel => {
                    let row = &self.rows[sample.label];
                    counts.iter_mut().zip(row).for_each(|(c, v)| *c += usize::from(*v > 0.5));
                }
            }
        }
        counts
    }

    /// Says what a picture is labelled with.
    pub fn marked(&self, sample: &Sample) -> Marked {
        let names = self.classes.names();
        match self.task {
            Task::Classify => Marked::class(self.classes.name(sample.label)),
            Task::Regress => Marked::numbers(names, &self.rows[sample.label]),
            Task::Multilabel => {
                let row = &self.rows[sample.label];
                Marked::labels(
                    names.iter().zip(row).filter(|(_, v)| **v > 0.5).map(|(name, _)| name.as_str()),
                )
            }
        }
    }

    /// Turns names into labels and puts every picture into its part.
    fn label(&mut self, path: &Path, entries: Vec<Entry>, whose: &str) -> Result<()> {
        let unknown: BTreeSet<&str> =
            entries.iter().map(|e| e.class.as_str()).filter(|c| self.classes.index(c).is_none()).collect();
        if !unknown.is_empty() {
            let parts: BTreeSet<&str> = entries
                .iter()
                .filter(|e| unknown.contains(e.class.as_str()))
                .map(|e| e.split.map_or("data", Split::name))
                .collect();
            let join = |names: BTreeSet<&str>| names.into_iter().take(5).collect::<Vec<_>>().join("`, `");
            return Err(bad(
                path,
                format!(
                    "`{}` has classes that are not among {whose} classes: `{}`",
                    join(parts),
                    join(unknown)
                ),
                format!("the classes are `{}`; rename or remove the folder", shorten(self.classes.names())),
            ));
        }
        for entry in entries {
            let label = self.classes.index(&entry.class).expect("unknown classes were refused");
            let split = entry.split.expect("every entry has been given its part");
            self.part_mut(split).push(Sample { path: entry.path, label });
        }
        Ok(())
    }

    /// Notes classes that the validation part cannot judge.
    pub(super) fn note_missing(&mut self) {
        let counts = self.class_counts(Split::Val);
        let missing: Vec<String> =
            (0..counts.len()).filter(|&c| counts[c] == 0).map(|c| self.classes.name(c).to_string()).collect();
        if !missing.is_empty() {
            self.notes.push(format!("no validation picture for `{}`", shorten(&missing)));
        }
    }
}

pub(super) fn bad(path: &Path, what: String, hint: impl Into<String>) -> Error {
    Error::BadData { place: path.display().to_string(), what, hint: hint.into() }
}

pub(super) fn nothing(path: &Path) -> Error {
    bad(
        path,
        "no picture".into(),
        format!("put pictures into `{0}/train/<class>/` or `{0}/<class>/`", path.display()),
    )
}

pub(super) fn shorten(names: &[String]) -> String {
    let mut text = names[..names.len().min(8)].join("`, `");
    if names.len() > 8 {
        text += &format!("` and {} more, up to `{}", names.len() - 8, names[names.len() - 1]);
    }
    text
}

/// Manifests of one data set, each with the part its folder stands for.
pub(super) type Manifests = Vec<(Manifest, Option<Split>)>;

/// Reads the manifest at `path`, or those of a folder: its `metadata.csv`, or Hugging Face's imagefolder with a table in
/// each split folder. Returns the root too.
pub(super) fn manifests(path: &Path) -> Result<(PathBuf, Manifests)> {
    let meta = std::fs::metadata(path).map_err(Error::read(path))?;
    if meta.is_file() {
        let root = path.parent().unwrap_or(Path::new("")).to_path_buf();
        return Ok((root, vec![(Manifest::read(path)?, None)]));
    }
    let root = path.to_path_buf();
    let table = path.join("metadata.csv");
    if table.is_file() {
        return Ok((root, vec![(Manifest::read(&table)?, None)]));
    }
    let mut all = Vec::new();
    for folder in ["train", "val", "validation", "test"] {
        let table = path.join(folder).join("metadata.csv");
        if table.is_file() {
            all.push((Manifest::read(&table)?, Split::of_folder(folder)));
        }
    }
    Ok((root, all))
}

/// Lists the entries of manifests, or where there are none those of a folder.
pub(super) fn find(path: &Path, manifests: &[(Manifest, Option<Split>)]) -> Result<Found> {
    let mut all = Found::default();
    for (manifest, split) in manifests {
        let mut entries = manifest.entries()?.entries;
        if split.is_some() {
            entries.iter_mut().for_each(|e| e.split = *split);
        }
        all.entries.append(&mut entries);
    }
    match manifests.is_empty() {
        true => folder::scan(path),
        false => Ok(all),
    }
}

fn notes_on(found: &Found) -> Vec<String> {
    let mut notes = Vec::new();
    let mut count = |n: usize, one: &str, many: &str| match n {
        0 => {}
        1 => notes.push(format!("1 {one}")),
        n => notes.push(format!("{n} {many}")),
    };
    count(found.hidden.len(), "hidden file or folder was skipped", "hidden files or folders were skipped");
    count(
        found.ignored.len(),
        "file is no picture by its name and was ignored",
        "files are no pictures by their names and were ignored",
    );
    if !found.strangers.is_empty() {
        notes.push(format!("beside `train`, these folders were ignored: `{}`", shorten(&found.strangers)));
    }
    notes
}

fn check_found(path: &Path, found: &Found, notes: &mut Vec<String>) -> Result<()> {
    if found.entries.is_empty() {
        return Err(nothing(path));
    }
    for (split, class) in &found.empty {
        let place = split.map_or(class.clone(), |s| format!("{}/{class}", s.name()));
        if matches!(split, Some(Split::Val | Split::Test)) {
            notes.push(format!("the class folder `{place}` holds no picture"));
            continue;
        }
        return Err(bad(
            path,
            format!("the class folder `{place}` holds no picture"),
            format!("add pictures ({}) or remove the folder", folder::EXTENSIONS.join(", ")),
        ));
    }
    if found.entries.iter().all(|e| matches!(e.split, Some(Split::Val | Split::Test))) {
        return Err(bad(path, "no training part".into(), "put the training pictures into `train/<class>/`"));
    }
    if found.entries.len() == 1 {
        return Err(bad(
            path,
            "only one picture".into(),
            "give at least two pictures of each of two classes",
        ));
    }
    Ok(())
}

/// Gives every entry its part: as found, as saved, or divided now and saved.
pub(super) fn divide(
    root: &Path,
    entries: &mut [Entry],
    config: &SplitConfig,
    notes: &mut Vec<String>,
) -> Result<()> {
    if entries.iter().any(|e| e.split == Some(Split::Val)) {
        entries.iter_mut().for_each(|e| e.split = e.split.or(Some(Split::Train)));
        return Ok(());
    }
    let free: Vec<usize> = (0..entries.len()).filter(|&i| entries[i].split != Some(Split::Test)).collect();
    let open: Vec<Entry> = free.iter().map(|&i| entries[i].clone()).collect();
    let splits = match config.file.as_deref().filter(|file| file.exists()) {
        Some(file) => {
            let saved = split::load(file)?;
            let known = |e: &Entry| saved.get(&split::relative(root, &e.path)).copied();
            let new = open.iter().filter(|e| known(e).is_none()).count();
            if new > 0 {
                notes.push(format!("not in `{}` and so trained on: {new} new pictures", file.display()));
            }
            open.iter().map(|e| known(e).unwrap_or(Split::Train)).collect()
        }
        None => {
            let splits = split::stratified(root, &open, config)?;
            if let Some(file) = &config.file {
                split::save(file, root, &open, &splits)?;
            }
            splits
        }
    };
    free.iter().zip(splits).for_each(|(&i, split)| entries[i].split = Some(split));
    Ok(())
}
