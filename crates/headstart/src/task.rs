//! What a network is asked for: one class of several, any of several labels, or numbers; and the truth it learns from.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The question put to a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Which one of the classes.
    #[default]
    Classify,
    /// Which of the labels, none and all included.
    Multilabel,
    /// How much of each target.
    Regress,
}

impl Task {
    /// Tells whether this is the default, which bundles need not mention.
    pub fn is_classify(&self) -> bool {
        *self == Self::Classify
    }

    /// What a picture is counted for, one and many.
    pub fn kinds(self) -> (&'static str, &'static str) {
        match self {
            Self::Classify => ("class", "classes"),
            Self::Multilabel => ("label", "labels"),
            Self::Regress => ("target", "targets"),
        }
    }

    /// The task as a noun.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Classify => "classification",
            Self::Multilabel => "multi-label classification",
            Self::Regress => "regression",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classify => "classify",
            Self::Multilabel => "multilabel",
            Self::Regress => "regress",
        })
    }
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "classify" => Ok(Self::Classify),
            "multilabel" => Ok(Self::Multilabel),
            "regress" => Ok(Self::Regress),
            _ => Err(Error::BadRecipe {
                place: "--task".into(),
                what: format!("`{text}` is no task"),
                hint: "use `classify`, `multilabel` or `regress`".into(),
            }),
        }
    }
}

/// What the user says about the task; what is left open, a manifest's columns decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskSpec {
    /// The task.
    pub task: Option<Task>,
    /// Names of the columns that hold the truth.
    pub columns: Vec<String>,
}

impl TaskSpec {
    /// One class a picture, whatever a manifest looks like.
    pub fn classify() -> Self {
        Self { task: Some(Task::Classify), columns: Vec::new() }
    }
}

/// Mean and standard deviation of a target over the training pictures: networks learn `(value − mean) / std`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The mean.
    pub mean: f64,
    /// The deviation, with `n` as divisor; above 0.
    pub std: f64,
}

/// The truth about a list of pictures, for tasks other than one class a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth {
    /// The task.
    pub task: Task,
    /// Numbers a picture.
    pub width: usize,
    /// `[pictures, width]`: 0 or 1 for each label, or the targets in their own units.
    pub rows: Arc<Vec<f64>>,
    /// Of regression, the scale of each target.
    pub scales: Vec<Scale>,
}

impl Truth {
    /// Returns the row of a picture.
    pub fn row(&self, picture: usize) -> &[f64] {
        &self.rows[picture * self.width..][..self.width]
    }

    /// Returns what the network should say of each of `picks`: 0 and 1, or standardised targets.
    pub fn goal(&self, picks: &[usize]) -> Vec<f32> {
        let standard = |(i, value): (usize, &f64)| match self.scales.get(i) {
            Some(s) => ((value - s.mean) / s.std) as f32,
            None => *value as f32,
        };
        picks.iter().flat_map(|p| self.row(*p).iter().enumerate().map(standard)).collect()
    }

    /// Counts the pictures.
    pub fn len(&self) -> usize {
        self.rows.len().checked_div(self.width).unwrap_or(0)
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// How a network's outputs become an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Reading {
    /// The largest output is the class.
    #[default]
    Class,
    /// Each output's logistic function is its label's probability; the label is named from its threshold on.
    Labels {
        /// Probability from which a label is named.
        thresholds: Vec<f64>,
    },
    /// Each output is a target in standard deviations from its mean.
    Numbers {
        /// The scale of each target.
        scales: Vec<Scale>,
    },
}

impl Reading {
    /// Returns the task.
    pub fn task(&self) -> Task {
        match self {
            Self::Class => Task::Classify,
            Self::Labels { .. } => Task::Multilabel,
            Self::Numbers { .. } => Task::Regress,
        }
    }
}

/// Returns the probability of a logit.
pub fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Turns outputs `[pictures, targets]` back into the targets' own units.
pub fn unscale(outputs: &[f32], scales: &[Scale]) -> Vec<f64> {
    outputs.iter().zip(scales.iter().cycle()).map(|(x, s)| s.mean + s.std * f64::from(*x)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_standardised_and_come_back() {
        let scales = vec![Scale { mean: 10.0, std: 2.0 }, Scale { mean: -1.0, std: 0.5 }];
        let rows = Arc::new(vec![12.0, -1.0, 7.0, 0.0]);
        let truth = Truth { task: Task::Regress, width: 2, rows, scales: scales.clone() };
        assert_eq!(truth.goal(&[1, 0]), [-1.5, 2.0, 1.0, 0.0]);
        assert_eq!(unscale(&truth.goal(&[0, 1]), &scales), *truth.rows);
        assert_eq!(truth.len(), 2);
    }

    #[test]
    fn words_round_trip() {
        for task in [Task::Classify, Task::Multilabel, Task::Regress] {
            assert_eq!(task.to_string().parse::<Task>().unwrap(), task);
        }
        assert!("multi".parse::<Task>().is_err());
    }
}
