//! What a run keeps besides the weights it is moving: the best ones, those to be averaged, the rates its sweeps found.

use super::average::{self, Average};
use super::checkpoint::{Checkpoint, Named, Within};
use super::ema::Ema;
use super::fit::Job;
use super::lr_find::{LrFind, lr_find};
use super::observer::{EpochRecord, Event, Observer};
use super::optimizer::Optimizer;
use super::prefix::FeatureCache;
use super::recipe::{Phase, Recipe};
use crate::clip::HeadPlan;
use crate::error::{Error, Result};
use crate::metrics::accuracy;
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
    let top1 = |weights: &[Named]| -> Result<f64> {
        let logits = super::fit::logits(&put(network.clone(), weights), job.val)?;
        Ok(accuracy::top_k(&logits, network.options().num_classes, &job.val.labels(), 1))
    };
    if let (Some(best), true) = (state.place.best_epoch, state.kept.len() > 1) {
        let weights = average::soup(&state.kept);
        let epochs: Vec<String> = state.place.kept.iter().map(|e| (e + 1).to_string()).collect();
        let (found, alone) = (top1(&weights)?, state.place.history[best].top1);
        let what = format!(
            "the average of epochs {} reaches {found:.4} on the validation photos",
            epochs.join(", ")
        );
        if found >= alone {
            state.best = weights;
            notes.push(format!("{what} and is taken; the best epoch alone reached {alone:.4}"));
        } else {
            notes.push(format!("{what} and is not taken; epoch {} alone reached {alone:.4}", best + 1));
        }
    }
    if let Some(share) = job.recipe.wise {
        let head = network.groups().last().expect("a head");
        let before = top1(&state.best)?;
        // A zero-shot head was worth something before it was trained.
        let is_new = !HeadPlan::is_zero_shot(&job.recipe.head);
        average::wise(&mut state.best, start, share, &|name| is_new && head.owns(name));
        let after = top1(&state.best)?;
        notes.push(format!(
            "{:.0} % of the backbone's way from its start is kept: {after:.4} on the validation photos, {before:.4} before",
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
        (record.top1, -record.val_loss) > (best.top1, -best.val_loss)
    });
    state.place.history.push(record);
    let averaged = recipe.average.as_deref().filter(|_| state.place.phase + 1 == recipe.phases.len());
    if better || averaged.is_some() {
        let weights = answer.state();
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

impl Job<'_> {
    /// Saves the state; returns the error that says so.
    pub(super) fn interrupted(&self, state: &Checkpoint) -> Result<Error> {
        if let Some(path) = &self.checkpoint {
            state.save(path)?;
        }
        Ok(Error::Interrupted { checkpoint: self.checkpoint.clone() })
    }
}

/// Counts the batches of an epoch; a last batch of one picture, which has no batch statistics, is left out.
pub(super) fn steps_of(pictures: usize, batch_size: usize) -> usize {
    let steps = pictures.div_ceil(batch_size);
    if pictures % batch_size == 1 && steps > 1 { steps - 1 } else { steps }
}
