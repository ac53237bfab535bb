//! One network against what PyTorch made of it: the cases of `tools/golden/models.py`.
//! `formula` is the including file's module.
#![allow(dead_code)] // each program uses some of it

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients};
use headstart::models::tap::Tap;
use headstart::models::{Network, frozen};
use serde_json::Value;

use crate::formula::{Path, error, floats, network, pictures_named, values};

/// Differences relative to the largest expected value, by name.
pub struct Agreement {
    pub logits: f32,
    pub taps: Vec<(String, f32)>,
    /// Empty where no gradients were asked for.
    pub grads: Vec<(String, f32)>,
}

/// A network in its two forms, and what is expected of it.
pub struct Subject<'a> {
    name: &'a str,
    case: &'a Value,
    trained: Network,
    inference: Network,
}

impl<'a> Subject<'a> {
    /// Builds the network with the formula's weights; only the tensors whose gradients are known train.
    pub fn new(name: &'a str, case: &'a Value) -> Self {
        let device = Device::flex().autodiff();
        let net = network(name, 10, case["gain"].as_f64().expect("a gain"), &device);
        let trained = net.set_trainable(&|n| case["grads"].get(n).is_some(), &|_| false);
        Self { name, case, inference: frozen(&trained), trained }
    }

    /// Runs as inference does: BatchNorm folded, no autodiff.
    pub fn inference(&self, path: Path) -> Agreement {
        self.run(&self.inference, path, &Device::flex()).0
    }

    /// Runs on autodiff with frozen statistics and no dropout, and backpropagates half the mean square of the logits.
    pub fn training(&self, path: Path) -> Agreement {
        let (mut agreement, logits) = self.run(&self.trained, path, &Device::flex().autodiff());
        let grads = (logits.square().mean() / 2.0).backward();
        let names = self.trained.params().into_iter().map(|p| p.name);
        let mut visitor = Collect { names, grads: &grads, case: &self.case["grads"], found: Vec::new() };
        self.trained.visit(&mut visitor);
        agreement.grads = visitor.found;
        let expected = self.case["grads"].as_object().expect("gradients by name").len();
        assert_eq!(agreement.grads.len(), expected, "{}: a gradient did not arrive", self.name);
        agreement
    }

    fn run(&self, net: &Network, path: Path, device: &Device) -> (Agreement, Tensor<2>) {
        let shape: Vec<usize> = floats(&self.case["input"]).iter().map(|v| *v as usize).collect();
        let taps = self.case["taps"].as_object().expect("taps by name");
        let mut tap = Tap::keep(&taps.keys().collect::<Vec<_>>());
        let picture = self.case["picture"].as_str().expect("a picture's name");
        let x = pictures_named(picture, [shape[0], shape[1], shape[2], shape[3]], device);
        let logits = net.forward(path.map(x), &mut tap);
        let taps = taps.iter().map(|(point, expected)| {
            let seen = tap.values(point).unwrap_or_else(|| panic!("{}: `{point}` is not passed", self.name));
            (point.clone(), sampled(&seen, expected))
        });
        let taps = taps.collect();
        let at_end = error(&values(&logits), &floats(&self.case["logits"]));
        (Agreement { logits: at_end, taps, grads: Vec::new() }, logits)
    }
}

/// The largest difference at the values that were kept, over the largest expected value of all.
fn sampled<const D: usize>(found: &Tensor<D>, expected: &Value) -> f32 {
    let shape: Vec<usize> = floats(&expected["shape"]).iter().map(|v| *v as usize).collect();
    assert_eq!(found.dims().to_vec(), shape);
    let (kept, largest) = (floats(&expected["values"]), expected["max"].as_f64().expect("a maximum") as f32);
    let step = expected["step"].as_u64().expect("a step") as usize;
    let found: Vec<f32> = values(found).into_iter().step_by(step).take(kept.len()).collect();
    assert!(found.len() == kept.len() && found.iter().all(|v| v.is_finite()), "values are missing");
    // The largest of all joins both sides, as the range.
    let join = |mut v: Vec<f32>| {
        v.push(largest);
        v
    };
    error(&join(found), &join(kept))
}

struct Collect<'a, I> {
    names: I,
    grads: &'a Gradients,
    case: &'a Value,
    found: Vec<(String, f32)>,
}

impl<I: Iterator<Item = String>> ModuleVisitor for Collect<'_, I> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.names.next().expect("as many names as tensors");
        let Some(expected) = self.case.get(&name) else { return };
        if let Some(grad) = param.val().grad(self.grads) {
            self.found.push((name, sampled(&grad, expected)));
        }
    }
}
