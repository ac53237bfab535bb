//! Convolution, alone and with what follows it.

use burn::Tensor;
use burn::module::{Module, Param};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, module};

use super::{Act, BatchNorm, Format, InnerOrSelf, Map};
use crate::fast::{self, ConvGeometry, Fold, PackedSlot};
use crate::models::macs;

/// A 2-D convolution: `weight [out, in / groups, kh, kw]`, optional `bias [out]`.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// The filters.
    pub weight: Param<Tensor<4>>,
    /// One number an output channel.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    shape: ConvSpec,
    #[module(skip)]
    packed: PackedSlot,
}

/// The fixed numbers of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvSpec {
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Kernel side.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// How the border is padded.
    pub padding: Padding,
    /// Channel groups.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

/// How a convolution pads its border with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// The same number of pixels on every side.
    Even(usize),
    /// TensorFlow's `SAME`: output = ⌈input / stride⌉, the odd pixel at the right and bottom.
    Same,
}

impl ConvSpec {
    /// A dense convolution without bias that keeps the size at stride 1.
    pub fn new(c_in: usize, c_out: usize, kernel: usize) -> Self {
        let padding = Padding::Even(kernel / 2);
        Self { c_in, c_out, kernel, stride: 1, padding, groups: 1, bias: false }
    }

    /// Sets the stride.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// Sets the padding.
    pub fn padding(self, padding: Padding) -> Self {
        Self { padding, ..self }
    }

    /// Sets the channel groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Adds a bias.
    pub fn with_bias(self) -> Self {
        Self { bias: true, ..self }
    }

    /// Makes the layer, all zeros.
    pub fn init(self, device: &Device) -> Conv2d {
        let shape = [self.c_out, self.c_in / self.groups, self.kernel, self.kernel];
        Conv2d {
            weight: Param::from_tensor(Tensor::zeros(shape, device)),
            bias: self.bias.then(|| Param::from_tensor(Tensor::zeros([self.c_out], device))),
            shape: self,
            packed: PackedSlot::default(),
        }
    }

    fn geometry(&self, height: usize, width: usize) -> ConvGeometry {
        let pad = match self.padding {
            Padding::Even(p) => [p; 4],
            Padding::Same => {
                let total = |size: usize| {
                    let out = size.div_ceil(self.stride);
                    ((out - 1) * self.stride + self.kernel).saturating_sub(size)
                };
                let (down, across) = (total(height), total(width));
                [down / 2, down - down / 2, across / 2, across - across / 2]
            }
        };
        ConvGeometry { kernel: [self.kernel; 2], stride: [self.stride; 2], pad, groups: self.groups }
    }
}

impl Conv2d {
    /// Returns the fixed numbers of the layer.
    pub fn spec(&self) -> &ConvSpec {
        &self.shape
    }

    /// Convolves, then applies `act`.
    pub fn forward(&self, x: Map, act: Act) -> Map {
        let [_, _, h, w] = x.dims();
        let geometry = self.shape.geometry(h, w);
        if let Some(y) = self.counted(&x, geometry) {
            return y;
        }
        let bias = self.bias.as_ref().map(Param::val);
        if !x.channels_last {
            return x.with(act.reference(self.reference(x.x.clone(), geometry, bias)));
        }
        if x.x.device().is_autodiff() {
            let y = fast::conv(x.x.clone(), self.weight.val(), bias, geometry, act.clamp());
            return x.with(act.finish(y));
        }
        let fold = bias.map_or(Fold::Nothing, Fold::Bias);
        let weight = self.weight.val();
        x.with(fast::conv_folded(x.x.clone(), weight, fold, None, 0.0, geometry, act.end(), &self.packed))
    }

    /// Counts its multiply-adds and makes zeros, if somebody counts.
    fn counted(&self, x: &Map, geometry: ConvGeometry) -> Option<Map> {
        let ([n, _, h, w], ConvSpec { c_in, c_out, kernel, stride, groups, .. }) = (x.dims(), self.shape);
        let [top, bottom, left, right] = geometry.pad;
        let (h, w) = ((h + top + bottom - kernel) / stride + 1, (w + left + right - kernel) / stride + 1);
        let shape = if x.channels_last { [n, h, w, c_out] } else { [n, c_out, h, w] };
        let products = n * h * w * c_out * (c_in / groups) * kernel * kernel;
        macs::add(products).then(|| x.with(Tensor::zeros(shape, &x.x.device())))
    }

    fn reference(&self, x: Tensor<4>, geometry: ConvGeometry, bias: Option<Tensor<1>>) -> Tensor<4> {
        let [top, bottom, left, right] = geometry.pad;
        let options = ConvOptions {
            stride: geometry.stride,
            padding: [(top, bottom), (left, right)],
            dilation: [1, 1],
            groups: geometry.groups,
        };
        let (weight, bias) = (self.weight.val().like(&x), bias.map(|b| b.like(&x)));
        module::conv2d(x, weight, bias, options)
    }
}

/// Runs convolution, BatchNorm, an optional residual and an activation: one kernel at inference.
pub fn conv_bn_act(conv: &Conv2d, bn: &BatchNorm, x: Map, residual: Option<Map>, act: Act) -> Map {
    if !x.channels_last || x.x.device().is_autodiff() {
        return bn.forward(conv.forward(x, Act::None), residual, act);
    }
    let [_, _, h, w] = x.dims();
    let geometry = conv.shape.geometry(h, w);
    if let Some(y) = conv.counted(&x, geometry) {
        return y;
    }
    let norm = [
        bn.weight.val(),
        bn.bias.val(),
        bn.running_mean.value().inner_or_self(),
        bn.running_var.value().inner_or_self(),
    ];
    let fold = match &conv.bias {
        None => Fold::Norm(norm),
        Some(bias) => Fold::BiasNorm(bias.val(), norm),
    };
    let residual = residual.map(|r| r.x);
    let y = fast::conv_folded(
        x.x.clone(),
        conv.weight.val(),
        fold,
        residual,
        bn.eps() as f32,
        geometry,
        act.end(),
        &conv.packed,
    );
    x.with(y)
}
