//! The loop: for each phase freeze and thaw, for each epoch learn, validate, save.
//!
//! Randomness is keyed by (seed, epoch, picture, operation), sums have a fixed order, and a checkpoint
//! after each epoch holds all state, so that a run that was killed and resumed ends in the same bits.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use burn::Tensor;
use burn::module::Module;
use burn::tensor::Device;

use super::checkpoint::{Checkpoint, Place};
use super::groups::{self, TrainableSet};
use super::loss::{balanced_weights, targets};
use super::observer::{EpochRecord, Event, Observer};
use super::optimizer::{Optimizer, OptimizerSpec};
use super::photos::{Batch, Photos};
use super::prefix::{self, CacheLimits, FeatureCache, Features, Prefix};
use super::recipe::{Phase, Recipe};
use super::schedule::Schedule;
use super::step::Lesson;
use crate::error::{Error, Result};
use crate::image::{self, Mix};
use crate::metrics;
use crate::models::tap::Tap;
use crate::models::{Flow, Network, frozen, values};
use crate::rng::Rng;

/// What a run is made of.
#[derive(Debug)]
pub struct Job<'a> {
    /// The plan, resolved.
    pub recipe: &'a Recipe,
    /// Training pictures with the training pipeline.
    pub train: &'a Photos,
    /// Validation pictures with the evaluation pipeline.
    pub val: &'a Photos,
    /// Hash of recipe, data and starting weights.
    pub key: String,
    /// Where the checkpoint is kept; `None` keeps none.
    pub checkpoint: Option<PathBuf>,
    /// Whether to go on from that checkpoint.
    pub resume: bool,
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
}

/// The streams of random numbers a run draws from.
#[derive(Clone, Copy)]
enum Stream {
    Order = 1,
    Mix = 2,
    Dropout = 3,
}

/// Trains `network` as the job says.
pub fn fit(job: &Job, network: Network, observer: &mut dyn Observer) -> Result<Outcome> {
    let mut state = Checkpoint::default();
    state.place.job.clone_from(&job.key);
    let mut network = network;
    if let (true, Some(path)) = (job.resume, &job.checkpoint) {
        state = Checkpoint::load(path, &job.key)?;
        network = put(network, &state.model);
    }
    let mut cache = FeatureCache::default();
    while state.place.phase < job.recipe.phases.len() {
        network = run_phase(job, network, &mut state, &mut cache, observer)?;
        state.place = Place {
            phase: state.place.phase + 1,
            epoch: 0,
            steps: 0,
            stopped: false,
            ..std::mem::take(&mut state.place)
        };
        state.optimizer.clear();
    }
    let best_epoch = state.place.best_epoch.ok_or_else(|| Error::BadRecipe {
        place: "phase".into(),
        what: "the phases have no epoch in all".into(),
        hint: "give a phase at least one epoch".into(),
    })?;
    Ok(Outcome { network: put(network, &state.best), history: state.place.history, best_epoch })
}

/// Puts saved values into a network.
fn put(network: Network, tensors: &[super::checkpoint::Named]) -> Network {
    let mut map: HashMap<&str, &Vec<f32>> = tensors.iter().map(|(n, _, v)| (n.as_str(), v)).collect();
    network.assign(&mut |name, _| map.remove(name).cloned())
}

fn run_phase(
    job: &Job,
    network: Network,
    state: &mut Checkpoint,
    cache: &mut FeatureCache,
    observer: &mut dyn Observer,
) -> Result<Network> {
    let recipe = job.recipe;
    let phase = &recipe.phases[state.place.phase];
    let set = groups::resolve(&phase.trainable, phase.batch_norm, &network)?;
    let rates = phase.lr.per_group(&network)?;
    announce(job, phase, state.place.phase, &network, &set, &rates, observer);

    let mut network = groups::apply(&set, network.train());
    let first = set.first_group;
    let mixes = recipe.mixup > 0.0 || recipe.cutmix > 0.0;
    let views = if first == 0 || mixes { 0 } else { recipe.views.count(job.train.len()) };
    let mut prefix = Prefix::calibrated(&network, first, recipe.precision, job.train)?;
    let train = match views {
        0 => None,
        _ => cache.features(&mut prefix, job.train, views, &job.limits, observer)?,
    };
    let val = match first {
        0 => None,
        _ => cache.features(&mut prefix, job.val, 1, &job.limits, observer)?,
    };
    let mut optimizer = Optimizer::new(recipe.optimizer.parse::<OptimizerSpec>()?);
    optimizer.restore(state.place.steps, std::mem::take(&mut state.optimizer), &Device::flex());
    let mut learner = Learner { job, phase, set: &set, rates: &rates, views, prefix, train, val };
    while state.place.epoch < phase.epochs && !state.place.stopped {
        let started = Instant::now();
        let (trained, train_loss) = learner.epoch(network, &mut optimizer, state, observer)?;
        network = trained;
        let scores = learner.validate(&network)?;
        let record = EpochRecord {
            phase: state.place.phase,
            phase_name: phase.name.clone(),
            epoch: state.place.history.len(),
            train_loss,
            val_loss: scores.loss,
            top1: scores.top1,
            lr: rates.last().expect("a head") * learner.factor(state.place.epoch as f64 + 1.0),
            seconds: started.elapsed().as_secs_f64(),
        };
        keep(state, &network, &optimizer, record, recipe.patience);
        if let Some(path) = &job.checkpoint {
            state.save(path)?;
        }
        observer.event(Event::EpochEnded(state.place.history.last().expect("just pushed")));
    }
    Ok(network)
}

