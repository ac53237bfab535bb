//! Pooling of 8-bit maps.

use super::{Quant, check_len};
use crate::Level;
use crate::narrow::BLOCK;
use crate::pool::{PoolShape, adaptive};
use crate::simd::at;
use crate::threads::{SharedMut, parallel_for};

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
                    y.fill(0);
                    for iy in row.start..row.end {
                        for ix in column.start..column.end {
                            let x = &x[((image * h + iy) * w + ix) * c..][..c];
                            y.iter_mut().zip(x).for_each(|(y, x)| *y = (*y).max(*x));
                        }
                    }
                }
            },
        );
    });
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
    let y = SharedMut::new(y);
    parallel_for(n * out[0] * out[1], |index| {
        // SAFETY: each task has its own output pixel.
        let y = unsafe { y.part(index * c, c) };
        let (row, column) = (&rows[index / out[1] % out[0]], &columns[index % out[1]]);
        let image = index / (out[0] * out[1]);
        let pixels = ((row.end - row.start) * (column.end - column.start)) as i32;
        let (zero, share) = (pixels * i32::from(quant.zero), quant.scale / pixels as f32);
        at(
            level,
            #[inline(always)]
            |_| {
                for (block, y) in y.chunks_mut(BLOCK).enumerate() {
                    let mut sums = [0_i32; BLOCK];
                    for iy in row.start..row.end {
                        for ix in column.start..column.end {
                            let x = &x[((image * h + iy) * w + ix) * c + block * BLOCK..][..y.len()];
                            sums.iter_mut().zip(x).for_each(|(s, x)| *s += i32::from(*x));
                        }
                    }
                    y.iter_mut().zip(sums).for_each(|(y, s)| *y = (s - zero) as f32 * share);
                }
            },
        );
    });
}
