//! The operations under automatic differentiation: run the inner operation, keep what the backward
//! pass will need and nothing else, and record the step.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::DType;

use super::{
    Act, AdamW, ConvGeometry, End, FastGrads, FastOps, Folded, Maybe, NormGradsWanted, NormPlan, PackedSlot,
    PoolGeometry, SavedNorm, Sgd,
};

/// Splits an optional operand; an absent one gets an untracked stand-in node.
pub(super) fn optional<B: Backend, C: CheckpointStrategy>(
    operand: Maybe<Autodiff<B, C>>,
    stand_in: &FloatTensor<B>,
) -> (Maybe<B>, NodeGuard) {
    match operand {
        Maybe::Given(tensor) => {
            let (primitive, node) = tensor.into_parts();
            (Maybe::Given(primitive), node)
        }
        Maybe::Absent => (Maybe::Absent, <FloatTensor<Autodiff<B, C>>>::new(stand_in.clone()).node()),
    }
}

/// Takes an optional operand out of the graph.
fn untracked<B: Backend, C: CheckpointStrategy>(operand: Maybe<Autodiff<B, C>>) -> Maybe<B> {
    match operand {
        Maybe::Absent => Maybe::Absent,
        Maybe::Given(tensor) => Maybe::Given(tensor.into_primitive()),
    }
}

#[derive(Debug)]
struct ConvStep;

/// `x` is kept only for a trainable weight, the weight only for a tracked input, `y` only to mask.
#[derive(Clone, Debug)]
struct ConvSaved<B: Backend> {
    x: Option<FloatTensor<B>>,
    weight: Option<FloatTensor<B>>,
    y: Option<FloatTensor<B>>,
    x_shape: Vec<usize>,
    weight_shape: Vec<usize>,
    geometry: ConvGeometry,
    act: Act,
}

impl<B: FastGrads> Backward<B, 3> for ConvStep {
    type State = ConvSaved<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let saved = ops.state;
        let mut dy = grads.consume::<B>(&ops.node);
        if let Some(y) = saved.y {
            dy = B::act_backward(y, dy, saved.act);
        }
        let [x, weight, bias] = ops.parents;
        if let (Some(node), Some(input)) = (weight, saved.x) {
            let dw = B::conv_dw(input, &saved.weight_shape, dy.clone(), saved.geometry);
            grads.register::<B>(node.id, dw);
        }
        if let Some(node) = bias {
            grads.register::<B>(node.id, B::channel_sum(dy.clone()));
        }
        if let (Some(node), Some(weight)) = (x, saved.weight) {
            grads.register::<B>(node.id, B::conv_dx(&saved.x_shape, weight, dy, saved.geometry));
        }
    }
}

#[derive(Debug)]
struct NormStep;

