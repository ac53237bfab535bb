//! Recipes: what to train, in which phases, at which rates. Data, not code.
//!
//! A recipe is TOML with unknown keys refused; the built-in ones are files under `recipes/`. Pictures'
//! pipelines may use `{size}`, `{resize}`, `{filter}` and `{norm}`, which the network's preprocessing
//! fills in; the *resolved* recipe, every default and every number explicit, goes into the bundle.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::average::Average;
use super::groups::{BatchNormPolicy, Rate};
use super::objective::LossSpec;
use super::optimizer::OptimizerSpec;
use super::place::{point, toml_error};
use super::sampler::Sampler;
use super::schedule::Schedule;
use super::semi::SemiSpec;
use super::views::Views;
use crate::clip::HeadPlan;
use crate::error::{Error, Result};
use crate::fast::Precision;
use crate::image::Pipeline;
use crate::models::Network;
use crate::models::lora::LoraSpec;
use crate::models::spec::{Filter, InputSpec};

/// A whole training plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seed of every random choice.
    #[serde(default)]
    pub seed: u64,
    /// Whether to start from pretrained weights.
    #[serde(default = "yes")]
    pub pretrained: bool,
    /// The new head, as [`HeadPlan`] text.
    #[serde(default = "linear")]
    pub head: String,
    /// Pictures a step.
    #[serde(default = "batch_size")]
    pub batch_size: usize,
    /// The update rule, as [`OptimizerSpec`] text.
    #[serde(default = "optimizer")]
    pub optimizer: String,
    /// Largest joint norm of the gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Share of the target spread over all classes.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Probability with which training leaves out the last block's residual branch; that of earlier blocks falls evenly
    /// to 0 (stochastic depth).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub drop_path: f64,
    /// Whether rare classes weigh more: weights inverse to class sizes.
    #[serde(default)]
    pub class_weights: bool,
    /// MixUp's Beta parameter; 0 is off.
    #[serde(default)]
    pub mixup: f32,
    /// CutMix's Beta parameter; 0 is off.
    #[serde(default)]
    pub cutmix: f32,
    /// Pipeline of training pictures.
    #[serde(default = "eval_pipeline")]
    pub train: String,
    /// Pipeline of the strongly changed views that phases with `semi` learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strong: Option<String>,
    /// Pipeline of validation pictures.
    #[serde(default = "eval_pipeline")]
    pub eval: String,
    /// How many augmented views of each picture are cached for a frozen prefix; 0 caches none and
    /// draws anew each epoch, `"auto"` chooses by the number of pictures.
    #[serde(default)]
    pub views: Views,
    /// Number format of the frozen prefix; bf16 is also that of the maps that the trained rest works on.
    #[serde(default)]
    pub precision: Precision,
    /// Stop a phase after this many epochs without a better validation result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Decay of a moving average of the weights, which is then validated and kept instead of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Batches whose gradients make one step.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulate: usize,
    /// Exponent of the focal loss; `None` is plain cross-entropy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub focal: Option<f64>,
    /// The loss of other tasks than one class a picture, as [`LossSpec`] text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    /// In which order, and how often, an epoch shows the pictures.
    #[serde(default, skip_serializing_if = "Sampler::is_shuffle")]
    pub sampler: Sampler,
    /// Groups or name patterns of the backbone that start from random values all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reinit: Vec<String>,
    /// Epochs of the last phase whose weights are averaged at the end, as [`Average`] text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<String>,
    /// Share of the trained backbone in the final one; the rest is the one training started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wise: Option<f64>,
    /// What happens, in order.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
}

/// One stretch of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// What reports call it.
    #[serde(default)]
    pub name: String,
    /// Passes over the training pictures.
    pub epochs: usize,
    /// Groups, `all`, or name patterns; everything else is frozen.
    pub trainable: Vec<String>,
    /// What BatchNorm does in trainable groups.
    #[serde(default)]
    pub batch_norm: BatchNormPolicy,
    /// The peak rate, or anchors by group.
    pub lr: Rate,
    /// Factor of the rate from one group to the one before it, counted from the head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f64>,
    /// Whether a sweep at the start of the phase finds the highest rate; `lr` then says only how groups compare.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lr_find: bool,
    /// Epochs after which the next group towards the stem thaws, the head first; `None` thaws all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfreeze_every: Option<usize>,
    /// How pictures without labels take part, as [`SemiSpec`] text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semi: Option<String>,
    /// Low-rank adapters that train instead of the layers they sit on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraSpec>,
    /// Whether of the backbone only biases train: of layers, and the shifts of norms.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bitfit: bool,
    /// How the rate moves, as [`Schedule`] text.
    #[serde(default = "constant")]
    pub schedule: String,
}

