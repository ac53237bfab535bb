//! Attention inside windows of a map, with Burn's operations around the linear layers.

use burn::Tensor;
use burn::module::{Module, Param};
use burn::tensor::{Device, TensorData, activation};

use super::rel_pos::{distances, pairs};
use super::{Act, Dense, Format, Linear, Linears, Map, Tokens};
use crate::models::macs;

/// Cosine attention in windows with a bias by distance: Liu et al., "Swin Transformer V2", 2022.
#[derive(Module, Debug)]
pub struct WindowAttention {
    logit_scale: Param<Tensor<3>>,
    q_bias: Param<Tensor<1>>,
    v_bias: Param<Tensor<1>>,
    /// From a distance, down and across, to a bias for each head.
    cpb_mlp: (Linear, Linear),
    qkv: Linear,
    proj: Linear,
    #[module(skip)]
    heads: usize,
}

impl WindowAttention {
    /// Makes the layer for `width` channels, all zeros.
    pub fn new(width: usize, heads: usize, device: &Device) -> Self {
        let bias = || Param::from_tensor(Tensor::zeros([width], device));
        Self {
            logit_scale: Param::from_tensor(Tensor::zeros([heads, 1, 1], device)),
            q_bias: bias(),
            v_bias: bias(),
            cpb_mlp: (Linear::new(2, 512, device), Linear::without_bias(512, heads, device)),
            qkv: Linear::without_bias(width, 3 * width, device),
            proj: Linear::new(width, width, device),
            heads,
        }
    }

    /// Lists its linear layers under `at`.
    pub fn linears<'a>(&'a mut self, at: &str, out: &mut Linears<'a>) {
        let (first, second) = &mut self.cpb_mlp;
        let named =
            [("cpb_mlp.0", first), ("cpb_mlp.1", second), ("qkv", &mut self.qkv), ("proj", &mut self.proj)];
        out.extend(named.map(|(name, layer)| (format!("{at}.{name}"), layer)));
    }

    /// Attends in windows of side `window` at most, moved by half a window if `shifts`.
    pub fn forward(&self, x: Map, window: usize, shifts: bool) -> Map {
        let [n, c, h, w] = x.dims();
        let side = [window.min(h), window.min(w)];
        let offset = |size: usize| if shifts && size > window { window / 2 } else { 0 };
        let shift = [offset(h), offset(w)];
        let padded = [h.next_multiple_of(side[0]), w.next_multiple_of(side[1])];
        let x = x.over_nhwc(|x| pad(roll(roll(x, 1, shift[0]), 2, shift[1]), padded[0], padded[1]));

        let bias = Tensor::cat(vec![self.q_bias.val(), self.q_bias.val().zeros_like(), self.v_bias.val()], 0);
        let qkv = self.qkv.tokens(Tokens::from_map(x), Act::None).apply(|qkv| {
            let bias = bias.like(&qkv);
            qkv + bias.unsqueeze()
        });
        let y = qkv.into_map().over_nhwc(|qkv| {
            let (rows, columns, t) = (padded[0] / side[0], padded[1] / side[1], side[0] * side[1]);
            let windows =
                qkv.reshape([n, rows, side[0], columns, side[1], 3 * c]).permute([0, 1, 3, 2, 4, 5]);
            let windows = windows.reshape([n * rows * columns, t, 3 * c]);
            let mask = shift.iter().any(|s| *s > 0).then(|| mask(padded, side, shift, &windows.device()));
            let y = self.attend(windows, side, mask).reshape([n, rows, columns, side[0], side[1], c]);
            y.permute([0, 1, 3, 2, 4, 5]).reshape([n, padded[0], padded[1], c])
        });
        let y = self.proj.tokens(Tokens::from_map(y), Act::None).into_map();
        y.over_nhwc(|y| {
            let y = y.narrow(1, 0, h).narrow(2, 0, w);
            roll(roll(y, 1, (h - shift[0]) % h), 2, (w - shift[1]) % w)
        })
    }

    /// `[windows, T, 3C]` to `[windows, T, C]`.
    fn attend(&self, qkv: Tensor<3>, side: [usize; 2], mask: Option<Tensor<3>>) -> Tensor<3> {
        let [b, t, c3] = qkv.dims();
        let heads = self.heads;
        if macs::add(2 * b * t * t * c3 / 3) {
            self.bias(side);
            return Tensor::zeros([b, t, c3 / 3], &qkv.device());
        }
        let (format, qkv) = (qkv.dtype(), qkv.wide());
        let split = qkv.reshape([b, t, 3, heads, c3 / 3 / heads]).permute([2, 0, 3, 1, 4]);
        let part = |i: usize| split.clone().narrow(0, i, 1).squeeze_dim::<4>(0); // [windows, heads, T, d]
        let direction = |x: Tensor<4>| {
            let length = x.clone().square().sum_dim(3).sqrt().clamp_min(1e-12);
            x / length
        };
        // A hundredfold at most.
        let scale = self.logit_scale.val().clamp_max(100_f64.ln()).exp();
        let logits = direction(part(0)).matmul(direction(part(1)).swap_dims(2, 3));
        let mut logits = logits * scale.unsqueeze() + self.bias(side).unsqueeze();
        if let Some(mask) = mask {
            let [windows, ..] = mask.dims();
            let apart = logits.reshape([b / windows, windows, heads, t, t]);
            logits = (apart + mask.reshape([1, windows, 1, t, t])).reshape([b, heads, t, t]);
        }
        let y = activation::softmax(logits, 3).matmul(part(2));
        y.permute([0, 2, 1, 3]).reshape([b, t, c3 / 3]).cast(format)
    }

    /// The bias of each pair of cells, `[heads, T, T]`.
    fn bias(&self, grid: [usize; 2]) -> Tensor<3> {
        // Distances on a logarithmic scale, 8 at the far end of the window.
        let scaled = |distance: f64, side: usize| {
            let distance = distance / (side as f64 - 1.0).max(1.0) * 8.0;
            (distance.signum() * (distance.abs() + 1.0).log2() / 8_f64.log2()) as f32
        };
        let table = distances(grid, scaled, &self.logit_scale.val().device());
        let (first, second) = &self.cpb_mlp;
        let table = second.forward(first.forward(table, Act::Relu), Act::None);
        activation::sigmoid(pairs(table, grid)) * 16.0
    }
}

