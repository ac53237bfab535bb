//! The two halves of a transformer's block: attention between tokens, and a perceptron on each.

use burn::Tensor;
use burn::module::{Module, Param};
use burn::tensor::{Bool, Device, activation};

use super::{Act, Branch, Format, GlobalResponseNorm, Linear, Linears, Tokens};
use crate::fast::{self, AttentionPlan};
use crate::models::macs;

/// Multi-head self-attention: Vaswani et al., "Attention Is All You Need", 2017.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, keys and values of all heads, `[3C, C]`.
    pub qkv: Linear,
    /// What joins the heads, `[C, C]`.
    pub proj: Linear,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    causal: bool,
}

impl Attention {
    /// Makes the layer for `width` channels, all zeros.
    pub fn new(width: usize, heads: usize, device: &Device) -> Self {
        let linear = |outputs| Linear::new(width, outputs, device);
        Self { qkv: linear(3 * width), proj: linear(width), heads, causal: false }
    }

    /// Lets each token see itself and those before it, as texts are read.
    pub fn causal(self) -> Self {
        Self { causal: true, ..self }
    }

    /// Lists its linear layers under `at`.
    pub fn linears<'a>(&'a mut self, at: &str, out: &mut Linears<'a>) {
        out.push((format!("{at}.qkv"), &mut self.qkv));
        out.push((format!("{at}.proj"), &mut self.proj));
    }

    /// Attends, weighs the result as `branch` says, adds it to `residual`.
    pub fn forward(&self, x: Tokens, branch: Branch<'_>, residual: Tokens) -> Tokens {
        let width = x.dims()[2];
        let factor = ((width / self.heads) as f64).powf(-0.5);
        let fast = x.is_fast();
        let qkv = self.qkv.tokens(x, Act::None);
        let y = qkv.apply(|qkv| {
            let [n, t, _] = qkv.dims();
            if macs::add(2 * n * t * t * width) {
                Tensor::zeros([n, t, width], (&qkv.device(), qkv.dtype()))
            } else if fast {
                let plan = AttentionPlan::new(width, self.heads);
                fast::attention(qkv, None, None, AttentionPlan { causal: self.causal, ..plan })
            } else {
                reference(qkv, self.heads, factor, self.causal)
            }
        });
        self.proj.join(y, branch, residual)
    }
}

fn reference(qkv: Tensor<3>, heads: usize, factor: f64, causal: bool) -> Tensor<3> {
    let [n, t, c3] = qkv.dims();
    let split = qkv.reshape([n, t, 3, heads, c3 / 3 / heads]).permute([2, 0, 3, 1, 4]);
    let part = |i: usize| split.clone().narrow(0, i, 1).squeeze_dim::<4>(0); // [N, heads, T, d]
    let mut logits = (part(0) * factor).matmul(part(1).swap_dims(2, 3));
    let format = logits.dtype();
    if causal {
        // True above the diagonal.
        let later = Tensor::<2, Bool>::tril_mask([t, t], 0, &logits.device());
        logits = logits.mask_fill(later.unsqueeze(), f32::NEG_INFINITY);
    }
    let p = activation::softmax(logits.wide(), 3).cast(format);
    p.matmul(part(2)).permute([0, 2, 1, 3]).reshape([n, t, c3 / 3])
}

/// A learned factor for each channel of a branch: Touvron et al., "Going deeper with image transformers", 2021.
#[derive(Module, Debug)]
pub struct LayerScale {
    /// The factors.
    pub gamma: Param<Tensor<1>>,
}

impl LayerScale {
    /// Makes the layer for `width` channels, all zeros.
    pub fn new(width: usize, device: &Device) -> Self {
        Self { gamma: Param::from_tensor(Tensor::zeros([width], device)) }
    }
}

/// Two linear layers with an activation between them; their matrices have `D` axes in the checkpoint.
#[derive(Module, Debug)]
pub struct Mlp<const D: usize = 2> {
    /// To the hidden width.
    pub fc1: Linear<D>,
    /// Weighs the hidden channels.
    pub grn: Option<GlobalResponseNorm>,
    /// Back.
    pub fc2: Linear<D>,
    #[module(skip)]
    act: Act,
}

impl<const D: usize> Mlp<D> {
    /// Makes the layer, all zeros.
    pub fn new(width: usize, hidden: usize, act: Act, device: &Device) -> Self {
        Self {
            fc1: Linear::new(width, hidden, device),
            grn: None,
            fc2: Linear::new(hidden, width, device),
            act,
        }
    }

    /// Adds a response norm between the two.
    pub fn with_grn(self, hidden: usize, device: &Device) -> Self {
        Self { grn: Some(GlobalResponseNorm::new(hidden, device)), ..self }
    }

    /// Lists its linear layers under `at`.
    pub fn linears<'a>(&'a mut self, at: &str, out: &mut Linears<'a>) {
        out.push((format!("{at}.fc1"), &mut self.fc1));
        out.push((format!("{at}.fc2"), &mut self.fc2));
    }

    /// Runs both, weighs the result as `branch` says, adds it to `residual`.
    pub fn forward(&self, x: Tokens, branch: Branch<'_>, residual: Tokens) -> Tokens {
        self.fc2.join(self.hidden(x), branch, residual)
    }

    /// Runs both and adds nothing.
    pub fn plain(&self, x: Tokens) -> Tokens {
        self.fc2.tokens(self.hidden(x), Act::None)
    }

    fn hidden(&self, x: Tokens) -> Tokens {
        let x = self.fc1.tokens(x, self.act);
        match &self.grn {
            Some(grn) => grn.tokens(x),
            None => x,
        }
    }
}
