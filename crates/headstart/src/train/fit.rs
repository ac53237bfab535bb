//! The loop: for each phase freeze and thaw, for each epoch learn, validate, save.
//!
//! Randomness is keyed by (seed, epoch, picture, operation), sums have a fixed order, and a checkpoint
//! after each epoch holds all state, so that a run that was killed and resumed ends in the same bits.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::tensor::Device;

use super::accumulate;
use super::checkpoint::{Checkpoint, Place, Within};
use super::ema::Ema;
use super::groups::{self, TrainableSet};
use super::half;
use super::keep::{Clock, find_rate, finish, keep, put, salvage, save_live, steps_of};
use super::light;
use super::objective::Objective;
use super::observer::{EpochRecord, Event, Observer};
use super::optimizer::{Optimizer, OptimizerSpec};
use super::photos::{Batch, Photos};
use super::prefix::{self, CacheLimits, FeatureCache, Features, Prefix};
use super::recipe::{Phase, Recipe};
use super::schedule::Schedule;
use super::step::Lesson;
use super::validate::judge;
pub use super::validate::logits;
use crate::error::{Error, Result};
use crate::image::{self, Mix};
use crate::models::lora::{Adapter, is_adapter};
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
    Ok(Outcome { network: put(network, &state.best), history, best_epoch, found, notes, failure, adapter })
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
    optimizer.restore(state.place.steps, std::mem::take(&mut state.optimizer), &Device::flex());
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
            lr: learner.rates.last().expect("a head") * learner.factor(state.place.epoch as f64 + 1.0),
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

/// One phase at work.
pub(super) struct Learner<'a> {
    job: &'a Job<'a>,
    phase: &'a Phase,
    schedule: Schedule,
    set: TrainableSet,
    rates: Vec<f64>,
    /// The peak rate of each tensor, by name.
    rate_of: HashMap<String, f64>,
    views: usize,
    /// Whether the rest works on bf16 maps.
    half: bool,
    prefix: Prefix,
    train: Option<Rc<Features>>,
    val: Option<Rc<Features>>,
    objective: Objective,
}

impl<'a> Learner<'a> {
    /// Freezes and thaws `network` as the phase says, and caches the features of its frozen prefix.
    pub(super) fn prepare(
        job: &'a Job<'a>,
        phase: &'a Phase,
        network: Network,
        cache: &mut FeatureCache,
        observer: &mut dyn Observer,
    ) -> Result<(Self, Network)> {
        let recipe = job.recipe;
        let set = phase.set(&network)?;
        let network = phase.adapt(network, recipe.seed)?;
        let rates = phase.rates(&network)?;
        let network = groups::apply(&set, network.train());
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
        let schedule = phase.schedule.parse()?;
        let rate = |name: &String| rates[network.group_of(name)];
        let rate_of = network.params().into_iter().map(|p| (p.name.clone(), rate(&p.name))).collect();
        let half = half::applies(recipe, &network, first);
        let objective = Objective::new(recipe, job.train, network.options().num_classes)?;
        let learner =
            Self { job, phase, schedule, set, rates, rate_of, views, half, prefix, train, val, objective };
        Ok((learner, network))
    }

    /// The schedule's factor after `epochs` epochs of the phase.
    fn factor(&self, epochs: f64) -> f64 {
        self.schedule.factor(epochs / self.phase.epochs as f64)
    }

