//! Depthwise convolution: one filter per channel, any window, stride and padding.
//!
//! All three passes vectorise over channels. Forward and data gradient are one kernel, a row of
//! pixels as a sum over *taps* (input row, weight, range of pixels it is valid for): a strided data
//! gradient is one such row per phase. Eight pixels stay in registers while the taps pass; each tap
//! loads its weight once. The weight gradient keeps one accumulator per column of the window.
//!
//! `row.rs` and `correlate.rs` hold the two kernels, generic over the lanes of a level in `lanes.rs` and `x86.rs`: the
//! kernels are the same text for all of them.

mod correlate;
mod lanes;
mod row;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use correlate::run_correlate;
use row::{Row, Tap, run_row};

use crate::conv::ConvShape;
use crate::simd::{Bounds, chunk, chunks};
use crate::threads::{SharedMut, parallel_for};
use crate::{Act, End, Level};

/// Computes `y = end(conv(x, weight) + bias)`; `weight` is `[c, 1, kh, kw]`.
pub fn forward(
    shape: &ConvShape,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    end: impl Into<End>,
    y: &mut [f32],
) {
    forward_at(Level::current(), shape, x, weight, bias, end.into(), y);
}

/// Computes the gradient of the input.
pub fn backward_data(shape: &ConvShape, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    backward_data_at(Level::current(), shape, dy, weight, dx);
}

/// Computes the gradient of the weight, overwriting `dweight`.
pub fn backward_weight(shape: &ConvShape, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    backward_weight_at(Level::current(), shape, x, dy, dweight);
}

fn check(shape: &ConvShape, x: usize, weight: usize, y: usize) -> usize {
    let c = shape.c_in;
    assert!(c > 0 && shape.c_out == c && shape.groups == c, "not a depthwise convolution: {shape:?}");
    assert!(
        x == shape.x_len() && weight == shape.w_len() && y == shape.y_len(),
        "a length is off: {shape:?}"
    );
    c
}

/// Transposes `[c, taps]` to `[taps, c]`.
fn pack(weight: &[f32], c: usize) -> Vec<f32> {
    let taps = weight.len() / c;
    let mut packed = vec![0.0; weight.len()];
    for (t, row) in packed.chunks_exact_mut(c).enumerate() {
        row.iter_mut().zip(weight[t..].iter().step_by(taps)).for_each(|(p, w)| *p = *w);
    }
    packed
}

/// Returns the outputs that column `kx` of the window reaches from inside the input.
fn reach(shape: &ConvShape, kx: usize) -> (usize, usize) {
    let (left, stride) = (shape.pad[2], shape.stride[1]);
    let to = (shape.w + left).saturating_sub(kx).div_ceil(stride).min(shape.out_w());
    (left.saturating_sub(kx).div_ceil(stride).min(to), to)
}

fn forward_at(
    level: Level,
    shape: &ConvShape,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    end: End,
    y: &mut [f32],
) {
    let c = check(shape, x.len(), weight.len(), y.len());
    let (oh, ow) = (shape.out_h(), shape.out_w());
    let weights = pack(weight, c);
    let zeros = vec![0.0; c];
    let start = bias.unwrap_or(&zeros);
    assert_eq!(start.len(), c, "one bias per channel");
    let y = SharedMut::new(y);
    parallel_for(shape.n * oh, |index| {
        let (image, oy) = (index / oh, index % oh);
        let mut taps = Vec::with_capacity(shape.kh * shape.kw);
        for ky in 0..shape.kh {
            let iy = (oy * shape.stride[0] + ky).wrapping_sub(shape.pad[0]);
            if iy >= shape.h {
                continue;
            }
            for kx in 0..shape.kw {
                let (from, to) = reach(shape, kx);
                let pixel = (iy * shape.w + kx) as isize - shape.pad[2] as isize;
                let weight = (ky * shape.kw + kx) * c;
                taps.push(Tap { input: pixel * c as isize, weight, from, to });
            }
        }
        let row = Row {
            taps: &taps,
            input: &x[image * shape.h * shape.w * c..][..shape.h * shape.w * c],
            weights: &weights,
            start,
            bounds: Bounds::of(end.act()),
            count: ow,
            in_step: shape.stride[1] * c,
            out_step: c,
        };
        // SAFETY: each task has its own output row.
        let y = unsafe { y.part(index * ow * c, ow * c) };
        run_row(level, &row, y);
        end.finish(level, y);
    });
}

