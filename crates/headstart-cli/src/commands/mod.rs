//! One file a command: arguments to library calls to output.

mod advise;
mod audit;
mod bench;
mod describe;
mod embed;
mod evaluate;
mod export;
mod fit;
mod forward;
mod lr_find;
mod predict;
mod pretrain;
mod pull;
mod study;
mod zero_shot;
mod zoo;

use std::process::ExitCode;

use burn::tensor::Device;
use headstart::Result;
use headstart::device::{self, DeviceSpec};
use headstart::sources::Wanted;

use crate::args::{Args, Command, DeviceArgs, ModelArgs};

/// Runs the command and returns its exit code.
pub fn run(args: &Args) -> Result<ExitCode> {
    let io = Output { json: args.json, quiet: args.quiet };
    match &args.command {
        Command::Demo(a) => fit::demo(a, io),
        Command::Fit(a) => fit::fit(a, io),
        Command::LrFind(a) => lr_find::lr_find(a, io),
        Command::Advise(a) => advise::advise(a, io),
        Command::Study(a) => study::study(a, io),
        Command::Audit(a) => audit::audit(a, io),
        Command::Evaluate(a) => evaluate::evaluate(a, io),
        Command::Predict(a) => predict::predict(a, io),
        Command::ZeroShot(a) => zero_shot::zero_shot(a, io),
        Command::Embed(a) => embed::embed(a, io),
        Command::Forward(a) => forward::forward(a, io),
        Command::Export(a) => export::export(a, io),
        Command::Models(a) if a.markdown => zoo::markdown(a),
        Command::Models(a) => describe::models(a, io),
        Command::Describe(a) => describe::describe(a, io),
        Command::Pull(a) => pull::pull(a, io),
        Command::Cache(a) => pull::cache(a, io),
        Command::Bench(a) => bench::bench(a, io),
        Command::Pretrain(a) => pretrain::pretrain(a, io),
    }
}

/// How to talk to the user.
#[derive(Clone, Copy)]
pub struct Output {
    /// One JSON document on stdout.
    pub json: bool,
    /// No progress.
    pub quiet: bool,
}

impl Output {
    /// Prints the document if JSON was asked for, else runs the text printer.
    pub fn show(self, document: impl FnOnce() -> serde_json::Value, text: impl FnOnce()) {
        if self.json { println!("{}", document()) } else { text() }
    }
}

impl DeviceArgs {
    /// Opens the device; says which one was chosen where that was left to the program.
    fn open(&self, io: Output) -> Result<Device> {
        let device = self.device.open()?;
        if self.device == DeviceSpec::Auto && !io.quiet {
            eprintln!("device: {}", device::describe(&device));
        }
        Ok(device)
    }
}

impl From<&ModelArgs> for Wanted {
    fn from(a: &ModelArgs) -> Self {
        Wanted {
            model: a.model.clone(),
            weights: a.weights.clone(),
            pad_type: a.pad_type.clone(),
            bn_eps: a.bn_eps,
            size: a.size,
            interpolation: a.interpolation.clone(),
            in_chans: a.in_chans,
            ..Wanted::default()
        }
    }
}
