//! Gates: maps or tokens times one factor a picture and channel.

use burn::Tensor;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use headstart_kernels::{buffer, gate};

use super::flex::{dense, dims, slice, wrap};

/// The operation of this file.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait GateOps: Backend {
    /// `[N, …, C]` times `[N, C]`.
    fn fast_gate(x: FloatTensor<Self>, gate: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// Its gradient where it is not itself.
pub(crate) trait GateGrads: Backend {
    /// Sums `x · dy` over all axes but the first and last.
    fn gate_sums(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl GateOps for Flex {
    fn fast_gate(x: FloatTensor<Self>, gate: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, gate) = (dense(x), dense(gate));
        let shape = dims(&x);
        let mut y = buffer(slice(&x).len());
        gate::forward(slice(&x), slice(&gate), shape[shape.len() - 1], &mut y);
        wrap(y, &shape)
    }
}

impl GateGrads for Flex {
    fn gate_sums(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, dy) = (dense(x), dense(dy));
        let shape = dims(&x);
        let (n, c) = (shape[0], shape[shape.len() - 1]);
        let mut sums = buffer(n * c);
        gate::backward_gate(slice(&x), slice(&dy), c, &mut sums);
        wrap(sums, &[n, c])
    }
}

#[derive(Debug)]
struct GateStep;

impl<B: GateOps + GateGrads> Backward<B, 2> for GateStep {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let ([x_node, gate_node], (x, gate)) = (ops.parents, ops.state);
        if let Some(node) = gate_node {
            grads.register::<B>(node.id, B::gate_sums(x, dy.clone()));
        }
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::fast_gate(dy, gate));
        }
    }
}

impl<B: GateOps + GateGrads, C: CheckpointStrategy> GateOps for Autodiff<B, C> {
    fn fast_gate(x: FloatTensor<Self>, gate: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (gate, gate_node) = gate.into_parts();
        let y = B::fast_gate(x.clone(), gate.clone());
        match GateStep.prepare::<C>([x_node, gate_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, gate), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// Multiplies `[N, …, C]` by `[N, C]`.
pub fn gate<const D: usize>(x: Tensor<D>, gate: Tensor<2>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::fast_gate(x.into_dispatch(), gate.into_dispatch()))
}
