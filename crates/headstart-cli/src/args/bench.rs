//! What `headstart bench` takes.

use std::path::PathBuf;

use headstart::fast::Precision;

use super::{DeviceArgs, precision};

#[derive(Debug, clap::Args)]
pub struct Bench {
    /// What to measure.
    #[arg(value_enum)]
    pub work: Work,
    /// Network.
    #[arg(long, short, default_value = "resnet18")]
    pub model: String,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Pictures at once.
    #[arg(long, short, default_value_t = 16)]
    pub batch: usize,
    /// Side of the pictures.
    #[arg(long, default_value_t = 224)]
    pub size: usize,
    /// Number format of `forward` and `prefix`; of the maps of `step`, `f32` or `bf16`.
    #[arg(long, default_value = "f32", value_parser = precision)]
    pub precision: Precision,
    /// How often to measure, after two runs that do not count.
    #[arg(long, default_value_t = 15)]
    pub rounds: usize,
    /// Photos for `decode`: a folder as for `fit`.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Show where the time of `forward` goes; on the CPU.
    #[arg(long)]
    pub layers: bool,
    /// Run once for each line on stdin and answer with its seconds, so that a script can alternate programs.
    #[arg(long)]
    pub paced: bool,
}

/// What `bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Work {
    /// Pictures to logits, as inference runs it.
    Forward,
    /// Pictures to the last features: what a frozen prefix costs.
    Prefix,
    /// One step of SGD on the whole network, BatchNorm on batch statistics.
    Step,
    /// Photos to tensors: decode, resize, crop, normalise.
    Decode,
}
