//! The operations that transformers and their descendants add: LayerNorm and smooth activations.
//!
//! One trait as in `mod.rs`, with its two implementations here: on slices, and with gradients. All act on
//! the last axis of a contiguous tensor, so a map `[N, H, W, C]` and tokens `[N, T, C]` are the same to them.

use burn::Tensor;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use headstart_kernels::layer_norm::{self, LayerNormGrads};
use headstart_kernels::{Curve, buffer, curve};

use super::flex::{dense, dims, slice, wrap};

/// The operations of this file.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait TokenOps: Backend {
    /// Normalises each row of the last axis by its own mean and variance.
    fn fast_layer_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self>;

    /// A smooth activation; writes over `x` where nobody else holds it.
    fn fast_curve(x: FloatTensor<Self>, curve: Curve) -> FloatTensor<Self>;
}

/// The gradients of [`TokenOps`].
pub(crate) trait TokenGrads: Backend {
    /// Gradients of the input, where wanted, and of scale and shift.
    fn layer_norm_backward(
        saved: SavedLayerNorm<Self>,
        dy: FloatTensor<Self>,
        want_dx: bool,
    ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>);
    fn curve_backward(x: FloatTensor<Self>, curve: Curve, dy: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// What a LayerNorm keeps for its backward pass.
#[derive(Clone, Debug)]
pub(crate) struct SavedLayerNorm<B: Backend> {
    x: FloatTensor<B>,
    scale: FloatTensor<B>,
    eps: f32,
}

/// Applies `f` to the values of `x`, in place if nobody else holds them and they are all of the buffer.
fn over(x: FlexTensor, f: impl Fn(&mut [f32])) -> FlexTensor {
    let mut x = dense(x);
    let shape = dims(&x);
    let len = shape.iter().product::<usize>();
    if let Some(values) = x.try_storage_mut::<f32>()
        && values.len() == len
    {
        f(values);
        return x;
    }
    let mut values = slice(&x).to_vec();
    f(&mut values);
    wrap(values, &shape)
}

impl TokenOps for Flex {
    fn fast_layer_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        let (x, scale, shift) = (dense(x), dense(scale), dense(shift));
        let mut y = buffer(slice(&x).len());
        layer_norm::forward(slice(&x), slice(&scale), slice(&shift), eps, &mut y);
        wrap(y, &dims(&x))
    }

    fn fast_curve(x: FloatTensor<Self>, curve: Curve) -> FloatTensor<Self> {
        if x.is_unique() {
            return over(x, |values| curve::forward(curve, values));
        }
        let x = dense(x);
        let mut y = buffer(slice(&x).len());
        curve::forward_to(curve, slice(&x), &mut y);
        wrap(y, &dims(&x))
    }
}

impl TokenGrads for Flex {
    fn layer_norm_backward(
        saved: SavedLayerNorm<Self>,
        dy: FlexTensor,
        want_dx: bool,
    ) -> (Option<FlexTensor>, FlexTensor, FlexTensor) {
        let (x, scale, dy) = (dense(saved.x), dense(saved.scale), dense(dy));
        let c = slice(&scale).len();
        let mut dx = want_dx.then(|| buffer(slice(&x).len()));
        let (mut dgamma, mut dbeta) = (buffer(c), buffer(c));
        let grads =
            LayerNormGrads { dx: dx.as_deref_mut(), dgamma: Some(&mut dgamma), dbeta: Some(&mut dbeta) };
        layer_norm::backward(slice(&x), slice(&scale), saved.eps, slice(&dy), grads);
        (dx.map(|dx| wrap(dx, &dims(&x))), wrap(dgamma, &[c]), wrap(dbeta, &[c]))
    }

    fn curve_backward(x: FlexTensor, curve: Curve, dy: FlexTensor) -> FlexTensor {
        let x = dense(x);
        over(dy, |dy| curve::backward(curve, slice(&x), dy))
    }
}

#[derive(Debug)]
struct LayerNormStep;

impl<B: TokenGrads> Backward<B, 3> for LayerNormStep {
    type State = SavedLayerNorm<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let [x, scale, shift] = ops.parents;
        let (dx, dscale, dshift) = B::layer_norm_backward(ops.state, dy, x.is_some());
        for (node, grad) in [(x, dx), (scale, Some(dscale)), (shift, Some(dshift))] {
            if let (Some(node), Some(grad)) = (node, grad) {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

#[derive(Debug)]
struct CurveStep;

impl<B: TokenGrads> Backward<B, 1> for CurveStep {
    type State = (FloatTensor<B>, Curve);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let ([Some(node)], (x, curve)) = (ops.parents, ops.state) else { return };
        grads.register::<B>(node.id, B::curve_backward(x, curve, dy));
    }
}

impl<B: TokenOps + TokenGrads, C: CheckpointStrategy> TokenOps for Autodiff<B, C> {
    fn fast_layer_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (scale, scale_node) = scale.into_parts();
        let (shift, shift_node) = shift.into_parts();
        let y = B::fast_layer_norm(x.clone(), scale.clone(), shift, eps);
        match LayerNormStep.prepare::<C>([x_node, scale_node, shift_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(SavedLayerNorm { x, scale, eps }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fast_curve(x: FloatTensor<Self>, curve: Curve) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match CurveStep.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::fast_curve(x.clone(), curve);
                prep.finish((x, curve), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fast_curve(x, curve)),
        }
    }
}

/// Normalises the last axis of `x` by its own mean and variance, then scales and shifts it.
pub fn layer_norm<const D: usize>(x: Tensor<D>, scale: Tensor<1>, shift: Tensor<1>, eps: f32) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::fast_layer_norm(
        x.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        eps,
    ))
}

/// Applies a smooth activation.
pub fn curve<const D: usize>(x: Tensor<D>, curve: Curve) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::fast_curve(x.into_dispatch(), curve))
}
