//! What a run keeps besides the weights it is moving: the best ones, those to be averaged, the rates its sweeps found.

use std::time::{Duration, Instant};

use super::average::{self, Average};
use super::checkpoint::{Checkpoint, Named, Within};
use super::ema::Ema;
use super::fit::Job;
use super::light::settled;
use super::lr_find::{LrFind, lr_find};
use super::observer::{EpochRecord, Event, Observer};
use super::optimizer::Optimizer;
use super::prefix::FeatureCache;
use super::recipe::{Phase, Recipe};
use super::validate::judge;
use crate::clip::HeadPlan;
use crate::error::{Error, Result};
use crate::models::Network;

/// Makes the final weights out of those kept, in place of the best epoch's; says what was done.
///
/// An average that does worse on the validation pictures than the best epoch alone is not taken. A share of the start
/// is: what it gives up here it is meant to win elsewhere.
pub(super) fn finish(
    job: &Job,
    network: &Network,
    state: &mut Checkpoint,
    start: &[Named],
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let score = |weights: &[Named]| -> Result<EpochRecord> {
        let logits = super::fit::logits(&put(network.clone(), weights), job.val)?;
        let mut record = EpochRecord::default();
        judge(&logits, network.options().num_classes, job.val, job.recipe, &mut record);
        Ok(record)
    };
    // Of one class a picture, top-1 goes without saying.
    let say = |record: &EpochRecord| match record.headline() {
        ("top-1", value) => format!("{value:.4}"),
        (name, value) => format!("{name} {value:.4}"),
    };
    if let (Some(best), true) = (state.place.best_epoch, state.kept.len() > 1) {
        let weights = average::soup(&state.kept);
        let epochs: Vec<String> = state.place.kept.iter().map(|e| (e + 1).to_string()).collect();
        let (found, alone) = (score(&weights)?, &state.place.history[best]);
        let what = format!(
            "the average of epochs {} reaches {} on the validation photos",
            epochs.join(", "),
            say(&found)
        );
        let (better, alone) = (found.merit() >= alone.merit(), say(alone));
        if better {
            state.best = weights;
            notes.push(format!("{what} and is taken; the best epoch alone reached {alone}"));
        } else {
            notes.push(format!("{what} and is not taken; epoch {} alone reached {alone}", best + 1));
        }
    }
    if let Some(share) = job.recipe.wise {
        let head = network.groups().last().expect("a head");
        let before = say(&score(&state.best)?);
        // A zero-shot head was worth something before it was trained.
        let is_new = !HeadPlan::is_zero_shot(&job.recipe.head);
        average::wise(&mut state.best, start, share, &|name| is_new && head.owns(name));
        let after = say(&score(&state.best)?);
        notes.push(format!(
            "{:.0} % of the backbone's way from its start is kept: {after} on the validation photos, {before} before",
            100.0 * share
        ));
    }
    Ok(notes)
}

/// Puts saved values into a network.
pub(super) fn put(network: Network, tensors: &[Named]) -> Network {
    let mut map: std::collections::HashMap<&str, &Vec<f32>> =
        tensors.iter().map(|(n, _, v)| (n.as_str(), v)).collect();
    network.assign(&mut |name, _| map.remove(name).cloned())
}

/// Sets the phase's rates by a sweep, or by the one an interrupted run made.
pub(super) fn find_rate(
    job: &Job,
    phase: &mut Phase,
    mut network: Network,
    state: &mut Checkpoint,
    cache: &mut FeatureCache,
    observer: &mut dyn Observer,
) -> Result<Network> {
    let index = state.place.phase;
    let rate = match state.place.found.iter().find(|(phase, _)| *phase == index) {
        Some((_, bits)) => f64::from_bits(*bits),
        None => {
            let (back, sweep) = lr_find(job, phase, network, cache, LrFind::default(), observer)?;
            network = back;
            let found = sweep.suggestions.valley.ok_or_else(|| Error::Training {
                reason: format!("the sweep of phase `{}` suggests no rate", phase.name),
                hint: "look at the curve with `headstart lr-find`, or give a number".into(),
            })?;
            observer.event(Event::Note(&format!(
                "phase `{}`: the sweep suggests the rate {found:.1e}",
                phase.name
            )));
            state.place.found.push((index, found.to_bits()));
            found
        }
    };
    phase.set_rate(rate);
    Ok(network)
}

