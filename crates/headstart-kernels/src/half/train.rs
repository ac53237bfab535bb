//! A training step's convolutions on bf16 maps: forward and both gradients, with weights and their gradient in f32.

use super::bf16::{from_f32_at, round, to_f32_at, widen};
use super::{PackedDepthwiseHalf, Pairs, check_len, depthwise};
#[cfg(target_arch = "x86_64")]
use super::{panel, weight};
use crate::conv::{self, ConvShape, choose};
use crate::narrow::{self, Place};
use crate::scratch::{self, buffer};
use crate::simd::{Bounds, convert};
use crate::{Act, Level};

/// Computes `y = act(conv(x) + bias)` with weights in `OIHW`, rounding and packing them on the way.
///
/// `x` is `[n, h, w, c_in]`, `y` `[n, out_h, out_w, c_out]`. Panics if a length does not fit `shape`.
pub fn forward(shape: &ConvShape, x: &[u16], w: &[f32], bias: Option<&[f32]>, act: Act, y: &mut [u16]) {
    forward_at(Level::current(), shape, x, w, bias, act, y);
}

/// Computes the gradient of the input, `dx`, from that of the output.
///
/// Panics if a length does not fit `shape`.
pub fn backward_data(shape: &ConvShape, dy: &[u16], w: &[f32], dx: &mut [u16]) {
    backward_data_at(Level::current(), shape, dy, w, dx);
}

/// Computes the gradient of the weight, `dw` in `OIHW`, in f32.
///
/// Panics if a length does not fit `shape`.
pub fn backward_weight(shape: &ConvShape, x: &[u16], dy: &[u16], dw: &mut [f32]) {
    backward_weight_at(Level::current(), shape, x, dy, dw);
}

pub(super) fn forward_at(
    level: Level,
    s: &ConvShape,
    x: &[u16],
    w: &[f32],
    bias: Option<&[f32]>,
    act: Act,
    y: &mut [u16],
) {
    s.check();
    check_len("x", x.len(), s.x_len());
    check_len("weight", w.len(), s.w_len());
    check_len("y", y.len(), s.y_len());
    if let Some(bias) = bias {
        check_len("bias", bias.len(), s.c_out);
    }
    if s.is_depthwise() {
        let packed = PackedDepthwiseHalf::new(s, w, bias);
        return depthwise::forward_at(level, s, x, &packed, act, y);
    }
    if !level.has_bf16() {
        let mut wide = buffer(s.y_len());
        conv::forward_act(level, s, &widened(level, x), &rounded(level, w), bias, act, &mut wide);
        return from_f32_at(level, &wide, y);
    }
    if let Some(layer) = choose::half::of_forward(s) {
        return choose::half::forward(level, &layer, s, x, &rounded(level, w), bias, act, y);
    }
    let zeros;
    let bias = match bias {
        Some(bias) => bias,
        None => {
            zeros = vec![0.0; s.c_out];
            &zeros
        }
    };
    let (taps, depth) = (s.kh * s.kw, s.group_in());
    let k = depth * taps;
    for group in 0..s.groups {
        let first = group * s.group_out();
        scratch::with_plain(narrow::panels_len(s.group_out(), narrow::words::<u16>(s)), |panels| {
            if depth % 2 == 0 {
                #[cfg(target_arch = "x86_64")]
                {
                    let order: Vec<usize> = (0..taps).collect();
                    let (from, col) = (first * k, k);
                    let source = panel::Source { w, from, col, depth: taps, kernel: taps, taps: &order };
                    panel::pack(&source, s.group_out(), depth, panels);
                }
            } else {
                narrow::pack::<u16>(s, group, |o, i| u32::from(round(w[o * k + i])), panels);
            }
            let bias = &bias[first..][..s.group_out()];
            narrow::run(&Pairs { bias, bounds: Bounds::of(act) }, s, group, x, panels, None, y);
        });
    }
}

pub(super) fn backward_data_at(level: Level, s: &ConvShape, dy: &[u16], w: &[f32], dx: &mut [u16]) {
    s.check();
    check_len("dy", dy.len(), s.y_len());
    check_len("weight", w.len(), s.w_len());
    check_len("dx", dx.len(), s.x_len());
    if s.is_depthwise() || !level.has_bf16() {
        let (mut wide, dy, w) = (buffer(s.x_len()), widened(level, dy), rounded(level, w));
        if s.is_depthwise() {
            crate::depthwise::backward_data_at(level, s, &dy, &w, &mut wide);
        } else {
            conv::backward_data_level(level, s, &dy, &w, &mut wide);
        }
        return from_f32_at(level, &wide, dx);
    }
    if let Some(layer) = choose::half::of_backward(s) {
        return choose::half::backward_data(level, &layer, s, dy, &rounded(level, w), dx);
    }
    let phases = [0, 1].map(|axis| Phase::all(s, axis));
    // Input pixels that no output reads have no phase of their own.
    if phases.iter().flatten().any(|phase| phase.taps.is_empty()) {
        dx.fill(0);
    }
    for down in phases[0].iter().filter(|phase| !phase.taps.is_empty()) {
        for across in phases[1].iter().filter(|phase| !phase.taps.is_empty()) {
            backward_phase(s, [down, across], dy, w, dx);
        }
    }
}

