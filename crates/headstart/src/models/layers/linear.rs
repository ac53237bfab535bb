//! Fully connected layers.

use burn::Tensor;
use burn::module::{Module, Param};
use burn::tensor::{Device, TensorData, module};

use super::{Act, Branch, Conv2d, ConvSpec, Format, Tokens};
use crate::fast::{self, Clamp, ConvGeometry, Fold, NormPlan, PackedSlot};
use crate::models::macs;
use crate::models::map::is_cpu;

/// A fully connected layer: `weight [out, in]`, `bias [out]`.
#[derive(Module, Debug)]
pub struct Linear {
    /// The matrix.
    pub weight: Param<Tensor<2>>,
    /// One number an output.
    pub bias: Option<Param<Tensor<1>>>,
    lora_a: Option<Param<Tensor<2>>>,
    lora_b: Option<Param<Tensor<2>>>,
    #[module(skip)]
    lora_scale: f64,
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
        let (lora_a, lora_b) = (None, None);
        Self { weight, bias: None, lora_a, lora_b, lora_scale: 0.0, packed: PackedSlot::default() }
    }

    /// Adds `scale · B A` to the matrix without touching it: `a [rank, in]`, `b [out, rank]`. Hu et al., "LoRA", ICLR 2022.
    pub fn adapt(&mut self, a: Tensor<2>, b: Tensor<2>, scale: f64) {
        (self.lora_a, self.lora_b) = (Some(Param::from_tensor(a)), Some(Param::from_tensor(b)));
        self.lora_scale = scale;
    }

    /// Tells whether something is added to the matrix.
    pub fn is_adapted(&self) -> bool {
        self.lora_a.is_some()
    }

    /// Makes what is added a part of the matrix.
    pub fn merge(&mut self) {
        let (Some(a), Some(b)) = (self.lora_a.take(), self.lora_b.take()) else { return };
        let [outputs, inputs] = self.weight.val().dims();
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
        let data = TensorData::new(sum.into_iter().map(|w| w as f32).collect::<Vec<_>>(), [outputs, inputs]);
        let old = self.weight.val();
        let new = Tensor::from_data(data, &old.device());
        self.weight = Param::from_tensor(new).set_require_grad(old.is_require_grad());
    }

    /// What is added to `x Wᵀ`: `scale · (x Aᵀ) Bᵀ`.
    fn low_rank(&self, x: Tensor<2>) -> Option<Tensor<2>> {
        let (a, b) = (self.lora_a.as_ref()?.val(), self.lora_b.as_ref()?.val());
        let y = if is_cpu(&x.device()) {
            fast::linear(fast::linear(x, a, None, Clamp::None), b, None, Clamp::None)
        } else {
            let (a, b) = (a.like(&x), b.like(&x));
            x.matmul(a.transpose()).matmul(b.transpose())
        };
        Some(y * self.lora_scale)
    }

    /// Multiplies, adds the bias, applies `act`.
    pub fn forward(&self, x: Tensor<2>, act: Act) -> Tensor<2> {
        let ([n, inputs], outputs) = (x.dims(), self.weight.val().dims()[0]);
        let added = self.low_rank(x.clone());
        if is_cpu(&x.device()) {
            let multiplied = |act| {
                multiply(self, self.offset(), x.reshape([1, n, inputs]), None, None, act)
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
        let bias = self.bias.as_ref().map(Param::val);
        let y = module::linear(x, self.weight.val().transpose(), bias);
        act.reference(if let Some(added) = added { y + added } else { y })
    }
}

/// Linear layers by module path.
pub type Linears<'a> = Vec<(String, &'a mut Linear)>;

/// What multiplies each token by a matrix: a linear layer, or a 1×1 convolution, whose checkpoint has four axes.
pub trait Dense: Module {
    /// Returns `[out, in]`.
    fn matrix(&self) -> Tensor<2>;
    /// Returns the bias, if there is one.
    fn offset(&self) -> Option<Tensor<1>>;
    /// Returns where packed weights are kept.
    fn slot(&self) -> &PackedSlot;
    /// Returns what an adapter adds to each token's outputs, if the layer has one.
    fn added(&self, x: &Tensor<3>) -> Option<Tensor<3>> {
        let _ = x;
        None
    }
    /// Makes the layer with a bias, all zeros.
    fn make(inputs: usize, outputs: usize, device: &Device) -> Self;

    /// Multiplies each token, adds the bias, applies `act`.
    fn tokens(&self, x: Tokens, act: Act) -> Tokens {
        self.tokens_plus(x, self.offset(), act)
    }

    /// Multiplies each token, adds `bias` instead of the layer's own, applies `act`.
    fn tokens_plus(&self, x: Tokens, bias: Option<Tensor<1>>, act: Act) -> Tokens {
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
    fn join(&self, x: Tokens, branch: Branch<'_>, residual: Tokens) -> Tokens {
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

    fn added(&self, x: &Tensor<3>) -> Option<Tensor<3>> {
        let [n, t, inputs] = x.dims();
        self.lora_a.as_ref()?;
        let y = self.low_rank(x.clone().reshape([n * t, inputs]))?;
        let outputs = y.dims()[1];
        Some(y.reshape([n, t, outputs]))
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

/// Runs with Burn's operations, in the format of `x`.
fn plain<L: Dense>(layer: &L, bias: Option<Tensor<1>>, x: Tensor<3>) -> Tensor<3> {
    let (matrix, bias) = (layer.matrix().like(&x), bias.map(|b| b.like(&x)));
    module::linear(x, matrix.transpose(), bias)
}

/// Runs on the CPU engine: one fused kernel at inference. What has a factor or a residual has no activation.
fn multiply<L: Dense>(
    layer: &L,
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
        let y = fast::linear(x.reshape([n * t, inputs]), matrix, bias, act.clamp());
        let y = act.finish(y).reshape([n, t, outputs]);
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
        (Some(scale), Some(bias)) => Fold::BiasScale(bias, scale),
        (Some(scale), None) => Fold::BiasScale(scale.zeros_like(), scale),
    };
    let geometry = ConvGeometry { kernel: [1; 2], stride: [1; 2], pad: [0; 4], groups: 1 };
    let residual = residual.map(|r| r.reshape([1, 1, n * t, outputs]));
    let weight = matrix.reshape([outputs, inputs, 1, 1]);
    let x = x.reshape([1, 1, n * t, inputs]);
    let y = fast::conv_folded(x, weight, fold, residual, 0.0, geometry, act.end(), layer.slot());
    y.reshape([n, t, outputs])
}

/// Multiplies each channel by its factor and adds `residual`, in one pass.
fn weigh(x: Tensor<3>, scale: Tensor<1>, residual: Option<Tensor<3>>) -> Tensor<3> {
    let zeros = scale.zeros_like().detach();
    let stats = (zeros.clone(), zeros.ones_like());
    let plan = NormPlan { eps: 0.0, act: Clamp::None, batch_stats: false };
    fast::norm(x, scale, zeros, stats, residual, plan)
}
