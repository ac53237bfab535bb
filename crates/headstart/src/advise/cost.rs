//! What a recipe costs on this machine: a few steps of each kind are timed, the rest is counting.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Instant;

use burn::module::Module;

use super::measure::{Seen, Shape};
use crate::data::{Dataset, Split};
use crate::device::wait_for;
use crate::error::Result;
use crate::models::Network;
use crate::session::photos;
use crate::sources::Backbone;
use crate::train::groups::{BatchNormPolicy, apply, resolve};
use crate::train::loss::targets;
use crate::train::optimizer::{Optimizer, OptimizerSpec};
use crate::train::photos::Batch;
use crate::train::semi::SemiSpec;
use crate::train::step::{self, Lesson};
use crate::train::{Photos, Recipe, prefix};

/// Pictures a timed step; small, so that a slow machine does not wait.
const BATCH: usize = 8;
/// Timed steps of each kind, after one that warms up. The fastest counts: others may use the machine too.
const STEPS: usize = 2;
/// Pictures of the one step, not warmed up, that is timed when a fit is waiting.
const BRIEF: usize = 4;

/// Times steps, each kind once.
pub struct Timer<'a> {
    /// What runs before the first trained group.
    inference: &'a Network,
    batch: Batch,
    labels: Vec<usize>,
    repeats: usize,
    /// Seconds to read and transform a picture, all cores at work.
    decode: f64,
    /// Seconds to read, transform and embed a picture.
    embed: f64,
    /// Seconds a picture of a training step whose first trained group is the key.
    steps: RefCell<HashMap<usize, f64>>,
}

impl<'a> Timer<'a> {
    /// Decodes a batch to time with.
    pub fn new(data: &Dataset, backbone: &Backbone, seen: &'a Seen, brief: bool) -> Result<Self> {
        let (pictures, repeats) = if brief { (BRIEF, 1) } else { (BATCH, 1 + STEPS) };
        let mut recipe = Recipe::open("finetune")?;
        recipe.resolve(&backbone.input);
        let few: Vec<_> = data.part(Split::Train).iter().take(pictures * 4).cloned().collect();
        let set: Photos = photos(&few, &recipe.train, 0, pictures, "cost")?;
        let started = Instant::now();
        let mut batches = set.in_order(0);
        let first = batches.next().expect("a data set has pictures")?;
        for batch in batches {
            batch?;
        }
        let decode = started.elapsed().as_secs_f64() / set.len() as f64;
        let labels = set.labels()[..first.n].to_vec();
        let embed = 1.0 / seen.measured.pictures_per_second;
        Ok(Self {
            inference: &seen.inference,
            batch: first,
            labels,
            repeats,
            decode,
            embed,
            steps: RefCell::default(),
        })
    }

    /// Estimates the seconds of a whole run of `recipe`.
    pub fn seconds(&self, recipe: &Recipe, network: &Network, shape: &Shape) -> Result<f64> {
        let [train, val, unlabeled] = [shape.train, shape.val, shape.unlabeled].map(|n| n as f64);
        let (mut total, mut cached) = (0.0, None);
        for phase in &recipe.phases {
            let first = resolve(&phase.trainable, phase.batch_norm, network)?.first_group;
            let step = self.step(first, network)?;
            let epochs = phase.epochs as f64;
            // An epoch with pictures without labels is one pass over them, and so many of the others beside.
            let semi = phase.semi.as_deref().map(str::parse::<SemiSpec>).transpose()?;
            let (labelled, others) = match semi {
                Some(spec) => (unlabeled / spec.ratio as f64, unlabeled),
                None => (train, 0.0),
            };
            if first == 0 {
                let (learn, look) = (step + self.decode, self.embed + self.decode);
                total += epochs * ((labelled + others) * learn + others * look + val * self.embed);
                continue;
            }
            // A prefix runs once a view; up to the head it is nearly the whole network.
            if cached != Some(first) {
                let views = recipe.views.count(shape.train) as f64;
                total += ((train + others) * views + val) * self.embed;
                cached = Some(first);
            }
            total += epochs * ((labelled + others) * step + val * 0.3 * step);
        }
        // The final score.
        Ok(total + val * self.embed)
    }

    /// Seconds a picture of forward, backward and update of the groups from `first` on.
    fn step(&self, first: usize, network: &Network) -> Result<f64> {
        if let Some(known) = self.steps.borrow().get(&first) {
            return Ok(*known);
        }
        let names: Vec<String> = network.groups()[first..].iter().map(|g| g.name.clone()).collect();
        let set = resolve(&names, BatchNormPolicy::FreezeStats, network)?;
        let plain = network.device();
        let device = plain.clone().autodiff();
        let input = prefix::run(self.inference, first, self.batch.clone(), &plain);
        // The statistics are frozen: a step moves nothing that the copy shares with the caller's.
        let mut tail = apply(&set, network.clone().train());
        let mut optimizer = Optimizer::new("adamw".parse::<OptimizerSpec>()?);
        let classes = network.options().num_classes;
        let mut best = f64::MAX;
        for _ in 0..self.repeats {
            let started = Instant::now();
            let lesson = Lesson {
                first,
                input: input.clone().to_device(&device),
                half: false,
                goal: targets(&self.labels, classes, 0.0),
                weights: None,
                focal: None,
            };
            tail = step::step(tail, lesson, &mut optimizer, &|_| 1e-6, None).0;
            wait_for(&plain)?;
            best = best.min(started.elapsed().as_secs_f64());
        }
        let each = best / self.batch.n as f64;
        self.steps.borrow_mut().insert(first, each);
        Ok(each)
    }
}