/// Input rows (or columns) whose position plus padding has the same remainder by the stride. They see the same taps, so
/// they are a forward convolution of stride 1 over `dy` with those taps.
struct Phase {
    /// The first position, and how many there are.
    at: usize,
    count: usize,
    /// The taps, in the order of the positions of `dy` under them, which are neighbours.
    taps: Vec<usize>,
    /// The first of those positions for the first input position.
    origin: isize,
}

impl Phase {
    fn all(s: &ConvShape, axis: usize) -> Vec<Self> {
        let [len, kernel] = [[s.h, s.kh], [s.w, s.kw]][axis];
        let (stride, pad) = (s.stride[axis], s.pad[2 * axis]);
        (0..stride)
            .map(|at| {
                // dx[stride * i + at] = Σ dy[(stride * i + at + pad - tap) / stride] * w[tap].
                let taps: Vec<usize> =
                    (0..kernel).rev().filter(|t| (at + pad) % stride == t % stride).collect();
                let origin = taps.first().map_or(0, |t| (at + pad) as isize - *t as isize) / stride as isize;
                Self { at, count: len.saturating_sub(at).div_ceil(stride), taps, origin }
            })
            .collect()
    }
}

fn backward_phase(s: &ConvShape, [down, across]: [&Phase; 2], dy: &[u16], w: &[f32], dx: &mut [u16]) {
    let layer = ConvShape {
        h: s.out_h(),
        w: s.out_w(),
        c_in: s.c_out,
        c_out: s.c_in,
        kh: down.taps.len(),
        kw: across.taps.len(),
        stride: [1, 1],
        ..*s
    };
    let (taps, depth, cols) = (s.kh * s.kw, s.group_out(), s.group_in());
    let order: Vec<usize> =
        down.taps.iter().flat_map(|ky| across.taps.iter().map(move |kx| ky * s.kw + kx)).collect();
    let k = cols * taps;
    let zeros = vec![0.0; cols];
    let kernel = Pairs { bias: &zeros, bounds: Bounds::of(Act::None) };
    for group in 0..s.groups {
        let place = Place {
            out: [down.count, across.count],
            origin: [down.origin, across.origin],
            at: [
                (down.at * s.w + across.at) * s.c_in + group * cols,
                s.h * s.w * s.c_in,
                s.stride[0] * s.w * s.c_in,
                s.stride[1] * s.c_in,
            ],
        };
        let from = group * depth * k;
        scratch::with_plain(narrow::panels_len(cols, narrow::words::<u16>(&layer)), |panels| {
            if depth % 2 == 0 {
                #[cfg(target_arch = "x86_64")]
                {
                    let source = panel::Source { w, from, col: taps, depth: k, kernel: taps, taps: &order };
                    panel::pack(&source, cols, depth, panels);
                }
            } else {
                // Weight `i` of channel `c` of the layer of this phase.
                let bits = |c: usize, i: usize| {
                    let (d, tap) = (i / order.len(), order[i % order.len()]);
                    u32::from(round(w[from + d * k + c % cols * taps + tap]))
                };
                narrow::pack::<u16>(&layer, group, bits, panels);
            }
            narrow::run_at(&kernel, &layer, &place, group, dy, panels, None, dx);
        });
    }
}

pub(super) fn backward_weight_at(level: Level, s: &ConvShape, x: &[u16], dy: &[u16], dw: &mut [f32]) {
    s.check();
    check_len("x", x.len(), s.x_len());
    check_len("dy", dy.len(), s.y_len());
    check_len("dw", dw.len(), s.w_len());
    if s.is_depthwise() {
        let (x, dy) = (widened(level, x), widened(level, dy));
        return crate::depthwise::backward_weight_at(level, s, &x, &dy, dw);
    }
    #[cfg(target_arch = "x86_64")]
    if level.has_bf16() {
        return (0..s.groups).for_each(|group| weight::run(s, group, x, dy, dw));
    }
    conv::backward_weight_at(level, s, &widened(level, x), &widened(level, dy), dw);
}

fn widened(level: Level, x: &[u16]) -> Vec<f32> {
    let mut wide = buffer(x.len());
    to_f32_at(level, x, &mut wide);
    wide
}

/// The weights as the products in bf16 see them.
fn rounded(level: Level, w: &[f32]) -> Vec<f32> {
    let mut values = buffer(w.len());
    convert(level, w, &mut values, |w| widen(round(w)));
    values
}
