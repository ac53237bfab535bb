//! Options of `headstart fit`.

use std::path::PathBuf;

use headstart::fast::Precision;
use headstart::train::views::Views;

use super::{DeviceArgs, LabelArgs, ModelArgs, TaskArgs, precision};

#[derive(Debug, clap::Args)]
pub struct Fit {
    /// `root/{train,val}/CLASS/*`, `root/CLASS/*`, or a CSV manifest: `file_name` with `label`, `labels` (`red|tall`), a
    /// column of 0 and 1 for each label, or columns of numbers.
    pub data: PathBuf,
    #[command(flatten)]
    pub task: TaskArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// `auto`, `head`, `finetune`, `scratch`, or a TOML file.
    #[arg(long, default_value = "finetune")]
    pub recipe: String,
    /// Groups or name patterns to keep frozen in every phase.
    #[arg(long)]
    pub freeze: Vec<String>,
    /// The head: `linear`, `mlp`, a chain such as `bn | linear(256) | relu | linear`, or CLIP's `zero-shot`,
    /// `zero-shot(TEMPLATE | TEMPLATE)`.
    #[arg(long)]
    pub head: Option<String>,
    /// Epochs of the last phase.
    #[arg(long)]
    pub epochs: Option<usize>,
    /// Peak rate of the last phase, anchors by group are scaled along; `find` sweeps for it when the phase begins.
    #[arg(long, value_parser = Lr::parse)]
    pub lr: Option<Lr>,
    /// Pictures a step.
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// Number format of the frozen prefix: `f32`, `bf16`, or `int8` fitted to the photos. With `bf16` the rest trains
    /// on bf16 maps, too, where its layers are convolutions, BatchNorm and pooling (on a graphics card: all but the
    /// head); weights stay f32.
    #[arg(long, value_parser = precision)]
    pub precision: Option<Precision>,
    /// Augmented views cached for a frozen prefix: a number, or `auto` by the number of pictures.
    #[arg(long)]
    pub views: Option<Views>,
    /// Seed of every random choice.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Share of the photos set aside when the data has no validation part.
    #[arg(long, default_value_t = 0.2)]
    pub val_share: f64,
    /// Run folder.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Go on from the run folder's checkpoint.
    #[arg(long)]
    pub resume: bool,
    /// Make unreadable photos an error.
    #[arg(long)]
    pub strict: bool,
    /// CSV of files to leave out, as `audit --fix-list` writes it.
    #[arg(long)]
    pub exclude: Option<PathBuf>,
    #[command(flatten)]
    pub labels: LabelArgs,
    /// Save within an epoch this often; 0 saves after each epoch only.
    #[arg(long, default_value_t = 10.0, value_name = "N", value_parser = minutes)]
    pub checkpoint_minutes: f64,
    /// Print the plan and train nothing.
    #[arg(long)]
    pub explain: bool,
}

/// A rate, or the wish to have one found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lr {
    Find,
    Rate(f64),
}

impl Lr {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "find" => Ok(Self::Find),
            _ => text.parse().map(Self::Rate).map_err(|_| "give a number such as 1e-3, or `find`".into()),
        }
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1e6).contains(&value) => Ok(value),
        _ => Err("a number of minutes from 0 up".into()),
    }
}
