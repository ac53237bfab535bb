//! `headstart zero-shot`: class names instead of training.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use headstart::bundle::Bundle;
use headstart::clip::{self, Templates};
use headstart::data::{Classes, Dataset, OnUnreadable, Split, SplitConfig, check_files};
use headstart::error::{Error, Result};
use headstart::image::Pipeline;
use headstart::metrics::{accuracy, interval};
use headstart::models::frozen;
use headstart::session::{photos, score};
use headstart::sources::{Backbone, TextWish, Wanted};
use headstart::task::Reading;
use headstart::train::Recipe;
use serde_json::json;

use super::Output;
use super::predict::{Namer, name_photos};
use crate::args::ZeroShot;
use crate::render::progress::Bars;

pub fn zero_shot(a: &ZeroShot, io: Output) -> Result<ExitCode> {
    let started = Instant::now();
    let templates = Templates::new(&a.templates).map_err(|e| e.within("--template"))?;
    let data = labelled(a)?;
    let names = Names::new(a, data.as_ref())?;
    let wanted = Wanted { text: TextWish::Needed, ..Wanted::from(&a.model) };
    let backbone = Backbone::open(&wanted, &mut Bars::new(io.quiet))?;
    let mut recipe = Recipe::open("head")?;
    recipe.resolve(&backbone.input);
    let (network, report) = clip::zero_shot(&backbone, &names.words, &templates)?;
    let network = frozen(&network);
    if !io.quiet {
        report.notes.iter().for_each(|note| eprintln!("{note}"));
    }
    let about = json!({
        "model": backbone.row.name,
        "weights": backbone.origin,
        "classes": names.labels,
        "templates": templates.texts(),
    });
    let Some(mut data) = data else {
        let pipeline: Pipeline = recipe.eval.parse()?;
        let namer = Namer {
            network: &network,
            classes: &names.labels,
            pipeline: &pipeline,
            temperature: 1.0,
            reading: &Reading::Class,
        };
        let (found, failed) = name_photos(&namer, &a.what, a.top, io);
        io.show(
            || {
                let mut all = about;
                all["predictions"] = json!(found);
                all
            },
            || {},
        );
        return Ok(if failed { ExitCode::from(2) } else { ExitCode::SUCCESS });
    };
    let unreadable = check_files(&mut data, OnUnreadable::LeaveOut, &|_, _| {})?;
    let split = Split::of_folder(&a.split).ok_or_else(|| Error::BadData {
        place: "--split".into(),
        what: format!("no part is called `{}`", a.split),
        hint: "use train, val or test".into(),
    })?;
    if data.part(split).is_empty() {
        return Err(Error::BadData {
            place: a.what[0].display().to_string(),
            what: format!("no readable picture in the part `{}`", split.name()),
            hint: "choose another part with `--split`".into(),
        });
    }
    let set = photos(data.part(split), &recipe.eval, 0, 32, "zero-shot")?;
    let scores = score(&network, &set, &names.labels)?;
    let (n, total) = (names.labels.len(), scores.labels.len());
    let among =
        accuracy::hits(&scores.logits, n, &scores.labels, 5.min(n)).into_iter().filter(|h| *h).count();
    let top5 = interval::wilson(among, total, 0.95);
    let seconds = started.elapsed().as_secs_f64();
    let document = || {
        let mut all = scores.to_json();
        for (key, value) in about.as_object().expect("an object") {
            all[key] = value.clone();
        }
        all["top5_interval95"] = json!([top5.low, top5.high]);
        all["split"] = json!(split.name());
        all["unreadable"] =
            json!(unreadable.iter().map(|u| json!({"path": u.path, "reason": u.reason})).collect::<Vec<_>>());
        all["notes"] = json!(data.notes.iter().chain(&report.notes).collect::<Vec<_>>());
        all["seconds"] = json!(seconds);
        all
    };
    io.show(document, || {
        let (low, high) = scores.interval;
        println!("{total} photos of `{}`, {n} classes, no training", split.name());
        println!("top-1 {:.4}  (95 % interval {low:.3}–{high:.3})", scores.top1);
        println!("top-5 {:.4}  (95 % interval {:.3}–{:.3})", scores.top5, top5.low, top5.high);
        println!("loss  {:.4}   calibration error {:.4}", scores.loss, scores.ece);
        for pair in scores.confusion.mistakes(5) {
            println!(
                "{} taken for {}: {}",
                names.labels[pair.target], names.labels[pair.predicted], pair.count
            );
        }
        for bad in &unreadable {
            println!("left out `{}`: {}", bad.path.display(), bad.reason);
        }
        println!("{seconds:.1} s");
    });
    Ok(ExitCode::SUCCESS)
}

/// What classes are called, and how a sentence says it.
struct Names {
    labels: Vec<String>,
    words: Vec<String>,
}

impl Names {
    fn new(a: &ZeroShot, data: Option<&Dataset>) -> Result<Self> {
        let labels: Vec<String> = match (&a.bundle, data) {
            (Some(path), _) => Bundle::open(path)?.classes,
            (None, Some(data)) => data.classes.names().to_vec(),
            (None, None) => given(a).into_iter().map(|(label, _)| label).collect(),
        };
        if labels.len() < 2 {
            return Err(Error::BadData {
                place: "--classes".into(),
                what: format!("{} class to choose from", labels.len()),
                hint: "name two or more: `--classes cat,dog`, or take those of a `--bundle`".into(),
            });
        }
        let given = given(a);
        let said =
            |label: &String| given.iter().find(|(l, _)| l == label).map_or(label.clone(), |(_, w)| w.clone());
        Ok(Self { words: labels.iter().map(said).collect(), labels })
    }
}

/// Classes of the command line, each with its words.
fn given(a: &ZeroShot) -> Vec<(String, String)> {
    let pair = |text: &String| match text.split_once('=') {
        Some((label, words)) => (label.trim().to_string(), words.trim().to_string()),
        None => (text.trim().to_string(), text.trim().to_string()),
    };
    a.classes.iter().map(pair).filter(|(label, _)| !label.is_empty()).collect()
}

/// Opens a folder or manifest of labelled photos; none where photos are named one by one.
fn labelled(a: &ZeroShot) -> Result<Option<Dataset>> {
    let is_set =
        |path: &Path| path.is_dir() || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    let [path] = &a.what[..] else {
        return match a.what.iter().find(|path| is_set(path)) {
            Some(set) => Err(Error::BadData {
                place: set.display().to_string(),
                what: "a set of photos among single photos".into(),
                hint: "give one folder or manifest alone, or photos only".into(),
            }),
            None => Ok(None),
        };
    };
    if !path.exists() {
        return Err(Error::NotFound { path: path.clone() });
    }
    if !is_set(path) {
        return Ok(None);
    }
    let classes = match (&a.bundle, given(a)) {
        (Some(bundle), _) => Classes::ordered(Bundle::open(bundle)?.classes)?,
        (None, given) if given.is_empty() => Dataset::open(path, &SplitConfig::default())?.classes,
        (None, given) => Classes::ordered(given.into_iter().map(|(label, _)| label).collect())?,
    };
    // Nothing is trained here: photos that no part claims are all looked at.
    Dataset::open_with(path, &classes).map(Some)
}
