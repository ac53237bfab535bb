//! The one error of the library: what is wrong in the user's world, where, and what to try.

use std::path::{Path, PathBuf};

/// Everything that can stop an operation.
///
/// Each variant carries the value received, what was expected and the place. [`Error::hints`]
/// gives up to two next steps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write `{path}`")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder or file the user named is not there.
    #[error("`{path}` does not exist")]
    NotFound {
        /// What was named.
        path: PathBuf,
    },
    /// The photos cannot make a classifier: no class, one class, an empty class, …
    #[error("{what} in `{place}`")]
    BadData {
        /// The folder, file or line.
        place: String,
        /// What is wrong.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// Pictures that cannot be decoded, where that is not to be tolerated.
    #[error("{count} of the pictures in `{place}` cannot be read:{list}")]
    Unreadable {
        /// The folder or manifest.
        place: PathBuf,
        /// How many.
        count: usize,
        /// The first of them with reasons, a line each.
        list: String,
    },
    /// A picture cannot be decoded.
    #[error("cannot decode `{path}`: {reason}")]
    CorruptImage {
        /// The picture.
        path: PathBuf,
        /// Why, in plain words.
        reason: String,
    },
    /// No model of that name.
    #[error("no model is called `{name}`")]
    UnknownModel {
        /// The name received.
        name: String,
        /// The nearest names.
        nearest: Vec<String>,
    },
    /// A model cannot work with the settings given.
    #[error("{what}")]
    BadModel {
        /// What is wrong.
        what: String,
        /// What would work.
        hint: String,
    },
    /// A weights file is damaged, truncated or of an unknown kind.
    #[error("`{path}` is not a usable weights file: {reason}")]
    BadWeights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// A weights file is sound but belongs to another network.
    #[error("the weights in `{path}` do not fit `{model}`: {summary}")]
    WeightsMismatch {
        /// The file.
        path: PathBuf,
        /// The network asked for.
        model: String,
        /// Counts and first names of missing, unused and misshapen tensors.
        summary: String,
        /// What the weights look like, if known.
        hint: String,
    },
    /// A download failed for good.
    #[error("cannot download `{url}`: {reason}")]
    Download {
        /// What was asked for.
        url: String,
        /// Why it failed.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// A recipe, manifest or settings file says something impossible.
    #[error("{place}: {what}")]
    BadRecipe {
        /// `file:line:column`, or the option's name.
        place: String,
        /// What is wrong.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// A bundle or run folder is incomplete or of another version.
    #[error("`{path}` is not a usable bundle: {reason}")]
    BadBundle {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// Whoever watched asked to stop: a signal, say. What was learned is in the checkpoint, if one is kept.
    #[error("stopped before the end{}", .checkpoint.as_ref().map_or(String::new(), |c| format!("; the state is saved in `{}`", c.display())))]
    Interrupted {
        /// The checkpoint to go on from.
        checkpoint: Option<PathBuf>,
    },
    /// Training cannot go on: the loss is no longer a number, say.
    #[error("training stopped: {reason}")]
    Training {
        /// What happened, with epoch and step.
        reason: String,
        /// What to do about it.
        hint: String,
    },
}

/// The library's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Wraps a failed read of `path`; a missing file gets its own variant.
    pub fn read(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound { path },
            _ => Error::Read { path, source },
        }
    }

    /// Wraps a failed write of `path`.
    pub fn write(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Write { path, source }
    }

    /// Puts `place` before the place a recipe error names.
    pub fn within(self, place: &str) -> Error {
        match self {
            Error::BadRecipe { place: at, what, hint } => {
                Error::BadRecipe { place: format!("{place}: {at}"), what, hint }
            }
            other => other,
        }
    }

    /// Returns up to two things to try next.
    pub fn hints(&self) -> Vec<String> {
        use std::io::ErrorKind;
        match self {
            Error::NotFound { path } => vec![format!("check the spelling of `{}`", path.display())],
            Error::Read { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                vec!["check who may read it".into()]
            }
            Error::Write { source, .. } => match source.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    vec!["choose another place with `--out DIR`".into()]
                }
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => vec![
                    "free some space or choose another disk with `--out DIR`".into(),
                    "nothing saved before was touched; `--resume` goes on from the last checkpoint".into(),
                ],
                ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                    vec!["a file is where a folder should be; choose another place".into()]
                }
                ErrorKind::IsADirectory => {
                    vec!["a folder is where the file should be; choose another name".into()]
                }
                ErrorKind::FileTooLarge => vec![
                    "raise the limit on file sizes (`ulimit -f`) or choose another disk".into(),
                    "nothing saved before was touched".into(),
                ],
                _ => vec![],
            },
            Error::Unreadable { .. } => {
                vec!["repair or remove them, or leave out `--strict` to go on without them".into()]
            }
            Error::UnknownModel { nearest, .. } if nearest.is_empty() => {
                vec!["`headstart models` lists them all".into()]
            }
            Error::UnknownModel { nearest, .. } => {
                let names: Vec<_> = nearest.iter().map(|n| format!("`{n}`")).collect();
                vec![
                    format!("did you mean {}?", names.join(" or ")),
                    "`headstart models` lists them all".into(),
                ]
            }
            Error::BadData { hint, .. }
            | Error::BadModel { hint, .. }
            | Error::BadWeights { hint, .. }
            | Error::WeightsMismatch { hint, .. }
            | Error::Download { hint, .. }
            | Error::BadRecipe { hint, .. }
            | Error::Training { hint, .. }
                if !hint.is_empty() =>
            {
                vec![hint.clone()]
            }
            Error::Interrupted { checkpoint: Some(_) } => {
                vec!["the same command with `--resume` goes on and ends in the same bits".into()]
            }
            Error::BadBundle { .. } => vec!["`headstart fit` writes a bundle into its run folder".into()],
            _ => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_says_so_and_a_full_disk_says_what_to_do() {
        let missing = Error::read("photos")(std::io::ErrorKind::NotFound.into());
        assert_eq!(missing.to_string(), "`photos` does not exist");
        let full = Error::write("run/best")(std::io::ErrorKind::StorageFull.into());
        assert!(full.hints()[0].contains("space"), "{:?}", full.hints());
    }
}
