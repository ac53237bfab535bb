//! `headstart pretrain`: makes the built-in backbone.

use std::process::ExitCode;
use std::time::Duration;

use headstart::error::{Error, Result};
use headstart::sources::EMBEDDED_MODEL;
use headstart::train::pretrain::{self, Pretraining};
use headstart::weights::safetensors;
use serde_json::json;

use super::Output;
use crate::args::Pretrain;
use crate::render::progress::Bars;

pub fn pretrain(a: &Pretrain, io: Output) -> Result<ExitCode> {
    let time = Duration::try_from_secs_f64(a.minutes * 60.0).map_err(|e| Error::BadRecipe {
        place: "--minutes".into(),
        what: format!("{} is no time ({e})", a.minutes),
        hint: "20 is usual".into(),
    })?;
    let settings = Pretraining { seed: a.seed, time, size: 64, batch_size: 64, lr: 0.1 };
    let done = pretrain::pretrain(EMBEDDED_MODEL, &settings, &mut Bars::new(io.quiet))?;
    safetensors::write(&a.out, &pretrain::for_embedding(&done.network))?;
    let document = || json!({"pictures": done.pictures, "top1": done.top1, "out": a.out});
    io.show(document, || {
        println!(
            "{} pictures seen, top-1 {:.3} on fresh ones; weights in `{}`",
            done.pictures,
            done.top1,
            a.out.display()
        );
    });
    Ok(ExitCode::SUCCESS)
}
