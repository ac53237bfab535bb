//! Recipes: what to train, in which phases, at which rates. Data, not code.
//!
//! A recipe is TOML with unknown keys refused; the built-in ones are files under `recipes/`. Pictures'
//! pipelines may use `{size}`, `{resize}`, `{filter}` and `{norm}`, which the network's preprocessing
//! fills in; the *resolved* recipe, every default and every number explicit, goes into the bundle.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::groups::{BatchNormPolicy, Rate};
use super::optimizer::OptimizerSpec;
use super::schedule::Schedule;
use super::views::Views;
use crate::error::{Error, Result};
use crate::fast::Precision;
use crate::image::Pipeline;
use crate::models::HeadSpec;
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
    /// The new head, as [`HeadSpec`] text.
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
    /// Pipeline of validation pictures.
    #[serde(default = "eval_pipeline")]
    pub eval: String,
    /// How many augmented views of each picture are cached for a frozen prefix; 0 caches none and
    /// draws anew each epoch, `"auto"` chooses by the number of pictures.
    #[serde(default = "one_view")]
    pub views: Views,
    /// Number format of the frozen prefix.
    #[serde(default)]
    pub precision: Precision,
    /// Stop a phase after this many epochs without a better validation result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
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
fn one_view() -> Views {
    Views::Count(1)
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
        recipe.check(place)?;
        Ok(recipe)
    }

    /// Says what is impossible in it.
    pub fn check(&self, place: &str) -> Result<()> {
        let bad =
            |what: String, hint: &str| Err(Error::BadRecipe { place: place.into(), what, hint: hint.into() });
        let named = |e: Error| e.within(place);
        self.head.parse::<HeadSpec>().map_err(named)?;
        self.optimizer.parse::<OptimizerSpec>().map_err(named)?;
        // Any network's preprocessing will do to see whether the pipelines can be read.
        let mut filled = self.clone();
        filled.resolve(&InputSpec::imagenet(Filter::Bilinear));
        for (key, pipeline) in [("train", &filled.train), ("eval", &filled.eval)] {
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
        for phase in &self.phases {
            phase.schedule.parse::<Schedule>().map_err(named)?;
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
        spell::<HeadSpec>(&mut self.head);
        spell::<OptimizerSpec>(&mut self.optimizer);
        self.phases.iter_mut().for_each(|phase| spell::<Schedule>(&mut phase.schedule));
        let list = |v: [f32; 3]| v.map(|x| x.to_string()).join(", ");
        let norm = format!("{}; {}", list(input.mean), list(input.std));
        for pipeline in [&mut self.train, &mut self.eval] {
            *pipeline = pipeline
                .replace("{size}", &input.size.to_string())
                .replace("{resize}", &input.resize().to_string())
                .replace("{filter}", input.filter.name())
                .replace("{norm}", &norm);
        }
    }

    /// Writes it as TOML with every default explicit.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a recipe is plain data")
    }
}

/// Turns the parser's error into file, line, column and a suggestion.
fn toml_error(error: &toml::de::Error, text: &str, place: &str) -> Error {
    let (line, column) = error.span().map_or((1, 1), |span| {
        let before = &text[..span.start.min(text.len())];
        (before.matches('\n').count() + 1, before.len() - before.rfind('\n').map_or(0, |i| i + 1) + 1)
    });
    let message = error.message();
    // serde's words: unknown field `X`, expected one of `A`, `B`
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let hint = match quoted.split_first() {
        Some((word, known)) if message.starts_with("unknown field") => {
            match crate::models::nearest(word, known.iter().copied()).first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known keys: {}", known.join(", ")),
            }
        }
        _ => String::new(),
    };
    let what = message.split(", expected").next().unwrap_or(message).to_string();
    Error::BadRecipe { place: format!("{place}:{line}:{column}"), what, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_recipes_parse_and_round_trip() {
        for (name, text) in BUILT_IN {
            let recipe = Recipe::parse(text, name).unwrap();
            assert_eq!(Recipe::parse(&recipe.to_toml(), name).unwrap(), recipe);
        }
    }

    #[test]
    fn a_typo_gets_its_line_and_a_suggestion() {
        let text = "batch_sise = 8\n[[phase]]\nepochs = 1\ntrainable = [\"head\"]\nlr = 1e-3\n";
        let error = Recipe::parse(text, "my.toml").unwrap_err();
        assert!(error.to_string().starts_with("my.toml:1:1"), "{error}");
        assert_eq!(error.hints(), ["did you mean `batch_size`?"]);
    }

    #[test]
    fn impossible_values_are_refused() {
        let with = |line: &str| format!("{line}\n[[phase]]\nepochs = 1\ntrainable = [\"head\"]\nlr = 1e-3\n");
        for line in ["batch_size = 0", "label_smoothing = 1.5", "optimizer = \"adamv\"", "head = \"relu\""] {
            assert!(Recipe::parse(&with(line), "r").is_err(), "{line}");
        }
        assert!(Recipe::parse("seed = 1", "r").is_err());
    }
}
