//! The arguments of `headstart zero-shot`.

use std::path::PathBuf;

use super::ModelArgs;

#[derive(Debug, clap::Args)]
pub struct ZeroShot {
    /// Photos to name; or one folder or CSV manifest of labelled photos to be scored on.
    #[arg(required = true)]
    pub what: Vec<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Class names: `a,b,c`; `NAME=WORDS` puts a folder's name into words. The folders' names by default.
    #[arg(long, value_delimiter = ',')]
    pub classes: Vec<String>,
    /// Takes the class names from a bundle or run folder.
    #[arg(long, conflicts_with = "classes")]
    pub bundle: Option<PathBuf>,
    /// Sentence with `{}` for the class's name, or a set: `openai7`, `openai80`; several are averaged.
    #[arg(long = "template", default_value = "a photo of a {}.")]
    pub templates: Vec<String>,
    /// How many labels a photo.
    #[arg(long, default_value_t = 3)]
    pub top: usize,
    /// Which part of a split data set.
    #[arg(long, default_value = "val")]
    pub split: String,
}
