//! The layers networks are made of, with the checkpoint's field names and two ways to run.
//!
//! A [`Map`] knows its memory layout: channels last on the CPU, where the operations of
//! [`crate::fast`] run, channels first elsewhere, where Burn's own do. Model files never see which.
//! Parameters start at zero; `init.rs` draws them or a checkpoint brings them.

use burn::Tensor;
use burn::module::{Flag, Module, Param, RunningState};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, activation, module};

pub(crate) use super::map::is_cpu;
use crate::fast::{self, ConvGeometry, Fold, NormPlan, PackedSlot, PoolGeometry};

pub use super::map::Map;
pub use crate::fast::Act;

/// Applies an activation with Burn's operations.
fn act_reference<const D: usize>(x: Tensor<D>, act: Act) -> Tensor<D> {
    match act {
        Act::None => x,
        Act::Relu => activation::relu(x),
        Act::Relu6 => x.clamp(0.0, 6.0),
    }
}

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
        let bias = self.bias.as_ref().map(Param::val);
        if !x.channels_last {
            return x.with(act_reference(self.reference(x.x.clone(), geometry, bias), act));
        }
        if x.x.device().is_autodiff() {
            return x.with(fast::conv(x.x.clone(), self.weight.val(), bias, geometry, act));
        }
        let fold = bias.map_or(Fold::Nothing, Fold::Bias);
        x.with(fast::conv_folded(
            x.x.clone(),
            self.weight.val(),
            fold,
            None,
            0.0,
            geometry,
            act,
            &self.packed,
        ))
    }

    fn reference(&self, x: Tensor<4>, geometry: ConvGeometry, bias: Option<Tensor<1>>) -> Tensor<4> {
        let [top, bottom, left, right] = geometry.pad;
        let options = ConvOptions {
            stride: geometry.stride,
            padding: [(top, bottom), (left, right)],
            dilation: [1, 1],
            groups: geometry.groups,
        };
        module::conv2d(x, self.weight.val(), bias, options)
    }
}

/// Batch normalisation over channels, for maps and for embeddings.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale.
    pub weight: Param<Tensor<1>>,
    /// Shift.
    pub bias: Param<Tensor<1>>,
    /// Running mean, used when the statistics are frozen.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running variance (unbiased), used when the statistics are frozen.
    pub running_var: RunningState<Tensor<1>>,
    /// Whether batches normalise by their own statistics and move the running ones.
    pub training: Param<Flag>,
    #[module(skip)]
    eps: f64,
    #[module(skip)]
    momentum: f64,
}

