//! What weighs whole channels by looking at the whole picture.

use burn::Tensor;
use burn::module::{Module, Param};
use burn::tensor::Device;

use super::{Act, Conv2d, Format, Map, Tokens, adaptive_avg_pool};
use crate::fast;

/// Squeeze-and-excitation: averages each channel, runs two 1×1 convolutions, weighs the channels by the result.
/// Hu, Shen & Sun, CVPR 2018.
pub fn squeeze_excite(x: Map, reduce: &Conv2d, expand: &Conv2d, act: Act, gate: Act) -> Map {
    let mean = adaptive_avg_pool(x.clone(), [1, 1]);
    let factors = expand.forward(reduce.forward(mean, act), gate);
    if x.channels_last {
        let [n, c, ..] = x.dims();
        return x.with(fast::gate(x.x.clone(), factors.x.reshape([n, c])));
    }
    x.with(x.x.clone() * factors.x.like(&x.x))
}

/// Global response normalisation: each channel's norm over the picture, relative to the mean of all channels.
/// Woo et al., "ConvNeXt V2", 2023.
#[derive(Module, Debug)]
pub struct GlobalResponseNorm {
    /// Scale of the response.
    pub weight: Param<Tensor<1>>,
    /// Shift.
    pub bias: Param<Tensor<1>>,
}

impl GlobalResponseNorm {
    /// Makes the layer for `width` channels, all zeros.
    pub fn new(width: usize, device: &Device) -> Self {
        let zeros = || Param::from_tensor(Tensor::zeros([width], device));
        Self { weight: zeros(), bias: zeros() }
    }

    /// Weighs each channel and adds the input.
    pub fn tokens(&self, x: Tokens) -> Tokens {
        let fast = x.is_fast();
        x.apply(|x| {
            let (format, x) = (x.dtype(), x.wide());
            let norm = x.clone().square().sum_dim(1).sqrt(); // [N, 1, C]
            let response = norm.clone() / (norm.mean_dim(2) + 1e-6);
            let factors = response * self.weight.val().unsqueeze() + 1.0;
            let y = if fast { fast::gate(x, factors.squeeze_dim::<2>(1)) } else { x * factors };
            (y + self.bias.val().unsqueeze()).cast(format)
        })
    }
}
