//! `headstart predict`: ranked labels by name.

use std::process::ExitCode;

use burn::tensor::Device;
use headstart::bundle::Bundle;
use headstart::error::Result;
use headstart::image::{self, Key};
use headstart::metrics::calibration::softmax;
use headstart::train::photos::Batch;
use headstart::train::prefix;
use serde_json::json;

use super::Output;
use crate::args::Predict;
use crate::render::error;

pub fn predict(a: &Predict, io: Output) -> Result<ExitCode> {
    let bundle = Bundle::open(&a.bundle)?;
    let (h, w) = bundle.pipeline.output_size().expect("bundles hold fixed-size pipelines");
    let groups = bundle.network.groups().len();
    let mut found = Vec::new();
    let mut failed = false;
    for file in &a.files {
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
        bundle.pipeline.apply(&picture, Key::default(), &mut x);
        let logits = prefix::run(&bundle.network, groups, Batch { x, n: 1, h, w }, &Device::flex()).flat();
        let row: Vec<f32> = headstart::models::host_values(&logits);
        let mut ranked: Vec<(f64, &String)> =
            softmax(&row, bundle.temperature).into_iter().zip(&bundle.classes).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        ranked.truncate(a.top.max(1));
        if !io.json {
            let parts: Vec<String> =
                ranked.iter().map(|(p, name)| format!("{name} {:.1} %", p * 100.0)).collect();
            println!("{}: {}", file.display(), parts.join(", "));
        }
        let labels: Vec<_> = ranked.iter().map(|(p, name)| json!({"label": name, "score": p})).collect();
        found.push(json!({"file": file, "labels": labels}));
    }
    io.show(|| json!({ "predictions": found }), || {});
    Ok(if failed { ExitCode::from(2) } else { ExitCode::SUCCESS })
}
