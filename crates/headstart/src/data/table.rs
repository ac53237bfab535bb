//! Manifests for tasks beyond one class a picture: several labels in a cell, a column of 0 and 1 for each label, or
//! columns of numbers.
//!
//! The columns decide unless the user does: `label` or `class` is one class a picture (numbers with a fraction:
//! regression); `labels` or `tags` holds labels joined by `|`, `;`, `,` or spaces; without any of these, columns of 0
//! and 1 are labels and other numbers are targets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::folder::Entry;
use super::listing::Marked;
use super::manifest::{FILE_COLUMNS, LABEL_COLUMNS, Manifest};
use super::split::Split;
use crate::error::{Error, Result};
use crate::task::{Task, TaskSpec};

/// Columns of several labels a cell.
const TAG_COLUMNS: [&str; 2] = ["labels", "tags"];

/// What a picture's line says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fact {
    /// Its labels by name.
    Tags(BTreeSet<String>),
    /// A number for each column.
    Numbers(Vec<f64>),
}

/// A picture with its line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// `manifest:line`.
    pub place: String,
    pub path: PathBuf,
    pub split: Option<Split>,
    pub fact: Fact,
}

/// A manifest read for a task.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub task: Task,
    /// Columns of numbers, or the one column of labels.
    pub columns: Vec<String>,
    /// Whether a cell holds any number of labels.
    pub tagged: bool,
    pub lines: Vec<Line>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// What a manifest's columns hold.
enum Form {
    Class,
    Tags(String),
    Columns(Task, Vec<String>),
}

impl Table {
    /// Reads manifests of one data set, each with the part its folder stands for; `None` if they give one class a picture.
    pub fn read(manifests: &[(Manifest, Option<Split>)], spec: &TaskSpec) -> Result<Option<Self>> {
        let mut whole: Option<Self> = None;
        for (manifest, split) in manifests {
            let table = match form(manifest, spec)? {
                Form::Class => return Ok(None),
                Form::Tags(column) => tags(manifest, &column)?,
                Form::Columns(task, columns) => numbers(manifest, task, &columns)?,
            };
            let lines = table.lines.into_iter().map(|l| Line { split: l.split.or(*split), ..l });
            match &mut whole {
                None => whole = Some(Self { lines: lines.collect(), ..table }),
                Some(whole) if whole.columns == table.columns && whole.task == table.task => {
                    whole.lines.extend(lines);
                }
                Some(whole) => {
                    return Err(Error::BadData {
                        place: format!("{}:1", manifest.path().display()),
                        what: format!(
                            "the columns `{}` differ from `{}` in another part",
                            table.columns.join("`, `"),
                            whole.columns.join("`, `")
                        ),
                        hint: "give every part's table the same columns".into(),
                    });
                }
            }
        }
        let Some(mut table) = whole else { return Ok(None) };
        if spec.columns.is_empty() && !table.tagged {
            let columns = super::dataset::shorten(&table.columns);
            table.notes.push(format!("the columns `{columns}` are learned; `--targets` chooses others"));
        }
        table.lines.sort_by(|a, b| a.path.cmp(&b.path));
        match table.lines.windows(2).find(|pair| pair[0].path == pair[1].path) {
            None => Ok(Some(table)),
            Some(pair) => Err(Error::BadData {
                place: pair[1].place.clone(),
                what: format!("the picture `{}` appears twice", pair[0].path.display()),
                hint: "keep one line per picture".into(),
            }),
        }
    }

    /// Returns the lines as entries whose class is what a division must be fair to: the rarest label of a picture
    /// (after Sechidis et al. 2011, "On the stratification of multi-label data"), or a tenth of the first target's range
    /// by rank.
    pub fn entries(&self) -> Vec<Entry> {
        let strata = match self.task {
            Task::Regress => self.tenths(),
            _ => self.rarest(),
        };
        let entry =
            |(line, class): (&Line, String)| Entry { split: line.split, class, path: line.path.clone() };
        self.lines.iter().zip(strata).map(entry).collect()
    }

    /// Names the labels of a line.
    pub fn labels<'a>(&'a self, line: &'a Line) -> Vec<&'a str> {
        match &line.fact {
            Fact::Tags(tags) => tags.iter().map(String::as_str).collect(),
            Fact::Numbers(values) => {
                let named = self.columns.iter().zip(values).filter(|(_, v)| **v > 0.5);
                named.map(|(name, _)| name.as_str()).collect()
            }
        }
    }