    pub(super) fn epoch(
        &mut self,
        mut network: Network,
        optimizer: &mut Optimizer,
        mut ema: Option<&mut Ema>,
        state: &mut Checkpoint,
        observer: &mut dyn Observer,
    ) -> Result<(Network, f64)> {
        let recipe = self.job.recipe;
        let (epoch, global) = (state.place.epoch, state.place.history.len() as u64);
        let device = Device::flex().autodiff();
        let labels = self.job.train.labels();
        let order =
            recipe.sampler.order(&labels, &mut Rng::keyed(&[recipe.seed, Stream::Order as u64, global]));
        let steps = steps_of(order.len(), recipe.batch_size);
        let within = std::mem::take(&mut state.place.within);
        let mut pictures = match self.train {
            Some(_) => None,
            None => Some(self.job.train.shuffled(
                &order[within.step * recipe.batch_size..],
                recipe.batch_size,
                global,
            )),
        };
        let (mut total, mut seen) = (f64::from_bits(within.loss_bits), within.seen);
        let range = |steps: std::ops::Range<usize>| {
            steps.start * recipe.batch_size..(steps.end * recipe.batch_size).min(order.len())
        };
        let (mut held, mut clock) = (None, Clock::new(self.job.every));
        for step in within.step..steps {
            let picks = &order[range(step..step + 1)];
            // The batches whose gradients make one step with this one's.
            let joint = step / recipe.accumulate * recipe.accumulate;
            let joint = joint..(joint + recipe.accumulate).min(steps);
            let mut goal = self.objective.goal(picks);
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
            let (first, half) = (self.set.first_group, self.half);
            let lesson = Lesson { first, input, half, goal, weights: None, focal: None };
            let loss = self.objective.loss(lesson, picks, &network);
            let value = f64::from(loss.clone().into_scalar::<f32>());
            if !value.is_finite() {
                return Err(Error::Training {
                    reason: format!("the loss is {value} in epoch {}, step {}", global + 1, step + 1),
                    hint: "lower the rate with `--lr`, or clip gradients with `clip = 1.0`".into(),
                });
            }
            let share = picks.len() as f64 / range(joint.clone()).len() as f64;
            let mut grads = if joint.len() > 1 { (loss * share).backward() } else { loss.backward() };
            if let Some(held) = held.take() {
                accumulate::add(&network, held, &mut grads);
            }
            total += value * picks.len() as f64;
            seen += picks.len();
            let progress = epoch as f64 + joint.start as f64 / steps as f64;
            let factor = self.factor(progress);
            let lr = self.rates.last().expect("a head") * factor;
            let told = Event::Step { epoch, step, steps, loss: value, lr, pictures: picks.len() };
            if step + 1 < joint.end {
                held = Some(grads);
                observer.event(told);
                continue;
            }
            if let Some(momentum) = self.schedule.momentum(progress / self.phase.epochs as f64) {
                optimizer.set_momentum(momentum);
            }
            let rate = |name: &str| self.rate_of[name] * factor;
            network = optimizer.step(network, &mut grads, &rate, recipe.clip);
            if let Some(ema) = &mut ema {
                ema.update(&network);
            }
            observer.event(told);
            let stop = observer.wants_to_stop();
            if step + 1 < steps && (stop || clock.rings()) {
                save_live(state, &network, optimizer, ema.as_deref());
                state.place.within = Within { step: step + 1, loss_bits: total.to_bits(), seen };
                if stop {
                    return Err(self.job.interrupted(state)?);
                }
                self.job.save(state)?;
            }
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
        if self.set.first_group == 0 {
            return prefix::run(network, 0, batch, device);
        }
        self.prefix.run(batch.x.into(), [batch.n, batch.h, batch.w]).to_device(device)
    }

    fn validate(&self, network: &Network, record: &mut EpochRecord) -> Result<()> {
        let network = frozen(network);
        let outputs = match &self.val {
            None => logits(&network, self.job.val)?,
            Some(features) => {
                let range = self.set.first_group..network.groups().len();
                let mut all = Vec::new();
                let indices: Vec<usize> = (0..self.job.val.len()).collect();
                for chunk in indices.chunks(256) {
                    let picks: Vec<_> = chunk.iter().map(|i| (*i, 0)).collect();
                    let x = features.batch(&picks, &Device::flex())?;
                    all.extend(values(&network.run(range.clone(), x, &mut Tap::off()).flat()));
                }
                all
            }
        };
        judge(&outputs, network.options().num_classes, self.job.val, self.job.recipe, record);
        Ok(())
    }
}
