//! What `headstart study` takes.

use std::path::PathBuf;

use super::labels::at_least_one;
use super::{ModelArgs, TaskArgs};

/// A number of labels a class; none is all.
pub type Labels = Option<usize>;

fn labels(text: &str) -> Result<Labels, String> {
    if text == "all" { Ok(None) } else { at_least_one(text).map(Some) }
}

#[derive(Debug, clap::Args)]
pub struct Study {
    /// Sets of photos: folders or manifests, as for `fit`.
    #[arg(required = true)]
    pub data: Vec<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub task: TaskArgs,
    /// Recipes to compare: built-in ones or TOML files.
    #[arg(long, value_delimiter = ',', default_value = "head,finetune,scratch")]
    pub recipe: Vec<String>,
    /// Seeds of each fit.
    #[arg(long, value_delimiter = ',', default_value = "0,1,2")]
    pub seeds: Vec<u64>,
    /// Use the labels of this many training photos of each class only, a table line for each number; `all` uses all.
    /// The others take part without theirs in recipes such as `semi`.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = labels)]
    pub labels_per_class: Vec<Labels>,
    /// Share of the photos set aside where a set has no validation part.
    #[arg(long, default_value_t = 0.2)]
    pub val_share: f64,
    /// Folder for `study.jsonl` and `study.md`; a study that is there goes on.
    #[arg(long, default_value = "runs/study")]
    pub out: PathBuf,
}
