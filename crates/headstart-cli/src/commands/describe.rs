//! `headstart models` and `headstart describe`.

use std::process::ExitCode;

use burn::tensor::Device;
use headstart::error::{Error, Result};
use headstart::models::spec::Place;
use headstart::models::{self, ModelOptions, Network};
use headstart::train::groups::{BatchNormPolicy, resolve};
use serde_json::json;

use super::Output;
use crate::args::{Describe, Models};
use crate::render::table;

pub fn models(a: &Models, io: Output) -> Result<ExitCode> {
    let filter = a.filter.as_deref().unwrap_or("");
    let rows: Vec<_> = models::rows().into_iter().filter(|r| r.name.contains(filter)).collect();
    let place = |p: Place| match p {
        Place::Torchvision(file) => format!("torchvision {file}"),
        Place::Hub(repo) => format!("hf-hub:{repo}"),
        Place::Embedded => "built in".into(),
    };
    let document = || {
        let list = rows.iter().map(|r| {
            let weights = r.weights.iter().map(|w| {
                json!({"name": format!("{}.{}", r.name, w.tag), "place": place(w.place), "license": w.license, "imagenet_top1": w.top1})
            });
            json!({"name": r.name, "params": r.params, "num_features": r.num_features, "min_size": r.min_size,
                   "size": r.input.size, "paper": r.paper, "weights": weights.collect::<Vec<_>>()})
        });
        json!({ "models": list.collect::<Vec<_>>() })
    };
    io.show(document, || {
        let mut lines = Vec::new();
        for r in &rows {
            let mut name = r.name.to_string();
            let mut params = table::count(r.params);
            for w in r.weights {
                let top1 = w.top1.map_or(String::new(), |t| format!("{t:.1}"));
                lines.push(vec![
                    std::mem::take(&mut name),
                    std::mem::take(&mut params),
                    w.tag.to_string(),
                    w.input.size.to_string(),
                    top1,
                    w.license.to_string(),
                    place(w.place),
                ]);
            }
            if r.weights.is_empty() {
                lines.push(vec![
                    name,
                    params,
                    "–".into(),
                    r.input.size.to_string(),
                    String::new(),
                    String::new(),
                    String::new(),
                ]);
            }
        }
        let header = ["model", "parameters", "weights", "px", "ImageNet top-1", "licence", "from"];
        table::print(&header, &[false, true, false, true, true, false, false], &lines);
    });
    Ok(ExitCode::SUCCESS)
}

pub fn describe(a: &Describe, io: Output) -> Result<ExitCode> {
    if !(1..=1_000_000).contains(&a.classes) {
        return Err(Error::BadRecipe {
            place: "--classes".into(),
            what: format!("{} is no number of classes", a.classes),
            hint: "use 1 to 1000000".into(),
        });
    }
    let network = Network::new(&a.model, &ModelOptions::new(a.classes), &Device::flex())?;
    let frozen = if a.freeze.is_empty() {
        Default::default()
    } else {
        resolve(&a.freeze, BatchNormPolicy::Train, &network)?.params
    };
    let params = network.params();
    let kind = |name: &str, shape: &[usize]| match (shape.len(), name.rsplit('.').next().unwrap_or("")) {
        (4, _) => "convolution",
        (2, _) => "linear",
        (_, "running_mean" | "running_var") => "statistics",
        _ => "vector",
    };
    let rows: Vec<_> = (params.iter())
        .map(|p| {
            let group = network.groups()[network.group_of(&p.name)].name.clone();
            let state = if p.buffer {
                "buffer"
            } else if frozen.contains(&p.name) {
                "frozen"
            } else {
                "trains"
            };
            (p, kind(&p.name, &p.shape), group, state)
        })
        .collect();
    let total: usize = params.iter().filter(|p| !p.buffer).map(|p| p.shape.iter().product::<usize>()).sum();
    let trains: usize =
        (rows.iter().filter(|r| r.3 == "trains")).map(|r| r.0.shape.iter().product::<usize>()).sum();
    let document = || {
        let layers = rows.iter().map(|(p, kind, group, state)| {
            json!({"name": p.name, "type": kind, "shape": p.shape, "group": group, "state": state})
        });
        json!({"model": network.row().name, "params": total, "trainable": trains,
               "groups": network.groups().iter().map(|g| &g.name).collect::<Vec<_>>(), "layers": layers.collect::<Vec<_>>()})
    };
    io.show(document, || {
        let lines: Vec<Vec<String>> = (rows.iter())
            .map(|(p, kind, group, state)| {
                let shape = p.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×");
                let count = table::count(p.shape.iter().product());
                vec![p.name.clone(), (*kind).into(), shape, count, group.clone(), (*state).into()]
            })
            .collect();
        let header = ["name", "type", "shape", "numbers", "group", "state"];
        table::print(&header, &[false, false, false, true, false, false], &lines);
        println!("\n{} parameters, {} of them trainable", table::count(total), table::count(trains));
    });
    Ok(ExitCode::SUCCESS)
}
