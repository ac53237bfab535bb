//! One optimisation step: forward, loss, backward, update. The loop, pretraining and the benchmark share it.

use super::loss::cross_entropy;
use super::optimizer::Optimizer;
use crate::models::tap::Tap;
use crate::models::{Flow, Network};

/// What a step learns from.
#[derive(Debug)]
pub struct Lesson {
    /// The first group that runs; the input is what comes before it.
    pub first: usize,
    /// Pictures, or what a frozen prefix made of them.
    pub input: Flow,
    /// Targets `[n, classes]`.
    pub goal: Vec<f32>,
    /// A weight for each picture.
    pub weights: Option<Vec<f32>>,
}

/// Learns from one batch and returns the network with the loss before the update. A loss that is not a
/// finite number changes nothing. `rate` tells a parameter's learning rate by name; see [`Optimizer::step`].
pub fn step(
    network: Network,
    lesson: Lesson,
    optimizer: &mut Optimizer,
    rate: &dyn Fn(&str) -> f64,
    clip: Option<f64>,
) -> (Network, f64) {
    let groups = network.groups().len();
    let logits = network.run(lesson.first..groups, lesson.input, &mut Tap::off()).flat();
    let loss = cross_entropy(logits, lesson.goal, lesson.weights);
    let value = f64::from(loss.clone().into_scalar::<f32>());
    if !value.is_finite() {
        return (network, value);
    }
    let mut grads = loss.backward();
    (optimizer.step(network, &mut grads, rate, clip), value)
}
