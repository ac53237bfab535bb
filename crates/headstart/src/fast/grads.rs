//! What the backward passes ask of a backend.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;

use super::{Act, ConvGeometry, NormPlan, PoolGeometry};

/// The gradients of [`FastOps`], on slices.
pub(crate) trait FastGrads: Backend {
    fn conv_dx(
        x: &[usize],
        weight: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        geometry: ConvGeometry,
    ) -> FloatTensor<Self>;
    fn conv_dw(
        x: FloatTensor<Self>,
        weight: &[usize],
        dy: FloatTensor<Self>,
        geometry: ConvGeometry,
    ) -> FloatTensor<Self>;
    fn channel_sum(dy: FloatTensor<Self>) -> FloatTensor<Self>;
    fn act_backward(y: FloatTensor<Self>, dy: FloatTensor<Self>, act: Act) -> FloatTensor<Self>;
    fn norm_backward(saved: SavedNorm<Self>, dy: FloatTensor<Self>, want: NormGradsWanted)
    -> NormGrads<Self>;
    /// Max pooling that also returns where each maximum was.
    fn max_pool_winners(
        x: FloatTensor<Self>,
        geometry: PoolGeometry,
    ) -> (FloatTensor<Self>, std::sync::Arc<Vec<u8>>);
    fn max_pool_dx(
        x: &[usize],
        geometry: PoolGeometry,
        winners: &[u8],
        dy: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// The gradient of maps that are stored in `format`.
    fn avg_pool_dx(x: &[usize], format: DType, dy: FloatTensor<Self>) -> FloatTensor<Self>;
    fn linear_dx(weight: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self>;
    /// The gradients of the weight and, where wanted, of the bias.
    fn linear_dw(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        want_bias: bool,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>);
}

/// What a normalisation keeps for its backward pass.
#[derive(Clone, Debug)]
pub(crate) struct SavedNorm<B: Backend> {
    pub x: FloatTensor<B>,
    /// Kept with a residual, for the activation's mask, which is otherwise computed anew from `x`: less to read.
    pub y: Option<FloatTensor<B>>,
    pub scale: FloatTensor<B>,
    pub shift: FloatTensor<B>,
    pub mean: FloatTensor<B>,
    pub var: FloatTensor<B>,
    pub plan: NormPlan,
}

/// Which gradients a normalisation owes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormGradsWanted {
    pub x: bool,
    pub affine: bool,
    pub residual: bool,
}

/// The gradients of a normalisation.
pub(crate) struct NormGrads<B: Backend> {
    pub x: Option<FloatTensor<B>>,
    pub scale: Option<FloatTensor<B>>,
    pub shift: Option<FloatTensor<B>>,
    pub residual: Option<FloatTensor<B>>,
}
