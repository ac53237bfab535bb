//! Pooling of 8-bit maps.

use super::{Quant, check_len};
use crate::Level;
use crate::pool::{PoolShape, adaptive, each_window};
use crate::simd::BLOCK;

/// Takes the largest value of each window, in the format of the input; padding never wins.
///
/// `x` is `[n, h, w, c]`, `y` `[n, out_h, out_w, c]`. Panics if a length does not fit `shape`.
pub fn max_forward(shape: &PoolShape, x: &[u8], y: &mut [u8]) {
    max_forward_at(Level::current(), shape, x, y);
}

/// Averages `[n, h, w, c]` to f32 `[n, out_h, out_w, c]` over windows that tile the map, as PyTorch's
/// `AdaptiveAvgPool2d`; `out` = `[1, 1]` is the global average.
///
/// Panics if a length does not fit the shapes.
pub fn adaptive_avg_forward(quant: Quant, shape: [usize; 4], out: [usize; 2], x: &[u8], y: &mut [f32]) {
    adaptive_avg_forward_at(Level::current(), quant, shape, out, x, y);
}

pub(super) fn max_forward_at(level: Level, shape: &PoolShape, x: &[u8], y: &mut [u8]) {
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
            let mut best = [0_u8; BLOCK];
            for row in pixels.rows() {
                for column in pixels.columns() {
                    let x = &x[pixels.at(row, column) * c + from..][..y.len()];
                    best.iter_mut().zip(x).for_each(|(b, x)| *b = (*b).max(*x));
                }
            }
            y.copy_from_slice(&best[..y.len()]);
        },
    );
}

pub(super) fn adaptive_avg_forward_at(
    level: Level,
    quant: Quant,
    [n, h, w, c]: [usize; 4],
    out: [usize; 2],
    x: &[u8],
    y: &mut [f32],
) {
    quant.check();
    let [rows, columns] = [adaptive(h, out[0]), adaptive(w, out[1])];
    check_len("x", x.len(), n * h * w * c);
    check_len("y", y.len(), n * out[0] * out[1] * c);
    // A window's sum of bytes fits 32 bits.
    assert!(h * w < 1 << 23, "a map of {h}x{w} is too large to average in integers");
    each_window(
        level,
        [h, w],
        [&rows, &columns],
        c,
        y,
        #[inline(always)]
        |pixels, from, y| {
            let mut sums = [0_i32; BLOCK];
            for row in pixels.rows() {
                for column in pixels.columns() {
                    let x = &x[pixels.at(row, column) * c + from..][..y.len()];
                    sums.iter_mut().zip(x).for_each(|(s, x)| *s += i32::from(*x));
                }
            }
            let count = pixels.count(false) as i32;
            let (zero, share) = (count * i32::from(quant.zero), quant.scale / count as f32);
            y.iter_mut().zip(sums).for_each(|(y, s)| *y = (s - zero) as f32 * share);
        },
    );
}
