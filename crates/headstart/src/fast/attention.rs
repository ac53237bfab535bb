//! Self-attention in all its forms: over all tokens or in windows, causal, with a bias for each pair of tokens.

use std::sync::Arc;

use burn::Tensor;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use headstart_kernels::attention::{self, AttentionGrads, AttentionShape, Logits};
use headstart_kernels::buffer;

pub use headstart_kernels::attention::{APART, Windows};

use super::Maybe;
use super::autodiff::optional;
use super::flex::{dense, dims, slice, wrap};

/// The operation of this file.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait AttentionOps: Backend {
    /// Self-attention on `[N, T, 3C]`, with `[heads, T, T]` added to the logits and `[heads]` multiplied into them.
    fn fast_attention(
        qkv: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        #[extension_type] scales: Maybe<Self>,
        plan: AttentionPlan,
    ) -> FloatTensor<Self>;
}

/// The gradients of [`AttentionOps`].
pub(crate) trait AttentionBackward: Backend {
    /// Gradients of `qkv`, and of bias and scales where wanted.
    fn attention_backward(
        saved: Saved<Self>,
        dy: FloatTensor<Self>,
        want: [bool; 2],
    ) -> (FloatTensor<Self>, [Option<FloatTensor<Self>>; 2]);
}

/// The fixed numbers of a self-attention.
#[derive(Clone, Debug)]
pub struct AttentionPlan {
    /// Heads, side by side in the channels.
    pub heads: usize,
    /// Factor of the logits.
    pub scale: f32,
    /// Whether a token sees none after it.
    pub causal: bool,
    /// Whether query, key and value of a head lie side by side, instead of the queries of all heads, then keys, values.
    pub by_head: bool,
    /// Whether queries and keys are compared by angle.
    pub cosine: bool,
    /// Windows, how many there are and how the tokens fall into them; all tokens see each other where there are none.
    pub windows: Option<(usize, Arc<Windows>)>,
}

impl AttentionPlan {
    /// Compares queries and keys by their products, times one over the root of a head's channels.
    pub fn new(width: usize, heads: usize) -> Self {
        let scale = ((width / heads) as f32).powf(-0.5);
        Self { heads, scale, causal: false, by_head: false, cosine: false, windows: None }
    }

    fn shape(&self, qkv: &[usize]) -> AttentionShape {
        let windows = self.windows.as_ref().map_or(1, |(count, _)| *count);
        AttentionShape {
            n: qkv[0],
            windows,
            tokens: qkv[1] / windows,
            heads: self.heads,
            dim: qkv[2] / 3 / self.heads,
            causal: self.causal,
            by_head: self.by_head,
            cosine: self.cosine,
        }
    }

    fn scales(&self, scales: Option<&FlexTensor>) -> Vec<f32> {
        match scales {
            Some(scales) => slice(scales).iter().map(|s| s * self.scale).collect(),
            None => vec![self.scale; self.heads],
        }
    }

    fn logits<'a>(&'a self, scales: &'a [f32], bias: Option<&'a FlexTensor>) -> Logits<'a> {
        Logits { scales, bias: bias.map(slice), windows: self.windows.as_ref().map(|(_, w)| &**w) }
    }
}

/// What an attention keeps for its backward pass.
#[derive(Clone, Debug)]
pub(crate) struct Saved<B: Backend> {
    qkv: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    scales: Option<FloatTensor<B>>,
    plan: AttentionPlan,
}

impl AttentionOps for Flex {
    fn fast_attention(
        qkv: FloatTensor<Self>,
        bias: Maybe<Self>,
        scales: Maybe<Self>,
        plan: AttentionPlan,
    ) -> FloatTensor<Self> {
        let (qkv, bias) = (dense(qkv), bias.into_option().map(dense));
        let scales = plan.scales(scales.into_option().map(dense).as_ref());
        let d = dims(&qkv);
        let shape = plan.shape(&d);
        let mut y = buffer(shape.y_len());
        attention::forward(&shape, &plan.logits(&scales, bias.as_ref()), slice(&qkv), &mut y);
        wrap(y, &[d[0], d[1], d[2] / 3])
    }
}

impl AttentionBackward for Flex {
    fn attention_backward(
        saved: Saved<Self>,
        dy: FlexTensor,
        want: [bool; 2],
    ) -> (FlexTensor, [Option<FlexTensor>; 2]) {
        let Saved { qkv, bias, scales, plan } = saved;
        let (qkv, dy, bias) = (dense(qkv), dense(dy), bias.map(dense));
        let d = dims(&qkv);
        let scales = plan.scales(scales.map(dense).as_ref());
        let mut dqkv = buffer(slice(&qkv).len());
        let mut dbias = bias.as_ref().filter(|_| want[0]).map(|bias| buffer(slice(bias).len()));
        let mut dscales = want[1].then(|| buffer(plan.heads));
        let grads =
            AttentionGrads { qkv: &mut dqkv, bias: dbias.as_deref_mut(), scales: dscales.as_deref_mut() };
        let logits = plan.logits(&scales, bias.as_ref());
        attention::backward(&plan.shape(&d), &logits, slice(&qkv), slice(&dy), grads);
        let dbias = bias.zip(dbias).map(|(bias, grad)| wrap(grad, &dims(&bias)));
        // Of what was multiplied into the plan's own factor.
        let dscales = dscales.map(|g| wrap(g.iter().map(|g| g * plan.scale).collect(), &[plan.heads]));
        (wrap(dqkv, &d), [dbias, dscales])
    }
}

#[derive(Debug)]
struct AttentionStep;

impl<B: AttentionBackward> Backward<B, 3> for AttentionStep {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let [qkv, bias, scales] = ops.parents;
        let (dqkv, [dbias, dscales]) =
            B::attention_backward(ops.state, dy, [bias.is_some(), scales.is_some()]);
        for (node, grad) in [(qkv, Some(dqkv)), (bias, dbias), (scales, dscales)] {
            if let (Some(node), Some(grad)) = (node, grad) {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl<B: AttentionOps + AttentionBackward, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn fast_attention(
        qkv: FloatTensor<Self>,
        bias: Maybe<Self>,
        scales: Maybe<Self>,
        plan: AttentionPlan,
    ) -> FloatTensor<Self> {
        let (qkv, node) = qkv.into_parts();
        let (bias, bias_node) = optional::<B, C>(bias, &qkv);
        let (scales, scales_node) = optional::<B, C>(scales, &qkv);
        let (bias, scales) = (bias.into_option(), scales.into_option());
        let again = |x: &Option<FloatTensor<B>>| x.clone().map_or(Maybe::Absent, Maybe::Given);
        let y = B::fast_attention(qkv.clone(), again(&bias), again(&scales), plan.clone());
        match AttentionStep.prepare::<C>([node, bias_node, scales_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(Saved { qkv, bias, scales, plan }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// Attends: `[N, T, 3C]` to `[N, T, C]`, with `bias` `[heads, T, T]` (of a window) added to the logits and `scales`
/// `[heads]` multiplied into them.
pub fn attention(
    qkv: Tensor<3>,
    bias: Option<Tensor<3>>,
    scales: Option<Tensor<1>>,
    plan: AttentionPlan,
) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::fast_attention(
        qkv.into_dispatch(),
        Maybe::from_tensor(bias),
        Maybe::from_tensor(scales),
        plan,
    ))
}
