//! Attention inside windows of a map.

use std::sync::Arc;

use burn::Tensor;
use burn::module::{Module, Param};
use burn::tensor::{Device, TensorData, activation};

use super::rel_pos::{distances, pairs};
use super::{Act, Format, Linear, Linears, Map, Tokens};
use crate::fast::{self, APART, AttentionPlan, Windows};
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
        out.push((format!("{at}.cpb_mlp.0"), first));
        out.push((format!("{at}.cpb_mlp.1"), second));
        out.push((format!("{at}.qkv"), &mut self.qkv));
        out.push((format!("{at}.proj"), &mut self.proj));
    }

    /// Attends in windows of side `window` at most, moved by half a window if `shifts`.
    pub fn forward(&self, x: Map, window: usize, shifts: bool) -> Map {
        let [n, c, h, w] = x.dims();
        let side = [window.min(h), window.min(w)];
        let offset = |size: usize| if shifts && size > window { window / 2 } else { 0 };
        let shift = [offset(h), offset(w)];
        let [rows, columns] = [h.next_multiple_of(side[0]), w.next_multiple_of(side[1])];
        // The kernel reads shifted windows from where they lie, unless zeros come between.
        let moves = !x.is_fast() || [rows, columns] != [h, w];
        let move_back = |y: Tensor<4>| {
            let y = y.narrow(1, 0, h).narrow(2, 0, w);
            roll(roll(y, 1, (h - shift[0]) % h), 2, (w - shift[1]) % w)
        };
        let x = if moves {
            x.over_nhwc(|x| pad(roll(roll(x, 1, shift[0]), 2, shift[1]), rows, columns))
        } else {
            x
        };
        let bias = Tensor::cat(vec![self.q_bias.val(), self.q_bias.val().zeros_like(), self.v_bias.val()], 0);
        let qkv = self.qkv.tokens_plus(Tokens::from_map(x), Some(bias), Act::None);
        let grid = WindowGrid { size: [rows, columns], side, shift };
        let fast = qkv.is_fast();
        let y = qkv.apply(|qkv| {
            if macs::add(2 * n * rows * columns * side[0] * side[1] * c) {
                self.bias(side);
                return Tensor::zeros([n, rows * columns, c], (&qkv.device(), qkv.dtype()));
            }
            if fast { self.attend(qkv, &grid, moves) } else { self.reference(qkv, &grid) }
        });
        let y = self.proj.tokens(y, Act::None).into_map();
        if moves { y.over_nhwc(move_back) } else { y }
    }

    /// A hundredfold at most.
    fn scales(&self) -> Tensor<1> {
        self.logit_scale.val().clamp_max(100_f64.ln()).exp().reshape([self.heads])
    }

    /// Attends with the CPU engine: `[N, H·W, 3C]` to `[N, H·W, C]`.
    fn attend(&self, qkv: Tensor<3>, grid: &WindowGrid, moved: bool) -> Tensor<3> {
        let windows = Windows::new(grid.cells(!moved), grid.regions());
        let plan = AttentionPlan {
            heads: self.heads,
            scale: 1.0,
            causal: false,
            by_head: false,
            cosine: true,
            windows: Some((grid.count(), Arc::new(windows))),
        };
        fast::attention(qkv, Some(self.bias(grid.side)), Some(self.scales()), plan)
    }

    /// The same with Burn's operations, on maps that have been moved.
    fn reference(&self, qkv: Tensor<3>, grid: &WindowGrid) -> Tensor<3> {
        let ([n, cells, c3], heads) = (qkv.dims(), self.heads);
        let (format, qkv) = (qkv.dtype(), qkv.wide());
        let ([rows, columns], side) = (grid.windows(), grid.side);
        let (windows, t, d) = (rows * columns, side[0] * side[1], c3 / 3 / heads);
        let split = qkv.reshape([n, rows, side[0], columns, side[1], 3 * heads * d]);
        let split = split.permute([0, 1, 3, 2, 4, 5]).reshape([n * windows, t, 3, heads, d]);
        let split = split.permute([2, 0, 3, 1, 4]);
        let part = |i: usize| split.clone().narrow(0, i, 1).squeeze_dim::<4>(0); // [windows, heads, T, d]
        let direction = |x: Tensor<4>| {
            let length = x.clone().square().sum_dim(3).sqrt().clamp_min(1e-12);
            x / length
        };
        let logits = direction(part(0)).matmul(direction(part(1)).swap_dims(2, 3));
        let scales = self.scales().reshape([1, heads, 1, 1]);
        let mut logits = logits * scales + self.bias(side).unsqueeze();
        if let Some(regions) = grid.regions() {
            let regions = TensorData::new(regions, [1, windows, 1, t]);
            let regions = Tensor::<4>::from_data(regions, &logits.device());
            let own = regions.clone().swap_dims(2, 3).expand([1, windows, t, t]);
            let apart = own.not_equal(regions.expand([1, windows, t, t])).float() * APART;
            let all = logits.reshape([n, windows, heads, t, t]) + apart.unsqueeze_dim::<5>(2);
            logits = all.reshape([n * windows, heads, t, t]);
        }
        let y = activation::softmax(logits, 3).matmul(part(2));
        let y = y.permute([0, 2, 1, 3]).reshape([n, rows, columns, side[0], side[1], heads * d]);
        y.permute([0, 1, 3, 2, 4, 5]).reshape([n, cells, heads * d]).cast(format)
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
        pairs(activation::sigmoid(table) * 16.0, grid)
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

/// How a map is cut into windows after its shift.
struct WindowGrid {
    /// Rows and columns of the map, whole windows.
    size: [usize; 2],
    /// Rows and columns of a window.
    side: [usize; 2],
    /// Cells by which the map moves up and to the left.
    shift: [usize; 2],
}

impl WindowGrid {
    /// Rows and columns of windows.
    fn windows(&self) -> [usize; 2] {
        [self.size[0] / self.side[0], self.size[1] / self.side[1]]
    }

    fn count(&self) -> usize {
        self.windows().iter().product()
    }

    /// Rows and columns of the cells of each window in turn, in the moved map.
    fn places(&self) -> impl Iterator<Item = [usize; 2]> + use<'_> {
        let ([rows, columns], [height, width]) = (self.windows(), self.side);
        (0..rows * columns).flat_map(move |window| {
            let (y, x) = (window / columns * height, window % columns * width);
            (0..height * width).map(move |cell| [y + cell / width, x + cell % width])
        })
    }

    /// Where the cells lie in the map: in that before its shift, or in the moved one.
    fn cells(&self, before: bool) -> Vec<u32> {
        let [h, w] = self.size;
        let [down, across] = if before { self.shift } else { [0; 2] };
        self.places().map(|[y, x]| ((y + down) % h * w + (x + across) % w) as u32).collect()
    }

    /// After a shift some windows hold cells from opposite ends of the map, which must not attend to each other: the
    /// number of each cell's region, if there are several.
    fn regions(&self) -> Option<Vec<f32>> {
        if self.shift == [0; 2] {
            return None;
        }
        let region = |at: usize, axis: usize| {
            let (size, shift) = (self.size[axis], self.shift[axis]);
            usize::from(at + self.side[axis] >= size) + usize::from(shift > 0 && at + shift >= size)
        };
        Some(self.places().map(|[y, x]| (region(y, 0) * 3 + region(x, 1)) as f32).collect())
    }
}
