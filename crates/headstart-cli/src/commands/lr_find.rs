//! `headstart lr-find`: the curve and what it suggests.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use headstart::device::describe;
use headstart::error::{Error, Result};
use headstart::sources::{Backbone, Wanted};
use headstart::sweep::sweep;
use headstart::task::TaskSpec;
use headstart::train::Recipe;
use headstart::train::groups::Rate;
use headstart::train::lr_find::{LrFind, Sweep};
use headstart::weights::write_atomically;
use headstart_web::plot::{self, Mark};
use serde_json::json;

use super::Output;
use crate::args::LrFindArgs;
use crate::render::progress::Bars;

pub fn lr_find(a: &LrFindArgs, io: Output) -> Result<ExitCode> {
    headstart::catch_stop_signals();
    if !a.data.exists() {
        return Err(Error::NotFound { path: a.data.clone() });
    }
    let settings = LrFind { start: a.start, end: a.end, steps: a.steps, ..LrFind::default() };
    settings.check()?;
    let mut recipe = Recipe::open(&a.recipe)?;
    recipe.seed = a.seed.unwrap_or(recipe.seed);
    recipe.batch_size = a.batch_size.unwrap_or(recipe.batch_size);
    let mut phase = recipe.phases.last().expect("checked with the recipe").clone();
    if !a.groups.is_empty() {
        phase.trainable.clone_from(&a.groups);
        phase.lr = Rate::One(1.0);
        phase.name = a.groups.join(" + ");
    }
    recipe.check("the recipe with the options given")?;
    std::fs::create_dir_all(&a.out).map_err(Error::write(&a.out))?;
    let device = a.device.open(io)?;
    let mut bars = Bars::new(io.quiet);
    let wanted = Wanted::from(&a.model);
    let backbone =
        if recipe.pretrained { Backbone::open(&wanted, &mut bars)? } else { Backbone::blank(&wanted)? };
    let backbone = backbone.on(&device);
    let sweep =
        sweep((&a.data, &TaskSpec::from(&a.task)), recipe, &phase, &backbone, settings, &a.out, &mut bars)?;
    drop(bars);
    write(&a.out, &sweep)?;
    let s = sweep.suggestions;
    let found = [("valley", s.valley), ("steep", s.steep), ("minimum", s.minimum), ("slide", s.slide)];
    let document = || {
        json!({"suggestions": s, "steps": sweep.points.len(), "exploded": sweep.exploded, "groups": phase.trainable, "device": describe(&device),
               "plot": a.out.join("lr-find.png"), "points": a.out.join("lr-find.jsonl")})
    };
    io.show(document, || {
        for (name, rate) in found {
            let rate = rate.map_or("none: the curve is too short".into(), |r| format!("{r:.2e}"));
            println!("{name:<8} {rate}");
        }
        if !sweep.exploded {
            println!("the loss never exploded: a larger `--end` may show more");
        }
        println!("{} steps; curve in `{}`", sweep.points.len(), a.out.join("lr-find.png").display());
    });
    Ok(ExitCode::SUCCESS)
}

/// Writes the curve as picture and as lines of JSON.
fn write(out: &Path, sweep: &Sweep) -> Result<()> {
    let save = |name: &str, bytes: &[u8]| write_atomically(&out.join(name), |file| file.write_all(bytes));
    let points: Vec<(f64, f64)> = sweep.points.iter().map(|p| (p.lr, p.smoothed)).collect();
    let s = sweep.suggestions;
    let marks: Vec<Mark> =
        [("valley", s.valley), ("steep", s.steep), ("minimum / 10", s.minimum), ("slide", s.slide)]
            .into_iter()
            .filter_map(|(name, x)| Some(Mark { name: name.into(), x: x? }))
            .collect();
    save("lr-find.png", &plot::png(&plot::lr_curve(&points, &marks)))?;
    let lines: String =
        sweep.points.iter().map(|p| serde_json::to_string(p).expect("numbers") + "\n").collect();
    save("lr-find.jsonl", lines.as_bytes())
}
