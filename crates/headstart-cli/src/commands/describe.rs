//! `headstart models` and `headstart describe`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use burn::tensor::Device;
use headstart::error::{Error, Result};
use headstart::models::spec::Place;
use headstart::models::{self, ModelOptions, Network};
use headstart::train::Recipe;
use headstart::train::groups::{BatchNormPolicy, resolve};
use headstart::train::recipe::Phase;
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
    let plan = a.recipe.as_deref().map(Recipe::open).transpose()?;
    let mut options = ModelOptions::new(a.classes);
    if let Some(plan) = &plan {
        options.head = plan.head.parse()?;
    }
    let network = Network::new(&a.model, &options, &Device::flex())?;
    let total =
        network.params().iter().filter(|p| !p.buffer).map(|p| p.shape.iter().product::<usize>()).sum();
    let View { network, frozen, phases } = match plan {
        Some(plan) => of_recipe(plan, network)?,
        None => {
            let frozen = match a.freeze.is_empty() {
                true => BTreeSet::new(),
                false => resolve(&a.freeze, BatchNormPolicy::Train, &network)?.params,
            };
            View { network, frozen, phases: Vec::new() }
        }
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
    let trains: usize =
        (rows.iter().filter(|r| r.3 == "trains")).map(|r| r.0.shape.iter().product::<usize>()).sum();
    let document = || {
        let layers = rows.iter().map(|(p, kind, group, state)| {
            json!({"name": p.name, "type": kind, "shape": p.shape, "group": group, "state": state})
        });
        let phases = phases.iter().map(|(name, count)| json!({"name": name, "trainable": count}));
        json!({"model": network.row().name, "params": total, "trainable": trains,
               "phases": phases.collect::<Vec<_>>(),
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
        println!("\n{} parameters, {} trainable", table::count(total), table::count(trains));
        for (name, count) in &phases {
            let share = 100.0 * *count as f64 / total as f64;
            println!("phase `{name}` trains {}, {share:.2} %", table::count(*count));
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// What there is to show of a network.
struct View {
    /// With the adapters of a recipe's last phase.
    network: Network,
    /// What that phase, or the user, freezes.
    frozen: BTreeSet<String>,
    /// Phases, and the number of parameters each trains.
    phases: Vec<(String, usize)>,
}

fn of_recipe(mut plan: Recipe, network: Network) -> Result<View> {
    plan.expand(&network)?;
    let count = |phase: &Phase| Ok((phase.name.clone(), phase.trainable_parameters(&network)?));
    let phases = plan.phases.iter().map(count).collect::<Result<Vec<_>>>()?;
    let last = plan.phases.last().expect("checked with the recipe");
    let trains = last.set(&network)?.params;
    let network = if let Some(lora) = &last.lora { lora.attach(network, 0)? } else { network };
    let all = network.params().into_iter().map(|p| p.name);
    let frozen = all.filter(|name| !trains.contains(name)).collect();
    Ok(View { network, frozen, phases })
}
