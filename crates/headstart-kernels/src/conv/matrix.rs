//! Products of matrices that lie in the caches of one core, by the thread that asks: attention's, head by head.
//!
//! Nothing is planned, shared or copied apart: the micro-kernels read rows where they are.

use super::Act;
use super::micro::{self, Blocking, MAX_MR, Outer, Tile};
use super::pack::{Source, pack};
use crate::{Level, scratch};

/// Floats that the rows of a [`transposed_times`]' second matrix are a multiple of: the widest panel.
pub(crate) const PANEL: usize = 32;

/// A matrix in rows that begin `pitch` floats after each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub cols: usize,
    pub pitch: usize,
}

impl Matrix<'_> {
    fn check(&self) {
        assert!(self.cols <= self.pitch && self.rows * self.pitch <= self.values.len(), "values of {self:?}");
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.pitch..][..self.cols]
    }
}

/// Computes `a · bᵀ`; of the rows of `y`, what is behind the rows of `b` is left.
pub(crate) fn times_transposed(level: Level, a: Matrix, b: Matrix, y: &mut [f32], pitch: usize) {
    assert_eq!(a.cols, b.cols, "{a:?} times the transpose of {b:?}");
    [a, b].iter().for_each(Matrix::check);
    if level == Level::Scalar {
        for (i, y) in y.chunks_exact_mut(pitch).take(a.rows).enumerate() {
            for (j, y) in y[..b.rows].iter_mut().enumerate() {
                *y = a.row(i).iter().zip(b.row(j)).map(|(a, b)| a * b).sum();
            }
        }
        return;
    }
    let source = Source { w: b.values, from: 0, col: b.pitch, depth: 1, taps: &[0] };
    by_rows(level, a, &source, b.rows, y, pitch);
}

/// Computes `a · b`; of the rows of `y`, what is behind the columns of `b` is left.
pub(crate) fn times(level: Level, a: Matrix, b: Matrix, y: &mut [f32], pitch: usize) {
    assert_eq!(a.cols, b.rows, "{a:?} times {b:?}");
    [a, b].iter().for_each(Matrix::check);
    if level == Level::Scalar {
        for (i, y) in y.chunks_exact_mut(pitch).take(a.rows).enumerate() {
            y[..b.cols].fill(0.0);
            for (k, a) in a.row(i).iter().enumerate() {
                y.iter_mut().zip(b.row(k)).for_each(|(y, b)| *y += a * b);
            }
        }
        return;
    }
    let source = Source { w: b.values, from: 0, col: 1, depth: b.pitch, taps: &[0] };
    by_rows(level, a, &source, b.cols, y, pitch);
}

/// Computes `aᵀ · b`; of the rows of `y`, what is behind the columns of `b` is left. The pitch of `b` is a multiple of [`PANEL`].
pub(crate) fn transposed_times(level: Level, a: Matrix, b: Matrix, y: &mut [f32], pitch: usize) {
    assert_eq!(a.rows, b.rows, "the transpose of {a:?} times {b:?}");
    [a, b].iter().for_each(Matrix::check);
    assert!(b.pitch.is_multiple_of(PANEL) && b.cols <= pitch, "whole panels in {b:?}");
    if level == Level::Scalar {
        y.chunks_exact_mut(pitch).take(a.cols).for_each(|y| y[..b.cols].fill(0.0));
        for k in 0..a.rows {
            for (a, y) in a.row(k).iter().zip(y.chunks_exact_mut(pitch)) {
                y.iter_mut().zip(b.row(k)).for_each(|(y, b)| *y += a * b);
            }
        }
        return;
    }
    let Blocking { mr, nr } = Blocking::of(level);
    scratch::with(mr * nr, |sums| {
        for start in (0..a.cols).step_by(mr) {
            let m = mr.min(a.cols - start);
            for column in (0..b.cols).step_by(nr) {
                let outer = Outer {
                    a: a.values[start..].as_ptr(),
                    a_pixel: a.pitch,
                    b: b.values[column..].as_ptr(),
                    maps: 1,
                    rows: 1,
                    pixels: a.rows,
                    b_map: 0,
                    b_row: 0,
                    b_pixel: b.pitch,
                    dw: sums.as_mut_ptr(),
                    first: true,
                };
                // SAFETY: each of the rows of `a` has `m` values from `start`, those of `b` whole panels, and the sums
                // have room for a tile.
                unsafe { micro::outer(level, m, &outer) };
                let wide = nr.min(b.cols - column);
                for (r, sums) in sums.chunks_exact(nr).take(m).enumerate() {
                    y[(start + r) * pitch + column..][..wide].copy_from_slice(&sums[..wide]);
                }
            }
        }
    });
}

