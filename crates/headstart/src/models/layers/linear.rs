//! Fully connected layers.

use burn::Tensor;
use burn::module::{Module, Param};
use burn::tensor::{Device, module};

use super::{Act, Conv2d, ConvSpec, InnerOrSelf, Tokens};
use crate::fast::{self, Clamp, ConvGeometry, Fold, NormPlan, PackedSlot};
use crate::models::map::is_cpu;

/// A fully connected layer: `weight [out, in]`, `bias [out]`.
#[derive(Module, Debug)]
pub struct Linear {
    /// The matrix.
    pub weight: Param<Tensor<2>>,
    /// One number an output.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    packed: PackedSlot,
}

impl Linear {
    /// Makes the layer, all zeros.
    pub fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        let bias = Some(Param::from_tensor(Tensor::zeros([outputs], device)));
        Self { bias, ..Self::without_bias(inputs, outputs, device) }
    }

    /// Makes the layer without a bias, all zeros.
    pub fn without_bias(inputs: usize, outputs: usize, device: &Device) -> Self {
        let weight = Param::from_tensor(Tensor::zeros([outputs, inputs], device));
        Self { weight, bias: None, packed: PackedSlot::default() }
    }

    /// Multiplies, adds the bias, applies `act`.
    pub fn forward(&self, x: Tensor<2>, act: Act) -> Tensor<2> {
        let bias = self.bias.as_ref().map(Param::val);
        if is_cpu(&x.device()) {
            return act.finish(fast::linear(x, self.weight.val(), bias, act.clamp()));
        }
        let y = module::linear(x, self.weight.val().transpose(), bias);
        act.reference(y)
    }
}

/// What multiplies each token by a matrix: a linear layer, or a 1×1 convolution, whose checkpoint has four axes.
pub trait Dense: Module {
    /// Returns `[out, in]`.
    fn matrix(&self) -> Tensor<2>;
    /// Returns the bias, if there is one.
    fn offset(&self) -> Option<Tensor<1>>;
    /// Returns where packed weights are kept.
    fn slot(&self) -> &PackedSlot;
    /// Makes the layer with a bias, all zeros.
    fn make(inputs: usize, outputs: usize, device: &Device) -> Self;

    /// Multiplies each token, adds the bias, applies `act`.
    fn tokens(&self, x: Tokens, act: Act) -> Tokens {
        let fast = x.is_fast();
        x.apply(|x| {
            if fast {
                return act.finish(multiply(self, x, None, None, act.clamp()));
            }
            act.reference(module::linear(x, self.matrix().transpose(), self.offset()))
        })
    }

    /// Multiplies each token, adds the bias, weighs each channel by `scale` if given, and adds `residual`.
    fn join(&self, x: Tokens, scale: Option<&Param<Tensor<1>>>, residual: Tokens) -> Tokens {
        let fast = x.is_fast();
        let scale = scale.map(Param::val);
        residual.apply(|residual| {
            let x = x.into_tensor();
            if fast {
                return multiply(self, x, scale, Some(residual), Clamp::None);
            }
            let y = module::linear(x, self.matrix().transpose(), self.offset());
            residual + if let Some(scale) = scale { y * scale.unsqueeze() } else { y }
        })
    }
}

impl Dense for Linear {
    fn matrix(&self) -> Tensor<2> {
        self.weight.val()
    }

    fn offset(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }

    fn slot(&self) -> &PackedSlot {
        &self.packed
    }

    fn make(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self::new(inputs, outputs, device)
    }
}

impl Dense for Conv2d {
    fn matrix(&self) -> Tensor<2> {
        let spec = self.spec();
        assert!(spec.kernel == 1 && spec.stride == 1 && spec.groups == 1, "{spec:?} is no linear layer");
        self.weight.val().reshape([spec.c_out, spec.c_in])
    }

    fn offset(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }

    fn slot(&self) -> &PackedSlot {
        self.packed()
    }

    fn make(inputs: usize, outputs: usize, device: &Device) -> Self {
        ConvSpec::new(inputs, outputs, 1).with_bias().init(device)
    }
}

/// Runs on the CPU engine: one fused kernel at inference.
fn multiply<L: Dense>(
    layer: &L,
    x: Tensor<3>,
    scale: Option<Tensor<1>>,
    residual: Option<Tensor<3>>,
    clamp: Clamp,
) -> Tensor<3> {
    let [n, t, inputs] = x.dims();
    let (matrix, bias) = (layer.matrix(), layer.offset());
    let outputs = matrix.dims()[0];
    if x.device().is_autodiff() {
        let y = fast::linear(x.reshape([n * t, inputs]), matrix, bias, clamp);
        let y = y.reshape([n, t, outputs]);
        return match (scale, residual) {
            (Some(scale), residual) => weigh(y, scale, residual),
            (None, Some(residual)) => y + residual,
            (None, None) => y,
        };
    }
    // A 1×1 convolution over n·t pixels: packed once, and with all that follows in the same pass.
    let fold = match (scale, bias) {
        (None, None) => Fold::Nothing,
        (None, Some(bias)) => Fold::Bias(bias),
        (Some(scale), None) => Fold::Norm(identity(scale)),
        (Some(scale), Some(bias)) => Fold::BiasNorm(bias, identity(scale)),
    };
    let geometry = ConvGeometry { kernel: [1; 2], stride: [1; 2], pad: [0; 4], groups: 1 };
    let residual = residual.map(|r| r.reshape([1, 1, n * t, outputs]));
    let weight = matrix.reshape([outputs, inputs, 1, 1]);
    let x = x.reshape([1, 1, n * t, inputs]);
    let y = fast::conv_folded(x, weight, fold, residual, 0.0, geometry, clamp, layer.slot());
    y.reshape([n, t, outputs])
}

/// A BatchNorm that only scales: shift 0, mean 0, variance 1.
fn identity(scale: Tensor<1>) -> [Tensor<1>; 4] {
    let zeros = scale.zeros_like().inner_or_self();
    let ones = zeros.ones_like();
    let (shift, mean) = (zeros.clone(), zeros);
    [scale, shift, mean, ones]
}

/// Multiplies each channel by its factor and adds `residual`, in one pass.
fn weigh(x: Tensor<3>, scale: Tensor<1>, residual: Option<Tensor<3>>) -> Tensor<3> {
    let zeros = scale.zeros_like().detach();
    let stats = (zeros.clone(), zeros.ones_like());
    let plan = NormPlan { eps: 0.0, act: Clamp::None, batch_stats: false };
    fast::norm(x, scale, zeros, stats, residual, plan)
}
