//! Gradients of several batches as one.

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Gradients;

use crate::models::Network;

/// Adds the gradients `held` to those in `grads`, parameter by parameter.
///
/// Both must come from the same weights; losses must already be scaled by their batch's share.
pub fn add(network: &Network, held: Gradients, grads: &mut Gradients) {
    network.visit(&mut Add { held, grads });
}

struct Add<'a> {
    held: Gradients,
    grads: &'a mut Gradients,
}

impl ModuleVisitor for Add<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        if !tensor.is_require_grad() {
            return;
        }
        if let (Some(old), Some(new)) = (tensor.grad_remove(&mut self.held), tensor.grad(self.grads)) {
            tensor.grad_replace(self.grads, old + new);
        }
    }
}
