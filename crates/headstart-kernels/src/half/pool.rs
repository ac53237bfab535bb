//! Pooling and residual joins of bf16 maps.

use super::bf16::{round, widen};
use super::check_len;
use crate::narrow::BLOCK;
use crate::narrow::pool::each_window;
use crate::pool::{PoolShape, adaptive};
use crate::simd::{Bounds, CONVERTED, at, chunk, chunks};
use crate::threads::{SharedMut, parallel_for};
use crate::{Act, Level};

/// Takes the largest value of each window; padding never wins, NaN always does.
///
/// `x` is `[n, h, w, c]`, `y` `[n, out_h, out_w, c]`. Panics if a length does not fit `shape`.
pub fn max_forward(shape: &PoolShape, x: &[u16], y: &mut [u16]) {
    max_forward_at(Level::current(), shape, x, y);
}

/// Averages `[n, h, w, c]` to f32 `[n, out_h, out_w, c]` over windows that tile the map, as PyTorch's
/// `AdaptiveAvgPool2d`; `out` = `[1, 1]` is the global average.
///
/// Panics if a length does not fit the shapes.
pub fn adaptive_avg_forward(shape: [usize; 4], out: [usize; 2], x: &[u16], y: &mut [f32]) {
    adaptive_avg_forward_at(Level::current(), shape, out, x, y);
}

/// Replaces `x` by `act(x + other)`: a residual join in place.
///
/// Panics if the lengths differ.
pub fn add_act(act: Act, x: &mut [u16], other: &[u16]) {
    add_act_at(Level::current(), act, x, other);
}

pub(super) fn max_forward_at(level: Level, shape: &PoolShape, x: &[u16], y: &mut [u16]) {
    let [oh, ow] = shape.output();
    let PoolShape { n, h, w, c, .. } = *shape;
    check_len("x", x.len(), n * h * w * c);
    check_len("y", y.len(), n * oh * ow * c);
    let [rows, columns] = shape.windows();
    each_window(
        level,
        [h, w],
        [&rows, &columns],
        c,
        y,
        #[inline(always)]
        |pixels, from, y| {
            let mut best = [f32::NEG_INFINITY; BLOCK];
            for row in pixels.rows.clone() {
                for column in pixels.columns.clone() {
                    let x = &x[pixels.at(row, column) * c + from..][..y.len()];
                    for (b, x) in best.iter_mut().zip(x) {
                        let x = widen(*x);
                        *b = if (x > *b) | x.is_nan() { x } else { *b };
                    }
                }
            }
            y.iter_mut().zip(best).for_each(|(y, b)| *y = (b.to_bits() >> 16) as u16);
        },
    );
}

pub(super) fn adaptive_avg_forward_at(
    level: Level,
    [n, h, w, c]: [usize; 4],
    out: [usize; 2],
    x: &[u16],
    y: &mut [f32],
) {
    let [rows, columns] = [adaptive(h, out[0]), adaptive(w, out[1])];
    check_len("x", x.len(), n * h * w * c);
    check_len("y", y.len(), n * out[0] * out[1] * c);
    each_window(
        level,
        [h, w],
        [&rows, &columns],
        c,
        y,
        #[inline(always)]
        |pixels, from, y| {
            let mut sums = [0.0_f32; BLOCK];
            for row in pixels.rows.clone() {
                // A row's sum first: fewer terms in a chain, smaller errors.
                let mut line = [0.0_f32; BLOCK];
                for column in pixels.columns.clone() {
                    let x = &x[pixels.at(row, column) * c + from..][..y.len()];
                    line.iter_mut().zip(x).for_each(|(s, x)| *s += widen(*x));
                }
                sums.iter_mut().zip(line).for_each(|(s, l)| *s += l);
            }
            let share = 1.0 / pixels.count() as f32;
            y.iter_mut().zip(sums).for_each(|(y, s)| *y = s * share);
        },
    );
}

pub(super) fn add_act_at(level: Level, act: Act, x: &mut [u16], other: &[u16]) {
    check_len("other", other.len(), x.len());
    let (len, bounds) = (x.len(), Bounds::of(act));
    let x = SharedMut::new(x);
    parallel_for(chunks(len, CONVERTED), |index| {
        let (from, len) = chunk(len, CONVERTED, index);
        // SAFETY: chunks are disjoint and each index runs once.
        let x = unsafe { x.part(from, len) };
        at(
            level,
            #[inline(always)]
            |_| {
                for (x, other) in x.iter_mut().zip(&other[from..][..len]) {
                    *x = round(bounds.clamp(widen(*x) + widen(*other)));
                }
            },
        );
    });
}