fn yes() -> bool {
    true
}
fn linear() -> String {
    "linear".into()
}
fn batch_size() -> usize {
    32
}
fn optimizer() -> String {
    "adamw".into()
}
fn one() -> usize {
    1
}
fn is_zero(x: &f64) -> bool {
    *x == 0.0
}
fn is_one(n: &usize) -> bool {
    *n == 1
}
fn constant() -> String {
    "constant".into()
}
fn eval_pipeline() -> String {
    "resize_short({resize}, {filter}) | center_crop({size}) | normalize({norm})".into()
}

/// The built-in recipes: name and text.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("head", include_str!("../../../../recipes/head.toml")),
    ("demo", include_str!("../../../../recipes/demo.toml")),
    ("finetune", include_str!("../../../../recipes/finetune.toml")),
    ("semi", include_str!("../../../../recipes/semi.toml")),
    ("scratch", include_str!("../../../../recipes/scratch.toml")),
];

impl Recipe {
    /// Finds a built-in recipe by name, or reads a file.
    pub fn open(name: &str) -> Result<Self> {
        if let Some((_, text)) = BUILT_IN.iter().find(|(n, _)| *n == name) {
            return Self::parse(text, name);
        }
        let path = Path::new(name);
        if !path.exists() && path.extension().is_none() {
            let known: Vec<&str> = BUILT_IN.iter().map(|(n, _)| *n).collect();
            let near = crate::models::nearest(name, known.iter().copied());
            return Err(Error::BadRecipe {
                place: "--recipe".into(),
                what: format!("no recipe is called `{name}`"),
                hint: match near.first() {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("built in: {}; or give the path of a TOML file", known.join(", ")),
                },
            });
        }
        let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
        Self::parse(&text, name)
    }

    /// Parses and checks a recipe; `place` is named in errors.
    pub fn parse(text: &str, place: &str) -> Result<Self> {
        let recipe: Self = toml::from_str(text).map_err(|e| toml_error(&e, text, place))?;
        recipe.check(place).map_err(|e| point(e, text, place))?;
        Ok(recipe)
    }

    /// Says what is impossible in it.
    pub fn check(&self, place: &str) -> Result<()> {
        let bad =
            |what: String, hint: &str| Err(Error::BadRecipe { place: place.into(), what, hint: hint.into() });
        let named = |e: Error| e.within(place);
        self.head.parse::<HeadPlan>().map_err(named)?;
        self.optimizer.parse::<OptimizerSpec>().map_err(named)?;
        // Any network's preprocessing will do to see whether the pipelines can be read.
        let mut filled = self.clone();
        filled.resolve(&InputSpec::imagenet(Filter::Bilinear));
        let strong = filled.strong.as_ref().map(|strong| ("strong", strong));
        for (key, pipeline) in [("train", &filled.train), ("eval", &filled.eval)].into_iter().chain(strong) {
            pipeline.parse::<Pipeline>().map_err(|e| named(e.within(key)))?;
        }
        if self.phases.is_empty() {
            return bad("there is no phase".into(), "add a `[[phase]]`");
        }
        if self.phases.iter().all(|phase| phase.epochs == 0) {
            return bad("the phases have no epoch in all".into(), "give a phase at least one epoch");
        }
        if self.batch_size == 0 {
            return bad("`batch_size` is 0".into(), "use 8 or more");
        }
        if self.clip.is_some_and(|c| !(c.is_finite() && c > 0.0)) {
            return bad("`clip` must be positive".into(), "1.0 is usual");
        }
        if !(0.0..=100.0).contains(&self.mixup) || !(0.0..=100.0).contains(&self.cutmix) {
            return bad(
                "`mixup` and `cutmix` must not be negative".into(),
                "0 is off, 0.2 and 1.0 are usual",
            );
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return bad(
                format!("`label_smoothing = {}` is not in [0, 1)", self.label_smoothing),
                "0.1 is usual",
            );
        }
        if !(0.0..1.0).contains(&self.drop_path) {
            return bad(
                format!("`drop_path = {}` is not in [0, 1)", self.drop_path),
                "0.1 is usual, 0 is off",
            );
        }
        if let Some(loss) = &self.loss {
            loss.parse::<LossSpec>().map_err(named)?;
        }
        if let Some(average) = &self.average {
            average.parse::<Average>().map_err(named)?;
        }
        let share = |key: &str, value: Option<f64>, range: std::ops::RangeInclusive<f64>, hint: &str| {
            let wrong = value.filter(|v| !range.contains(v));
            wrong.map_or(Ok(()), |v| {
                bad(format!("`{key} = {v}` is not in {} to {}", range.start(), range.end()), hint)
            })
        };
        share("ema", self.ema, 0.0..=0.99999, "0.99 is usual for hundreds of steps, 0.999 for thousands")?;
        share("focal", self.focal, 0.0..=10.0, "2 is usual, 0 is plain cross-entropy")?;
        share("wise", self.wise, 0.0..=1.0, "0.5 is usual, 1 keeps what was trained")?;
        if self.wise.is_some() && !self.pretrained {
            return bad(
                "`wise` needs pretrained weights to go back to".into(),
                "drop one of `wise`, `pretrained`",
            );
        }
        if self.accumulate == 0 {
            return bad("`accumulate` is 0".into(), "1 steps after every batch");
        }
        for phase in &self.phases {
            phase.schedule.parse::<Schedule>().map_err(named)?;
            let hint = "0.75 is usual, 1 is the same rate everywhere";
            share("layer_decay", phase.layer_decay, 0.01..=1.0, hint)?;
            if phase.layer_decay.is_some() && matches!(phase.lr, Rate::Anchors(_)) {
                return bad(
                    "`layer_decay` and rates by group contradict each other".into(),
                    "write one number as `lr`, the head's rate, or drop `layer_decay`",
                );
            }
            if let Some(semi) = &phase.semi {
                semi.parse::<SemiSpec>().and_then(|s| s.check(self, phase)).map_err(named)?;
            }
            if let Some(lora) = &phase.lora {
                lora.check().map_err(named)?;
            }
            if phase.unfreeze_every.is_some() && phase.lora.is_some() {
                return bad("`lora` and `unfreeze_every` contradict each other".into(), "drop one of them");
            }
            if phase.unfreeze_every == Some(0) {
                return bad("`unfreeze_every` is 0".into(), "1 thaws one group per epoch");
            }
            if phase.trainable.is_empty() {
                return bad(
                    format!("phase `{}` trains nothing", phase.name),
                    "list groups under `trainable`",
                );
            }
            let rates: Vec<f64> = match &phase.lr {
                Rate::One(rate) => vec![*rate],
                Rate::Anchors(anchors) => anchors.values().copied().collect(),
            };
            if rates.iter().any(|r| !r.is_finite() || *r <= 0.0) {
                return bad(format!("phase `{}` has a rate that is not positive", phase.name), "try 1e-3");
            }
        }
        Ok(())
    }

