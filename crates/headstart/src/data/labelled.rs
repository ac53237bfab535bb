//! From a table of labels or numbers to a data set: names, parts, rows, and what is wrong with them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::classes::Classes;
use super::dataset::{Dataset, Sample, bad, divide, manifests, nothing, shorten};
use super::split::{Split, SplitConfig};
use super::table::{Fact, Line, Table};
use crate::error::{Error, Result};
use crate::task::{Scale, Task, TaskSpec, Truth};

impl Dataset {
    /// Divides a table's pictures; labels are those of the training pictures.
    pub(super) fn of_table(path: &Path, root: PathBuf, table: Table, config: &SplitConfig) -> Result<Self> {
        let mut entries = table.entries();
        if entries.is_empty() {
            return Err(nothing(path));
        }
        if entries.iter().all(|e| matches!(e.split, Some(Split::Val | Split::Test))) {
            return Err(bad(path, "no training part".into(), "write `train` into the column `split`"));
        }
        let mut notes = table.notes.clone();
        let given = entries.iter().any(|e| e.split == Some(Split::Val));
        divide(&root, &mut entries, config, &mut notes)?;
        let splits: Vec<Split> = entries.iter().map(|e| e.split.expect("every entry has its part")).collect();
        let names = if table.tagged {
            // A division made here may leave a rare label without a training picture: that is no slip of the user's.
            let counts = |s: Split| s == Split::Train || (!given && s == Split::Val);
            let lines = table.lines.iter().zip(&splits).filter(|(_, s)| counts(**s));
            lines
                .flat_map(|(l, _)| table.labels(l))
                .map(String::from)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect()
        } else {
            table.columns.clone()
        };
        if names.is_empty() {
            return Err(bad(path, "no training picture has a label".into(), "write labels into the table"));
        }
        let mut data = Self { root, task: table.task, notes, ..Self::default() };
        data.classes = Classes::ordered(names)?;
        data.place(&table, &splits, "on no training picture")?;
        for alike in data.classes.look_alikes() {
            data.notes.push(format!("the labels `{}` differ only in case or spaces", alike.join("`, `")));
        }
        match data.task {
            Task::Regress => data.check_spread(path)?,
            _ => data.note_one_sided(),
        }
        Ok(data)
    }

    /// Opens a manifest for a network that already has its labels or targets; pictures without a part go to `val`.
    pub fn open_for(path: impl AsRef<Path>, task: Task, names: &Classes) -> Result<Self> {
        let path = path.as_ref();
        if task == Task::Classify {
            return Self::open_with(path, names);
        }
        let (root, found) = manifests(path)?;
        let asked = |columns: &[String]| TaskSpec { task: Some(task), columns: columns.to_vec() };
        // Labels come in one column or in a column each; targets by name, whatever else there is.
        let one_column = task == Task::Multilabel
            && Table::read(&found, &asked(&[])).is_ok_and(|t| t.is_some_and(|t| t.tagged));
        let lower: Vec<String> = names.names().iter().map(|n| n.to_lowercase()).collect();
        let spec = asked(if one_column { &[] } else { &lower });
        let table = Table::read(&found, &spec)?.ok_or_else(|| {
            bad(path, format!("folders hold no truth for {}", task.noun()), "give a CSV manifest")
        })?;
        if table.lines.is_empty() {
            return Err(nothing(path));
        }
        let splits: Vec<Split> = table.lines.iter().map(|l| l.split.unwrap_or(Split::Val)).collect();
        let mut data =
            Self { root, task, classes: names.clone(), notes: table.notes.clone(), ..Self::default() };
        data.place(&table, &splits, "not among the network's labels")?;
        Ok(data)
    }

    /// Puts every picture with its row into its part; `stranger` says what an unknown label is.
    fn place(&mut self, table: &Table, splits: &[Split], stranger: &str) -> Result<()> {
        for (line, split) in table.lines.iter().zip(splits) {
            let row = self.row(table, line, stranger)?;
            let label = self.rows.len();
            self.rows.push(row);
            self.part_mut(*split).push(Sample { path: line.path.clone(), label });
        }
        Ok(())
    }

    fn row(&self, table: &Table, line: &Line, stranger: &str) -> Result<Vec<f64>> {
        let tags = match &line.fact {
            // Columns were asked for in the order of the names.
            Fact::Numbers(values) => return Ok(values.clone()),
            Fact::Tags(tags) => tags,
        };
        let mut row = vec![0.0; self.classes.len()];
        for tag in tags {
            let at = self.classes.index(tag).ok_or_else(|| Error::BadData {
                place: line.place.clone(),
                what: format!("the label `{tag}` in column `{}` is {stranger}", table.columns[0]),
                hint: format!("the labels are `{}`", shorten(self.classes.names())),
            })?;
            row[at] = 1.0;
        }
        Ok(row)
    }

    /// Refuses targets that never vary: there is nothing to learn, and no deviation to divide by.
    fn check_spread(&self, path: &Path) -> Result<()> {
        for (i, scale) in self.scales().iter().enumerate() {
            if scale.std.is_nan() || scale.std <= scale.mean.abs() * 1e-12 {
                let name = self.classes.name(i);
                return Err(bad(
                    path,
                    format!("column `{name}` is {} for every training picture", scale.mean),
                    "leave the column out with `--targets`",
                ));
            }
        }
        Ok(())
    }

    /// Notes labels that every or no training picture has, and those that validation cannot judge.
    fn note_one_sided(&mut self) {
        let counts = self.class_counts(Split::Train);
        let named = |wanted: usize| -> Vec<String> {
            (0..counts.len())
                .filter(|c| counts[*c] == wanted)
                .map(|c| self.classes.name(c).to_string())
                .collect()
        };
        let (none, all) = (named(0), named(self.train.len()));
        if !none.is_empty() {
            self.notes.push(format!("no training picture has `{}`: it cannot be learned", shorten(&none)));
        }
        if !all.is_empty() {
            self.notes.push(format!("every training picture has `{}`", shorten(&all)));
        }
        self.note_missing();
    }

    /// Returns mean and deviation of each target over the training pictures; none for other tasks.
    pub fn scales(&self) -> Vec<Scale> {
        if self.task != Task::Regress {
            return Vec::new();
        }
        let n = self.train.len() as f64;
        let scale = |target: usize| {
            let values = || self.train.iter().map(|s| self.rows[s.label][target]);
            let mean = values().sum::<f64>() / n;
            let std = (values().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            Scale { mean, std }
        };
        (0..self.classes.len()).map(scale).collect()
    }

    /// Returns what is true of the pictures of one part; `scales` are those of the training part.
    pub fn truth(&self, split: Split, scales: &[Scale]) -> Truth {
        let rows = match self.task {
            Task::Classify => Vec::new(),
            _ => self.part(split).iter().flat_map(|s| self.rows[s.label].iter().copied()).collect(),
        };
        let width = if rows.is_empty() { 0 } else { self.classes.len() };
        Truth { task: self.task, width, rows: Arc::new(rows), scales: scales.to_vec() }
    }
}
