//! `headstart embed`: features for other programs.

use std::process::ExitCode;

use headstart::bundle::Bundle;
use headstart::data::{Dataset, OnUnreadable, SplitConfig, check_files};
use headstart::device::describe;
use headstart::error::{Error, Result};
use headstart::models::{HeadSpec, frozen, host_values};
use headstart::npy;
use headstart::session::photos;
use headstart::sources::{Backbone, Wanted};
use headstart::task::Task;
use headstart::train::{Recipe, prefix};
use headstart::weights::{Entry, StateDict, safetensors};
use serde_json::json;

use super::Output;
use crate::args::Embed;
use crate::render::progress::Bars;

pub fn embed(a: &Embed, io: Output) -> Result<ExitCode> {
    let format = a.output.extension().and_then(|e| e.to_str());
    if !matches!(format, Some("npy" | "safetensors")) {
        return Err(Error::BadData {
            place: a.output.display().to_string(),
            what: "an unknown ending".into(),
            hint: "end the output in `.safetensors` or `.npy`".into(),
        });
    }
    let device = a.device.open(io)?;
    let (network, pipeline) = match &a.bundle {
        Some(path) => {
            let bundle = Bundle::open(path)?;
            (bundle.network, bundle.pipeline.to_string())
        }
        None => {
            let backbone = Backbone::open(&Wanted::from(&a.model), &mut Bars::new(io.quiet))?;
            let mut recipe = Recipe::open("head")?;
            recipe.resolve(&backbone.input);
            (backbone.with_new_head(2, HeadSpec::linear(), 0)?.0, recipe.eval)
        }
    };
    let network = frozen(&network).on(&device);
    let mut data = Dataset::open(&a.data, &SplitConfig::default())?;
    let unreadable = check_files(&mut data, OnUnreadable::LeaveOut, &|_, _| {})?;
    let samples: Vec<_> = [&data.train, &data.val, &data.test].into_iter().flatten().cloned().collect();
    let set = photos(&samples, &pipeline, 0, 32, "embed")?;
    let (groups, mut all) = (network.groups().len() - 1, Vec::new());
    for batch in set.in_order(0) {
        let x = prefix::run(&network, groups, batch?, &device).flat();
        all.extend(host_values(&x));
    }
    let (n, width) = (samples.len(), network.row().num_features);
    match format {
        Some("npy") => npy::write(&a.output, &[n, width], &all)?,
        _ => {
            let mut dict = StateDict::new(&a.output);
            dict.insert("embeddings", Entry::from_f32(&[n, width], &all));
            if data.task == Task::Classify {
                let labels: Vec<i64> = samples.iter().map(|s| s.label as i64).collect();
                dict.insert("labels", Entry::from_i64(&[n], &labels));
            } else {
                // A row of 0 and 1 for the labels, or of numbers in their own units.
                let rows = samples.iter().flat_map(|s| data.rows[s.label].iter().map(|v| *v as f32));
                dict.insert("targets", Entry::from_f32(&[n, data.classes.len()], &rows.collect::<Vec<_>>()));
            }
            let files: Vec<_> = samples.iter().map(|s| s.path.display().to_string()).collect();
            dict.metadata.insert("files".into(), json!(files).to_string());
            dict.metadata.insert("classes".into(), json!(data.classes.names()).to_string());
            safetensors::write(&a.output, &dict)?;
        }
    }
    let left_out =
        || unreadable.iter().map(|u| json!({"path": u.path, "reason": u.reason})).collect::<Vec<_>>();
    io.show(
        || json!({"pictures": n, "width": width, "output": a.output, "device": describe(&device), "unreadable": left_out()}),
        || {
            for bad in &unreadable {
                println!("left out `{}`: {}", bad.path.display(), bad.reason);
            }
            println!("{n} embeddings of {width} in `{}`", a.output.display());
        },
    );
    Ok(ExitCode::SUCCESS)
}