/// Tells the observer what is frozen and how fast the rest learns.
fn announce(
    job: &Job,
    phase: &Phase,
    index: usize,
    network: &Network,
    set: &TrainableSet,
    rates: &[f64],
    observer: &mut dyn Observer,
) {
    let groups: Vec<(String, Option<f64>)> = (network.groups().iter().zip(rates))
        .map(|(g, rate)| (g.name.clone(), set.params.iter().any(|p| g.owns(p)).then_some(*rate)))
        .collect();
    let count = job.recipe.phases.len();
    observer.event(Event::PhaseStarted {
        index,
        count,
        name: &phase.name,
        groups: &groups,
        epochs: phase.epochs,
    });
}

/// Books an epoch: history, best weights, early stopping, and the state to resume from.
fn keep(
    state: &mut Checkpoint,
    network: &Network,
    optimizer: &Optimizer,
    record: EpochRecord,
    patience: Option<usize>,
) {
    state.model = network.state();
    let (steps, memory) = optimizer.state();
    state.optimizer = memory;
    let better = state.place.best_epoch.is_none_or(|best| {
        let best = &state.place.history[best];
        (record.top1, -record.val_loss) > (best.top1, -best.val_loss)
    });
    state.place.history.push(record);
    if better {
        state.best.clone_from(&state.model);
        state.place.best_epoch = Some(state.place.history.len() - 1);
    }
    let since_best = state.place.history.len() - 1 - state.place.best_epoch.unwrap_or(0);
    let in_phase = state.place.epoch + 1;
    state.place.stopped = patience.is_some_and(|p| since_best.min(in_phase) >= p.max(1));
    state.place.epoch += 1;
    state.place.steps = steps;
}

/// Mean loss and accuracy on the validation pictures.
struct Scores {
    loss: f64,
    top1: f64,
}

/// One phase at work.
struct Learner<'a> {
    job: &'a Job<'a>,
    phase: &'a Phase,
    set: &'a TrainableSet,
    rates: &'a [f64],
    views: usize,
    prefix: Prefix,
    train: Option<Rc<Features>>,
    val: Option<Rc<Features>>,
}

