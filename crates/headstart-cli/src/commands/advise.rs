//! `headstart advise`, and the choice behind `fit --recipe auto`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use headstart::advise::decide::Choice;
use headstart::advise::rows::{self, RowAdvice};
use headstart::advise::{self, Advice, Settings};
use headstart::device::describe;
use headstart::error::{Error, Result};
use headstart::session::{Opened, Selection};
use headstart::sources::{Backbone, TextWish, Wanted};
use headstart::task::{Task, TaskSpec};
use headstart::train::Recipe;
use serde_json::{Value, json};

use super::Output;
use crate::args::{Advise, Fit};
use crate::render::progress::Bars;
use crate::render::table;

pub fn advise(a: &Advise, io: Output) -> Result<ExitCode> {
    if !a.data.exists() {
        return Err(Error::NotFound { path: a.data.clone() });
    }
    let settings = Settings { pictures: a.pictures.max(20), seed: a.seed, brief: false };
    let device = a.device.open(io)?;
    let mut bars = Bars::new(io.quiet);
    let mut all = Vec::new();
    let mut others = Vec::new();
    let wanted = Selection {
        task: TaskSpec::from(&a.task),
        val_share: a.val_share,
        seed: a.seed,
        few: a.labels.few(),
        unlabeled: a.labels.unlabeled(),
        ..Selection::of(&a.data)
    };
    let opened = wanted.open()?;
    let task = opened.data.task;
    if !io.quiet {
        opened.notes.iter().for_each(|note| eprintln!("{note}"));
    }
    for i in 0..a.model.len().max(a.weights.len()).max(1) {
        let (model, weights) = (a.model.get(i).cloned(), a.weights.get(i).cloned());
        let text = TextWish::Preferred;
        let wanted = Wanted { model, weights, size: a.size, text, ..Wanted::default() };
        let backbone = Backbone::open(&wanted, &mut bars)?.on(&device);
        match task {
            Task::Classify => {
                all.push(advise::advise(
                    &opened.data,
                    opened.unlabeled.len(),
                    &backbone,
                    settings,
                    &mut bars,
                )?);
            }
            _ => others.push(rows::advise(&opened.data, &backbone, settings, &mut bars)?),
        }
    }
    if task != Task::Classify {
        return Ok(of_rows(others, &describe(&device), io));
    }
    // By what the recommended recipe is expected to give.
    let expected =
        |a: &Advice| a.decision.outlook(a.decision.choice).map_or(a.measured.probe.top1, |o| o.top1);
    all.sort_by(|a, b| expected(b).total_cmp(&expected(a)));
    let best = &all[0];
    let code =
        if best.decision.choice == Choice::CollectMore { ExitCode::from(1) } else { ExitCode::SUCCESS };
    io.show(
        || {
            let mut document = json!(best);
            document["others"] = json!(all[1..]);
            document["device"] = json!(describe(&device));
            document
        },
        || {
            if all.len() > 1 {
                compare(&all);
            }
            print(best);
        },
    );
    Ok(code)
}