/// Copies what training moves into the state.
pub(super) fn save_live(state: &mut Checkpoint, network: &Network, optimizer: &Optimizer, ema: Option<&Ema>) {
    state.model = network.state();
    (state.place.steps, state.optimizer) = optimizer.state();
    state.ema = ema.map(Ema::state).unwrap_or_default();
}

/// Books an epoch: history, weights worth keeping, early stopping. `answer` has the weights that were validated.
pub(super) fn keep(state: &mut Checkpoint, answer: &Network, record: EpochRecord, recipe: &Recipe) {
    let better = state.place.best_epoch.is_none_or(|best| {
        let best = &state.place.history[best];
        (record.merit(), -record.val_loss) > (best.merit(), -best.val_loss)
    });
    state.place.history.push(record);
    let averaged = recipe.average.as_deref().filter(|_| state.place.phase + 1 == recipe.phases.len());
    if better || averaged.is_some() {
        let weights = settled(answer);
        if let Some(average) = averaged {
            let average: Average = average.parse().expect("checked with the recipe");
            average.keep(&mut state.place, &mut state.kept, &weights);
        }
        if better {
            state.best = weights;
            state.place.best_epoch = Some(state.place.history.len() - 1);
        }
    }
    let since_best = state.place.history.len() - 1 - state.place.best_epoch.unwrap_or(0);
    let in_phase = state.place.epoch + 1;
    state.place.stopped = recipe.patience.is_some_and(|p| since_best.min(in_phase) >= p.max(1));
    state.place.epoch += 1;
    state.place.within = Within::default();
}

/// Tells when it is time to save within an epoch.
pub(super) struct Clock {
    every: Option<Duration>,
    last: Instant,
}

impl Clock {
    pub(super) fn new(every: Option<Duration>) -> Self {
        Self { every, last: Instant::now() }
    }

    /// Tells whether the time has come, and starts anew if so.
    pub(super) fn rings(&mut self) -> bool {
        let rings = self.every.is_some_and(|every| self.last.elapsed() >= every);
        if rings {
            self.last = Instant::now();
        }
        rings
    }
}

/// Lets a run that diverged after a good epoch end with that epoch's weights; other errors, and those before the first
/// epoch, pass.
pub(super) fn salvage(error: Error, state: &Checkpoint) -> Result<Error> {
    match (error, state.place.best_epoch) {
        (Error::Training { reason, hint }, Some(best)) => {
            let record = &state.place.history[best];
            let (name, value) = record.headline();
            let reason = format!("{reason}; kept are the weights of epoch {} ({name} {value:.4})", best + 1);
            Ok(Error::Training { reason, hint })
        }
        (error, _) => Err(error),
    }
}

impl Job<'_> {
    /// Saves the state where the job says so.
    pub(super) fn save(&self, state: &Checkpoint) -> Result<()> {
        self.checkpoint.as_deref().map_or(Ok(()), |path| state.save(path))
    }

    /// Saves the state; returns the error that says so.
    pub(super) fn interrupted(&self, state: &Checkpoint) -> Result<Error> {
        self.save(state)?;
        Ok(Error::Interrupted { checkpoint: self.checkpoint.clone() })
    }
}

/// Counts the batches of an epoch; a last batch of one picture, which has no batch statistics, is left out.
pub(super) fn steps_of(pictures: usize, batch_size: usize) -> usize {
    let steps = pictures.div_ceil(batch_size);
    if pictures % batch_size == 1 && steps > 1 { steps - 1 } else { steps }
}
