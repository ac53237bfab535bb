//! Advice for labels and numbers: what a ridge probe on the features achieves on pictures left out, beside the same on
//! features of random weights, and the simplest recipe that is as good as any.
//!
//! The score is mAP, or the mean R² of the targets; `1 - score` stands for the error in the rule of [`super::decide`] about
//! what fine-tuning adds. That rule was made for classes, so its word counts less here.

use std::time::Instant;

use serde::Serialize;

use super::Settings;
use super::decide::{Choice, Quadrant, removed};
use super::measure::{Shape, embed};
use super::plan::{self, Care};
use crate::data::{Dataset, Sample, Split};
use crate::error::Result;
use crate::metrics::{interval, labels, regression};
use crate::models::{HeadSpec, frozen};
use crate::rng::Rng;
use crate::session::photos;
use crate::sources::Backbone;
use crate::task::Task;
use crate::train::Recipe;
use crate::train::observer::Observer;
use crate::train::validate::{column, mean_average_precision};
use crate::transfer::probe::probe_values;

/// Recipes within this of the best expected score count as equal: intervals of R² and mAP on some hundred pictures are wider.
const EQUAL: f64 = 0.02;

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct RowAdvice {
    /// The network measured.
    pub model: String,
    /// Where its weights came from.
    pub weights: String,
    /// The task.
    pub task: Task,
    /// What the scores are: `mAP` or `R²`.
    pub score: &'static str,
    /// Training pictures in all.
    pub train: usize,
    /// Pictures measured on.
    pub pictures: usize,
    /// The score of knowing nothing.
    pub chance: f64,
    /// A ridge probe on the embeddings.
    pub probe: f64,
    /// Its 95 % bootstrap interval.
    pub interval95: (f64, f64),
    /// The probe on the map before the last stage, averaged over its places.
    pub probe_earlier: f64,
    /// The probe on half of the pictures: whether more would help.
    pub probe_half: f64,
    /// The probe on features of random weights.
    pub control_probe: f64,
    /// Share of the random network's errors that pretraining removes.
    pub similarity: f64,
    /// What to do.
    pub choice: Choice,
    /// What each recipe is expected to score.
    pub outlooks: Vec<(Choice, f64)>,
    /// One paragraph of reasons.
    pub why: String,
    /// The chosen recipe as TOML; none when the advice is to collect more pictures.
    pub recipe: Option<String>,
    /// Seconds the advice took.
    pub seconds: f64,
}

/// The truth as columns of mean 0, and what predictions of it are worth.
struct Goal {
    task: Task,
    /// `[n, width]`.
    rows: Vec<f64>,
    width: usize,
}

impl Goal {
    fn columns(&self, n: usize) -> Vec<Vec<f64>> {
        let centred = |t: usize| {
            let values = column(&self.rows[..n * self.width], self.width, t);
            let mean = values.iter().sum::<f64>() / n as f64;
            values.into_iter().map(|v| v - mean).collect()
        };
        (0..self.width).map(centred).collect()
    }

    /// Scores predictions `[picks, width]` of centred columns.
    fn score(&self, picks: &[usize], predicted: &[f32]) -> f64 {
        let truth: Vec<f64> =
            picks.iter().flat_map(|i| self.rows[i * self.width..][..self.width].iter().copied()).collect();
        if self.task == Task::Multilabel {
            let there: Vec<bool> = truth.iter().map(|v| *v > 0.5).collect();
            return mean_average_precision(predicted, &there, self.width);
        }
        let mean = |t: usize| labels::mean(column(&self.rows, self.width, t).into_iter());
        labels::mean((0..self.width).map(|t| {
            let shift = mean(t);
            let p: Vec<f64> =
                column(predicted, self.width, t).into_iter().map(|p| f64::from(p) + shift).collect();
            regression::r2(&p, &column(&truth, self.width, t))
        }))
    }

    /// The score of the best probe on the first `n` pictures, and its left-out predictions.
    fn probe(&self, features: &[f32], width: usize, n: usize) -> (Vec<f32>, f64) {
        let all: Vec<usize> = (0..n).collect();
        let columns = self.columns(n);
        probe_values(&features[..n * width], width, &columns, &|found| self.score(&all, found))
    }
}

