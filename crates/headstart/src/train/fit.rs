//! The loop: for each phase freeze and thaw, for each epoch learn, validate, save.
//!
//! Randomness is keyed by (seed, epoch, picture, operation), sums have a fixed order, and a checkpoint
//! after each epoch holds all state, so that a run that was killed and resumed ends in the same bits.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::checkpoint::{Checkpoint, Place, Within};
use super::ema::Ema;
use super::half;
use super::keep::{find_rate, finish, keep, put, salvage, save_live};
use super::learner::Learner;
use super::light;
use super::observer::{EpochRecord, Event, Observer};
use super::optimizer::{Optimizer, OptimizerSpec};
use super::photos::Photos;
use super::prefix::{CacheLimits, FeatureCache};
use super::recipe::{Phase, Recipe};
use super::semi::Unlabeled;
pub use super::validate::logits;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::models::lora::{Adapter, is_adapter};

/// What a run is made of.
#[derive(Debug)]
pub struct Job<'a> {
    /// The plan, resolved.
    pub recipe: &'a Recipe,
    /// Training pictures with the training pipeline.
    pub train: &'a Photos,
    /// Validation pictures with the evaluation pipeline.
    pub val: &'a Photos,
    /// Pictures without labels, for phases that learn from them.
    pub unlabeled: Option<&'a Unlabeled>,
    /// Hash of recipe, data and starting weights.
    pub key: String,
    /// Where the checkpoint is kept; `None` keeps none.
    pub checkpoint: Option<PathBuf>,
    /// Whether to go on from that checkpoint.
    pub resume: bool,
    /// How often to save within an epoch; `None` saves after each epoch only.
    pub every: Option<Duration>,
    /// Bounds of the feature cache.
    pub limits: CacheLimits,
}

/// What a run leaves.
#[derive(Debug)]
pub struct Outcome {
    /// The network with the weights of the best epoch.
    pub network: Network,
    /// Every epoch.
    pub history: Vec<EpochRecord>,
    /// Index into `history` of the best epoch.
    pub best_epoch: usize,
    /// Peak rates that a phase's own sweep found: phase and rate.
    pub found: Vec<(usize, f64)>,
    /// What the user should know about how the weights came about.
    pub notes: Vec<String>,
    /// Why training ended before its plan, if it did.
    pub failure: Option<Error>,
    /// Adapters that are part of the weights, where they and the head are all that was trained.
    pub adapter: Option<Adapter>,
}

/// Trains `network` as the job says.
pub fn fit(job: &Job, network: Network, observer: &mut dyn Observer) -> Result<Outcome> {
    let mut state = Checkpoint::default();
    state.place.job.clone_from(&job.key);
    let mut network = network;
    let start = if job.recipe.wise.is_some() { network.state() } else { Vec::new() };
    if let (true, Some(path)) = (job.resume, &job.checkpoint) {
        state = Checkpoint::load(path, &job.key)?;
        if let Some(phase) = job.recipe.phases.get(state.place.phase)
            && state.model.iter().any(|(name, ..)| is_adapter(name))
        {
            network = phase.adapt(network, job.recipe.seed)?;
        }
        network = put(network, &state.model);
    }
    let (mut cache, mut failure) = (FeatureCache::default(), None);
    while state.place.phase < job.recipe.phases.len() {
        let before = network.clone();
        network = match run_phase(job, network, &mut state, &mut cache, observer) {
            Ok(trained) => trained,
            Err(error) => {
                failure = Some(salvage(error, &state)?);
                network = before;
                break;
            }
        };
        state.place = Place {
            phase: state.place.phase + 1,
            epoch: 0,
            steps: 0,
            stopped: false,
            within: Within::default(),
            ..std::mem::take(&mut state.place)
        };
        state.optimizer.clear();
        state.ema.clear();
    }
    let best_epoch = state.place.best_epoch.ok_or_else(|| Error::BadRecipe {
        place: "phase".into(),
        what: "the phases have no epoch in all".into(),
        hint: "give a phase at least one epoch".into(),
    })?;
    let mut notes = finish(job, &network, &mut state, &start)?;
    let adapter = light::adapter(job.recipe, &network, &state, &mut notes)?;
    let Place { history, found, .. } = state.place;
    let found = found.into_iter().map(|(phase, bits)| (phase, f64::from_bits(bits))).collect();
    let network = put(network, &state.best);
    // What looks inside later runs on autodiff, too.
    let network = network.clone().with_drop_path(0.0).unwrap_or(network);
    Ok(Outcome { network, history, best_epoch, found, notes, failure, adapter })
}

fn run_phase(
    job: &Job,
    network: Network,
    state: &mut Checkpoint,
    cache: &mut FeatureCache,
    observer: &mut dyn Observer,
) -> Result<Network> {
    let (recipe, index) = (job.recipe, state.place.phase);
    let (mut phase, mut network) = (recipe.phases[index].clone(), network);
    if phase.lr_find {
        network = find_rate(job, &mut phase, network, state, cache, observer)?;
    }
    announce(job, &phase, index, &network, observer)?;
    let (mut learner, mut network) = Learner::prepare(job, &phase, network, cache, observer)?;
    let mut optimizer = Optimizer::new(recipe.optimizer.parse::<OptimizerSpec>()?);
    optimizer.restore(state.place.steps, std::mem::take(&mut state.optimizer), &network.device());
    let mut ema = recipe.ema.map(|decay| Ema::new(decay, &network, &learner.set));
    if let Some(ema) = &mut ema {
        ema.restore(state.place.steps, std::mem::take(&mut state.ema));
    }
    while state.place.epoch < phase.epochs && !state.place.stopped {
        let started = Instant::now();
        let (trained, train_loss) = learner.epoch(network, &mut optimizer, ema.as_mut(), state, observer)?;
        network = trained;
        let answer = ema.as_ref().map_or_else(|| network.clone(), |ema| ema.apply(&network));
        let mut record = EpochRecord {
            phase: index,
            phase_name: phase.name.clone(),
            epoch: state.place.history.len(),
            train_loss,
            lr: learner.lr(state.place.epoch as f64 + 1.0),
            labelled: learner.labelled(),
            ..EpochRecord::default()
        };
        learner.validate(&answer, &mut record)?;
        record.seconds = started.elapsed().as_secs_f64();
        save_live(state, &network, &optimizer, ema.as_ref());
        keep(state, &answer, record, recipe);
        job.save(state)?;
        observer.event(Event::EpochEnded(state.place.history.last().expect("just pushed")));
        if observer.wants_to_stop() && (state.place.epoch < phase.epochs || index + 1 < recipe.phases.len()) {
            return Err(job.interrupted(state)?);
        }
    }
    Ok(network.merged())
}

/// Tells the observer what is frozen and how fast the rest learns.
fn announce(
    job: &Job,
    phase: &Phase,
    index: usize,
    network: &Network,
    observer: &mut dyn Observer,
) -> Result<()> {
    let set = phase.set(network)?;
    let groups: Vec<(String, Option<f64>)> = (network.groups().iter().zip(phase.rates(network)?))
        .map(|(g, rate)| (g.name.clone(), set.params.iter().any(|p| g.owns(p)).then_some(rate)))
        .collect();
    let (count, name, epochs) = (job.recipe.phases.len(), phase.name.as_str(), phase.epochs);
    observer.event(Event::PhaseStarted { index, count, name, groups: &groups, epochs });
    if let Some(text) = half::exception(job.recipe, network, set.first_group) {
        observer.event(Event::Note(&text));
    }
    Ok(())
}
