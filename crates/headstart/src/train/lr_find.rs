//! The learning-rate finder (Smith, "Cyclical learning rates", WACV 2017), with fastai's defaults: train a few
//! batches while the rate grows by the same factor each step, and watch where the loss falls and where it explodes.
//!
//! It runs the same steps as training does, for the groups and rates of one phase, and puts every bit of the
//! network back afterwards.

use super::checkpoint::Checkpoint;
use super::fit::Job;
use super::keep::put;
use super::learner::Learner;
use super::lr_suggest::{Suggestions, suggest};
use super::observer::{EpochRecord, Event, Observer};
use super::optimizer::{Optimizer, OptimizerSpec};
use super::prefix::FeatureCache;
use super::recipe::{Phase, Recipe};
use super::schedule::Schedule;
use crate::error::{Error, Result};
use crate::models::Network;

/// How to sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrFind {
    /// First rate.
    pub start: f64,
    /// Rate after the last step.
    pub end: f64,
    /// Batches.
    pub steps: usize,
    /// Ends the sweep when the smoothed loss is so many times its lowest.
    pub stop: f64,
}

impl Default for LrFind {
    fn default() -> Self {
        Self { start: 1e-7, end: 10.0, steps: 100, stop: 4.0 }
    }
}

/// fastai's smoothing of the loss.
const BETA: f64 = 0.98;

/// One batch of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Point {
    /// Highest rate of any group.
    pub lr: f64,
    /// Loss of the batch.
    pub loss: f64,
    /// Exponential mean of the losses so far, corrected for its start at zero.
    pub smoothed: f64,
}

/// What a sweep found.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Every batch.
    pub points: Vec<Point>,
    /// Rates worth trying.
    pub suggestions: Suggestions,
    /// Whether the loss exploded, which is what a sweep looks for, before the last step.
    pub exploded: bool,
}

impl LrFind {
    /// Says what is impossible in it.
    pub fn check(&self) -> Result<()> {
        let bad = |what: String, hint: &str| {
            Err(Error::BadRecipe { place: "lr-find".into(), what, hint: hint.into() })
        };
        if !(self.start > 0.0 && self.start < self.end && self.end.is_finite()) {
            return bad(
                format!("rates cannot grow from {} to {}", self.start, self.end),
                "1e-7 to 10 is usual",
            );
        }
        if !(20..=100_000).contains(&self.steps) {
            return bad(
                format!("{} steps are too few or too many to see anything", self.steps),
                "100 is usual",
            );
        }
        Ok(())
    }

    fn rate(&self, step: usize) -> f64 {
        self.start * (self.end / self.start).powf(step as f64 / self.steps as f64)
    }
}

/// Sweeps the rate of `phase` and returns the network as it came.
pub fn lr_find(
    job: &Job,
    phase: &Phase,
    network: Network,
    cache: &mut FeatureCache,
    settings: LrFind,
    observer: &mut dyn Observer,
) -> Result<(Network, Sweep)> {
    settings.check()?;
    let (before, shell) = (network.state(), network.clone());
    let per_epoch = super::keep::steps_of(job.train.len(), job.recipe.batch_size);
    let epochs = settings.steps.div_ceil(per_epoch);
    // The ratio over whole epochs that gives the wanted one over the wanted steps.
    let ratio = (settings.end / settings.start).powf((epochs * per_epoch) as f64 / settings.steps as f64);
    let mut phase =
        Phase { epochs, schedule: Schedule::Exponential { ratio }.to_string(), semi: None, ..phase.clone() };
    phase.set_rate(settings.start);
    let recipe = Recipe { ema: None, accumulate: 1, ..job.recipe.clone() };
    let job = Job {
        recipe: &recipe,
        checkpoint: None,
        every: None,
        key: String::new(),
        limits: job.limits.clone(),
        ..*job
    };
    let mut watch =
        Watch { outer: observer, settings, points: Vec::new(), mean: 0.0, lowest: f64::MAX, ended: None };
    match sweep(&job, &phase, network, cache, &mut watch) {
        Ok(()) => {}
        // The watcher's own wish, or a loss that is no number after some that were.
        Err(Error::Interrupted { .. }) if watch.ended.is_some() => {}
        Err(Error::Training { .. }) if !watch.points.is_empty() => watch.ended = Some(true),
        Err(other) => return Err(other),
    }
    let (points, exploded) = (watch.points, watch.ended == Some(true));
    let column = |f: fn(&Point) -> f64| points.iter().map(f).collect::<Vec<_>>();
    let suggestions = suggest(&column(|p| p.lr), &column(|p| p.smoothed), settings.steps);
    Ok((put(shell, &before), Sweep { points, suggestions, exploded }))
}

fn sweep(
    job: &Job,
    phase: &Phase,
    network: Network,
    cache: &mut FeatureCache,
    watch: &mut Watch,
) -> Result<()> {
    let (mut learner, mut network) = Learner::prepare(job, phase, network, cache, watch)?;
    let mut optimizer = Optimizer::new(job.recipe.optimizer.parse::<OptimizerSpec>()?);
    let mut state = Checkpoint::default();
    for epoch in 0..phase.epochs {
        state.place.epoch = epoch;
        network = learner.epoch(network, &mut optimizer, None, &mut state, watch)?.0;
        // Random numbers are keyed by the count of epochs so far.
        state.place.history.push(EpochRecord::default());
    }
    Ok(())
}

/// Collects the losses and tells when to stop.
struct Watch<'a> {
    outer: &'a mut dyn Observer,
    settings: LrFind,
    points: Vec<Point>,
    mean: f64,
    lowest: f64,
    /// Whether the loss exploded, once the sweep is over.
    ended: Option<bool>,
}

impl Observer for Watch<'_> {
    fn event(&mut self, event: Event<'_>) {
        let Event::Step { loss, pictures, .. } = event else { return self.outer.event(event) };
        if self.ended.is_some() {
            return;
        }
        let step = self.points.len();
        self.mean = BETA * self.mean + (1.0 - BETA) * loss;
        let smoothed = self.mean / (1.0 - BETA.powi(step as i32 + 1));
        self.lowest = self.lowest.min(smoothed);
        self.points.push(Point { lr: self.settings.rate(step), loss, smoothed });
        if smoothed > self.settings.stop * self.lowest {
            self.ended = Some(true);
        } else if self.points.len() == self.settings.steps {
            self.ended = Some(false);
        }
        let (steps, lr) = (self.settings.steps, self.settings.rate(step));
        self.outer.event(Event::Step { epoch: 0, step, steps, loss, lr, pictures });
    }

    fn wants_to_stop(&self) -> bool {
        self.ended.is_some() || self.outer.wants_to_stop()
    }
}
