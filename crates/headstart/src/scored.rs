//! How good a network is on labelled photos, whatever its task.

use serde_json::{Value, json};

use crate::error::Result;
use crate::metrics::interval::{Interval, bootstrap};
use crate::metrics::labels::{self, Counts};
use crate::metrics::regression;
use crate::models::Network;
use crate::session::{self, Scores};
use crate::task::{Reading, Scale, Task, logistic, unscale};
use crate::train::Photos;
use crate::train::validate::{column, logits, mean_average_precision};

/// Scores of a network by task.
#[derive(Clone, Debug)]
pub enum Scored {
    /// One class a picture.
    Classes(Scores),
    /// Any number of labels a picture.
    Labels(LabelScores),
    /// Numbers.
    Numbers(NumberScores),
}

/// How well labels are found.
#[derive(Clone, Debug)]
pub struct LabelScores {
    /// Names of the labels.
    pub names: Vec<String>,
    /// The mean over labels of their average precision.
    pub map: f64,
    /// 95 % bootstrap interval of `map`.
    pub interval: Interval,
    /// Mean binary cross-entropy.
    pub loss: f64,
    /// F1 of all labels' hits and misses together.
    pub micro_f1: f64,
    /// Mean of the labels' F1.
    pub macro_f1: f64,
    /// Share of pictures whose labels are all named and no other.
    pub exact: f64,
    /// Each label.
    pub each: Vec<LabelScore>,
    /// Logits `[pictures, labels]`.
    pub logits: Vec<f32>,
    /// Which labels are there, likewise.
    pub truth: Vec<bool>,
    /// Pictures.
    pub pictures: usize,
}

/// How well one label is found.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelScore {
    /// Average precision; `None` if no picture has the label.
    pub ap: Option<f64>,
    /// 95 % bootstrap interval of `ap`.
    pub interval: Interval,
    /// Probability from which it is named.
    pub threshold: f64,
    /// Hits and misses with that threshold.
    pub counts: Counts,
}

/// How near numbers are.
#[derive(Clone, Debug)]
pub struct NumberScores {
    /// Names of the targets.
    pub names: Vec<String>,
    /// Each target.
    pub each: Vec<NumberScore>,
    /// Their scales.
    pub scales: Vec<Scale>,
    /// Root of the mean squared error over all targets, in standard deviations of the training part.
    pub nrmse: f64,
    /// Predictions `[pictures, targets]`, in the targets' units.
    pub predicted: Vec<f64>,
    /// The truth, likewise.
    pub truth: Vec<f64>,
    /// Pictures.
    pub pictures: usize,
}

/// How near one number is, each with its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NumberScore {
    /// Mean distance.
    pub mae: (f64, Interval),
    /// Root of the mean squared distance.
    pub rmse: (f64, Interval),
    /// Share of the variance explained.
    pub r2: (f64, Interval),
}

/// Scores a network on photos with their truth; `thresholds` of labels are chosen on these photos if none are given.
pub fn scored(
    network: &Network,
    photos: &Photos,
    names: &[String],
    thresholds: Option<&[f64]>,
) -> Result<Scored> {
    Ok(match photos.truth().task {
        Task::Classify => Scored::Classes(session::score(network, photos, names)?),
        Task::Multilabel => Scored::Labels(labels_of(logits(network, photos)?, photos, names, thresholds)),
        Task::Regress => Scored::Numbers(numbers_of(&logits(network, photos)?, photos, names)),
    })
}

fn labels_of(logits: Vec<f32>, photos: &Photos, names: &[String], thresholds: Option<&[f64]>) -> LabelScores {
    let (n, width) = (photos.len(), names.len());
    let there: Vec<bool> = photos.truth().rows.iter().map(|v| *v > 0.5).collect();
    let mut named = vec![false; n * width];
    let each = (0..width).map(|label| {
        let (scores, truth) = (column(&logits, width, label), column(&there, width, label));
        let chosen = || labels::best_threshold(&scores, &truth).map_or(0.5, logistic);
        let threshold = thresholds.map_or_else(chosen, |t| t[label]);
        for (i, x) in scores.iter().enumerate() {
            named[i * width + label] = logistic(f64::from(*x)) >= threshold;
        }
        let interval = bootstrap(n, resamples(n), 0.95, 0, |pick| {
            let (scores, truth): (Vec<_>, Vec<_>) = pick.iter().map(|i| (scores[*i], truth[*i])).unzip();
            labels::average_precision(&scores, &truth).unwrap_or(f64::NAN)
        });
        let counts = Counts::of(column(&named, width, label), truth.iter().copied());
        LabelScore { ap: labels::average_precision(&scores, &truth), interval, threshold, counts }
    });
    let each: Vec<LabelScore> = each.collect();
    let interval = bootstrap(n, resamples(n * width), 0.95, 0, |pick| {
        let (scores, truth): (Vec<_>, Vec<_>) =
            pick.iter().flat_map(|i| (i * width..(i + 1) * width).map(|at| (logits[at], there[at]))).unzip();
        mean_average_precision(&scores, &truth, width)
    });
    let counts: Vec<Counts> = each.iter().map(|e| e.counts).collect();
    let same = named.chunks(width).zip(there.chunks(width)).filter(|(a, b)| a == b).count();
    LabelScores {
        names: names.to_vec(),
        map: mean_average_precision(&logits, &there, width),
        interval,
        loss: labels::bce(&logits, &there),
        micro_f1: labels::micro_f1(&counts),
        macro_f1: labels::macro_f1(&counts),
        exact: same as f64 / n as f64,
        each,
        logits,
        truth: there,
        pictures: n,
    }
}