impl BatchNorm {
    /// Makes a layer for `channels` channels with PyTorch's momentum of 0.1.
    pub fn new(channels: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([channels], device)),
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
            running_mean: RunningState::new(Tensor::zeros([channels], device)),
            running_var: RunningState::new(Tensor::ones([channels], device)),
            training: Param::from_bool(true),
            eps,
            momentum: 0.1,
        }
    }

    /// Normalises a map, adds `residual`, applies `act`.
    pub fn forward(&self, x: Map, residual: Option<Map>, act: Act) -> Map {
        if x.channels_last {
            let y = self.fast(x.x.clone(), residual.map(|r| r.x), act);
            return x.with(y);
        }
        let mut y = self.reference(x.x.clone());
        if let Some(residual) = residual {
            y = y + residual.x;
        }
        x.with(act_reference(y, act))
    }

    /// Normalises embeddings `[N, C]`.
    pub fn forward_flat(&self, x: Tensor<2>) -> Tensor<2> {
        if is_cpu(&x.device()) { self.fast(x, None, Act::None) } else { self.reference(x) }
    }

    fn uses_batch(&self, device: &Device) -> bool {
        device.is_autodiff() && self.training.val().is_enabled()
    }

    fn fast<const D: usize>(&self, x: Tensor<D>, residual: Option<Tensor<D>>, act: Act) -> Tensor<D> {
        let device = x.device();
        let batch_stats = self.uses_batch(&device);
        let stats = if batch_stats {
            let (mean, var) = fast::stats(x.clone());
            let dims = x.dims();
            let rows = dims.iter().product::<usize>() / dims[D - 1];
            self.move_running(&mean, &var, rows);
            (mean, var)
        } else {
            let on = |t: Tensor<1>| t.to_device(&device);
            (on(self.running_mean.value()), on(self.running_var.value()))
        };
        let plan = NormPlan { eps: self.eps as f32, act, batch_stats };
        fast::norm(x, self.weight.val(), self.bias.val(), stats, residual, plan)
    }

    fn reference<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let device = x.device();
        if self.uses_batch(&device) {
            let dims = x.dims();
            let rows = dims.iter().product::<usize>() / dims[1];
            let out = module::batch_norm_train(x, self.weight.val(), self.bias.val(), self.eps);
            // Burn hands back the biased variance, as our kernel does.
            self.move_running(&out.mean.detach(), &out.variance.detach(), rows);
            return out.output;
        }
        let (mean, var) = (self.running_mean.value(), self.running_var.value());
        let (mean, var) = (mean.to_device(&device), var.to_device(&device));
        module::batch_norm(x, self.weight.val(), self.bias.val(), mean, var, self.eps)
    }

    /// Moves the running statistics; like PyTorch, the variance it remembers is the unbiased one.
    fn move_running(&self, mean: &Tensor<1>, var: &Tensor<1>, rows: usize) {
        let unbias = rows as f64 / (rows as f64 - 1.0).max(1.0);
        let blend = |old: Tensor<1>, new: Tensor<1>| {
            let old = old.inner_or_self();
            old * (1.0 - self.momentum) + new * self.momentum
        };
        let mean = mean.clone().inner_or_self();
        let var = var.clone().inner_or_self() * unbias;
        self.running_mean.update(blend(self.running_mean.value_sync(), mean));
        self.running_var.update(blend(self.running_var.value_sync(), var));
        // An update waits until the next one unless it is asked for; checkpoints must not miss the last.
        self.running_mean.value_sync();
        self.running_var.value_sync();
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

/// Runs convolution, BatchNorm, an optional residual and an activation: one kernel at inference.
pub fn conv_bn_act(conv: &Conv2d, bn: &BatchNorm, x: Map, residual: Option<Map>, act: Act) -> Map {
    if !x.channels_last || x.x.device().is_autodiff() {
        return bn.forward(conv.forward(x, Act::None), residual, act);
    }
    let [_, _, h, w] = x.dims();
    let geometry = conv.shape.geometry(h, w);
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
        bn.eps as f32,
        geometry,
        act,
        &conv.packed,
    );
    x.with(y)
}

/// Max-pools with an even padding.
pub fn max_pool(x: Map, kernel: usize, stride: usize, pad: usize) -> Map {
    if x.channels_last {
        return x.with(fast::max_pool(x.x.clone(), PoolGeometry { kernel, stride, pad }));
    }
    let options = MaxPoolOptions {
        kernel_size: [kernel; 2],
        stride: [stride; 2],
        padding: [(pad, pad); 2],
        dilation: [1; 2],
        ceil_mode: false,
    };
    x.with(module::max_pool2d(x.x.clone(), options))
}

/// Averages to a given height and width: `AdaptiveAvgPool2d`.
pub fn adaptive_avg_pool(x: Map, size: [usize; 2]) -> Map {
    if x.channels_last {
        return x.with(fast::avg_pool(x.x.clone(), size));
    }
    x.with(module::adaptive_avg_pool2d(x.x.clone(), size))
}

/// Averages over height and width: `[N, C, H, W]` → `[N, C]`.
pub fn global_avg_pool(x: Map) -> Tensor<2> {
    let [n, c, ..] = x.dims();
    adaptive_avg_pool(x, [1, 1]).x.reshape([n, c])
}

/// A fully connected layer: `weight [out, in]`, `bias [out]`.
#[derive(Module, Debug)]
pub struct Linear {
    /// The matrix.
    pub weight: Param<Tensor<2>>,
    /// One number an output.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// Makes the layer, all zeros.
    pub fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::zeros([outputs, inputs], device)),
            bias: Some(Param::from_tensor(Tensor::zeros([outputs], device))),
        }
    }

    /// Multiplies, adds the bias, applies `act`.
    pub fn forward(&self, x: Tensor<2>, act: Act) -> Tensor<2> {
        let bias = self.bias.as_ref().map(Param::val);
        if is_cpu(&x.device()) {
            return fast::linear(x, self.weight.val(), bias, act);
        }
        let y = module::linear(x, self.weight.val().transpose(), bias);
        act_reference(y, act)
    }
}
