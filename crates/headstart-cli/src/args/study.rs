//! What `headstart study` takes.

use std::path::PathBuf;

use super::ModelArgs;

#[derive(Debug, clap::Args)]
pub struct Study {
    /// Sets of photos: folders or manifests, as for `fit`.
    #[arg(required = true)]
    pub data: Vec<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Recipes to compare: built-in ones or TOML files.
    #[arg(long, value_delimiter = ',', default_value = "head,finetune,scratch")]
    pub recipe: Vec<String>,
    /// Seeds of each fit.
    #[arg(long, value_delimiter = ',', default_value = "0,1,2")]
    pub seeds: Vec<u64>,
    /// Share of the photos set aside where a set has no validation part.
    #[arg(long, default_value_t = 0.2)]
    pub val_share: f64,
    /// Folder for `study.jsonl` and `study.md`; a study that is there goes on.
    #[arg(long, default_value = "runs/study")]
    pub out: PathBuf,
}