    /// Fills the pipelines' placeholders from a network's preprocessing and spells out every default.
    pub fn resolve(&mut self, input: &InputSpec) {
        // A text that does not parse stays as it is; `check` says what is wrong with it.
        fn spell<T: std::str::FromStr + ToString>(text: &mut String) {
            if let Ok(value) = text.parse::<T>() {
                *text = value.to_string();
            }
        }
        spell::<HeadPlan>(&mut self.head);
        spell::<OptimizerSpec>(&mut self.optimizer);
        for phase in &mut self.phases {
            spell::<Schedule>(&mut phase.schedule);
            phase.semi.as_mut().map(spell::<SemiSpec>);
        }
        let list = |v: [f32; 3]| v.map(|x| x.to_string()).join(", ");
        let norm = format!("{}; {}", list(input.mean), list(input.std));
        for pipeline in [&mut self.train, &mut self.eval].into_iter().chain(&mut self.strong) {
            *pipeline = pipeline
                .replace("{size}", &input.size.to_string())
                .replace("{resize}", &input.resize().to_string())
                .replace("{filter}", input.filter.name())
                .replace("{norm}", &norm);
            if input.channels != 3 && !pipeline.trim_start().starts_with("channels") {
                *pipeline = format!("channels({}) | {pipeline}", input.channels);
            }
        }
    }

    /// Writes out what depends on the network's groups: phases with `unfreeze_every` become one phase for each group.
    pub fn expand(&mut self, network: &Network) -> Result<()> {
        let mut phases = Vec::new();
        for phase in &self.phases {
            phases.extend(super::unfreeze::expand(phase, network)?);
        }
        self.phases = phases;
        Ok(())
    }

    /// Writes it as TOML with every default explicit.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a recipe is plain data")
    }
}

impl Phase {
    /// Returns the peak rate of every group of `network`, stem to head.
    pub fn rates(&self, network: &Network) -> Result<Vec<f64>> {
        let mut rates = self.lr.per_group(network)?;
        if let Some(decay) = self.layer_decay {
            let head = rates.len() - 1;
            rates.iter_mut().enumerate().for_each(|(i, rate)| *rate *= decay.powi((head - i) as i32));
        }
        Ok(rates)
    }

    /// Scales the rates so that the highest becomes `lr`.
    pub fn set_rate(&mut self, lr: f64) {
        match &mut self.lr {
            Rate::One(rate) => *rate = lr,
            Rate::Anchors(anchors) => {
                let top = anchors.values().copied().fold(0.0, f64::max);
                anchors.values_mut().for_each(|rate| *rate *= lr / top);
            }
        }
    }
}
