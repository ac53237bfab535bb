//! Fully connected layers.

use burn::Tensor;
use burn::module::{Module, Param};
use burn::tensor::{Device, TensorData, module};

use super::{Act, Branch, Format, Tokens};
use crate::fast::{self, Clamp, ConvGeometry, Fold, NormPlan, PackedSlot};
use crate::models::macs;
use crate::models::map::is_cpu;

/// A layer that bears a low-rank adapter: Hu et al., "LoRA", ICLR 2022.
pub trait Adapted {
    /// Returns its outputs and inputs.
    fn size(&self) -> [usize; 2];
    /// Returns the device its matrix is on.
    fn device(&self) -> Device;
    /// Adds `scale · B A` to the matrix without touching it: `a [rank, in]`, `b [out, rank]`.
    fn adapt(&mut self, a: Tensor<2>, b: Tensor<2>, scale: f64);
    /// Tells whether something is added to the matrix.
    fn is_adapted(&self) -> bool;
    /// Makes what is added a part of the matrix.
    fn merge(&mut self);
}

/// Linear layers by module path.
pub type Linears<'a> = Vec<(String, &'a mut dyn Adapted)>;

/// A fully connected layer: `weight [out, in]`, `bias [out]`; with more axes in a checkpoint that calls it a convolution.
#[derive(Module, Debug)]
pub struct Linear<const D: usize = 2> {
    /// The matrix, `[out, in, 1, …]`.
    pub weight: Param<Tensor<D>>,
    /// One number an output.
    pub bias: Option<Param<Tensor<1>>>,
    lora_a: Option<Param<Tensor<2>>>,
    lora_b: Option<Param<Tensor<2>>>,
    #[module(skip)]
    lora_scale: f64,
    #[module(skip)]
    packed: PackedSlot,
}

/// A 1×1 convolution that multiplies each token by a matrix: `weight [out, in, 1, 1]`.
pub type Pointwise = Linear<4>;

impl<const D: usize> Linear<D> {
    /// Makes the layer, all zeros.
    pub fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        let bias = Some(Param::from_tensor(Tensor::zeros([outputs], device)));
        Self { bias, ..Self::without_bias(inputs, outputs, device) }
    }

    /// Makes the layer without a bias, all zeros.
    pub fn without_bias(inputs: usize, outputs: usize, device: &Device) -> Self {
        let mut shape = [1; D];
        (shape[0], shape[1]) = (outputs, inputs);
        let weight = Param::from_tensor(Tensor::zeros(shape, device));
        let (lora_a, lora_b) = (None, None);
        Self { weight, bias: None, lora_a, lora_b, lora_scale: 0.0, packed: PackedSlot::default() }
    }

    /// Returns `[out, in]`.
    fn matrix(&self) -> Tensor<2> {
        let weight = self.weight.val();
        let [outputs, inputs] = self.size();
        weight.reshape([outputs, inputs])
    }

    fn offset(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }

    /// What is added to `x Wᵀ`: `scale · (x Aᵀ) Bᵀ`.
    fn low_rank(&self, x: Tensor<2>) -> Option<Tensor<2>> {
        let (a, b) = (self.lora_a.as_ref()?.val(), self.lora_b.as_ref()?.val());
        let y = if is_cpu(&x.device()) {
            fast::linear(fast::linear(x, a, None, None, Clamp::None), b, None, None, Clamp::None)
        } else {
            let (a, b) = (a.like(&x), b.like(&x));
            x.matmul(a.transpose()).matmul(b.transpose())
        };
        Some(y * self.lora_scale)
    }

    /// Multiplies, adds the bias, applies `act`.
    pub fn forward(&self, x: Tensor<2>, act: Act) -> Tensor<2> {
        let ([n, inputs], [outputs, _]) = (x.dims(), self.size());
        let added = self.low_rank(x.clone());
        if is_cpu(&x.device()) {
            let multiplied = |act| {
                multiply(self, self.offset(), x.reshape([n, 1, inputs]), None, None, act)
                    .reshape([n, outputs])
            };
            return match added {
                None => multiplied(act),
                Some(added) => act.fast(multiplied(Act::None) + added),
            };
        }
        if macs::add(n * inputs * outputs) {
            return Tensor::zeros([n, outputs], &x.device());
        }
        let y = module::linear(x, self.matrix().transpose(), self.offset());
        act.reference(if let Some(added) = added { y + added } else { y })
    }

    /// Multiplies each token, adds the bias, applies `act`.
    pub fn tokens(&self, x: Tokens, act: Act) -> Tokens {
        self.tokens_plus(x, self.offset(), act)
    }

    /// Multiplies each token, adds `bias` instead of the layer's own, applies `act`.
    pub fn tokens_plus(&self, x: Tokens, bias: Option<Tensor<1>>, act: Act) -> Tokens {
        let fast = x.is_fast();
        x.apply(|x| {
            let added = self.added(&x);
            match (fast, added) {
                (true, None) => multiply(self, bias, x, None, None, act),
                (true, Some(added)) => act.fast(multiply(self, bias, x, None, None, Act::None) + added),
                (false, added) => {
                    let y = plain(self, bias, x);
                    act.reference(if let Some(added) = added { y + added } else { y })
                }
            }
        })
    }

    /// Multiplies each token, adds the bias, weighs the result as `branch` says, and adds `residual`.
    pub fn join(&self, x: Tokens, branch: Branch<'_>, residual: Tokens) -> Tokens {
        let fast = x.is_fast();
        let Branch { scale, drop } = branch;
        let scale = scale.map(Param::val);
        residual.apply(|residual| {
            let x = x.into_tensor();
            let added = self.added(&x);
            if fast && added.is_none() && !drop.drops(&x.device()) {
                return multiply(self, self.offset(), x, scale, Some(residual), Act::None);
            }
            let bias = self.offset();
            let y = if fast { multiply(self, bias, x, None, None, Act::None) } else { plain(self, bias, x) };
            let y = if let Some(added) = added { y + added } else { y };
            let y = if let Some(scale) = scale { y.clone() * scale.like(&y).unsqueeze() } else { y };
            residual + drop.apply(y)
        })
    }

    /// Returns what an adapter adds to each token's outputs, if the layer has one.
    fn added(&self, x: &Tensor<3>) -> Option<Tensor<3>> {
        let ([n, t, inputs], [outputs, _]) = (x.dims(), self.size());
        self.lora_a.as_ref()?;
        Some(self.low_rank(x.clone().reshape([n * t, inputs]))?.reshape([n, t, outputs]))
    }
}