/// Shows advice for labels or numbers, the best network first.
fn of_rows(mut all: Vec<RowAdvice>, device: &str, io: Output) -> ExitCode {
    all.sort_by(|a, b| b.probe.total_cmp(&a.probe));
    let best = &all[0];
    let document = || {
        let mut document = json!(best);
        document["others"] = json!(all[1..]);
        document["device"] = json!(device);
        document
    };
    io.show(document, || {
        println!("{}\n", best.why);
        let rows: Vec<Vec<String>> = (best.outlooks.iter())
            .map(|(choice, score)| {
                let mark = if *choice == best.choice { "recommended" } else { "" };
                vec![choice.words().to_string(), format!("{score:.3}"), mark.to_string()]
            })
            .collect();
        table::print(&["recipe", &format!("expected {}", best.score), ""], &[false, true, false], &rows);
        println!();
        let row = |a: &RowAdvice| {
            let (low, high) = a.interval95;
            let numbers = [a.probe_earlier, a.control_probe].map(|v| format!("{v:.3}"));
            [
                vec![a.weights.clone(), format!("{:.3}", a.probe), format!("{low:.2}–{high:.2}")],
                numbers.to_vec(),
            ]
            .concat()
        };
        let header = ["network", "probe", "95 %", "before the last stage", "random weights"];
        table::print(&header, &[false, true, true, true, true], &all.iter().map(row).collect::<Vec<_>>());
        println!("\nmeasured on {} pictures in {:.0} s", best.pictures, best.seconds);
    });
    if best.choice == Choice::CollectMore { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

/// One line a network, best first.
fn compare(all: &[Advice]) {
    let rows: Vec<Vec<String>> = (all.iter())
        .map(|a| {
            let m = &a.measured;
            vec![
                a.weights.clone(),
                format!("{:.3}", m.probe.top1),
                format!("{:.3}", m.knn),
                format!("{:.3}", m.logme),
                format!("{:.3}", m.h_score),
                m.leep.map_or("–".into(), |l| format!("{l:.3}")),
                m.source_tells.map_or("–".into(), |s| format!("{s:.3}")),
                format!("{:.0}", m.pictures_per_second),
            ]
        })
        .collect();
    let header = ["network", "probe", "neighbours", "LogME", "H-score", "LEEP", "told", "pictures/s"];
    table::print(&header, &[false, true, true, true, true, true, true, true], &rows);
    println!();
}

fn print(a: &Advice) {
    let m = &a.measured;
    println!("{}\n", a.why);
    let time = |s: f64| if s < 90.0 { format!("{s:.0} s") } else { format!("{:.0} min", s / 60.0) };
    let rows: Vec<Vec<String>> = (a.decision.outlooks.iter())
        .map(|o| {
            let mark = match (o.choice == a.decision.choice, o.as_good) {
                (true, _) => "recommended",
                (_, true) => "as good",
                _ => "",
            };
            let (low, high) = o.interval95;
            vec![
                o.choice.words().to_string(),
                format!("{:.3}", o.top1),
                format!("{low:.2}–{high:.2}"),
                time(o.seconds),
                mark.to_string(),
            ]
        })
        .collect();
    table::print(
        &["recipe", "expected top-1", "95 % of cases", "time here", ""],
        &[false, true, true, true, false],
        &rows,
    );
    let leep = m.leep.map_or("none".into(), |l| format!("{l:.3}"));
    let tells = m.source_tells.map_or("nothing".into(), |s| format!("{s:.3}"));
    println!(
        "\nmeasured on {} pictures in {:.0} s: probe {:.3} ({:.3} before the last stage), neighbours {:.3}, LogME {:.3}, \
         H-score {:.3}, LEEP {leep}, told by the network's own classes {tells}",
        m.pictures, a.seconds, m.probe.top1, m.probe_earlier.top1, m.knn, m.logme, m.h_score
    );
    if let Some(z) = &m.zero_shot {
        let (low, high) = z.interval95;
        println!("zero-shot, without any training: {:.3} (95 % interval {low:.2}–{high:.2})", z.top1);
    }
    if a.decision.choice == Choice::CollectMore {
        println!("advice: collect more pictures before training");
    }
}

/// The file of a run folder that says why its recipe was chosen.
const FILE: &str = "advice.json";

/// Chooses the recipe of `fit --recipe auto`: measures, or takes what the run to be resumed had chosen.
pub fn choose(
    a: &Fit,
    photos: &Selection,
    backbone: &Backbone,
    out: &Path,
    bars: &mut Bars,
) -> Result<(Recipe, Value, Option<Opened>)> {
    let file = out.join(FILE);
    // A place that cannot be written to shows before the work.
    fs::create_dir_all(out).map_err(Error::write(out))?;
    let mut opened = None;
    let advice: Value = if a.resume && file.exists() {
        let text = fs::read_to_string(&file).map_err(Error::read(&file))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::BadBundle { path: file.clone(), reason: format!("it is garbled: {e}") })?
    } else {
        let settings = Settings::before_a_fit(photos.seed);
        let Opened { data, unlabeled, .. } = opened.insert(photos.open()?);
        match data.task {
            Task::Classify => json!(advise::advise(data, unlabeled.len(), backbone, settings, bars)?),
            _ => json!(rows::advise(data, backbone, settings, bars)?),
        }
    };
    let why = advice["why"].as_str().unwrap_or_default();
    let Some(text) = advice["recipe"].as_str() else {
        return Err(Error::BadData {
            place: a.data.display().to_string(),
            what: format!("no recipe is worth its time: {why}"),
            hint: "to train all the same, name a recipe: `--recipe head`".into(),
        });
    };
    let recipe = Recipe::parse(text, FILE)?;
    fs::write(&file, format!("{advice:#}\n")).map_err(Error::write(&file))?;
    Ok((recipe, advice, opened))
}
