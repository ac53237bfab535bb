//! What a step strives for, by task: goals, weights, and the loss.
//!
//! Single classes: cross-entropy (`loss.rs`, `focal.rs`). Several labels: binary cross-entropy of each, as PyTorch's
//! `BCEWithLogitsLoss`, or the asymmetric loss (Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021),
//! of which the sigmoid focal loss (Lin et al., ICCV 2017) is a case. Numbers: squared error or Huber's loss of targets
//! standardised by the training part.

use std::fmt;
use std::str::FromStr;

use burn::Tensor;
use burn::tensor::{TensorData, activation};

use super::loss::{balanced_weights, targets};
use super::photos::Photos;
use super::recipe::Recipe;
use super::schedule::Call;
use super::step::{Lesson, outputs};
use crate::error::{Error, Result};
use crate::models::Network;
use crate::task::{Task, Truth};

/// The loss of tasks other than one class a picture, as recipes write it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LossSpec {
    /// Binary cross-entropy of each label.
    Bce {
        /// Factor of the loss where a label is there.
        pos_weight: f64,
    },
    /// Binary cross-entropy in which easy answers count less.
    Asymmetric {
        /// Exponent of the probability where a label is not there.
        gamma_neg: f64,
        /// Exponent of the missing probability where it is.
        gamma_pos: f64,
        /// Probability below which an absent label costs nothing.
        clip: f64,
    },
    /// Squared error.
    Mse,
    /// Squared below `delta`, then linear; with 1 PyTorch's smooth L1.
    Huber {
        /// Where the line begins, in standard deviations of the target.
        delta: f64,
    },
}

impl LossSpec {
    /// Returns the task it is for.
    pub fn task(self) -> Task {
        match self {
            Self::Bce { .. } | Self::Asymmetric { .. } => Task::Multilabel,
            Self::Mse | Self::Huber { .. } => Task::Regress,
        }
    }

    /// Returns the usual loss of a task; none for classes, whose loss has keys of its own.
    pub fn usual(task: Task) -> Option<Self> {
        match task {
            Task::Classify => None,
            Task::Multilabel => Some(Self::Bce { pos_weight: 1.0 }),
            Task::Regress => Some(Self::Mse),
        }
    }

    /// Returns the mean over the batch and all outputs. `goal` has as many numbers as `outputs`, `[n, width]`; `pos_weight`
    /// is a factor for each label.
    pub fn of(self, outputs: Tensor<2>, goal: Vec<f32>, pos_weight: Option<&[f32]>) -> Tensor<1> {
        let (shape, device) = (outputs.dims(), outputs.device());
        let goal = Tensor::<2>::from_data(TensorData::new(goal, shape), &device);
        match self {
            Self::Mse => (outputs - goal).square().mean(),
            Self::Huber { delta } => {
                let off = (outputs - goal).abs();
                // Min(d, δ) · (d − Min(d, δ) / 2) is d²/2 up to δ and δ · (d − δ/2) beyond.
                let near = off.clone().clamp_max(delta);
                (near.clone() * (off - near * 0.5)).mean()
            }
            Self::Bce { pos_weight: factor } => {
                let there = activation::log_sigmoid(outputs.clone()) * goal.clone() * factor;
                let absent = activation::log_sigmoid(outputs.neg()) * (goal.neg() + 1.0);
                (weighted(there, pos_weight) + absent).mean().neg()
            }
            Self::Asymmetric { gamma_neg, gamma_pos, clip } => {
                // A base of exactly 0 would give the power's gradient 0^(γ − 1).
                let power = |base: Tensor<2>, gamma: f64| base.clamp_min(1e-6).powf_scalar(gamma);
                let p = activation::sigmoid(outputs.clone());
                let miss = p.clone().neg() + 1.0;
                let there = activation::log_sigmoid(outputs.clone()) * power(miss, gamma_pos) * goal.clone();
                let shifted = (p - clip).clamp_min(0.0);
                let log = match clip > 0.0 {
                    true => (shifted.clone().neg() + 1.0).log(),
                    false => activation::log_sigmoid(outputs.neg()),
                };
                let absent = log * power(shifted, gamma_neg) * (goal.neg() + 1.0);
                (weighted(there, pos_weight) + absent).mean().neg()
            }
        }
    }
}