/// Adds zeros at the bottom and right of `[N, H, W, C]`.
pub fn pad(x: Tensor<4>, height: usize, width: usize) -> Tensor<4> {
    let [n, h, w, c] = x.dims();
    let (device, format) = (x.device(), x.dtype());
    let zeros = |shape: [usize; 4]| Tensor::<4>::zeros(shape, (&device, format));
    let x = if w == width { x } else { Tensor::cat(vec![x, zeros([n, h, width - w, c])], 2) };
    if h == height { x } else { Tensor::cat(vec![x, zeros([n, height - h, width, c])], 1) }
}

/// Moves an axis towards its start by `by`; what leaves comes back at the end.
fn roll(x: Tensor<4>, axis: usize, by: usize) -> Tensor<4> {
    if by == 0 {
        return x;
    }
    let len = x.dims()[axis];
    Tensor::cat(vec![x.clone().narrow(axis, by, len - by), x.narrow(axis, 0, by)], axis)
}

/// After a shift some windows hold cells from opposite ends of the map, which must not attend to each other.
fn mask(padded: [usize; 2], side: [usize; 2], shift: [usize; 2], device: &Device) -> Tensor<3> {
    let region = |at: usize, axis: usize| {
        let size = padded[axis];
        usize::from(at + side[axis] >= size) + usize::from(shift[axis] > 0 && at + shift[axis] >= size)
    };
    let (rows, columns, t) = (padded[0] / side[0], padded[1] / side[1], side[0] * side[1]);
    let mut values = Vec::with_capacity(rows * columns * t * t);
    for window in 0..rows * columns {
        let of = |cell: usize| {
            let y = window / columns * side[0] + cell / side[1];
            let x = window % columns * side[1] + cell % side[1];
            (region(y, 0), region(x, 1))
        };
        let pairs = (0..t * t).map(|i| if of(i / t) == of(i % t) { 0.0_f32 } else { -100.0 });
        values.extend(pairs);
    }
    Tensor::from_data(TensorData::new(values, [rows * columns, t, t]), device)
}