/// Measures `backbone` on a table of labels or numbers and chooses a recipe.
pub fn advise(
    data: &Dataset,
    backbone: &Backbone,
    settings: Settings,
    observer: &mut dyn Observer,
) -> Result<RowAdvice> {
    let started = Instant::now();
    let mut samples: Vec<Sample> = data.part(Split::Train).to_vec();
    Rng::keyed(&[settings.seed, 0xAD]).shuffle(&mut samples);
    samples.truncate(settings.pictures);
    let (n, width) = (samples.len(), data.classes.len());
    let rows = samples.iter().flat_map(|s| data.rows[s.label].iter().copied()).collect();
    let goal = Goal { task: data.task, rows, width };
    let mut recipe = Recipe::open("head")?;
    recipe.resolve(&backbone.input);
    let set = photos(&samples, &recipe.eval, settings.seed, 32, "advise")?;
    let (network, _) = backbone.with_new_head(width, HeadSpec::linear(), settings.seed)?;
    let own = embed(&frozen(&network), &set, observer)?;
    let random = embed(&frozen(&backbone.random(width, HeadSpec::linear(), settings.seed)?), &set, observer)?;

    let (found, probe) = goal.probe(&own.last, own.width, n);
    let resampled = interval::bootstrap(n, 200, 0.95, 0, |pick| {
        let chosen: Vec<f32> =
            pick.iter().flat_map(|i| found[i * width..][..width].iter().copied()).collect();
        goal.score(pick, &chosen)
    });
    let (_, earlier) = goal.probe(&own.earlier, own.earlier.len() / n, n);
    let (_, control) = goal.probe(&random.last, random.width, n);
    let chance = match data.task {
        Task::Multilabel => goal.rows.iter().sum::<f64>() / goal.rows.len() as f64,
        _ => 0.0,
    };
    let mut advice = RowAdvice {
        model: backbone.row.name.to_string(),
        weights: backbone.origin.clone(),
        task: data.task,
        score: if data.task == Task::Multilabel { "mAP" } else { "R²" },
        train: data.train.len(),
        pictures: n,
        chance,
        probe,
        interval95: (resampled.low, resampled.high),
        probe_earlier: earlier,
        probe_half: goal.probe(&own.last, own.width, n / 2).1,
        control_probe: control,
        similarity: 1.0 - (1.0 - probe) / (1.0 - control).max(1e-6),
        choice: Choice::CollectMore,
        outlooks: Vec::new(),
        why: String::new(),
        recipe: None,
        seconds: 0.0,
    };
    let shape = Shape {
        train: data.train.len(),
        val: data.val.len(),
        classes: width,
        smallest: 0,
        largest: 0,
        unlabeled: 0,
    };
    advice.decide(&shape);
    advice.why = advice.words();
    // Bold rates are measured on classes alone.
    advice.recipe = plan::recipe(advice.choice, &network, &shape, Care::Keep)?.map(|r| r.to_toml());
    advice.seconds = started.elapsed().as_secs_f64();
    Ok(advice)
}

impl RowAdvice {
    /// Chooses the simplest recipe within two points of the best expected score.
    fn decide(&mut self, shape: &Shape) {
        let quadrant = Quadrant::of(shape.train, self.similarity, None);
        let (middle, ..) = removed(shape, quadrant, Care::Keep);
        let after = |score: f64, share: f64| 1.0 - (1.0 - score) * (1.0 - share);
        let last = after(self.probe, 0.6 * middle).max(self.probe_earlier);
        self.outlooks = vec![
            (Choice::Head, self.probe),
            (Choice::LastStages, last),
            (Choice::Finetune, after(self.probe, middle).max(self.probe_earlier)),
            (Choice::Scratch, after(self.control_probe, middle)),
        ];
        let best = self.outlooks.iter().map(|o| o.1).fold(f64::NEG_INFINITY, f64::max);
        let simplest = self.outlooks.iter().find(|o| o.1 >= best - EQUAL).map(|o| o.0);
        let guessing = self.interval95.0.is_nan() || self.interval95.0 <= self.chance;
        self.choice = match simplest {
            Some(choice) if !guessing && shape.train >= 30 => choice,
            _ => Choice::CollectMore,
        };
    }

    fn words(&self) -> String {
        let mut text = format!(
            "{} training pictures: a linear probe on the features of {} reaches {} {:.3} on pictures left out ({:.3} on half of \
             them), the same network with random weights {:.3}, knowing nothing {:.3}.",
            self.train, self.model, self.score, self.probe, self.probe_half, self.control_probe, self.chance
        );
        text += &match self.choice {
            Choice::CollectMore => {
                " That cannot be told from knowing nothing: collect more pictures, or try a larger `--size`."
                    .into()
            }
            Choice::LastStages if self.probe_earlier > self.probe => format!(
                " Features before the last stage reach {:.3}: that stage is too much made for the old task and should be \
                 trained anew with the head.",
                self.probe_earlier
            ),
            choice => {
                format!(" The simplest recipe that is expected to be as good as any: {}.", choice.words())
            }
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(probe: f64, earlier: f64, low: f64) -> RowAdvice {
        RowAdvice {
            model: "m".into(),
            weights: "w".into(),
            task: Task::Regress,
            score: "R²",
            train: 0,
            pictures: 0,
            chance: 0.0,
            probe,
            interval95: (low, 1.0),
            probe_earlier: earlier,
            probe_half: probe,
            control_probe: 0.1,
            similarity: 0.6,
            choice: Choice::CollectMore,
            outlooks: vec![],
            why: String::new(),
            recipe: None,
            seconds: 0.0,
        }
    }

    #[test]
    fn the_simplest_recipe_that_is_as_good_is_chosen() {
        let shape = |train| Shape { train, val: 10, classes: 1, smallest: 0, largest: 0, unlabeled: 0 };
        for (train, (probe, earlier, low), choice) in [
            (300, (0.8, 0.7, 0.7), Choice::Head),
            (300, (0.5, 0.7, 0.4), Choice::LastStages),
            (2500, (0.6, 0.5, 0.5), Choice::Finetune),
            (2500, (0.995, 0.5, 0.9), Choice::Head),
            (2500, (0.02, 0.01, -0.1), Choice::CollectMore),
            (20, (0.8, 0.7, 0.5), Choice::CollectMore),
        ] {
            let mut advice = advice(probe, earlier, low);
            advice.decide(&shape(train));
            assert_eq!(advice.choice, choice, "{train} {probe}");
            assert!(advice.words().contains("R²"));
        }
    }
}