    /// Says what a line says of its picture.
    pub fn marked(&self, line: &Line) -> Marked {
        match (&line.fact, self.task) {
            (Fact::Numbers(values), Task::Regress) => Marked::numbers(&self.columns, values),
            _ => Marked::labels(self.labels(line)),
        }
    }

    fn rarest(&self) -> Vec<String> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &self.lines {
            self.labels(line).into_iter().for_each(|label| *counts.entry(label).or_default() += 1);
        }
        let rarest = |line| self.labels(line).into_iter().min_by_key(|label| (counts[label], *label));
        self.lines.iter().map(|line| rarest(line).unwrap_or_default().to_string()).collect()
    }

    fn tenths(&self) -> Vec<String> {
        let value = |line: &Line| match &line.fact {
            Fact::Numbers(values) => values[0],
            Fact::Tags(_) => 0.0,
        };
        let mut order: Vec<usize> = (0..self.lines.len()).collect();
        order.sort_by(|a, b| value(&self.lines[*a]).total_cmp(&value(&self.lines[*b])));
        // A stratum of fewer than ten pictures would be rounded too coarsely.
        let bins = (self.lines.len() / 10).clamp(1, 10);
        let mut strata = vec![String::new(); self.lines.len()];
        for (rank, at) in order.into_iter().enumerate() {
            strata[at] = format!("part {} of {bins}", rank * bins / self.lines.len() + 1);
        }
        strata
    }
}

fn bad(place: String, what: String, hint: &str) -> Error {
    Error::BadData { place, what, hint: hint.into() }
}

/// Decides what a manifest's columns hold.
fn form(manifest: &Manifest, spec: &TaskSpec) -> Result<Form> {
    let has = |name: &&str| manifest.column(name).is_some();
    let head = || format!("{}:1", manifest.path().display());
    let label = LABEL_COLUMNS.iter().find(|n| has(n)).map(|n| n.to_string());
    let tag = TAG_COLUMNS.iter().find(|n| has(n)).map(|n| n.to_string());
    let chosen: Vec<String> = spec.columns.iter().map(|c| c.trim().to_lowercase()).collect();
    if let Some(unknown) = chosen.iter().find(|c| manifest.column(c).is_none()) {
        let hint = format!("the columns are `{}`", manifest.header().join("`, `"));
        return Err(bad(head(), format!("no column is called `{unknown}`"), &hint));
    }
    if spec.task == Some(Task::Classify) {
        return Ok(Form::Class);
    }
    let file = FILE_COLUMNS.iter().find(|n| has(n)).copied();
    // A column without a name is some program's count of the lines.
    let truth = |name: &&String| Some(name.as_str()) != file && !matches!(name.as_str(), "split" | "");
    let others = || manifest.header().iter().filter(truth).cloned();
    let columns: Vec<String> = if chosen.is_empty() { others().collect() } else { chosen.clone() };
    let cells = || columns.iter().flat_map(|c| manifest.column(c).unwrap_or_default()).map(|(_, cell)| cell);
    // A slip in one cell must be reported, not change the task.
    let most = |enough: f64, is: fn(&str) -> bool| {
        let (yes, all) = cells().fold((0, 0), |(yes, all), cell| (yes + usize::from(is(cell)), all + 1));
        all > 0 && yes as f64 >= enough * all as f64
    };
    let flags = || most(0.9, |cell| flag(cell).is_some());
    let plain = chosen.is_empty();
    match spec.task {
        Some(Task::Regress) if columns.is_empty() => {
            Err(bad(head(), "no column holds numbers".into(), "add a column for each target"))
        }
        Some(Task::Regress) => Ok(Form::Columns(Task::Regress, columns)),
        Some(_) => match (plain, tag.or(label)) {
            (true, Some(column)) => Ok(Form::Tags(column)),
            (false, _) if columns.len() == 1 && !flags() => Ok(Form::Tags(columns[0].clone())),
            _ if columns.is_empty() => Err(bad(
                head(),
                "no column holds labels".into(),
                "call it `labels`, or add a column of 0 and 1 for each label",
            )),
            _ => Ok(Form::Columns(Task::Multilabel, columns)),
        },
        None if plain && label.is_some() => {
            let values = manifest.column(label.as_deref().unwrap_or_default()).unwrap_or_default();
            let fractions = values.iter().any(|(_, v)| number(v).is_some_and(|v| v.fract() != 0.0));
            let all = !values.is_empty() && values.iter().all(|(_, v)| number(v).is_some());
            Ok(if all && fractions {
                Form::Columns(Task::Regress, label.into_iter().collect())
            } else {
                Form::Class
            })
        }
        None => match tag.filter(|_| plain) {
            Some(column) => Ok(Form::Tags(column)),
            None if flags() => Ok(Form::Columns(Task::Multilabel, columns)),
            None if !plain || most(0.5, |cell| number(cell).is_some()) => {
                Ok(Form::Columns(Task::Regress, columns))
            }
            // The complaint about a missing column of classes says what is wanted.
            None => Ok(Form::Class),
        },
    }
}

