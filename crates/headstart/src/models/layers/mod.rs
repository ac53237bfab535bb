//! The layers networks are made of, with the checkpoint's field names and two ways to run.
//!
//! A [`Map`] knows its memory layout: channels last on the CPU, where the operations of
//! [`crate::fast`] run, channels first elsewhere, where Burn's own do. [`Tokens`] know which of the two
//! they take. Model files never see which. Parameters start at zero; `init.rs` draws them or a checkpoint
//! brings them.

mod act;
mod attention;
mod batch_norm;
mod conv;
mod conv_norm;
mod drop_path;
mod gate;
mod layer_norm;
mod linear;
mod pool;
mod pos_embed;
mod rel_pos;
mod window;

use burn::Tensor;
use burn::tensor::{DType, FloatDType};

pub(crate) use super::map::is_cpu;
pub use super::map::{Map, plainly};
pub use super::tokens::Tokens;
pub use act::Act;
pub use attention::{Attention, LayerScale, Mlp};
pub use batch_norm::BatchNorm;
pub use conv::{Conv2d, ConvSpec, Padding, conv_bn_act};
pub use conv_norm::ConvNorm;
pub(crate) use drop_path::seed as seed_drop_path;
pub use drop_path::{Branch, DropPath, conv_bn_join};
pub use gate::{GlobalResponseNorm, squeeze_excite};
pub use layer_norm::LayerNorm;
pub use linear::{Adapted, Linear, Linears, Pointwise};
pub use pool::{adaptive_avg_pool, crop_even, global_avg_pool, halve, max_pool};
pub use pos_embed::resample_pos_embed;
pub use rel_pos::{RelPos, attend_by_head};
pub use window::{WindowAttention, pad};

/// Number formats on the reference path. Weights are f32; what meets a bf16 map is rounded to it on the way, and what
/// sums over many values is worked out in f32.
trait Format {
    /// Takes the format of `other`.
    fn like<const E: usize>(self, other: &Tensor<E>) -> Self;
    /// Takes f32.
    fn wide(self) -> Self;
}

impl<const D: usize> Format for Tensor<D> {
    fn like<const E: usize>(self, other: &Tensor<E>) -> Self {
        self.cast(FloatDType::from(other.dtype()))
    }

    fn wide(self) -> Self {
        self.cast(DType::F32)
    }
}

/// Leaves the autodiff graph if there is one.
trait InnerOrSelf {
    fn inner_or_self(self) -> Self;
}

impl<const D: usize> InnerOrSelf for Tensor<D> {
    fn inner_or_self(self) -> Self {
        if self.is_autodiff() { self.inner() } else { self }
    }
}