impl Learner<'_> {
    /// The schedule's factor after `epochs` epochs of the phase.
    fn factor(&self, epochs: f64) -> f64 {
        let schedule: Schedule = self.phase.schedule.parse().expect("checked with the recipe");
        schedule.factor(epochs / self.phase.epochs as f64)
    }

    fn epoch(
        &mut self,
        mut network: Network,
        optimizer: &mut Optimizer,
        state: &Checkpoint,
        observer: &mut dyn Observer,
    ) -> Result<(Network, f64)> {
        let recipe = self.job.recipe;
        let (epoch, global) = (state.place.epoch, state.place.history.len() as u64);
        let classes = network.options().num_classes;
        let device = Device::flex().autodiff();
        let labels = self.job.train.labels();
        let weights = recipe.class_weights.then(|| balanced_weights(&labels, classes));
        let mut order: Vec<usize> = (0..labels.len()).collect();
        Rng::keyed(&[recipe.seed, Stream::Order as u64, global]).shuffle(&mut order);
        // A last batch of one picture has no batch statistics.
        let steps = order.len().div_ceil(recipe.batch_size);
        let steps = if order.len() % recipe.batch_size == 1 && steps > 1 { steps - 1 } else { steps };
        let group_of: HashMap<String, usize> =
            network.params().into_iter().map(|p| (p.name.clone(), network.group_of(&p.name))).collect();
        let mut pictures = match self.train {
            Some(_) => None,
            None => Some(self.job.train.shuffled(&order, recipe.batch_size, global)),
        };
        let (mut total, mut seen) = (0.0, 0);
        for step in 0..steps {
            let picks = &order[step * recipe.batch_size..((step + 1) * recipe.batch_size).min(order.len())];
            let picked: Vec<usize> = picks.iter().map(|i| labels[*i]).collect();
            let mut goal = targets(&picked, classes, recipe.label_smoothing);
            let input = match (&self.train, &mut pictures) {
                (Some(features), _) => {
                    let picks: Vec<_> =
                        picks.iter().map(|i| (*i, (global as usize + i) % self.views)).collect();
                    features.batch(&picks, &device)?
                }
                (None, Some(pictures)) => {
                    let mut batch = pictures.next().expect("as many batches as steps")?;
                    let mut rng = Rng::keyed(&[recipe.seed, Stream::Mix as u64, global, step as u64]);
                    self.mix(&mut batch, &mut goal, &mut rng);
                    self.input(&network, batch, &device)
                }
                (None, None) => unreachable!("features or pictures"),
            };
            device.seed(Rng::keyed(&[recipe.seed, Stream::Dropout as u64, global, step as u64]).bits());
            let factor = self.factor(epoch as f64 + step as f64 / steps as f64);
            let rate = |name: &str| self.rates[group_of[name]] * factor;
            let lesson = Lesson {
                first: self.set.first_group,
                input,
                goal,
                weights: weights.as_ref().map(|w| picked.iter().map(|l| w[*l]).collect()),
            };
            let value;
            (network, value) = super::step::step(network, lesson, optimizer, &rate, recipe.clip);
            if !value.is_finite() {
                return Err(Error::Training {
                    reason: format!("the loss is {value} in epoch {}, step {}", global + 1, step + 1),
                    hint: "lower the rate with `--lr`, or clip gradients with `clip = 1.0`; the last checkpoint is intact"
                        .into(),
                });
            }
            total += value * picks.len() as f64;
            seen += picks.len();
            observer.event(Event::Step { epoch, step, steps, loss: value, pictures: picks.len() });
        }
        Ok((network, total / seen as f64))
    }

    /// Mixes pictures and targets as the recipe asks, MixUp and CutMix in turn by chance.
    fn mix(&self, batch: &mut Batch, goal: &mut [f32], rng: &mut Rng) {
        let Recipe { mixup, cutmix, .. } = *self.job.recipe;
        if mixup > 0.0 || cutmix > 0.0 {
            let settings = Mix { mixup, cutmix };
            image::mix(&mut batch.x, goal, batch.n, (batch.h, batch.w), settings, rng);
        }
    }

    /// Brings pictures to where the trainable tail begins.
    fn input(&mut self, network: &Network, batch: Batch, device: &Device) -> Flow {
        let (first, size) = (self.set.first_group, [batch.n, batch.h, batch.w]);
        if first == 0 {
            return prefix::run(network, 0, batch.x, size, device);
        }
        match self.prefix.run(batch.x, size) {
            Flow::Flat(x) => Flow::Flat(x.to_device(device)),
            Flow::Tokens(x) => Flow::Tokens(x.to_device(device)),
            Flow::Map(map) => Flow::Map(map.to_device(device)),
        }
    }

    fn validate(&self, network: &Network) -> Result<Scores> {
        let network = frozen(network);
        let labels = self.job.val.labels();
        let logits = match &self.val {
            None => logits(&network, self.job.val)?,
            Some(features) => {
                let range = self.set.first_group..network.groups().len();
                let mut all = Vec::new();
                let indices: Vec<usize> = (0..labels.len()).collect();
                for chunk in indices.chunks(256) {
                    let picks: Vec<_> = chunk.iter().map(|i| (*i, 0)).collect();
                    let x = features.batch(&picks, &Device::flex())?;
                    all.extend(values(&network.run(range.clone(), x, &mut Tap::off()).flat()));
                }
                all
            }
        };
        let classes = network.options().num_classes;
        Ok(Scores {
            loss: metrics::calibration::nll(&logits, classes, &labels, 1.0),
            top1: metrics::accuracy::top_k(&logits, classes, &labels, 1),
        })
    }
}

/// Computes the logits of every picture in order.
pub fn logits(network: &Network, photos: &Photos) -> Result<Vec<f32>> {
    let (network, device) = (frozen(network), Device::flex());
    let groups = network.groups().len();
    let mut all = Vec::with_capacity(photos.len() * network.options().num_classes);
    for batch in photos.in_order(0) {
        let batch = batch?;
        let out: Tensor<2> =
            prefix::run(&network, groups, batch.x, [batch.n, batch.h, batch.w], &device).flat();
        all.extend(values(&out));
    }
    Ok(all)
}
