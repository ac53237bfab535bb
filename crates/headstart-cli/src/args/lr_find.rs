//! What `headstart lr-find` takes.

use std::path::PathBuf;

use super::{DeviceArgs, ModelArgs, TaskArgs};

#[derive(Debug, clap::Args)]
pub struct LrFindArgs {
    /// `root/{train,val}/CLASS/*`, `root/CLASS/*`, or a CSV manifest.
    pub data: PathBuf,
    #[command(flatten)]
    pub task: TaskArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Recipe whose pictures, head, optimizer and batches are used: a built-in one or a TOML file.
    #[arg(long, default_value = "head")]
    pub recipe: String,
    /// Groups or name patterns to train; those of the recipe's last phase by default.
    #[arg(long, num_args = 1.., value_delimiter = ',')]
    pub groups: Vec<String>,
    /// First rate.
    #[arg(long, default_value_t = 1e-7)]
    pub start: f64,
    /// Rate after the last step.
    #[arg(long, default_value_t = 10.0)]
    pub end: f64,
    /// Batches.
    #[arg(long, default_value_t = 100)]
    pub steps: usize,
    /// Pictures a step.
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// Seed of every random choice.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Folder for `lr-find.png` and `lr-find.jsonl`.
    #[arg(long, default_value = "runs/lr-find")]
    pub out: PathBuf,
}
