//! The way into bf16: rounding what comes from f32. The way out is average pooling, whose result is f32.

use burn::Tensor;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use headstart_kernels::buffer;
use headstart_kernels::half::bf16;

use super::flex::{dense, dims, slice, wrap};
use super::real;

/// The operation of this file.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait HalfOps: Backend {
    /// Rounds to bf16.
    fn fast_half(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// Its gradient.
pub(crate) trait HalfGrads: Backend {
    /// Widens to f32.
    fn widen(dy: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl HalfOps for Flex {
    fn fast_half(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = dense(x);
        let mut y = buffer::<u16>(slice(&x).len());
        bf16::from_f32(slice(&x), &mut y);
        real::tensor(y, &dims(&x))
    }
}

impl HalfGrads for Flex {
    fn widen(dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let dy = dense(dy);
        let half = real::values::<u16>(&dy);
        let mut wide = buffer(half.len());
        bf16::to_f32(half, &mut wide);
        wrap(wide, &dims(&dy))
    }
}

#[derive(Debug)]
struct HalfStep;

impl<B: HalfGrads> Backward<B, 1> for HalfStep {
    type State = ();

    fn backward(self, ops: Ops<(), 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let [Some(node)] = ops.parents else { return };
        grads.register::<B>(node.id, B::widen(dy));
    }
}

impl<B: HalfOps + HalfGrads, C: CheckpointStrategy> HalfOps for Autodiff<B, C> {
    fn fast_half(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let y = B::fast_half(x);
        match HalfStep.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// Rounds to bf16; the gradient comes back in f32.
///
/// Only the convolutions, normalisations and poolings of this module take the result.
pub fn half<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::fast_half(x.into_dispatch()))
}