impl<const D: usize> Adapted for Linear<D> {
    fn size(&self) -> [usize; 2] {
        let shape = self.weight.lazy_shape();
        [shape[0], shape[1]]
    }

    fn device(&self) -> Device {
        self.weight.val().device()
    }

    fn adapt(&mut self, a: Tensor<2>, b: Tensor<2>, scale: f64) {
        (self.lora_a, self.lora_b) = (Some(Param::from_tensor(a)), Some(Param::from_tensor(b)));
        self.lora_scale = scale;
    }

    fn is_adapted(&self) -> bool {
        self.lora_a.is_some()
    }

    fn merge(&mut self) {
        let (Some(a), Some(b)) = (self.lora_a.take(), self.lora_b.take()) else { return };
        let [_, inputs] = self.size();
        let rank = a.val().dims()[0];
        let (a, b) = (crate::models::values(&a.val()), crate::models::values(&b.val()));
        let mut sum: Vec<f64> =
            crate::models::values(&self.weight.val()).into_iter().map(f64::from).collect();
        for (row, b) in sum.chunks_exact_mut(inputs).zip(b.chunks_exact(rank)) {
            for (b, a) in b.iter().zip(a.chunks_exact(inputs)) {
                let factor = self.lora_scale * f64::from(*b);
                row.iter_mut().zip(a).for_each(|(w, a)| *w += factor * f64::from(*a));
            }
        }
        let old = self.weight.val();
        let data = TensorData::new(sum.into_iter().map(|w| w as f32).collect::<Vec<_>>(), old.dims());
        let new = Tensor::<D>::from_data(data, &old.device());
        self.weight = Param::from_tensor(new).set_require_grad(old.is_require_grad());
    }
}

/// Runs with Burn's operations, in the format of `x`.
fn plain<const D: usize>(layer: &Linear<D>, bias: Option<Tensor<1>>, x: Tensor<3>) -> Tensor<3> {
    let (matrix, bias) = (layer.matrix().like(&x), bias.map(|b| b.like(&x)));
    module::linear(x, matrix.transpose(), bias)
}

/// Runs on the CPU engine: one fused kernel at inference. What has a factor or a residual has no activation.
fn multiply<const D: usize>(
    layer: &Linear<D>,
    bias: Option<Tensor<1>>,
    x: Tensor<3>,
    scale: Option<Tensor<1>>,
    residual: Option<Tensor<3>>,
    act: Act,
) -> Tensor<3> {
    let [n, t, inputs] = x.dims();
    let matrix = layer.matrix();
    let outputs = matrix.dims()[0];
    if macs::add(n * t * inputs * outputs) {
        return Tensor::zeros([n, t, outputs], &x.device());
    }
    if x.device().is_autodiff() {
        let multiply = |residual| act.finish(fast::linear(x, matrix, bias, residual, act.clamp()));
        return match scale {
            Some(scale) => weigh(multiply(None), scale, residual),
            None => multiply(residual),
        };
    }
    // A 1×1 convolution over pictures of one row: packed once, and with all that follows in the same pass.
    let fold = match (scale, bias) {
        (None, None) => Fold::Nothing,
        (None, Some(bias)) => Fold::Bias(bias),
        (Some(scale), Some(bias)) => Fold::BiasScale(bias, scale),
        (Some(scale), None) => Fold::BiasScale(scale.zeros_like(), scale),
    };
    let geometry = ConvGeometry { kernel: [1; 2], stride: [1; 2], pad: [0; 4], groups: 1 };
    let residual = residual.map(|r| r.reshape([n, 1, t, outputs]));
    let weight = matrix.reshape([outputs, inputs, 1, 1]);
    let x = x.reshape([n, 1, t, inputs]);
    let y = fast::conv_folded(x, weight, fold, residual, 0.0, geometry, act.end(), &layer.packed);
    y.reshape([n, t, outputs])
}

/// Multiplies each channel by its factor and adds `residual`, in one pass.
fn weigh(x: Tensor<3>, scale: Tensor<1>, residual: Option<Tensor<3>>) -> Tensor<3> {
    let zeros = scale.zeros_like().detach();
    let stats = (zeros.clone(), zeros.ones_like());
    let plan = NormPlan { eps: 0.0, act: Clamp::None, batch_stats: false };
    fast::norm(x, scale, zeros, stats, residual, plan)
}
