//! `headstart predict`: ranked labels by name.

use std::path::PathBuf;
use std::process::ExitCode;

use burn::tensor::Device;
use headstart::bundle::Bundle;
use headstart::error::Result;
use headstart::image::{self, Key, Pipeline};
use headstart::metrics::calibration::softmax;
use headstart::models::Network;
use headstart::train::photos::Batch;
use headstart::train::prefix;
use serde_json::{Value, json};

use super::Output;
use crate::args::Predict;
use crate::render::error;

pub fn predict(a: &Predict, io: Output) -> Result<ExitCode> {
    let Bundle { network, classes, pipeline, temperature, .. } = &Bundle::open(&a.bundle)?;
    let namer = Namer { network, classes, pipeline, temperature: *temperature };
    let (found, failed) = name_photos(&namer, &a.files, a.top, io);
    io.show(|| json!({ "predictions": found }), || {});
    Ok(if failed { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

/// What names photos.
pub struct Namer<'a> {
    pub network: &'a Network,
    pub classes: &'a [String],
    pub pipeline: &'a Pipeline,
    pub temperature: f64,
}

/// Ranks the labels of each photo, printing them unless JSON is wanted; tells whether a photo could not be read.
pub fn name_photos(by: &Namer<'_>, files: &[PathBuf], top: usize, io: Output) -> (Vec<Value>, bool) {
    let (h, w) = by.pipeline.output_size().expect("a fixed-size pipeline");
    let groups = by.network.groups().len();
    let mut found = Vec::new();
    let mut failed = false;
    for file in files {
        let picture = match image::decode(file) {
            Ok(picture) => picture,
            // One bad file must not cost the answers for the others.
            Err(e) => {
                failed = true;
                error::show(&e, false);
                found.push(json!({"file": file, "error": e.to_string()}));
                continue;
            }
        };
        let mut x = vec![0.0; h * w * 3];
        by.pipeline.apply(&picture, Key::default(), &mut x);
        let logits = prefix::run(by.network, groups, Batch { x, n: 1, h, w }, &Device::flex()).flat();
        let row: Vec<f32> = headstart::models::host_values(&logits);
        let mut ranked: Vec<(f64, &String)> =
            softmax(&row, by.temperature).into_iter().zip(by.classes).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        ranked.truncate(top.max(1));
        if !io.json {
            let parts: Vec<String> =
                ranked.iter().map(|(p, name)| format!("{name} {:.1} %", p * 100.0)).collect();
            println!("{}: {}", file.display(), parts.join(", "));
        }
        let labels: Vec<_> = ranked.iter().map(|(p, name)| json!({"label": name, "score": p})).collect();
        found.push(json!({"file": file, "labels": labels}));
    }
    (found, failed)
}
