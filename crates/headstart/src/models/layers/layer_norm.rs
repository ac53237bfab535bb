//! Layer normalisation.

use burn::Tensor;
use burn::module::{Module, Param};
use burn::tensor::Device;

use super::{Format, Map, Tokens};
use crate::fast;
use crate::models::map::is_cpu;

/// Normalises each token or pixel over its channels: Ba, Kiros & Hinton 2016.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale.
    pub weight: Param<Tensor<1>>,
    /// Shift.
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl LayerNorm {
    /// Makes a layer for `channels` channels.
    pub fn new(channels: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([channels], device)),
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
            eps,
        }
    }

    /// Normalises tokens.
    pub fn tokens(&self, x: Tokens) -> Tokens {
        let fast = x.is_fast();
        x.apply(|x| self.last_axis(x, fast))
    }

    /// Normalises each pixel of a map.
    pub fn pixels(&self, x: Map) -> Map {
        if x.channels_last {
            return x.with(self.last_axis(x.x.clone(), true));
        }
        let y = self.last_axis(x.x.clone().permute([0, 2, 3, 1]), false);
        x.with(y.permute([0, 3, 1, 2]))
    }

    /// Normalises embeddings `[N, C]`.
    pub fn flat(&self, x: Tensor<2>) -> Tensor<2> {
        let fast = is_cpu(&x.device());
        self.last_axis(x.wide(), fast)
    }

    fn last_axis<const D: usize>(&self, x: Tensor<D>, fast: bool) -> Tensor<D> {
        if fast {
            return fast::layer_norm(x, self.weight.val(), self.bias.val(), self.eps as f32);
        }
        let (format, x) = (x.dtype(), x.wide());
        let centred = x.clone() - x.mean_dim(D - 1);
        let var = centred.clone().square().mean_dim(D - 1);
        let y =
            centred / (var + self.eps).sqrt() * self.weight.val().unsqueeze() + self.bias.val().unsqueeze();
        y.cast(format)
    }
}
