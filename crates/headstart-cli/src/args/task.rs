//! The options that say what is to be learned.

use headstart::task::{Task, TaskSpec};

/// What the photos are labelled for.
#[derive(Clone, Debug, clap::Args)]
pub struct TaskArgs {
    /// `classify`, `multilabel` or `regress`; a manifest's columns decide otherwise, folders are classes.
    #[arg(long, value_parser = task)]
    pub task: Option<Task>,
    /// Columns of a manifest to learn: numbers, or 0 and 1 for each label.
    #[arg(long, value_delimiter = ',')]
    pub targets: Vec<String>,
}

impl From<&TaskArgs> for TaskSpec {
    fn from(a: &TaskArgs) -> Self {
        Self { task: a.task, columns: a.targets.clone() }
    }
}

fn task(text: &str) -> Result<Task, String> {
    text.parse().map_err(|_| "one of `classify`, `multilabel`, `regress`".into())
}
