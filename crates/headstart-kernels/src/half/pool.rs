//! Pooling and residual joins of bf16 maps.

use super::bf16::{round, widen};
use super::check_len;
use crate::narrow::BLOCK;
use crate::pool::{PoolShape, adaptive};
use crate::simd::{Bounds, at, chunk, chunks};
use crate::threads::{SharedMut, parallel_for};
use crate::{Act, Level};

/// Values per task of a join.
const CHUNK: usize = 1 << 17;

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
    let y = SharedMut::new(y);
    parallel_for(n * oh, |index| {
        // SAFETY: each task has its own output row.
        let y = unsafe { y.part(index * ow * c, ow * c) };
        let (image, row) = (index / oh, &rows[index % oh]);
        at(
            level,
            #[inline(always)]
            |_| {
                for (y, column) in y.chunks_exact_mut(c).zip(&columns) {
                    for (block, y) in y.chunks_mut(BLOCK).enumerate() {
                        let pixels = (row.start..row.end).flat_map(|iy| {
                            (column.start..column.end).map(move |ix| (image * h + iy) * w + ix)
                        });
                        let starts = pixels.map(|pixel| pixel * c + block * BLOCK);
                        match y.len() {
                            BLOCK => max_block(starts, x, &mut y[..BLOCK]),
                            _ => max_block(starts, x, y),
                        }
                    }
                }
            },
        );
    });
}

#[inline(always)]
fn max_block(starts: impl Iterator<Item = usize>, x: &[u16], y: &mut [u16]) {
    let mut best = [f32::NEG_INFINITY; BLOCK];
    for start in starts {
        for (b, x) in best.iter_mut().zip(&x[start..][..y.len()]) {
            let x = widen(*x);
            *b = if (x > *b) | x.is_nan() { x } else { *b };
        }
    }
    y.iter_mut().zip(best).for_each(|(y, b)| *y = (b.to_bits() >> 16) as u16);
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
    let y = SharedMut::new(y);
    parallel_for(n * out[0] * out[1], |index| {
        // SAFETY: each task has its own output pixel.
        let y = unsafe { y.part(index * c, c) };
        let (row, column) = (&rows[index / out[1] % out[0]], &columns[index % out[1]]);
        let image = index / (out[0] * out[1]);
        let share = 1.0 / ((row.end - row.start) * (column.end - column.start)) as f32;
        at(
            level,
            #[inline(always)]
            |_| {
                for (block, y) in y.chunks_mut(BLOCK).enumerate() {
                    let mut sums = [0.0_f32; BLOCK];
                    for iy in row.start..row.end {
                        // A row's sum first: fewer terms in a chain, smaller errors.
                        let mut line = [0.0_f32; BLOCK];
                        for ix in column.start..column.end {
                            let x = &x[((image * h + iy) * w + ix) * c + block * BLOCK..][..y.len()];
                            line.iter_mut().zip(x).for_each(|(s, x)| *s += widen(*x));
                        }
                        sums.iter_mut().zip(line).for_each(|(s, l)| *s += l);
                    }
                    y.iter_mut().zip(sums).for_each(|(y, s)| *y = s * share);
                }
            },
        );
    });
}

pub(super) fn add_act_at(level: Level, act: Act, x: &mut [u16], other: &[u16]) {
    check_len("other", other.len(), x.len());
    let (len, bounds) = (x.len(), Bounds::of(act));
    let x = SharedMut::new(x);
    parallel_for(chunks(len, CHUNK), |index| {
        let (from, len) = chunk(len, CHUNK, index);
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
