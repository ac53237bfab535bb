//! One optimisation step: forward and loss, which the loop shares, then backward and update, which pretraining
//! and the benchmark do at once.

use burn::Tensor;

use super::focal::focal;
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
    /// Whether maps are kept in bf16 on their way; see [`Network::trains_half`].
    pub half: bool,
    /// Targets `[n, classes]`.
    pub goal: Vec<f32>,
    /// A weight for each picture.
    pub weights: Option<Vec<f32>>,
    /// Exponent of the focal loss instead of cross-entropy.
    pub focal: Option<f64>,
}

impl Lesson {
    /// Runs the network and returns the mean loss, ready for its backward pass.
    pub fn loss(self, network: &Network) -> Tensor<1> {
        let Self { goal, weights, focal: exponent, .. } = self;
        let logits = outputs(self.first, self.input, self.half, network);
        match exponent {
            Some(gamma) => focal(logits, goal, weights, gamma),
            None => cross_entropy(logits, goal, weights),
        }
    }
}

/// Runs the groups from `first` on, maps in bf16 if `half`.
pub(super) fn outputs(first: usize, input: Flow, half: bool, network: &Network) -> Tensor<2> {
    let input = if half { input.half() } else { input };
    network.run(first..network.groups().len(), input, &mut Tap::off()).flat()
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
    let loss = lesson.loss(&network);
    let value = f64::from(loss.clone().into_scalar::<f32>());
    if !value.is_finite() {
        return (network, value);
    }
    let mut grads = loss.backward();
    (optimizer.step(network, &mut grads, rate, clip), value)
}