/// Multiplies the rows of `a` with `cols` columns packed from `source`.
fn by_rows(level: Level, a: Matrix, source: &Source, cols: usize, y: &mut [f32], pitch: usize) {
    let blocking = Blocking::of(level);
    let Blocking { mr, nr } = blocking;
    let depth = a.cols;
    assert!(cols <= pitch, "{cols} columns in rows of {pitch}");
    assert!(a.rows * pitch <= y.len(), "output of {a:?}");
    scratch::with(blocking.panels_len(cols, depth), |panels| {
        pack(level, source, cols, depth, panels);
        for start in (0..a.rows).step_by(mr) {
            let m = mr.min(a.rows - start);
            let (mut rows, mut at) = ([std::ptr::null(); MAX_MR], [0; MAX_MR]);
            for r in 0..m {
                rows[r] = a.row(start + r).as_ptr();
                at[r] = (start + r) * pitch;
            }
            for from in (0..cols).step_by(nr) {
                let tile = Tile {
                    rows: rows.as_ptr(),
                    channel: 0,
                    taps: 1,
                    depth,
                    panel: panels[from * depth..].as_ptr(),
                    bias: std::ptr::null(),
                    residual: std::ptr::null(),
                    y: y[from..].as_mut_ptr(),
                    at: at.as_ptr(),
                    cols: nr.min(cols - from),
                    act: Act::None,
                };
                // SAFETY: the rows have `depth` values, the panel as many lines, and those of `y` room for all columns,
                // checked above.
                unsafe { micro::tile(level, m, &tile) };
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::{assert_close, noise};

    #[test]
    fn the_three_products_match_their_definitions_at_every_level() {
        for (m, n, k) in [(1, 1, 1), (14, 32, 64), (29, 33, 5), (50, 7, 17), (15, 64, 70), (3, 16, 2)] {
            let wide = |len: usize| len.next_multiple_of(PANEL);
            let matrix = |values, rows, cols| Matrix { values, rows, cols, pitch: wide(cols) };
            let product = |a: &dyn Fn(usize, usize) -> f32, b: &dyn Fn(usize, usize) -> f32| {
                let sum =
                    |i: usize, j: usize| (0..k).map(|k| f64::from(a(i, k)) * f64::from(b(k, j))).sum::<f64>();
                (0..m * n).map(|at| sum(at / n, at % n)).collect::<Vec<_>>()
            };
            let held = |y: &[f32]| y.chunks(wide(n)).flat_map(|y| y[..n].to_vec()).collect::<Vec<_>>();
            let a = noise(1, m.max(k) * wide(m.max(k)));
            let b = noise(2, n.max(k) * wide(n.max(k)));
            let at = |values: &[f32], cols: usize, i: usize, j: usize| values[i * wide(cols) + j];
            for level in Level::available() {
                let what = format!("{level} {m} x {n} x {k}");
                let mut y = vec![f32::NAN; m * wide(n)];
                times_transposed(level, matrix(&a, m, k), matrix(&b, n, k), &mut y, wide(n));
                let expected = product(&|i, l| at(&a, k, i, l), &|l, j| at(&b, k, j, l));
                assert_close(&held(&y), &expected, 1e-5, &what);
                assert!(y.chunks(wide(n)).all(|y| y[n..].iter().all(|v| v.is_nan())), "{what}: behind");

                times(level, matrix(&a, m, k), matrix(&b, k, n), &mut y, wide(n));
                let expected = product(&|i, l| at(&a, k, i, l), &|l, j| at(&b, n, l, j));
                assert_close(&held(&y), &expected, 1e-5, &what);

                transposed_times(level, matrix(&a, k, m), matrix(&b, k, n), &mut y, wide(n));
                let expected = product(&|i, l| at(&a, m, l, i), &|l, j| at(&b, n, l, j));
                assert_close(&held(&y), &expected, 1e-5, &what);
            }
        }
    }
}
