//! `headstart study`: recipes against sets of photos.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use headstart::data::Few;
use headstart::error::{Error, Result};
use headstart::sources::{Backbone, Wanted};
use headstart::study;
use headstart::train::Recipe;
use headstart::weights::write_atomically;
use serde_json::json;

use super::Output;
use crate::args::Study;
use crate::render::progress::Bars;

pub fn study(a: &Study, io: Output) -> Result<ExitCode> {
    headstart::catch_stop_signals();
    if let Some(missing) = a.data.iter().find(|data| !data.exists()) {
        return Err(Error::NotFound { path: missing.clone() });
    }
    let stem = |name: &str| Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let recipes = a.recipe.iter().map(|name| Ok((stem(name), Recipe::open(name)?)));
    let recipes = recipes.collect::<Result<Vec<_>>>()?;
    let mut bars = Bars::new(io.quiet);
    let backbone = Backbone::open(&Wanted::from(&a.model), &mut bars)?;
    let plan = study::Study {
        data: a.data.clone(),
        task: (&a.task).into(),
        recipes,
        seeds: a.seeds.clone(),
        val_share: a.val_share,
        few: a.labels_per_class.iter().map(|n| n.map(Few::PerClass)).collect(),
        out: a.out.clone(),
    };
    let rows = study::run(&plan, &backbone, &mut bars)?;
    drop(bars);
    let table = study::table(&rows);
    write_atomically(&a.out.join("study.md"), |file| file.write_all(table.as_bytes()))?;
    io.show(|| json!({"rows": rows, "table": a.out.join("study.md")}), || print!("{table}"));
    Ok(ExitCode::SUCCESS)
}
