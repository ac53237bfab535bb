//! A map that goes two ways, such as a residual block's input: its two gradients are added by our kernel. The graph's
//! own addition takes one thread and, in bf16, one number at a time.

use std::sync::{Arc, Mutex, PoisonError};

use burn::Tensor;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use headstart_kernels::act;

use super::flex::dense;
use super::real::{Real, by_format, values};

/// The operation of this file.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait ForkOps: Backend {
    /// The same tensor twice.
    fn fast_fork(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// Its gradient.
pub(crate) trait ForkGrads: Backend {
    /// Adds two gradients of one shape and format.
    fn join(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl ForkOps for Flex {
    fn fast_fork(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        (x.clone(), x)
    }
}

impl ForkGrads for Flex {
    fn join(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let (a, b) = (dense(a), dense(b));
        // The sum takes the place of a term that nobody else holds.
        let free =
            |t: &FlexTensor| t.is_unique() && t.bytes().len() == t.layout().num_elements() * t.dtype().size();
        let (mut sum, term) = if free(&a) { (a, b) } else { (b, a) };
        if !free(&sum) {
            sum = by_format!(sum, T => super::real::tensor(values::<T>(&sum).to_vec(), &super::flex::dims(&sum)));
        }
        by_format!(sum, T => act::add_assign(T::storage_mut(&mut sum), values::<T>(&term)));
        sum
    }
}

#[derive(Debug)]
struct ForkStep;

impl<B: ForkGrads> Backward<B, 1> for ForkStep {
    /// The gradient of the way that came back first.
    type State = Arc<Mutex<Option<FloatTensor<B>>>>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let [Some(node)] = ops.parents else { return };
        let mut waiting = ops.state.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.take() {
            None => *waiting = Some(dy),
            Some(other) => grads.register::<B>(node.id, B::join(other, dy)),
        }
    }
}

impl<B: ForkOps + ForkGrads, C: CheckpointStrategy> ForkOps for Autodiff<B, C> {
    fn fast_fork(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let meeting = <ForkStep as Backward<B, 1>>::State::default();
        let way = |x: FloatTensor<Self>| {
            let (x, node) = x.into_parts();
            match ForkStep.prepare::<C>([node]).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish(Arc::clone(&meeting), x),
                OpsKind::UnTracked(prep) => prep.finish(x),
            }
        };
        (way(x.clone()), way(x))
    }
}

/// Returns the tensor twice. Both must lead to whatever is differentiated, or neither: one alone brings no gradient.
pub fn fork<const D: usize>(x: Tensor<D>) -> (Tensor<D>, Tensor<D>) {
    let (a, b) = Dispatch::fast_fork(x.into_dispatch());
    (Tensor::from_dispatch(a), Tensor::from_dispatch(b))
}