/// Reads a finite number.
fn number(cell: &str) -> Option<f64> {
    cell.parse().ok().filter(|v: &f64| v.is_finite())
}

fn flag(cell: &str) -> Option<f64> {
    match cell.to_lowercase().as_str() {
        "1" | "1.0" | "true" => Some(1.0),
        "0" | "0.0" | "false" => Some(0.0),
        _ => None,
    }
}

/// Reads one column of labels; an empty cell is a picture without any.
fn tags(manifest: &Manifest, column: &str) -> Result<Table> {
    let cells = manifest.column(column).expect("the form names columns that are there");
    let used = ['|', ';', ','].into_iter().find(|s| cells.iter().any(|(_, cell)| cell.contains(*s)));
    let split = |cell: &str| -> BTreeSet<String> {
        let parts: Vec<&str> = match used {
            Some(separator) => cell.split(separator).collect(),
            None => cell.split_whitespace().collect(),
        };
        parts.into_iter().map(str::trim).filter(|p| !p.is_empty()).map(String::from).collect()
    };
    let facts = cells.iter().map(|(_, cell)| Fact::Tags(split(cell))).collect();
    let spaces = used.is_none() && cells.iter().any(|(_, cell)| cell.contains(' '));
    let notes = match spaces {
        true => vec![format!("labels of column `{column}` are taken to be separated by spaces")],
        false => vec![],
    };
    let lines = lines(manifest, facts)?;
    Ok(Table { task: Task::Multilabel, columns: vec![column.into()], tagged: true, lines, notes })
}

/// Reads columns of numbers, for labels of 0 and 1.
fn numbers(manifest: &Manifest, task: Task, columns: &[String]) -> Result<Table> {
    let each: Vec<Vec<(usize, &str)>> =
        columns.iter().map(|c| manifest.column(c).expect("the form names columns that are there")).collect();
    let mut facts = Vec::new();
    for at in 0..each.first().map_or(0, Vec::len) {
        let mut row = Vec::with_capacity(columns.len());
        for (name, cells) in columns.iter().zip(&each) {
            let (line, cell) = cells[at];
            let value = if task == Task::Multilabel { flag(cell) } else { number(cell) };
            row.push(value.ok_or_else(|| {
                let what = match (task, cell) {
                    (_, "") => format!("column `{name}` is empty"),
                    (Task::Multilabel, _) => format!("`{cell}` in column `{name}` is neither 0 nor 1"),
                    _ if cell.parse::<f64>().is_ok() => format!("`{cell}` in column `{name}` is not finite"),
                    _ => format!("`{cell}` in column `{name}` is not a number"),
                };
                let hint = match task {
                    Task::Multilabel => {
                        "correct it, choose the columns with `--targets`, or say `--task regress`"
                    }
                    _ => "correct it, remove the line, or choose the columns with `--targets`",
                };
                bad(format!("{}:{line}", manifest.path().display()), what, hint)
            })?);
        }
        facts.push(Fact::Numbers(row));
    }
    let lines = lines(manifest, facts)?;
    Ok(Table { task, columns: columns.to_vec(), tagged: false, lines, notes: vec![] })
}

fn lines(manifest: &Manifest, facts: Vec<Fact>) -> Result<Vec<Line>> {
    let (files, splits) = (manifest.files()?, manifest.splits()?);
    let name = |at: &Path, line| format!("{}:{line}", at.display());
    let line = |((fact, (line, path)), split)| Line { place: name(manifest.path(), line), path, split, fact };
    Ok(facts.into_iter().zip(files).zip(splits).map(line).collect())
}
