//! A moving average of the weights (Polyak & Juditsky 1992), as TensorFlow and timm keep it.
//!
//! Only tensors that training moves are averaged: the parameters that train and the running statistics
//! of layers on batch statistics. Averages are 32-bit numbers on the host, by checkpoint name.

use std::collections::BTreeMap;

use super::groups::TrainableSet;
use crate::models::{Network, frozen, is_buffer, layer_of};

/// The average so far.
#[derive(Clone, Debug)]
pub struct Ema {
    decay: f64,
    updates: u64,
    tensors: BTreeMap<String, Vec<f32>>,
}

impl Ema {
    /// Starts from the weights of `network` that the phase moves.
    pub fn new(decay: f64, network: &Network, set: &TrainableSet) -> Self {
        let moves = |name: &str| {
            set.params.contains(name) || (is_buffer(name) && set.live_layers.contains(layer_of(name)))
        };
        let tensors = network.state_of(&moves).into_iter().map(|(name, _, values)| (name, values));
        Self { decay, updates: 0, tensors: tensors.collect() }
    }

    /// Goes on from saved averages after `updates` updates; none saved leaves the start.
    pub fn restore(&mut self, updates: u64, tensors: Vec<(String, Vec<f32>)>) {
        self.updates = updates;
        self.tensors.extend(tensors);
    }

    /// Returns the averages by name.
    pub fn state(&self) -> Vec<(String, Vec<f32>)> {
        self.tensors.iter().map(|(name, values)| (name.clone(), values.clone())).collect()
    }

    /// Takes in the weights after a step.
    ///
    /// The first steps count more, `(1 + t) / (10 + t)` as in TensorFlow: a short run would otherwise be
    /// mostly its start.
    pub fn update(&mut self, network: &Network) {
        let t = self.updates as f64;
        let keep = self.decay.min((1.0 + t) / (10.0 + t)) as f32;
        self.updates += 1;
        let names = |name: &str| self.tensors.contains_key(name);
        for (name, _, now) in network.state_of(&names) {
            let average = self.tensors.get_mut(&name).expect("only averaged names were asked for");
            for (a, w) in average.iter_mut().zip(now) {
                *a += (w - *a) * (1.0 - keep);
            }
        }
    }

    /// Returns the network with averaged weights, for inference.
    pub fn apply(&self, network: &Network) -> Network {
        frozen(network).assign(&mut |name, _| self.tensors.get(name).cloned())
    }
}
