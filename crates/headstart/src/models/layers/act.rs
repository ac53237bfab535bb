//! Activations by name, whichever kernel applies them.

use std::f64::consts::FRAC_1_SQRT_2;

use burn::Tensor;
use burn::tensor::activation;

use super::{Format, Map, Tokens};
use crate::fast::{self, Clamp, Curve, End};

/// An activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Act {
    /// Nothing.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x Φ(x)`, with the error function itself.
    Gelu,
    /// `x σ(1.702 x)`: CLIP's.
    QuickGelu,
    /// `x σ(x)`.
    Silu,
    /// `σ(x)`.
    Sigmoid,
    /// `x · min(max(x + 3, 0), 6) / 6`.
    HardSwish,
    /// `min(max(x + 3, 0), 6) / 6`.
    HardSigmoid,
}

impl Act {
    /// The part that kernels apply on their way out.
    pub(super) fn clamp(self) -> Clamp {
        match self {
            Act::Relu => Clamp::Relu,
            Act::Relu6 => Clamp::Relu6,
            _ => Clamp::None,
        }
    }

    /// All of it, for layers whose input nobody differentiates.
    pub(super) fn end(self) -> End {
        match self {
            Act::None | Act::Relu | Act::Relu6 => self.clamp().into(),
            Act::Gelu => Curve::Gelu.into(),
            Act::QuickGelu => Curve::QuickGelu.into(),
            Act::Silu => Curve::Silu.into(),
            Act::Sigmoid => Curve::Sigmoid.into(),
            Act::HardSwish => Curve::HardSwish.into(),
            Act::HardSigmoid => Curve::HardSigmoid.into(),
        }
    }

    /// The part that is left after [`Act::clamp`].
    pub(super) fn finish<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self.end() {
            End::Clamp(_) => x,
            End::Curve(curve) => fast::curve(x, curve),
        }
    }

    /// Applies all of it on the CPU, where no kernel did its part on the way out.
    pub(super) fn fast<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        if self.clamp() == Clamp::None { self.finish(x) } else { self.reference(x) }
    }

    /// Applies all of it with Burn's operations.
    pub(super) fn reference<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        let ramp = |x: Tensor<D>| (x + 3.0).clamp(0.0, 6.0) / 6.0;
        let format = match self {
            Act::None => return x,
            Act::Relu => return activation::relu(x),
            Act::Relu6 => return x.clamp(0.0, 6.0),
            _ => x.dtype(),
        };
        let x = x.wide();
        let y = match self {
            Act::None | Act::Relu | Act::Relu6 => x,
            // Burn's gradient of `gelu` is that of its approximation by tanh on other devices than the CPU.
            Act::Gelu if x.is_autodiff() => x.clone() * ((x * FRAC_1_SQRT_2).erf() + 1.0) * 0.5,
            Act::Gelu => activation::gelu(x),
            Act::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
            Act::Silu => activation::silu(x),
            Act::Sigmoid => activation::sigmoid(x),
            Act::HardSwish => x.clone() * ramp(x),
            Act::HardSigmoid => ramp(x),
        };
        y.cast(format)
    }

    /// Applies it to a map.
    pub fn map(self, x: Map) -> Map {
        let y = x.x.clone();
        match (x.channels_last, self.clamp()) {
            (true, Clamp::None) => x.with(self.finish(y)),
            _ => x.with(self.reference(y)),
        }
    }

    /// Applies it to tokens.
    pub fn tokens(self, x: Tokens) -> Tokens {
        let fast = x.is_fast() && self.clamp() == Clamp::None;
        x.apply(|x| if fast { self.finish(x) } else { self.reference(x) })
    }
}