fn weighted(there: Tensor<2>, weights: Option<&[f32]>) -> Tensor<2> {
    let Some(weights) = weights else { return there };
    let weights = TensorData::new(weights.to_vec(), [1, weights.len()]);
    let weights = Tensor::<2>::from_data(weights, &there.device());
    there * weights
}

impl fmt::Display for LossSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bce { pos_weight } => write!(f, "bce(pos_weight={pos_weight})"),
            Self::Asymmetric { gamma_neg, gamma_pos, clip } => {
                write!(f, "asymmetric(gamma_neg={gamma_neg}, gamma_pos={gamma_pos}, clip={clip})")
            }
            Self::Mse => f.write_str("mse"),
            Self::Huber { delta } => write!(f, "huber(delta={delta})"),
        }
    }
}

impl FromStr for LossSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let call = Call::parse(text, "loss")?;
        let (found, keys): (_, &[&str]) = match call.name {
            "bce" => (Self::Bce { pos_weight: call.number("pos_weight", 1.0, 1e-3..=1e3)? }, &["pos_weight"]),
            "asymmetric" => (
                Self::Asymmetric {
                    gamma_neg: call.number("gamma_neg", 4.0, 0.0..=10.0)?,
                    gamma_pos: call.number("gamma_pos", 1.0, 0.0..=10.0)?,
                    clip: call.number("clip", 0.05, 0.0..=0.5)?,
                },
                &["gamma_neg", "gamma_pos", "clip"],
            ),
            "mse" => (Self::Mse, &[]),
            "huber" => (Self::Huber { delta: call.number("delta", 1.0, 1e-3..=1e3)? }, &["delta"]),
            other => return Err(call.unknown(other, &["bce", "asymmetric", "mse", "huber"])),
        };
        call.finish(keys)?;
        Ok(found)
    }
}

/// The goals of a set of pictures with the loss of a recipe.
#[derive(Debug)]
pub struct Objective {
    truth: Truth,
    /// `None` is one class a picture.
    loss: Option<LossSpec>,
    /// Class of each picture.
    labels: Vec<usize>,
    classes: usize,
    smoothing: f64,
    focal: Option<f64>,
    /// By class, or by label where it is there.
    weights: Option<Vec<f32>>,
}

impl Objective {
    /// Prepares the goals of `photos` for a network of `outputs` outputs; the recipe was checked with [`suit`].
    pub fn new(recipe: &Recipe, photos: &Photos, outputs: usize) -> Result<Self> {
        let (truth, labels) = (photos.truth().clone(), photos.labels());
        let loss = match &recipe.loss {
            Some(text) => Some(text.parse()?),
            None => LossSpec::usual(truth.task),
        };
        let loss = match (loss, recipe.focal) {
            (Some(LossSpec::Bce { .. }), Some(gamma)) => {
                Some(LossSpec::Asymmetric { gamma_neg: gamma, gamma_pos: gamma, clip: 0.0 })
            }
            (loss, _) => loss,
        };
        let weights = recipe.class_weights.then(|| match truth.task {
            Task::Classify => balanced_weights(&labels, outputs),
            _ => positive_weights(&truth),
        });
        let (smoothing, focal) = (recipe.label_smoothing, recipe.focal);
        Ok(Self { truth, loss, labels, classes: outputs, smoothing, focal, weights })
    }

    /// Returns the goals of `picks`, `[picks, outputs]`.
    pub fn goal(&self, picks: &[usize]) -> Vec<f32> {
        if self.loss.is_none() {
            return targets(&self.picked(picks), self.classes, self.smoothing);
        }
        let mut goal = self.truth.goal(picks);
        if self.smoothing > 0.0 {
            let s = self.smoothing as f32;
            goal.iter_mut().for_each(|g| *g = *g * (1.0 - s) + 0.5 * s);
        }
        goal
    }

