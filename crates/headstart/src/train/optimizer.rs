//! SGD with momentum and AdamW over named parameters, in PyTorch's arithmetic.
//!
//! Burn has both, but keys their state by identifiers that change from run to run; exact resume,
//! a rate per group and "no decay on 1-D parameters" need state and settings by checkpoint name.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

use burn::Tensor;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, TensorData};

use super::schedule::Call;
use crate::error::{Error, Result};
use crate::fast::{self, AdamW, Sgd};
use crate::models::Network;
use crate::models::layers::is_cpu;

/// Which update rule, with its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptimizerSpec {
    /// Momentum SGD; decay is added to the gradient.
    Sgd {
        /// Share of the last step that goes on.
        momentum: f64,
        /// L2 factor.
        weight_decay: f64,
    },
    /// Loshchilov & Hutter 2019; decay is applied to the weights.
    AdamW {
        /// Decay of the mean.
        beta1: f64,
        /// Decay of the mean square.
        beta2: f64,
        /// Added to the root.
        eps: f64,
        /// Decoupled decay.
        weight_decay: f64,
    },
}

impl fmt::Display for OptimizerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sgd { momentum, weight_decay } => {
                write!(f, "sgd(momentum={momentum}, weight_decay={weight_decay})")
            }
            Self::AdamW { beta1, beta2, eps, weight_decay } => {
                write!(f, "adamw(beta1={beta1}, beta2={beta2}, eps={eps}, weight_decay={weight_decay})")
            }
        }
    }
}

impl FromStr for OptimizerSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let call = Call::parse(text, "optimizer")?;
        match call.name {
            "sgd" => {
                call.finish(&["momentum", "weight_decay"])?;
                Ok(Self::Sgd {
                    momentum: call.number("momentum", 0.9, 0.0..=0.9999)?,
                    weight_decay: call.number("weight_decay", 1e-4, 0.0..=10.0)?,
                })
            }
            "adamw" => {
                call.finish(&["beta1", "beta2", "eps", "weight_decay"])?;
                Ok(Self::AdamW {
                    beta1: call.number("beta1", 0.9, 0.0..=0.9999)?,
                    beta2: call.number("beta2", 0.999, 0.0..=0.999_999)?,
                    eps: call.number("eps", 1e-8, 0.0..=1.0)?,
                    weight_decay: call.number("weight_decay", 0.01, 0.0..=10.0)?,
                })
            }
            other => Err(call.unknown(other, &["sgd", "adamw"])),
        }
    }
}

/// The update rule with its memory.
#[derive(Debug)]
pub struct Optimizer {
    spec: OptimizerSpec,
    steps: u64,
    /// Momentum, or mean and mean square, flat, by checkpoint name.
    slots: BTreeMap<String, Vec<Tensor<1>>>,
    /// The network's names in the order in which modules are walked.
    names: Rc<[String]>,
}

impl Optimizer {
    /// Starts without memory.
    pub fn new(spec: OptimizerSpec) -> Self {
        Self { spec, steps: 0, slots: BTreeMap::new(), names: Rc::new([]) }
    }

    /// Replaces the momentum of SGD or AdamW's `beta1`, as some schedules ask before each step.
    pub fn set_momentum(&mut self, value: f64) {
        match &mut self.spec {
            OptimizerSpec::Sgd { momentum, .. } => *momentum = value,
            OptimizerSpec::AdamW { beta1, .. } => *beta1 = value,
        }
    }

    /// Updates every parameter that has a gradient; `rate` tells its learning rate by name.
    /// With `clip`, gradients are scaled so that their joint norm is at most that.
    pub fn step(
        &mut self,
        network: Network,
        grads: &mut Gradients,
        rate: &dyn Fn(&str) -> f64,
        clip: Option<f64>,
    ) -> Network {
        self.steps += 1;
        if self.names.is_empty() {
            self.names = network.params().into_iter().map(|p| p.name).collect();
        }
        let scale = clip.map_or(1.0, |max| {
            let mut norm = GradNorm { grads, squares: Vec::new() };
            network.visit(&mut norm);
            (max / (norm.total().sqrt() + 1e-6)).min(1.0)
        });
        let names = Rc::clone(&self.names);
        network.map(&mut Step { optimizer: self, names: names.iter(), grads, rate, scale })
    }

    /// Returns the memory as named tensors: `NAME#0`, `NAME#1`, and the count of steps.
    pub fn state(&self) -> (u64, Vec<(String, Vec<f32>)>) {
        let tensors = self.slots.iter().flat_map(|(name, slots)| {
            slots.iter().enumerate().map(move |(i, t)| (format!("{name}#{i}"), crate::models::values(t)))
        });
        (self.steps, tensors.collect())
    }

