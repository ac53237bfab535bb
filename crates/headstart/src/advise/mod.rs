//! From photos and a pretrained network to a recipe and the reason for it: what `headstart advise` and
//! `fit --recipe auto` run.
//!
//! [`measure`] looks at the photos through the network and through the same network with random weights; [`cost`]
//! times this machine; [`decide`] is a pure function from those numbers to a choice; [`words`] says why. [`rows`] does all of
//! it for labels and numbers.

pub mod cost;
pub mod decide;
pub mod measure;
pub mod plan;
pub mod rows;
pub mod words;

use std::time::Instant;

use serde::Serialize;

use crate::data::Dataset;
use crate::error::Result;
use crate::sources::Backbone;
use crate::train::Recipe;
use crate::train::observer::Observer;
use cost::Timer;
use decide::{Choice, Decision, Priced};
use measure::{Measured, Shape};
use plan::Care;

/// How to look.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most pictures to measure on.
    pub pictures: usize,
    /// Seed of every random choice.
    pub seed: u64,
    /// Whether a fit follows at once, and the choice matters more than the time it will take.
    pub brief: bool,
}

impl Settings {
    /// What `--recipe auto` looks at: enough for a choice, and a small part of the time of a fit.
    pub fn before_a_fit(seed: u64) -> Self {
        Self { pictures: 1500, seed, brief: true }
    }
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Advice {
    /// The network measured.
    pub model: String,
    /// Where its weights came from.
    pub weights: String,
    /// The pictures.
    pub data: Shape,
    /// What the features are worth.
    pub measured: Measured,
    /// The choice, and what every choice is expected to give and cost.
    pub decision: Decision,
    /// One paragraph of reasons.
    pub why: String,
    /// The chosen recipe as TOML; none when the advice is to collect more pictures.
    pub recipe: Option<String>,
    /// Seconds the advice took.
    pub seconds: f64,
}

/// Measures `backbone` on photos with one class each, beside `unlabeled` others, and chooses a recipe.
pub fn advise(
    data: &Dataset,
    unlabeled: usize,
    backbone: &Backbone,
    settings: Settings,
    observer: &mut dyn Observer,
) -> Result<Advice> {
    let started = Instant::now();
    let shape = Shape::of(data, unlabeled);
    let seen = measure::measure(data, backbone, settings, observer)?;
    let (network, timer) = (&seen.network, Timer::new(data, backbone, &seen, settings.brief)?);
    let care = Care::of(network, &shape, seen.measured.quadrant(&shape));
    let mut priced = Vec::new();
    let semi = (unlabeled > 0).then_some(Choice::Semi);
    let choices = [Choice::Head, Choice::LastStages, Choice::Finetune].into_iter().chain(semi);
    for choice in choices.chain([Choice::Scratch]) {
        let recipe = plan::recipe(choice, network, &shape, care)?.expect("these are recipes");
        priced.push(Priced { choice, seconds: timer.seconds(&recipe, network, &shape)? });
    }
    let decision = decide::decide(&shape, &seen.measured, care, &priced);
    let why = words::paragraph(backbone.row.name, &shape, &seen.measured, &decision);
    let recipe = plan::recipe(decision.choice, network, &shape, care)?.map(|r| r.to_toml());
    Ok(Advice {
        model: backbone.row.name.to_string(),
        weights: backbone.origin.clone(),
        data: shape,
        measured: seen.measured,
        decision,
        why,
        recipe,
        seconds: started.elapsed().as_secs_f64(),
    })
}

impl Advice {
    /// Returns the chosen recipe.
    pub fn recipe(&self) -> Option<Recipe> {
        self.recipe.as_deref().map(|text| Recipe::parse(text, "the advice").expect("written by this program"))
    }
}
