//! `headstart predict`: ranked classes, the labels above their thresholds, or numbers; by name.

use std::path::PathBuf;
use std::process::ExitCode;

use headstart::bundle::Bundle;
use headstart::device::describe;
use headstart::error::Result;
use headstart::image::{Key, Pipeline};
use headstart::metrics::calibration::softmax;
use headstart::models::Network;
use headstart::task::{Reading, logistic, unscale};
use headstart::train::photos::Batch;
use headstart::train::prefix;
use headstart_web::plot::text::number;
use serde_json::{Value, json};

use super::Output;
use crate::args::Predict;
use crate::render::error;

pub fn predict(a: &Predict, io: Output) -> Result<ExitCode> {
    let device = a.device.open(io)?;
    let Bundle { network, classes, pipeline, temperature, reading, .. } = Bundle::open(&a.bundle)?;
    let network = &network.on(&device);
    let namer = Namer { network, classes: &classes, pipeline: &pipeline, temperature, reading: &reading };
    let (found, failed) = name_photos(&namer, &a.files, a.top, io);
    io.show(|| json!({ "predictions": found, "device": describe(&device) }), || {});
    Ok(if failed { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

/// What names photos.
pub struct Namer<'a> {
    pub network: &'a Network,
    pub classes: &'a [String],
    pub pipeline: &'a Pipeline,
    pub temperature: f64,
    pub reading: &'a Reading,
}

/// Ranks the labels of each photo, printing them unless JSON is wanted; tells whether a photo could not be read.
pub fn name_photos(by: &Namer<'_>, files: &[PathBuf], top: usize, io: Output) -> (Vec<Value>, bool) {
    let (h, w) = by.pipeline.output_size().expect("a fixed-size pipeline");
    let (groups, device) = (by.network.groups().len(), by.network.device());
    let mut found = Vec::new();
    let mut failed = false;
    for file in files {
        let mut x = vec![0.0; h * w * by.pipeline.channels()];
        match by.pipeline.read(file, Key::default(), &mut x) {
            Ok(()) => {}
            // One bad file must not cost the answers for the others.
            Err(e) => {
                failed = true;
                error::show(&e, false);
                found.push(json!({"file": file, "error": e.to_string()}));
                continue;
            }
        };
        let logits = prefix::run(by.network, groups, Batch { x, n: 1, h, w }, &device).flat();
        let row: Vec<f32> = headstart::models::host_values(&logits);
        let answer = answer(&row, by, top);
        if !io.json {
            println!("{}: {}", file.display(), answer.text);
        }
        let mut document = json!({"file": file});
        document[answer.key] = answer.json;
        found.push(document);
    }
    (found, failed)
}

/// What a network says of a picture.
struct Answer {
    text: String,
    key: &'static str,
    json: Value,
}

fn answer(row: &[f32], by: &Namer<'_>, top: usize) -> Answer {
    let ranked = |probabilities: Vec<f64>| {
        let mut all: Vec<(f64, usize)> = probabilities.into_iter().zip(0..).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all
    };
    let (found, none) = match by.reading {
        Reading::Class => {
            let mut found = ranked(softmax(row, by.temperature));
            found.truncate(top.max(1));
            (found, "")
        }
        Reading::Labels { thresholds } => {
            let mut found = ranked(row.iter().map(|x| logistic(f64::from(*x))).collect());
            found.retain(|(p, label)| *p >= thresholds[*label]);
            (found, "no label")
        }
        Reading::Numbers { scales } => {
            let values: Vec<f64> = unscale(row, scales);
            let named = || by.classes.iter().zip(&values);
            let text: Vec<String> = named().map(|(name, v)| format!("{name} {}", number(*v))).collect();
            let json = named().map(|(name, v)| (name.clone(), json!(v))).collect::<serde_json::Map<_, _>>();
            return Answer { text: text.join(", "), key: "values", json: json.into() };
        }
    };
    let name = |label: usize| &by.classes[label];
    let parts: Vec<String> = found.iter().map(|(p, c)| format!("{} {:.1} %", name(*c), p * 100.0)).collect();
    let text = if parts.is_empty() { none.to_string() } else { parts.join(", ") };
    let labels = found.iter().map(|(p, c)| json!({"label": name(*c), "score": p})).collect::<Vec<_>>();
    Answer { text, key: "labels", json: labels.into() }
}