impl<B: FastGrads> Backward<B, 4> for NormStep {
    type State = SavedNorm<B>;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let [x, scale, shift, residual] = ops.parents;
        let want = NormGradsWanted {
            x: x.is_some(),
            affine: scale.is_some() || shift.is_some(),
            residual: residual.is_some(),
        };
        let found = B::norm_backward(ops.state, dy, want);
        let pairs = [(x, found.x), (scale, found.scale), (shift, found.shift), (residual, found.residual)];
        for (node, grad) in pairs {
            if let (Some(node), Some(grad)) = (node, grad) {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

#[derive(Debug)]
struct MaxPoolStep;

impl<B: FastGrads> Backward<B, 1> for MaxPoolStep {
    type State = (Vec<usize>, PoolGeometry, Arc<Vec<u8>>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let ([Some(node)], (shape, geometry, winners)) = (ops.parents, ops.state) else { return };
        grads.register::<B>(node.id, B::max_pool_dx(&shape, geometry, &winners, dy));
    }
}

#[derive(Debug)]
struct AvgPoolStep;

impl<B: FastGrads> Backward<B, 1> for AvgPoolStep {
    type State = (Vec<usize>, DType);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let [Some(node)] = ops.parents else { return };
        let (shape, format) = ops.state;
        grads.register::<B>(node.id, B::avg_pool_dx(&shape, format, dy));
    }
}

#[derive(Debug)]
struct LinearStep;

#[derive(Clone, Debug)]
struct LinearSaved<B: Backend> {
    x: Option<FloatTensor<B>>,
    weight: Option<FloatTensor<B>>,
    y: Option<FloatTensor<B>>,
    act: Act,
}

impl<B: FastGrads> Backward<B, 4> for LinearStep {
    type State = LinearSaved<B>;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let saved = ops.state;
        let mut dy = grads.consume::<B>(&ops.node);
        if let Some(y) = saved.y {
            dy = B::act_backward(y, dy, saved.act);
        }
        let [x, weight, bias, residual] = ops.parents;
        if let Some(node) = residual {
            grads.register::<B>(node.id, dy.clone());
        }
        let dbias = match (weight, saved.x) {
            (Some(node), Some(input)) => {
                let (dweight, dbias) = B::linear_dw(input, dy.clone(), bias.is_some());
                grads.register::<B>(node.id, dweight);
                dbias
            }
            _ => None,
        };
        if let Some(node) = bias {
            grads.register::<B>(node.id, dbias.unwrap_or_else(|| B::channel_sum(dy.clone())));
        }
        if let (Some(node), Some(weight)) = (x, saved.weight) {
            grads.register::<B>(node.id, B::linear_dx(weight, dy));
        }
    }
}

impl<B: FastOps + FastGrads, C: CheckpointStrategy> FastOps for Autodiff<B, C> {
    fn fast_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Maybe<Self>,
        geometry: ConvGeometry,
        act: Act,
    ) -> FloatTensor<Self> {
        let (x_tracked, weight_tracked) = (x.is_tracked(), weight.is_tracked());
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = optional::<B, C>(bias, &weight);
        let y = B::fast_conv(x.clone(), weight.clone(), bias, geometry, act);
        match ConvStep.prepare::<C>([x_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let saved = ConvSaved::<B> {
                    x_shape: x.shape().to_vec(),
                    weight_shape: weight.shape().to_vec(),
                    x: weight_tracked.then_some(x),
                    weight: x_tracked.then_some(weight),
                    y: (act != Act::None).then(|| y.clone()),
                    geometry,
                    act,
                };
                prep.finish(saved, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fast_conv_folded(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        norm: Folded<Self>,
        residual: Maybe<Self>,
        eps: f32,
        geometry: ConvGeometry,
        end: End,
        slot: PackedSlot,
    ) -> FloatTensor<Self> {
        // Callers fold only what nobody differentiates; the result is a constant of the graph.
        let norm = match norm {
            Folded::Nothing => Folded::Nothing,
            Folded::Bias(bias) => Folded::Bias(bias.into_primitive()),
            Folded::BiasScale { bias, scale } => {
                Folded::BiasScale { bias: bias.into_primitive(), scale: scale.into_primitive() }
            }
            Folded::Norm { scale, shift, mean, var } => Folded::Norm {
                scale: scale.into_primitive(),
                shift: shift.into_primitive(),
                mean: mean.into_primitive(),
                var: var.into_primitive(),
            },
            Folded::BiasNorm { bias, scale, shift, mean, var } => Folded::BiasNorm {
                bias: bias.into_primitive(),
                scale: scale.into_primitive(),
                shift: shift.into_primitive(),
                mean: mean.into_primitive(),
                var: var.into_primitive(),
            },
        };
        let residual = untracked(residual);
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let y = B::fast_conv_folded(x, weight, norm, residual, eps, geometry, end, slot);
        <FloatTensor<Self>>::new(y)
    }

    fn fast_stats(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (mean, var) = B::fast_stats(x.into_primitive());
        (<FloatTensor<Self>>::new(mean), <FloatTensor<Self>>::new(var))
    }

    fn fast_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        var: FloatTensor<Self>,
        residual: Maybe<Self>,
        plan: NormPlan,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (scale, scale_node) = scale.into_parts();
        let (shift, shift_node) = shift.into_parts();
        let (mean, var) = (mean.into_primitive(), var.into_primitive());
        let (residual, residual_node) = optional::<B, C>(residual, &scale);
        let joins = matches!(residual, Maybe::Given(_));
        let y =
            B::fast_norm(x.clone(), scale.clone(), shift.clone(), mean.clone(), var.clone(), residual, plan);
        let nodes = [x_node, scale_node, shift_node, residual_node];
        match NormStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish(SavedNorm { x, y: joins.then(|| y.clone()), scale, shift, mean, var, plan }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fast_max_pool(x: FloatTensor<Self>, geometry: PoolGeometry) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match MaxPoolStep.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let shape = x.shape().to_vec();
                let (y, winners) = B::max_pool_winners(x, geometry);
                prep.finish((shape, geometry, winners), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fast_max_pool(x, geometry)),
        }
    }

    fn fast_avg_pool(x: FloatTensor<Self>, size: [usize; 2]) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let saved = (x.shape().to_vec(), x.dtype());
        let y = B::fast_avg_pool(x, size);
        match AvgPoolStep.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(saved, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fast_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Maybe<Self>,
        residual: Maybe<Self>,
        act: Act,
    ) -> FloatTensor<Self> {
        let (x_tracked, weight_tracked) = (x.is_tracked(), weight.is_tracked());
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = optional::<B, C>(bias, &weight);
        let (residual, residual_node) = optional::<B, C>(residual, &weight);
        let y = B::fast_linear(x.clone(), weight.clone(), bias, residual, act);
        match LinearStep
            .prepare::<C>([x_node, weight_node, bias_node, residual_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let saved = LinearSaved::<B> {
                    x: weight_tracked.then_some(x),
                    weight: x_tracked.then_some(weight),
                    y: (act != Act::None).then(|| y.clone()),
                    act,
                };
                prep.finish(saved, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fast_sgd(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        velocity: Maybe<Self>,
        rule: Sgd,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        // Updates are not differentiated; the results are leaves.
        let velocity = untracked(velocity);
        let (param, velocity) = B::fast_sgd(param.into_primitive(), grad.into_primitive(), velocity, rule);
        (<FloatTensor<Self>>::new(param), <FloatTensor<Self>>::new(velocity))
    }

    fn fast_adamw(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        rule: AdamW,
        step: u64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (param, grad) = (param.into_primitive(), grad.into_primitive());
        let (mean, square) = (mean.into_primitive(), square.into_primitive());
        let (param, mean, square) = B::fast_adamw(param, grad, mean, square, rule, step);
        let leaf = <FloatTensor<Self>>::new;
        (leaf(param), leaf(mean), leaf(square))
    }
}
