//! Which photos keep their labels, and which take part without.

use std::path::PathBuf;

use headstart::data::Few;
use headstart::session::Unlabeled;

#[derive(Debug, clap::Args)]
pub struct LabelArgs {
    /// Use the labels of this many training photos of each class only.
    #[arg(long, value_name = "N", conflicts_with = "fraction", value_parser = at_least_one)]
    pub labels_per_class: Option<usize>,
    /// Use the labels of this share of the training photos of each class only.
    #[arg(long, value_name = "F", value_parser = share)]
    pub fraction: Option<f64>,
    /// Photos to learn from without labels, for `--recipe semi`: a folder, or `rest` for the training photos whose
    /// labels are not used.
    #[arg(long, value_name = "DIR|rest")]
    pub unlabeled: Option<PathBuf>,
}

impl LabelArgs {
    pub fn few(&self) -> Option<Few> {
        self.labels_per_class.map(Few::PerClass).or(self.fraction.map(Few::Share))
    }

    pub fn unlabeled(&self) -> Option<Unlabeled> {
        let from = |path: &PathBuf| match path.to_str() {
            Some("rest") => Unlabeled::Rest,
            _ => Unlabeled::Folder(path.clone()),
        };
        self.unlabeled.as_ref().map(from)
    }
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "give a number from 1 on".into())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|x: &f64| *x > 0.0 && *x <= 1.0);
    share.ok_or_else(|| "give a share above 0, at most 1, such as 0.1".into())
}
