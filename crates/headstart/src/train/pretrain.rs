//! Pretraining without a single photo: a backbone learns to tell formulas apart.
//!
//! Kataoka et al., "Pre-training without Natural Images", ACCV 2020, with the families of
//! [`crate::synth`]. Pictures are drawn on the fly, so none is seen twice. The schedule follows the
//! clock: the rate has fallen to zero when the time is up, whatever the machine.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use burn::Tensor;
use burn::module::Module;
use burn::tensor::{Device, TensorData};

use super::groups::{self, BatchNormPolicy};
use super::loss::targets;
use super::observer::{Event, Observer};
use super::optimizer::{Optimizer, OptimizerSpec};
use super::schedule::Schedule;
use super::step::{self, Lesson};
use crate::error::Result;
use crate::metrics::accuracy;
use crate::models::layers::Map;
use crate::models::tap::Tap;
use crate::models::{Flow, ModelOptions, Network, frozen, values};
use crate::rng::Rng;
use crate::synth::{FORMULA_CLASSES, formula_picture};
use crate::weights::{Entry, StateDict};

/// How to pretrain.
#[derive(Clone, Copy, Debug)]
pub struct Pretraining {
    /// Seed of weights and pictures.
    pub seed: u64,
    /// Time to train.
    pub time: Duration,
    /// Side of the pictures.
    pub size: u32,
    /// Pictures a step.
    pub batch_size: usize,
    /// Peak rate.
    pub lr: f64,
}

/// What pretraining achieved.
#[derive(Debug)]
pub struct Pretrained {
    /// The network, with its formula classifier.
    pub network: Network,
    /// Pictures seen.
    pub pictures: u64,
    /// Accuracy on fresh pictures of the same formulas.
    pub top1: f64,
}

/// Steps that count as an epoch in reports.
const REPORT: usize = 200;

/// Draws batch number `index`: values `[n, size, size, 3]` and classes.
fn batch(p: &Pretraining, index: u64) -> (Vec<f32>, Vec<usize>) {
    let side = p.size as usize;
    let mut x = vec![0.0; p.batch_size * side * side * 3];
    let mut labels = Vec::with_capacity(p.batch_size);
    let input = crate::models::spec::InputSpec::imagenet(crate::models::spec::Filter::Bilinear);
    for (i, out) in x.chunks_mut(side * side * 3).enumerate() {
        let mut rng = Rng::keyed(&[p.seed, index, i as u64]);
        let class = rng.below(FORMULA_CLASSES);
        let picture = formula_picture(class, rng.bits(), p.size);
        for (pixel, out) in picture.as_raw().chunks(3).zip(out.chunks_mut(3)) {
            for c in 0..3 {
                out[c] = (f32::from(pixel[c]) / 255.0 - input.mean[c]) / input.std[c];
            }
        }
        labels.push(class);
    }
    (x, labels)
}

/// Trains the network called `model` from random weights on formula-generated pictures.
pub fn pretrain(model: &str, p: &Pretraining, observer: &mut dyn Observer) -> Result<Pretrained> {
    let plain = Device::flex();
    let network = Network::new(model, &ModelOptions::new(FORMULA_CLASSES), &plain)?.init(p.seed);
    let set = groups::resolve(&["all".to_string()], BatchNormPolicy::Train, &network)?;
    let mut network = groups::apply(&set, network.train());
    let mut optimizer = Optimizer::new(OptimizerSpec::Sgd { momentum: 0.9, weight_decay: 1e-4 });
    let schedule = Schedule::OneCycle { pct_start: 0.15, div: 10.0, div_final: 1e4, momentum: None };
    let device = Device::flex().autodiff();
    let side = p.size as usize;
    let started = Instant::now();
    let (sender, receiver) = sync_channel(4);
    let settings = *p;
    std::thread::spawn(move || {
        // Ends when the trainer hangs up.
        for index in 0.. {
            if sender.send(batch(&settings, index)).is_err() {
                return;
            }
        }
    });
    let (mut pictures, mut steps) = (0, 0);
    loop {
        let progress = started.elapsed().as_secs_f64() / p.time.as_secs_f64();
        if progress >= 1.0 {
            break;
        }
        let (x, labels) = receiver.recv().expect("the painter outlives the trainer");
        let x = Tensor::from_data(TensorData::new(x, [labels.len(), side, side, 3]), &device);
        let lesson = Lesson {
            first: 0,
            input: Flow::Map(Map::from_nhwc(x)),
            half: false,
            goal: targets(&labels, FORMULA_CLASSES, 0.1),
            weights: None,
            focal: None,
        };
        let rate = p.lr * schedule.factor(progress);
        let value;
        (network, value) = step::step(network, lesson, &mut optimizer, &|_| rate, None);
        pictures += labels.len() as u64;
        let (epoch, step_in) = (steps / REPORT, steps % REPORT);
        observer.event(Event::Step {
            epoch,
            step: step_in,
            steps: REPORT,
            loss: value,
            lr: rate,
            pictures: labels.len(),
        });
        if step_in == 0 {
            let rate = pictures as f64 / started.elapsed().as_secs_f64();
            observer.event(Event::Note(&format!(
                "{:.0} s, {pictures} pictures, {rate:.0}/s, loss {value:.3}",
                started.elapsed().as_secs_f64()
            )));
        }
        steps += 1;
    }
    let network = frozen(&network);
    let (mut right, mut all) = (0.0, 0.0);
    for index in 0..16 {
        // Batches far beyond any the training could reach.
        let (x, labels) = batch(p, u64::MAX - index);
        let x = Tensor::from_data(TensorData::new(x, [labels.len(), side, side, 3]), &plain);
        let logits = values(&network.forward(Map::from_nhwc(x), &mut Tap::off()));
        right += accuracy::top_k(&logits, FORMULA_CLASSES, &labels, 1) * labels.len() as f64;
        all += labels.len() as f64;
    }
    Ok(Pretrained { network, pictures, top1: right / all })
}

/// Collects the backbone's tensors, without the formula classifier, in half precision: what ships.
pub fn for_embedding(network: &Network) -> StateDict {
    let classifier = network.groups().last().expect("a head").clone();
    let mut dict = StateDict::new("");
    for (name, shape, values) in network.state() {
        if !classifier.owns(&name) {
            dict.insert(name, Entry::from_f32_as_f16(&shape, &values));
        }
    }
    dict
}
