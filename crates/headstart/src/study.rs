//! Several recipes on several sets of photos, a few seeds each: the table that shows which recipe suits which data.
//!
//! Every finished fit is a line of `study.jsonl`; a study that is started again goes on where it stopped.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::Few;
use crate::error::{Error, Result};
use crate::session::{self, Request, Selection, Unlabeled};
use crate::sources::Backbone;
use crate::task::TaskSpec;
use crate::train::Recipe;
use crate::train::observer::{Event, Observer};

/// What to compare.
#[derive(Debug)]
pub struct Study {
    /// Folders or manifests.
    pub data: Vec<PathBuf>,
    /// What their photos are labelled for, where that is not left to a manifest's columns.
    pub task: TaskSpec,
    /// Recipes with the names to show.
    pub recipes: Vec<(String, Recipe)>,
    /// Seeds of each fit.
    pub seeds: Vec<u64>,
    /// Share set aside where the data has no validation part.
    pub val_share: f64,
    /// How many training photos keep their label, a line of the table for each; `None` is all.
    pub few: Vec<Option<Few>>,
    /// Folder of the study.
    pub out: PathBuf,
}

/// One fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the set of photos.
    pub photos: String,
    /// Network and weights.
    pub network: String,
    /// Side of the input in pixels.
    pub size: usize,
    /// Name of the recipe.
    pub recipe: String,
    /// How many training photos kept their label, in words; all where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub few: Option<String>,
    /// Seed.
    pub seed: u64,
    /// Training pictures.
    pub pictures: usize,
    /// What `score` is: `top-1` of classes, `mAP` of labels, `RMSE` of numbers.
    #[serde(default = "top1")]
    pub measure: String,
    /// The best epoch on the validation part.
    #[serde(alias = "top1")]
    pub score: f64,
    /// Seconds of the fit.
    pub seconds: f64,
}

/// What rows without a measure are.
fn top1() -> String {
    "top-1".into()
}

impl Row {
    /// Whether less is better.
    fn is_error(&self) -> bool {
        self.measure.starts_with("RMSE")
    }

    /// Whether both are the same fit, whatever came of it.
    fn repeats(&self, other: &Self) -> bool {
        let fit =
            |r: &Self| (r.photos.clone(), r.network.clone(), r.size, r.recipe.clone(), r.few.clone(), r.seed);
        fit(self) == fit(other)
    }
}

/// Runs what is not done yet, and returns all rows of the study.
pub fn run(study: &Study, backbone: &Backbone, observer: &mut dyn Observer) -> Result<Vec<Row>> {
    fs::create_dir_all(&study.out).map_err(Error::write(&study.out))?;
    let log = study.out.join("study.jsonl");
    let mut rows = read(&log)?;
    let all = [None];
    let few = if study.few.is_empty() { &all[..] } else { &study.few };
    let mut fits = Vec::new();
    for data in &study.data {
        for few in few {
            for recipe in &study.recipes {
                // Pictures without labels are those that lost theirs.
                let semi = recipe.1.phases.iter().any(|phase| phase.semi.is_some());
                if !semi || few.is_some() {
                    fits.extend(study.seeds.iter().map(|seed| (data, *few, recipe, *seed, semi)));
                }
            }
        }
    }
    let count = fits.len();
    for (at, (data, few, (name, recipe), seed, semi)) in fits.into_iter().enumerate() {
        let mut row = Row {
            photos: data.file_stem().unwrap_or(data.as_os_str()).to_string_lossy().into_owned(),
            network: format!("{} ({})", backbone.row.name, backbone.origin),
            size: backbone.input.size,
            recipe: name.clone(),
            few: few.map(|few| few.to_string()),
            seed,
            pictures: 0,
            measure: top1(),
            score: 0.0,
            seconds: 0.0,
        };
        if rows.iter().any(|done| done.repeats(&row)) {
            continue;
        }
        let what = format!("fit {} of {count}: {name} on {}, seed {seed}", at + 1, row.photos);
        observer.event(Event::Note(&what));
        let folder = study.out.join("fit");
        let request = Request {
            photos: Selection {
                task: study.task.clone(),
                val_share: study.val_share,
                seed,
                split: Some(folder.join("split.csv")),
                few,
                unlabeled: semi.then_some(Unlabeled::Rest),
                ..Selection::of(data)
            },
            opened: None,
            recipe: Recipe { seed, ..recipe.clone() },
            freeze: vec![],
            out: folder.clone(),
            resume: false,
            advice: None,
            checkpoint_every: None,
        };
        let report = session::run(request, backbone, observer).map_err(|e| e.within(&what))?;
        row.pictures = report.pictures.0;
        if let Some(failure) = report.failure {
            return Err(failure.within(&what));
        }
        let (measure, score, _) = report.scores.headline();
        (row.measure, row.score) = (measure.into(), score);
        row.seconds = report.seconds;
        append(&log, &row)?;
        rows.push(row);
        // A study is its table; dozens of bundles would fill the disk.
        fs::remove_dir_all(&folder).map_err(Error::write(&folder))?;
    }
    Ok(rows)
}

/// Reads the rows of an earlier start. A last line that a crash cut short is taken for a fit not done.
fn read(log: &Path) -> Result<Vec<Row>> {
    if !log.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(log).map_err(Error::read(log))?;
    let lines: Vec<&str> = text.lines().collect();
    let mut rows = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(row) => rows.push(row),
            Err(_) if at + 1 == lines.len() => {
                let whole: String = lines[..at].iter().map(|l| format!("{l}\n")).collect();
                fs::write(log, whole).map_err(Error::write(log))?;
            }
            Err(error) => {
                return Err(Error::BadData {
                    place: format!("{}:{}", log.display(), at + 1),
                    what: format!("not a row of a study: {error}"),
                    hint: "delete the line to run that fit again, or choose another `--out`".into(),
                });
            }
        }
    }
    Ok(rows)
}

