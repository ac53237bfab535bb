//! `headstart evaluate`: a bundle, or weights with their own classes.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use headstart::bundle::Bundle;
use headstart::data::{Classes, Dataset, OnUnreadable, Split, SplitConfig, check_files};
use headstart::device::describe;
use headstart::error::{Error, Result};
use headstart::image::Pipeline;
use headstart::models::{Network, frozen};
use headstart::scored::scored;
use headstart::session::{Scores, photos};
use headstart::sources::{Backbone, Wanted};
use headstart::task::{Reading, TaskSpec};
use headstart::train::Recipe;
use serde_json::json;

use super::Output;
use crate::args::Evaluate;
use crate::render::progress::Bars;
use crate::render::{scores, table};

pub fn evaluate(a: &Evaluate, io: Output) -> Result<ExitCode> {
    let started = Instant::now();
    let device = a.device.open(io)?;
    let is_bundle =
        Path::new(&a.what).join("bundle.json").exists() || Path::new(&a.what).join("bundle").exists();
    let (network, mut data, pipeline, reading) = if is_bundle { of_bundle(a)? } else { of_weights(a, io)? };
    let network = network.on(&device);
    let unreadable = check_files(&mut data, OnUnreadable::LeaveOut, &|_, _| {})?;
    let split = Split::of_folder(&a.split).ok_or_else(|| Error::BadData {
        place: "--split".into(),
        what: format!("no part is called `{}`", a.split),
        hint: "use train, val or test".into(),
    })?;
    if data.part(split).is_empty() {
        return Err(Error::BadData {
            place: a.data.display().to_string(),
            what: format!("no readable picture in the part `{}`", split.name()),
            hint: "choose another part with `--split`".into(),
        });
    }
    suits(&pipeline, &network).map_err(|e| e.within("--pipeline"))?;
    let set = photos(data.part(split), &pipeline, 0, 32, "evaluate")?;
    let (thresholds, scales) = match &reading {
        Reading::Class => (None, &[][..]),
        Reading::Labels { thresholds } => (Some(&thresholds[..]), &[][..]),
        Reading::Numbers { scales } => (None, &scales[..]),
    };
    let set = set.with_truth(data.truth(split, scales));
    let all = scored(&network, &set, data.classes.names(), thresholds)?;
    let seconds = started.elapsed().as_secs_f64();
    let document = || {
        let mut all = all.to_json();
        all["split"] = json!(split.name());
        all["device"] = json!(describe(&device));
        all["unreadable"] =
            json!(unreadable.iter().map(|u| json!({"path": u.path, "reason": u.reason})).collect::<Vec<_>>());
        all["notes"] = json!(data.notes);
        all["seconds"] = json!(seconds);
        all
    };
    io.show(document, || {
        println!("{} photos of `{}`", set.len(), split.name());
        match all.classes() {
            Some(scores) => of_classes(scores),
            None => {
                let (name, value, interval) = all.headline();
                let interval =
                    interval.map_or(String::new(), |(l, h)| format!("  (95 % interval {l:.3}–{h:.3})"));
                println!("{name} {value:.4}{interval}");
                scores::print(&all);
            }
        }
        for bad in &unreadable {
            println!("left out `{}`: {}", bad.path.display(), bad.reason);
        }
        println!("{seconds:.1} s");
    });
    Ok(ExitCode::SUCCESS)
}

/// Prints the scores of one class a picture.
fn of_classes(scores: &Scores) {
    let (low, high) = scores.interval;
    println!("top-1 {:.4}  (95 % interval {low:.3}–{high:.3})", scores.top1);
    println!("top-5 {:.4}", scores.top5);
    println!("loss  {:.4}   calibration error {:.4}", scores.loss, scores.ece);
    if scores.classes.len() <= 30 {
        let rows: Vec<Vec<String>> = (scores.classes.iter().zip(scores.confusion.class_scores()))
            .map(|(name, s)| {
                let share = |v: Option<f64>| v.map_or("–".into(), |v| format!("{v:.3}"));
                vec![name.clone(), share(s.precision), share(s.recall), share(s.f1), s.support.to_string()]
            })
            .collect();
        println!();
        table::print(
            &["class", "precision", "recall", "F1", "photos"],
            &[false, true, true, true, true],
            &rows,
        );
    }
    for pair in scores.confusion.mistakes(5) {
        println!(
            "{} taken for {}: {}",
            scores.classes[pair.target], scores.classes[pair.predicted], pair.count
        );
    }
}

/// Makes sure that a pipeline ends in what the network takes.
fn suits(text: &str, network: &Network) -> Result<()> {
    let pipeline: Pipeline = text.parse()?;
    let bad =
        |what: String, hint: &str| Error::BadRecipe { place: "the end".into(), what, hint: hint.into() };
    let (height, width) = pipeline.output_size().ok_or_else(|| {
        bad("pictures keep different sizes".into(), "end with `center_crop(224)` or another fixed size")
    })?;
    network.check_size(height, width)?;
    let (found, wanted) = (pipeline.channels(), network.options().in_chans);
    if found == wanted {
        return Ok(());
    }
    Err(bad(
        format!("pictures of {found} channels for a network of {wanted}"),
        "`channels(1)` makes them grey",
    ))
}

type Evaluated = (Network, Dataset, String, Reading);

/// Classes are matched by name.
fn of_bundle(a: &Evaluate) -> Result<Evaluated> {
    let bundle = Bundle::open(Path::new(&a.what))?;
    let data = Dataset::open_for(&a.data, bundle.reading.task(), &Classes::ordered(bundle.classes)?)?;
    let pipeline = a.pipeline.clone().unwrap_or_else(|| bundle.pipeline.to_string());
    Ok((bundle.network, data, pipeline, bundle.reading))
}

/// Class folders, sorted, are the outputs in order.
fn of_weights(a: &Evaluate, io: Output) -> Result<Evaluated> {
    let mut wanted = Wanted::from(&a.model);
    wanted.weights = Some(a.what.clone());
    let backbone = Backbone::open(&wanted, &mut Bars::new(io.quiet))?;
    let (network, _) = backbone.whole()?;
    let classes = Dataset::open_as(&a.data, &SplitConfig::default(), &TaskSpec::classify())?.classes;
    // Nothing is trained here: photos that no part claims are all evaluated.
    let data = Dataset::open_with(&a.data, &classes)?;
    let outputs = network.options().num_classes;
    if data.classes.len() != outputs {
        return Err(Error::BadData {
            place: a.data.display().to_string(),
            what: format!("{} class folders for a network of {outputs} classes", data.classes.len()),
            hint: "class folders must stand for the network's outputs, in sorted order".into(),
        });
    }
    let mut recipe = Recipe::open("head")?;
    recipe.eval = a.pipeline.clone().unwrap_or(recipe.eval);
    recipe.resolve(&backbone.input);
    Ok((frozen(&network), data, recipe.eval, Reading::Class))
}
