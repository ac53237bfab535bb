//! The bridge between Burn's tensors and `headstart-kernels`: the only module that sees both.
//!
//! Each operation exists three times: in `flex.rs`, where tensors are slices and the kernels run (gradients in
//! `flex_grads.rs`); in `autodiff.rs`, where a tracked call records a step that calls the backward kernels; and here
//! as a plain function on [`Tensor`], which is what `models/layers/` calls. `tokens.rs`, `attention.rs`, `gate.rs`, `half.rs` and
//! `fork.rs` hold all three for what they add. Feature maps are `[N, H, W, C]` and contiguous; convolution,
//! normalisation and pooling take them in f32 or bf16 (`real.rs`). Devices other than the CPU never come here.

mod attention;
mod autodiff;
mod capture;
mod flex;
mod flex_grads;
mod fork;
mod gate;
mod grads;
mod half;
mod lots;
mod plan;
mod real;
mod tokens;

use burn::Tensor;
use burn::backend::tensor::FloatTensor;
// The generated dispatch names `Autodiff`, `CheckpointStrategy` and `Flex`.
#[allow(unused_imports)]
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, Flex, backend_extension};

pub use attention::{APART, AttentionPlan, Windows, attention};
pub(crate) use capture::listening;
pub use capture::{Capture, capture};
pub use flex::PackedSlot;
pub use fork::fork;
pub use gate::gate;
pub use half::half;
pub use headstart_kernels::optim::{AdamW, Sgd};
pub use headstart_kernels::{Act as Clamp, CacheLines, Curve, End};
pub use plan::{Plan, Precision};
pub use tokens::{curve, layer_norm};

use grads::{FastGrads, NormGrads, NormGradsWanted, SavedNorm};
use headstart_kernels::conv::ConvShape;
use headstart_kernels::pool::PoolShape;

use Clamp as Act;

/// The fixed numbers of a convolution; the tensors bring the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Stride, down and right.
    pub stride: [usize; 2],
    /// Zero padding: top, bottom, left, right.
    pub pad: [usize; 4],
    /// Channel groups.
    pub groups: usize,
}

impl ConvGeometry {
    /// The layer with `c_out` output channels on maps `[n, h, w, c]`.
    fn shape(&self, [n, h, w, c_in]: [usize; 4], c_out: usize) -> ConvShape {
        let Self { kernel: [kh, kw], stride, pad, groups } = *self;
        ConvShape { n, h, w, c_in, c_out, kh, kw, stride, pad, groups }
    }
}

/// The fixed numbers of a max pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolGeometry {
    /// Window side.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Padding on every side; padding never wins.
    pub pad: usize,
}

impl PoolGeometry {
    /// The pooling of maps `[n, h, w, c]`.
    fn shape(&self, [n, h, w, c]: [usize; 4]) -> PoolShape {
        let Self { kernel, stride, pad } = *self;
        PoolShape { n, h, w, c, kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 2] }
    }
}

/// How a normalisation ends and where its statistics come from.
#[derive(Clone, Copy, Debug)]
pub struct NormPlan {
    /// Added to the variance.
    pub eps: f32,
    /// Applied last.
    pub act: Act,
    /// Whether the statistics are the batch's own, so that gradients flow through them.
    pub batch_stats: bool,
}

/// An operand that may be absent; the extension mechanism has no `Option`.
#[derive(ExtensionType)]
pub(crate) enum Maybe<B: Backend> {
    Absent,
    Given(FloatTensor<B>),
}

impl<B: Backend> Maybe<B> {
    fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Maybe::Absent => None,
            Maybe::Given(tensor) => Some(tensor),
        }
    }
}

impl Maybe<Dispatch> {
    fn from_tensor<const D: usize>(tensor: Option<Tensor<D>>) -> Self {
        tensor.map_or(Maybe::Absent, |t| Maybe::Given(t.into_dispatch()))
    }
}

/// What is folded into a convolution at inference.
#[derive(ExtensionType)]
pub(crate) enum Folded<B: Backend> {
    Nothing,
    Bias(FloatTensor<B>),
    BiasScale {
        bias: FloatTensor<B>,
        scale: FloatTensor<B>,
    },
    Norm {
        scale: FloatTensor<B>,
        shift: FloatTensor<B>,
        mean: FloatTensor<B>,
        var: FloatTensor<B>,
    },
    BiasNorm {
        bias: FloatTensor<B>,
        scale: FloatTensor<B>,
        shift: FloatTensor<B>,
        mean: FloatTensor<B>,
        var: FloatTensor<B>,
    },
}

/// What follows a convolution and can be folded into it.
#[allow(clippy::large_enum_variant)] // it lives for one call
pub enum Fold {
    /// Nothing.
    Nothing,
    /// A bias.
    Bias(Tensor<1>),
    /// A bias, then a factor for each channel.
    BiasScale(Tensor<1>, Tensor<1>),
    /// BatchNorm: scale, shift, mean, variance.
    Norm([Tensor<1>; 4]),
    /// The convolution's own bias, then BatchNorm: scale, shift, mean, variance.
    BiasNorm(Tensor<1>, [Tensor<1>; 4]),
}