fn append(log: &Path, row: &Row) -> Result<()> {
    let mut file = File::options().create(true).append(true).open(log).map_err(Error::write(log))?;
    let line = serde_json::to_string(row).expect("plain data");
    writeln!(file, "{line}").and_then(|()| file.sync_all()).map_err(Error::write(log))
}

/// Writes the rows as a Markdown table: a line for each set of photos, a column for each recipe, in order of
/// appearance; mean (lowest–highest) score over the seeds and mean seconds, the best mean of a line in bold. Where the
/// score is not top-1, the line says what it is.
pub fn table(rows: &[Row]) -> String {
    let mut recipes: Vec<&str> = Vec::new();
    let mut sets: Vec<(&str, usize)> = Vec::new();
    for row in rows {
        if !recipes.contains(&row.recipe.as_str()) {
            recipes.push(&row.recipe);
        }
        if !sets.contains(&(&row.photos, row.pictures)) {
            sets.push((&row.photos, row.pictures));
        }
    }
    let mut text = format!("| photos | to train on | {} |\n", recipes.join(" | "));
    text += &format!("|---|---:|{}\n", "---|".repeat(recipes.len()));
    for (photos, pictures) in sets {
        let cell = |recipe: &str| -> Vec<&Row> {
            let here =
                |r: &&Row| (r.photos.as_str(), r.pictures, r.recipe.as_str()) == (photos, pictures, recipe);
            rows.iter().filter(here).collect()
        };
        let mean =
            |rows: &[&Row], of: fn(&Row) -> f64| rows.iter().map(|r| of(r)).sum::<f64>() / rows.len() as f64;
        let all: Vec<Vec<&Row>> = recipes.iter().map(|r| cell(r)).filter(|c| !c.is_empty()).collect();
        let (first, means) = (all[0][0], all.iter().map(|c| mean(c, |r| r.score)));
        let best = means.reduce(if first.is_error() { f64::min } else { f64::max });
        let shown = recipes.iter().map(|recipe| {
            let rows = cell(recipe);
            if rows.is_empty() {
                return "–".to_string();
            }
            let (score, seconds) = (mean(&rows, |r| r.score), mean(&rows, |r| r.seconds));
            let low = rows.iter().map(|r| r.score).fold(f64::MAX, f64::min);
            let high = rows.iter().map(|r| r.score).fold(f64::MIN, f64::max);
            let bold = if Some(score) == best { "**" } else { "" };
            let range = if rows.len() > 1 { format!(" ({low:.3}–{high:.3})") } else { String::new() };
            format!("{bold}{score:.3}{bold}{range}, {seconds:.0} s")
        });
        let measure = match first.measure.as_str() {
            "top-1" => String::new(),
            other => format!(", {other}"),
        };
        text += &format!("| {photos}{measure} | {pictures} | {} |\n", shown.collect::<Vec<_>>().join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(photos: &str, recipe: &str, seed: u64, score: f64) -> Row {
        let (photos, recipe) = (photos.to_string(), recipe.to_string());
        let network = "net (random)".to_string();
        let measure = top1();
        Row {
            photos,
            network,
            size: 64,
            recipe,
            few: None,
            seed,
            pictures: 100,
            measure,
            score,
            seconds: 2.0,
        }
    }

    #[test]
    fn the_table_has_means_ranges_and_the_best_in_bold() {
        let rows = [
            row("bees", "head", 0, 0.9),
            row("bees", "head", 1, 0.8),
            row("bees", "scratch", 0, 0.5),
            row("suns", "head", 0, 0.7),
        ];
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "| photos | to train on | head | scratch |");
        assert_eq!(lines[2], "| bees | 100 | **0.850** (0.800–0.900), 2 s | 0.500, 2 s |");
        assert_eq!(lines[3], "| suns | 100 | **0.700**, 2 s | – |");
    }

    #[test]
    fn of_errors_the_smallest_is_best_and_the_line_says_so() {
        let of = |recipe: &str, score| Row { measure: "RMSE".into(), ..row("trees", recipe, 0, score) };
        let text = table(&[of("head", 4.0), of("finetune", 1.5)]);
        assert_eq!(text.lines().nth(2), Some("| trees, RMSE | 100 | 4.000, 2 s | **1.500**, 2 s |"));
    }

    #[test]
    fn rows_of_before_there_were_measures_are_read() {
        let line = r#"{"photos":"bees","network":"net (random)","size":64,"recipe":"head","seed":0,"pictures":100,"top1":0.9,"seconds":2.0}"#;
        assert_eq!(serde_json::from_str::<Row>(line).unwrap(), row("bees", "head", 0, 0.9));
    }

    #[test]
    fn a_cut_last_line_is_dropped_and_another_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("study.jsonl");
        append(&log, &row("bees", "head", 0, 0.9)).unwrap();
        fs::write(&log, fs::read_to_string(&log).unwrap() + "{\"photos\":\"be").unwrap();
        assert_eq!(read(&log).unwrap(), [row("bees", "head", 0, 0.9)]);
        append(&log, &row("bees", "head", 1, 0.8)).unwrap();
        assert_eq!(read(&log).unwrap().len(), 2);
        fs::write(&log, "nonsense\n{}\n").unwrap();
        assert!(read(&log).unwrap_err().to_string().contains("study.jsonl:1"));
    }
}
