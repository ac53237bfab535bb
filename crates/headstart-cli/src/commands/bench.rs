//! `headstart bench`: how fast the engine is here.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use headstart::bench::{Bench, Laps};
use headstart::data::{Dataset, OnUnreadable, SplitConfig, check_files};
use headstart::device::describe;
use headstart::error::{Error, Result};
use headstart::models::spec::{Filter, InputSpec};
use headstart::session::photos;
use headstart::train::Recipe;
use serde_json::json;

use super::Output;
use crate::args::{self, Work};

pub fn bench(a: &args::Bench, io: Output) -> Result<ExitCode> {
    let device = a.device.open(io)?;
    let on = describe(&device);
    if a.layers && on != "cpu" {
        return Err(Error::BadRecipe {
            place: "--layers".into(),
            what: format!("{on} works while the program goes on: layers have no times of their own"),
            hint: "drop it, or take `--device cpu`".into(),
        });
    }
    let mut bench = match a.work {
        Work::Forward if a.layers => Bench::layers(&a.model, a.batch, a.size)?,
        Work::Forward => Bench::forward(&a.model, a.batch, a.size, false, a.precision, &device)?,
        Work::Prefix => Bench::forward(&a.model, a.batch, a.size, true, a.precision, &device)?,
        Work::Step => Bench::step(&a.model, a.batch, a.size, a.precision, &device)?,
        Work::Decode => decode(a)?,
    };
    if a.paced {
        return paced(&mut bench);
    }
    let mut runs = Vec::new();
    for round in 0..a.rounds.max(1) + 2 {
        let run = bench.once()?;
        if round >= 2 {
            runs.push(run);
        }
    }
    runs.sort_by_key(|(time, _)| *time);
    let (best, median) = (runs[0].0.as_secs_f64(), runs[runs.len() / 2].0.as_secs_f64());
    let rate = bench.pictures() as f64 / median;
    let laps: Laps = if a.layers { quickest(runs) } else { Laps::new() };
    io.show(
        || {
            let layers: Vec<_> =
                laps.iter().map(|(n, t)| json!({"name": n, "seconds": t.as_secs_f64()})).collect();
            json!({
                "work": format!("{:?}", a.work).to_lowercase(), "model": a.model, "pictures": bench.pictures(),
                "seconds": median, "best": best, "pictures_per_second": rate, "layers": layers, "device": on,
            })
        },
        || {
            println!("{rate:.1} pictures/s: median {:.2} ms, best {:.2} ms", median * 1e3, best * 1e3);
            for (name, time) in &laps {
                println!("{:>10.3} ms  {name}", time.as_secs_f64() * 1e3);
            }
        },
    );
    Ok(ExitCode::SUCCESS)
}

/// Takes the shortest time of each part over all runs.
fn quickest(runs: Vec<(std::time::Duration, Laps)>) -> Laps {
    let mut runs = runs.into_iter().map(|(_, laps)| laps);
    let first = runs.next().unwrap_or_default();
    runs.fold(first, |best, laps| {
        best.into_iter().zip(laps).map(|((name, a), (_, b))| (name, a.min(b))).collect()
    })
}

fn paced(bench: &mut Bench) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        if line.is_err() {
            break;
        }
        let (time, _) = bench.once()?;
        // A reader that went away ends the process by SIGPIPE.
        let _ = writeln!(out, "{}", time.as_secs_f64());
        let _ = out.flush();
    }
    Ok(ExitCode::SUCCESS)
}

fn decode(a: &args::Bench) -> Result<Bench> {
    let Some(folder) = &a.data else {
        return Err(Error::BadRecipe {
            place: "--data".into(),
            what: "no photos to decode".into(),
            hint: "name a folder: `headstart bench decode --data photos/`".into(),
        });
    };
    let mut recipe = Recipe::open("head")?;
    recipe.resolve(&InputSpec::imagenet(Filter::Bilinear));
    let mut data = Dataset::open(folder, &SplitConfig::default())?;
    check_files(&mut data, OnUnreadable::LeaveOut, &|_, _| {})?;
    let samples: Vec<_> = [&data.train, &data.val, &data.test].into_iter().flatten().cloned().collect();
    Ok(Bench::decode(photos(&samples, &recipe.eval, 0, a.batch, "bench")?))
}