pub(crate) fn backward_data_at(level: Level, shape: &ConvShape, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    let c = check(shape, dx.len(), weight.len(), dy.len());
    let (oh, ow) = (shape.out_h(), shape.out_w());
    let weights = pack(weight, c);
    let zeros = vec![0.0; c];
    let ([down, right], w) = (shape.stride, shape.w);
    let dx = SharedMut::new(dx);
    parallel_for(shape.n * shape.h, |index| {
        let (image, iy) = (index / shape.h, index % shape.h);
        // SAFETY: each task has its own input row.
        let dx = unsafe { dx.part(index * w * c, w * c) };
        // Columns of one phase (column modulo stride) read consecutive outputs.
        for phase in 0..right.min(w) {
            let count = (w - phase).div_ceil(right);
            let mut taps = Vec::with_capacity(shape.kh * shape.kw);
            for ky in 0..shape.kh {
                let Some(from_top) = (iy + shape.pad[0]).checked_sub(ky) else { continue };
                let oy = from_top / down;
                if !from_top.is_multiple_of(down) || oy >= oh {
                    continue;
                }
                for kx in 0..shape.kw {
                    let from_left = (phase + shape.pad[2]) as isize - kx as isize;
                    if from_left.rem_euclid(right as isize) != 0 {
                        continue;
                    }
                    let ox = from_left.div_euclid(right as isize);
                    let to = (ow as isize - ox).clamp(0, count as isize) as usize;
                    let from = (-ox).clamp(0, to as isize) as usize;
                    let input = ((oy * ow) as isize + ox) * c as isize;
                    taps.push(Tap { input, weight: (ky * shape.kw + kx) * c, from, to });
                }
            }
            let row = Row {
                taps: &taps,
                input: &dy[image * oh * ow * c..][..oh * ow * c],
                weights: &weights,
                start: &zeros,
                bounds: Bounds::of(Act::None),
                count,
                in_step: c,
                out_step: right * c,
            };
            run_row(level, &row, &mut dx[phase * c..]);
        }
    });
}

pub(crate) fn backward_weight_at(
    level: Level,
    shape: &ConvShape,
    x: &[f32],
    dy: &[f32],
    dweight: &mut [f32],
) {
    let c = check(shape, x.len(), dweight.len(), dy.len());
    let (oh, ow, taps) = (shape.out_h(), shape.out_w(), shape.kh * shape.kw);
    // A chunk is a sixteenth of the output rows: f32 sums inside a row, then inside a chunk.
    let rows = shape.n * oh;
    let per_chunk = rows.div_ceil(16).max(1);
    let count = chunks(rows, per_chunk);
    let reaches: Vec<(usize, usize)> = (0..shape.kw).map(|kx| reach(shape, kx)).collect();
    let mut partials = vec![0.0; count * taps * c];
    let shared = SharedMut::new(&mut partials);
    parallel_for(count, |index| {
        // SAFETY: each task has its own partial sums.
        let sums = unsafe { shared.part(index * taps * c, taps * c) };
        let (from, len) = chunk(rows, per_chunk, index);
        for row in from..from + len {
            let (image, oy) = (row / oh, row % oh);
            let dy = &dy[row * ow * c..][..ow * c];
            for ky in 0..shape.kh {
                let iy = (oy * shape.stride[0] + ky).wrapping_sub(shape.pad[0]);
                if iy < shape.h {
                    let x = &x[(image * shape.h + iy) * shape.w * c..][..shape.w * c];
                    let sums = &mut sums[ky * shape.kw * c..][..shape.kw * c];
                    run_correlate(level, shape, &reaches, x, dy, sums);
                }
            }
        }
    });
    let (sums, rest) = partials.split_at_mut((taps * c).min(count * taps * c));
    for part in rest.chunks_exact(taps * c) {
        sums.iter_mut().zip(part).for_each(|(s, p)| *s += *p);
    }
    dweight.fill(0.0);
    for (t, row) in sums.chunks_exact(c).enumerate() {
        dweight[t..].iter_mut().step_by(taps).zip(row).for_each(|(d, s)| *d = *s);
    }
}