    /// Takes back what [`Optimizer::state`] returned.
    pub fn restore(&mut self, steps: u64, tensors: Vec<(String, Vec<f32>)>, device: &Device) {
        self.steps = steps;
        self.slots.clear();
        for (key, values) in tensors {
            let name = key.rsplit_once('#').map_or(key.as_str(), |(name, _)| name);
            let len = values.len();
            let tensor = Tensor::from_data(TensorData::new(values, [len]), device);
            self.slots.entry(name.to_string()).or_default().push(tensor);
        }
    }

    fn update(&mut self, name: &str, p: Tensor<1>, g: Tensor<1>, lr: f64, decays: bool) -> Tensor<1> {
        let mut slots = self.slots.remove(name).unwrap_or_default().into_iter();
        let (p, slots) = match self.spec {
            OptimizerSpec::Sgd { momentum, weight_decay } => {
                let weight_decay = if decays { weight_decay } else { 0.0 };
                let rule = Sgd { lr, momentum, weight_decay, nesterov: false };
                let (p, velocity) = sgd(&rule, p, g, slots.next());
                (p, vec![velocity])
            }
            OptimizerSpec::AdamW { beta1, beta2, eps, weight_decay } => {
                let weight_decay = if decays { weight_decay } else { 0.0 };
                let rule = AdamW { lr, beta1, beta2, eps, weight_decay };
                let moments = slots.next().zip(slots.next());
                let (p, mean, square) = adamw(&rule, self.steps, p, g, moments);
                (p, vec![mean, square])
            }
        };
        self.slots.insert(name.to_string(), slots);
        p
    }
}

/// Returns parameter and velocity after a step; a first step's velocity is the gradient.
fn sgd(rule: &Sgd, p: Tensor<1>, g: Tensor<1>, velocity: Option<Tensor<1>>) -> (Tensor<1>, Tensor<1>) {
    if is_cpu(&p.device()) {
        return fast::sgd(rule, p, g, velocity);
    }
    let g = if rule.weight_decay > 0.0 { g + p.clone() * rule.weight_decay } else { g };
    let velocity = velocity.map_or_else(|| g.clone(), |v| v * rule.momentum + g.clone());
    (p - velocity.clone() * rule.lr, velocity)
}

/// Returns parameter, mean and mean square after step `step`, counted from 1.
fn adamw(
    rule: &AdamW,
    step: u64,
    p: Tensor<1>,
    g: Tensor<1>,
    moments: Option<(Tensor<1>, Tensor<1>)>,
) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let (mean, square) = moments.unwrap_or_else(|| (g.zeros_like(), g.zeros_like()));
    if is_cpu(&p.device()) {
        return fast::adamw(rule, step, p, g, mean, square);
    }
    let AdamW { lr, beta1, beta2, eps, weight_decay } = *rule;
    let p = p * (1.0 - lr * weight_decay);
    let mean = mean * beta1 + g.clone() * (1.0 - beta1);
    let square = square * beta2 + g.clone() * g * (1.0 - beta2);
    let (t, root) = (step as i32, (1.0 - beta2.powi(step as i32)).sqrt());
    let denominator = square.clone().sqrt() / root + eps;
    let p = p - mean.clone() / denominator * (lr / (1.0 - beta1.powi(t)));
    (p, mean, square)
}

/// Adds up the squares of all gradients.
struct GradNorm<'a> {
    grads: &'a Gradients,
    squares: Vec<Tensor<1>>,
}

impl GradNorm<'_> {
    /// All at once: a device is asked but once.
    fn total(self) -> f64 {
        if self.squares.is_empty() {
            return 0.0;
        }
        crate::models::values(&Tensor::cat(self.squares, 0)).into_iter().map(f64::from).sum()
    }
}

impl ModuleVisitor for GradNorm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        if tensor.is_require_grad()
            && let Some(grad) = tensor.grad(self.grads)
        {
            self.squares.push(grad.square().sum());
        }
    }
}

struct Step<'a> {
    optimizer: &'a mut Optimizer,
    names: std::slice::Iter<'a, String>,
    grads: &'a mut Gradients,
    rate: &'a dyn Fn(&str) -> f64,
    scale: f64,
}

impl ModuleMapper for Step<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.names.next().expect("mapping walks the tensors that listing walked");
        let tensor = param.val();
        if !tensor.is_require_grad() {
            return param;
        }
        let Some(grad) = tensor.grad_remove(self.grads) else { return param };
        // The parameter's only other holder: without it the update happens in place.
        drop(tensor);
        param.map(|tensor| {
            let dims = tensor.dims();
            let grad = grad.reshape([-1]);
            let grad = if self.scale < 1.0 { grad * self.scale } else { grad };
            let flat = tensor.inner().reshape([-1]);
            let new = self.optimizer.update(name, flat, grad, (self.rate)(name), D > 1);
            Tensor::from_inner(new.reshape(dims)).require_grad()
        })
    }
}