/// The operations the CPU engine adds to a Burn backend.
#[backend_extension(Flex, Autodiff)]
#[allow(clippy::too_many_arguments)]
pub(crate) trait FastOps: Backend {
    /// Convolution with optional bias, then the activation.
    fn fast_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        geometry: ConvGeometry,
        act: Act,
    ) -> FloatTensor<Self>;

    /// Convolution folded with BatchNorm or bias, residual and what ends the layer: inference only.
    fn fast_conv_folded(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] norm: Folded<Self>,
        #[extension_type] residual: Maybe<Self>,
        eps: f32,
        geometry: ConvGeometry,
        end: End,
        slot: PackedSlot,
    ) -> FloatTensor<Self>;

    /// Mean and biased variance of each channel; untracked.
    fn fast_stats(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// BatchNorm from given statistics, plus residual, through the activation.
    fn fast_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        var: FloatTensor<Self>,
        #[extension_type] residual: Maybe<Self>,
        plan: NormPlan,
    ) -> FloatTensor<Self>;

    /// Max pooling.
    fn fast_max_pool(x: FloatTensor<Self>, geometry: PoolGeometry) -> FloatTensor<Self>;

    /// Adaptive average pooling to a given height and width, in f32 whatever the map is.
    fn fast_avg_pool(x: FloatTensor<Self>, size: [usize; 2]) -> FloatTensor<Self>;

    /// `x [images, …, k] · weightᵀ [n, k] + bias + residual`, then the activation.
    fn fast_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        #[extension_type] residual: Maybe<Self>,
        act: Act,
    ) -> FloatTensor<Self>;

    /// Parameter and velocity after a step of SGD, in place where nobody else holds them.
    fn fast_sgd(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        #[extension_type] velocity: Maybe<Self>,
        rule: Sgd,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Parameter and moments after step `step` of AdamW, in place where nobody else holds them.
    fn fast_adamw(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        rule: AdamW,
        step: u64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Convolves `x [N, H, W, C]` with `weight [O, C/g, kh, kw]`, adds `bias`, applies `act`.
pub fn conv(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    geometry: ConvGeometry,
    act: Act,
) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::fast_conv(
        x.into_dispatch(),
        weight.into_dispatch(),
        Maybe::from_tensor(bias),
        geometry,
        act,
    ))
}

/// Convolves with what follows folded in: see `FastOps::fast_conv_folded`.
#[allow(clippy::too_many_arguments)]
pub fn conv_folded(
    x: Tensor<4>,
    weight: Tensor<4>,
    fold: Fold,
    residual: Option<Tensor<4>>,
    eps: f32,
    geometry: ConvGeometry,
    end: End,
    slot: &PackedSlot,
) -> Tensor<4> {
    let folded = match fold {
        Fold::Nothing => Folded::Nothing,
        Fold::Bias(bias) => Folded::Bias(bias.into_dispatch()),
        Fold::BiasScale(bias, scale) => {
            Folded::BiasScale { bias: bias.into_dispatch(), scale: scale.into_dispatch() }
        }
        Fold::Norm(parts) => {
            let [scale, shift, mean, var] = parts.map(Tensor::into_dispatch);
            Folded::Norm { scale, shift, mean, var }
        }
        Fold::BiasNorm(bias, parts) => {
            let [scale, shift, mean, var] = parts.map(Tensor::into_dispatch);
            Folded::BiasNorm { bias: bias.into_dispatch(), scale, shift, mean, var }
        }
    };
    Tensor::from_dispatch(Dispatch::fast_conv_folded(
        x.into_dispatch(),
        weight.into_dispatch(),
        folded,
        Maybe::from_tensor(residual),
        eps,
        geometry,
        end,
        slot.clone(),
    ))
}

/// Returns mean and biased variance over all but the last axis.
pub fn stats<const D: usize>(x: Tensor<D>) -> (Tensor<1>, Tensor<1>) {
    let (mean, var) = Dispatch::fast_stats(x.into_dispatch());
    (Tensor::from_dispatch(mean), Tensor::from_dispatch(var))
}

/// Normalises the last axis of `x`, adds `residual`, applies the activation.
pub fn norm<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    (mean, var): (Tensor<1>, Tensor<1>),
    residual: Option<Tensor<D>>,
    plan: NormPlan,
) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::fast_norm(
        x.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        mean.into_dispatch(),
        var.into_dispatch(),
        Maybe::from_tensor(residual),
        plan,
    ))
}

/// Max-pools `x [N, H, W, C]`.
pub fn max_pool(x: Tensor<4>, geometry: PoolGeometry) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::fast_max_pool(x.into_dispatch(), geometry))
}

/// Average-pools `x [N, H, W, C]` to `size`, as `AdaptiveAvgPool2d` does.
pub fn avg_pool(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::fast_avg_pool(x.into_dispatch(), size))
}

/// Multiplies `x [IMAGES, …, K]` by `weight [N, K]` transposed, adds `bias` and `residual [IMAGES, …, N]`, applies `act`.
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
    act: Act,
) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::fast_linear(
        x.into_dispatch(),
        weight.into_dispatch(),
        Maybe::from_tensor(bias),
        Maybe::from_tensor(residual),
        act,
    ))
}

/// Returns parameter and velocity after a step of SGD; a first step starts from no velocity.
pub fn sgd(
    rule: &Sgd,
    param: Tensor<1>,
    grad: Tensor<1>,
    velocity: Option<Tensor<1>>,
) -> (Tensor<1>, Tensor<1>) {
    let velocity = Maybe::from_tensor(velocity);
    let (param, velocity) = Dispatch::fast_sgd(param.into_dispatch(), grad.into_dispatch(), velocity, *rule);
    (Tensor::from_dispatch(param), Tensor::from_dispatch(velocity))
}

/// Returns parameter, mean and mean square after step `step` of AdamW, counted from 1.
pub fn adamw(
    rule: &AdamW,
    step: u64,
    param: Tensor<1>,
    grad: Tensor<1>,
    mean: Tensor<1>,
    square: Tensor<1>,
) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let [param, grad, mean, square] = [param, grad, mean, square].map(Tensor::into_dispatch);
    let (param, mean, square) = Dispatch::fast_adamw(param, grad, mean, square, *rule, step);
    (Tensor::from_dispatch(param), Tensor::from_dispatch(mean), Tensor::from_dispatch(square))
}