/// A thousand where that takes a moment, fewer where there are many numbers to sort.
fn resamples(numbers: usize) -> usize {
    (10_000_000 / numbers.max(1)).clamp(100, 1000)
}

fn numbers_of(outputs: &[f32], photos: &Photos, names: &[String]) -> NumberScores {
    let (truth, width) = (photos.truth(), names.len());
    let predicted = unscale(outputs, &truth.scales);
    let each = (0..width).map(|target| {
        let (p, t) = (column(&predicted, width, target), column(&truth.rows, width, target));
        let of = |f: fn(&[f64], &[f64]) -> f64| (f(&p, &t), regression::interval(&p, &t, f));
        NumberScore { mae: of(regression::mae), rmse: of(regression::rmse), r2: of(regression::r2) }
    });
    let each: Vec<NumberScore> = each.collect();
    let ratio = |(e, s): (&NumberScore, &Scale)| (e.rmse.0 / s.std).powi(2);
    NumberScores {
        names: names.to_vec(),
        nrmse: labels::mean(each.iter().zip(&truth.scales).map(ratio)).sqrt(),
        each,
        scales: truth.scales.clone(),
        predicted,
        truth: truth.rows.to_vec(),
        pictures: photos.len(),
    }
}

impl LabelScores {
    /// Returns how likely the network takes a label to be on a picture.
    pub fn probability(&self, picture: usize, label: usize) -> f64 {
        logistic(f64::from(self.logits[picture * self.names.len() + label]))
    }

    /// Tells whether the network names a label.
    pub fn is_named(&self, picture: usize, label: usize) -> bool {
        self.probability(picture, label) >= self.each[label].threshold
    }

    /// Tells whether a picture truly has a label.
    pub fn is_there(&self, picture: usize, label: usize) -> bool {
        self.truth[picture * self.names.len() + label]
    }
}

impl NumberScores {
    /// Returns each picture's true and predicted number of one target.
    pub fn pairs(&self, target: usize) -> impl Iterator<Item = (f64, f64)> {
        let pairs = self.truth.iter().copied().zip(self.predicted.iter().copied());
        pairs.skip(target).step_by(self.names.len())
    }
}

impl Scored {
    /// Returns the scores of classes.
    pub fn classes(&self) -> Option<&Scores> {
        if let Self::Classes(scores) = self { Some(scores) } else { None }
    }

    /// Returns the temperature that makes probabilities honest; 1 where there is none to fit.
    pub fn temperature(&self) -> f64 {
        self.classes().map_or(1.0, |s| s.temperature)
    }

    /// Returns how the network's outputs are to be read.
    pub fn reading(&self) -> Reading {
        match self {
            Self::Classes(_) => Reading::Class,
            Self::Labels(s) => Reading::Labels { thresholds: s.each.iter().map(|e| e.threshold).collect() },
            Self::Numbers(s) => Reading::Numbers { scales: s.scales.clone() },
        }
    }

    /// The number that matters most: its name, its value, and its 95 % interval where there is one.
    pub fn headline(&self) -> (&'static str, f64, Option<(f64, f64)>) {
        let ends = |i: &Interval| Some((i.low, i.high));
        match self {
            Self::Classes(s) => ("top-1", s.top1, Some(s.interval)),
            Self::Labels(s) => ("mAP", s.map, ends(&s.interval)),
            Self::Numbers(NumberScores { each, nrmse, .. }) => match &each[..] {
                [one] => ("RMSE", one.rmse.0, ends(&one.rmse.1)),
                _ => ("RMSE in deviations", *nrmse, None),
            },
        }
    }

    /// Returns the scores as JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Classes(scores) => scores.to_json(),
            Self::Labels(s) => s.to_json(),
            Self::Numbers(s) => s.to_json(),
        }
    }
}

fn ends(i: &Interval) -> Value {
    json!([i.low, i.high])
}

impl LabelScores {
    fn to_json(&self) -> Value {
        let each = self.names.iter().zip(&self.each).map(|(name, e)| {
            let c = &e.counts;
            json!({"label": name, "ap": e.ap, "ap_interval95": ends(&e.interval), "f1": c.f1(), "precision": c.precision(),
                   "recall": c.recall(), "threshold": e.threshold, "support": c.right + c.missed})
        });
        json!({
            "task": Task::Multilabel,
            "map": self.map,
            "map_interval95": ends(&self.interval),
            "micro_f1": self.micro_f1,
            "macro_f1": self.macro_f1,
            "exact_match": self.exact,
            "loss": self.loss,
            "pictures": self.pictures,
            "per_label": each.collect::<Vec<_>>(),
        })
    }
}

impl NumberScores {
    fn to_json(&self) -> Value {
        let each = self.names.iter().zip(&self.each).zip(&self.scales).map(|((name, e), scale)| {
            json!({"target": name, "mae": e.mae.0, "mae_interval95": ends(&e.mae.1), "rmse": e.rmse.0,
                   "rmse_interval95": ends(&e.rmse.1), "r2": e.r2.0, "r2_interval95": ends(&e.r2.1),
                   "train_mean": scale.mean, "train_std": scale.std})
        });
        json!({
            "task": Task::Regress,
            "rmse_std": self.nrmse,
            "r2": labels::mean(self.each.iter().map(|e| e.r2.0)),
            "pictures": self.pictures,
            "per_target": each.collect::<Vec<_>>(),
        })
    }
}
