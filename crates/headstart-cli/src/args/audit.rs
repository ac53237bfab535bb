//! What `headstart audit` takes.

use std::path::PathBuf;

use super::{ModelArgs, TaskArgs};

#[derive(Debug, clap::Args)]
pub struct Audit {
    /// `root/{train,val}/CLASS/*`, `root/CLASS/*`, or a CSV manifest.
    pub data: PathBuf,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub task: TaskArgs,
    /// Folder for `audit.json`, `audit.html` and `leave-out.csv`.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Write the page with thumbnails here.
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Write files to leave out here, for `fit --exclude`: what cannot be read, and all but one of each copy.
    #[arg(long)]
    pub fix_list: Option<PathBuf>,
    /// Put photos with doubtful labels on that list too.
    #[arg(long)]
    pub fix_suspects: bool,
    /// Read no features: files, classes and copies only, several times as fast.
    #[arg(long)]
    pub no_features: bool,
    /// Cosine of centred features from which on two photos count as alike.
    #[arg(long, default_value_t = headstart::audit::SIMILARITY, value_parser = cosine)]
    pub similarity: f32,
}

fn cosine(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("a number from 0 to 1".into()),
    }
}
