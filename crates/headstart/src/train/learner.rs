//! One phase at work: a frozen prefix whose features are cached, and epochs of steps on the rest.

use std::collections::HashMap;
use std::rc::Rc;

use burn::module::Module;
use burn::tensor::Device;

use super::accumulate;
use super::checkpoint::{Checkpoint, Within};
use super::ema::Ema;
use super::fit::Job;
use super::groups::{self, TrainableSet};
use super::half;
use super::keep::{Clock, save_live, steps_of};
use super::objective::Objective;
use super::observer::{EpochRecord, Event, Observer};
use super::optimizer::Optimizer;
use super::photos::Batch;
use super::prefix::{self, FeatureCache, Features, Prefix};
use super::recipe::{Phase, Recipe};
use super::schedule::Schedule;
use super::semi::Semi;
use super::step::Lesson;
use super::validate::{judge, logits};
use crate::device::number;
use crate::error::{Error, Result};
use crate::image::{self, Mix};
use crate::models::layers::seed_drop_path;
use crate::models::tap::Tap;
use crate::models::{Flow, Network, frozen, values};
use crate::rng::Rng;

/// The streams of random numbers a run draws from.
#[derive(Clone, Copy)]
enum Stream {
    Order = 1,
    Mix = 2,
    Dropout = 3,
}

/// Sets stochastic depth.
fn dropping(network: Network, rate: f64) -> Result<Network> {
    let name = network.row().name;
    if rate == 0.0 {
        return Ok(network);
    }
    network.with_drop_path(rate).ok_or_else(|| Error::BadRecipe {
        place: "drop_path".into(),
        what: format!("{name} has no residual branches to leave out"),
        hint: "drop the key".into(),
    })
}

/// One phase at work.
pub(super) struct Learner<'a> {
    job: &'a Job<'a>,
    phase: &'a Phase,
    schedule: Schedule,
    pub(super) set: TrainableSet,
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
    /// The pictures without labels, in a phase that learns from them.
    semi: Option<Semi>,
    /// The share of them whose label counted in the last epoch.
    labelled: Option<f64>,
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
        let network = dropping(network, recipe.drop_path)?;
        let set = phase.set(&network)?;
        let network = phase.adapt(network, recipe.seed)?;
        let rates = phase.rates(&network)?;
        let network = groups::apply(&set, network.train());
        let first = set.first_group;
        let mixes = recipe.mixup > 0.0 || recipe.cutmix > 0.0;
        let views = if first == 0 || mixes { 0 } else { recipe.views.count(job.train.len()) };
        let unlabeled = phase.semi.as_ref().zip(job.unlabeled);
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
        let semi = match unlabeled {
            Some((spec, pictures)) => {
                let cached = (&mut *cache, &job.limits);
                let (seed, prefix) = (recipe.seed, (&mut prefix, first));
                Some(Semi::prepare(spec.parse()?, pictures, seed, views, &network, prefix, cached, observer)?)
            }
            None => None,
        };
        let learner = Self {
            job,
            phase,
            schedule,
            set,
            rates,
            rate_of,
            views,
            half,
            prefix,
            train,
            val,
            objective,
            semi,
            labelled: None,
        };
        Ok((learner, network))
    }

    /// The head's rate after `epochs` epochs of the phase.
    pub(super) fn lr(&self, epochs: f64) -> f64 {
        self.rates.last().expect("a head") * self.factor(epochs)
    }

    /// The share of the pictures without labels whose label counted in the last epoch.
    pub(super) fn labelled(&self) -> Option<f64> {
        self.labelled
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
        let device = network.device().autodiff();
        let labels = self.job.train.labels();
        let order = match &self.semi {
            Some(semi) => semi.labelled(labels.len(), recipe.batch_size, global),
            None => {
                let mut rng = Rng::keyed(&[recipe.seed, Stream::Order as u64, global]);
                recipe.sampler.order(&labels, &mut rng)
            }
        };
        let steps = steps_of(order.len(), recipe.batch_size);
        let within = std::mem::take(&mut state.place.within);
        let mut others = match &mut self.semi {
            Some(semi) => {
                let progress = epoch as f64 / self.phase.epochs as f64;
                semi.begin(&network, &mut self.prefix, progress, global)?;
                Some(semi.pass(recipe.batch_size, global, within.step))
            }
            None => None,
        };
        let whole = self.semi.as_ref().is_some_and(Semi::is_fixed);
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
            let key = [recipe.seed, Stream::Dropout as u64, global, step as u64];
            device.seed(Rng::keyed(&key).bits());
            seed_drop_path(&key);
            let (first, half) = (self.set.first_group, self.half);
            let lesson = Lesson { first, input, half, goal, weights: None, focal: None };
            let mut loss = self.objective.loss(lesson, picks, &network);
            if let (Some(semi), Some(pass)) = (&self.semi, &mut others)
                && let Some(more) = semi.loss(pass, step, &network, &mut self.prefix, half)?
            {
                loss = loss + more;
            }
            let value = number(loss.clone())?;
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
            if step + 1 < steps && !whole && (stop || clock.rings()) {
                save_live(state, &network, optimizer, ema.as_deref());
                state.place.within = Within { step: step + 1, loss_bits: total.to_bits(), seen };
                if stop {
                    return Err(self.job.interrupted(state)?);
                }
                self.job.save(state)?;
            }
        }
        self.labelled = others.map(|pass| pass.share());
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

    pub(super) fn validate(&self, network: &Network, record: &mut EpochRecord) -> Result<()> {
        let network = frozen(network);
        let outputs = match &self.val {
            None => logits(&network, self.job.val)?,
            Some(features) => {
                let range = self.set.first_group..network.groups().len();
                let mut all = Vec::new();
                let indices: Vec<usize> = (0..self.job.val.len()).collect();
                for chunk in indices.chunks(256) {
                    let picks: Vec<_> = chunk.iter().map(|i| (*i, 0)).collect();
                    let x = features.batch(&picks, &network.device())?;
                    all.extend(values(&network.run(range.clone(), x, &mut Tap::off()).flat()));
                }
                all
            }
        };
        judge(&outputs, network.options().num_classes, self.job.val, self.job.recipe, record);
        Ok(())
    }
}