    fn picked(&self, picks: &[usize]) -> Vec<usize> {
        picks.iter().map(|i| self.labels[*i]).collect()
    }

    /// Returns the mean loss of `picks` with the goals made of [`Objective::goal`], ready for its backward pass.
    pub fn loss(&self, mut lesson: Lesson, picks: &[usize], network: &Network) -> Tensor<1> {
        let Some(loss) = self.loss else {
            lesson.weights =
                self.weights.as_ref().map(|w| self.picked(picks).iter().map(|l| w[*l]).collect());
            lesson.focal = self.focal;
            return lesson.loss(network);
        };
        let outputs = outputs(lesson.first, lesson.input, lesson.half, network);
        loss.of(outputs, lesson.goal, self.weights.as_deref())
    }
}

/// How many times as often a label is absent as it is there: PyTorch's advice for `pos_weight`.
fn positive_weights(truth: &Truth) -> Vec<f32> {
    let n = truth.len() as f64;
    let there = |label: usize| (0..truth.len()).map(|i| truth.row(i)[label]).sum::<f64>();
    (0..truth.width).map(|label| ((n - there(label)) / there(label).max(1.0)).max(1e-3) as f32).collect()
}

/// Says what of a recipe makes no sense for a task, and writes the task's loss into it.
pub fn suit(recipe: &mut Recipe, task: Task) -> Result<()> {
    let bad = |key: &str, what: String, hint: &str| {
        Err(Error::BadRecipe { place: key.into(), what, hint: hint.into() })
    };
    let none = |key: &str| format!("`{key}` has no meaning for {}", task.noun());
    let loss = recipe.loss.as_deref().map(str::parse::<LossSpec>).transpose()?;
    if let Some(loss) = loss.filter(|l| l.task() != task) {
        let hint = match task {
            Task::Classify => "drop it: classes have cross-entropy, with `focal` and `label_smoothing`",
            Task::Multilabel => "use `bce` or `asymmetric`",
            Task::Regress => "use `mse` or `huber`",
        };
        return bad(
            "loss",
            format!("`{loss}` is a loss for {}, not for {}", loss.task().noun(), task.noun()),
            hint,
        );
    }
    if task == Task::Classify {
        return Ok(());
    }
    if !recipe.sampler.is_shuffle() {
        let hint = match task {
            Task::Multilabel => "labels that are rare can weigh more: `class_weights = true`",
            _ => "drop it",
        };
        return bad("sampler", none("sampler = \"balanced\""), hint);
    }
    if task == Task::Multilabel {
        if let (Some(LossSpec::Asymmetric { .. }), Some(_)) = (loss, recipe.focal) {
            return bad("focal", "`focal` and `asymmetric` are two ways to do the same".into(), "drop one");
        }
        let weighs = matches!(loss, Some(LossSpec::Bce { pos_weight }) if pos_weight != 1.0);
        if weighs && (recipe.class_weights || recipe.focal.is_some()) {
            return bad(
                "loss",
                "`pos_weight` contradicts `class_weights` and `focal`".into(),
                "drop one of them",
            );
        }
    } else {
        let off = "drop it";
        if recipe.focal.is_some() {
            return bad("focal", none("focal"), off);
        }
        if recipe.class_weights {
            return bad("class_weights", none("class_weights"), off);
        }
        if recipe.label_smoothing > 0.0 {
            return bad(
                "label_smoothing",
                none("label_smoothing"),
                "`loss = \"huber\"` is milder with odd targets",
            );
        }
        if recipe.cutmix > 0.0 {
            let what = "a patch of another picture does not change a number by its area".into();
            return bad("cutmix", what, "`mixup` blends pictures and targets alike");
        }
    }
    recipe.loss = loss.or(LossSpec::usual(task)).map(|l| l.to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::models::values;

    #[derive(serde::Deserialize)]
    struct Case {
        loss: String,
        outputs: Vec<f32>,
        width: usize,
        goal: Vec<f32>,
        pos_weight: Option<Vec<f32>>,
        value: f64,
        gradient: Vec<f32>,
    }

    /// Reference values by PyTorch: `tools/golden/tasks.py`.
    #[test]
    fn losses_and_gradients_are_those_of_the_reference() {
        let device = Device::flex().autodiff();
        let text = include_str!("../../../../fixtures/tasks/losses.json");
        for c in serde_json::from_str::<Vec<Case>>(text).unwrap() {
            let shape = [c.outputs.len() / c.width, c.width];
            let x = Tensor::<2>::from_data(TensorData::new(c.outputs, shape), &device).require_grad();
            let loss = c.loss.parse::<LossSpec>().unwrap().of(x.clone(), c.goal, c.pos_weight.as_deref());
            let grads = loss.backward();
            let found = f64::from(loss.into_scalar::<f32>());
            assert!((found - c.value).abs() < 1e-5 * c.value.max(0.1), "{}: {found} {}", c.loss, c.value);
            let largest = c.gradient.iter().fold(0.0_f32, |m, g| m.max(g.abs()));
            for (a, b) in values(&x.grad(&grads).unwrap()).iter().zip(&c.gradient) {
                assert!((a - b).abs() < 1e-5 * largest, "{}: {a} {b}", c.loss);
            }
        }
    }

    #[test]
    fn text_round_trips_and_typos_are_caught() {
        for text in [
            "bce(pos_weight=1)",
            "asymmetric(gamma_neg=4, gamma_pos=1, clip=0.05)",
            "mse",
            "huber(delta=0.5)",
        ] {
            assert_eq!(text.parse::<LossSpec>().unwrap().to_string(), text);
        }
        for bad in ["bec", "bce(weight=2)", "huber(delta=0)", "mse(delta=1)"] {
            assert!(bad.parse::<LossSpec>().is_err(), "`{bad}` was taken");
        }
    }

    #[test]
    fn what_makes_no_sense_for_a_task_is_refused() {
        let recipe = |keys: &str| {
            let phase = "[[phase]]\nepochs = 1\ntrainable = [\"head\"]\nlr = 1e-3\n";
            Recipe::parse(&format!("{keys}\n{phase}"), "r").unwrap()
        };
        for (task, keys) in [
            (Task::Classify, "loss = \"bce\""),
            (Task::Multilabel, "loss = \"mse\""),
            (Task::Multilabel, "sampler = \"balanced\""),
            (Task::Multilabel, "loss = \"asymmetric\"\nfocal = 2.0"),
            (Task::Multilabel, "loss = \"bce(pos_weight=2)\"\nclass_weights = true"),
            (Task::Regress, "loss = \"bce\""),
            (Task::Regress, "sampler = \"balanced\""),
            (Task::Regress, "focal = 2.0"),
            (Task::Regress, "class_weights = true"),
            (Task::Regress, "label_smoothing = 0.1"),
            (Task::Regress, "cutmix = 1.0"),
        ] {
            let error = suit(&mut recipe(keys), task).unwrap_err();
            assert!(!error.hints().is_empty(), "{error}");
        }
        for (task, keys, loss) in [
            (Task::Classify, "focal = 2.0\nsampler = \"balanced\"", None),
            (
                Task::Multilabel,
                "label_smoothing = 0.1\nmixup = 0.2\ncutmix = 1.0\nclass_weights = true",
                Some("bce(pos_weight=1)"),
            ),
            (Task::Multilabel, "focal = 2.0", Some("bce(pos_weight=1)")),
            (Task::Regress, "mixup = 0.2", Some("mse")),
            (Task::Regress, "loss = \"huber\"", Some("huber(delta=1)")),
        ] {
            let mut recipe = recipe(keys);
            suit(&mut recipe, task).unwrap();
            assert_eq!(recipe.loss.as_deref(), loss);
        }
    }
}
