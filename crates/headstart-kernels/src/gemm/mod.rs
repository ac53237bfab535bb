//! Linear layers: `[out, in]` weights, row-major matrices.
//!
//! A linear layer is a 1x1 convolution over `m` pixels, so `conv` does the work; only the names
//! of the dimensions differ. Its [`conv::backward_data`] and [`conv::backward_weight_and_bias`] are the gradients. Small `m` (a classification head) is bound by reading the weights.

use crate::Level;
use crate::conv::{self, Act, ConvShape, Finish};

/// Computes `y[m, n] = act(a[m, k] · b_t[n, k]ᵀ + bias[n] + residual[m, n])` for the layer of [`linear`] or [`linear_of`].
///
/// Panics if a length does not fit.
pub fn gemm(
    layer: &ConvShape,
    a: &[f32],
    b_t: &[f32],
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    act: Act,
    y: &mut [f32],
) {
    let finish = Finish { bias, residual, end: act.into() };
    conv::forward_to(Level::current(), layer, a, b_t, finish, y);
}

/// Returns the 1x1 convolution that is the linear layer `[m, k] -> [m, n]`: with it,
/// [`conv::PackedConv`] and [`conv::forward_packed`] serve frozen linear layers too.
pub fn linear(m: usize, n: usize, k: usize) -> ConvShape {
    linear_of([m, 1], n, k)
}

/// Returns [`linear`] over the rows of images, `[images, rows, k] -> [images, rows, n]`. Rows of one image may share
/// their rounding, those of different images never do.
pub fn linear_of([images, rows]: [usize; 2], n: usize, k: usize) -> ConvShape {
    let (pad, stride) = ([0; 4], [1, 1]);
    ConvShape { n: images, h: 1, w: rows, c_in: k, c_out: n, kh: 1, kw: 1, stride, pad, groups: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::tests::{assert_close, noise};

    #[test]
    fn the_three_products_match_their_definitions() {
        // The last is large enough for Strassen's.
        for (m, n, k) in
            [(1, 1, 1), (16, 10, 512), (5, 37, 19), (33, 70, 100), (15, 3, 2048), (1031, 256, 256)]
        {
            let (a, w, b, dy) = (noise(m * k, 1), noise(n * k, 2), noise(n, 3), noise(m * n, 4));
            let sum = |len: usize, f: &dyn Fn(usize) -> f32| (0..len).map(f).sum::<f32>();
            let each = |rows: usize, cols: usize, f: &dyn Fn(usize, usize) -> f32| {
                (0..rows * cols).map(|i| f(i / cols, i % cols)).collect::<Vec<_>>()
            };

            let mut y = vec![f32::NAN; m * n];
            gemm(&linear(m, n, k), &a, &w, Some(&b), Some(&dy), Act::Relu, &mut y);
            let expected = each(m, n, &|i, j| {
                (b[j] + sum(k, &|l| a[i * k + l] * w[j * k + l]) + dy[i * n + j]).max(0.0)
            });
            assert_close(&y, &expected, 1e-5, "y");

            let mut dx = vec![f32::NAN; m * k];
            conv::backward_data(&linear(m, n, k), &dy, &w, &mut dx);
            let expected = each(m, k, &|i, l| sum(n, &|j| dy[i * n + j] * w[j * k + l]));
            assert_close(&dx, &expected, 1e-5, "dx");

            let (mut dw, mut db) = (vec![f32::NAN; n * k], vec![f32::NAN; n]);
            conv::backward_weight_and_bias(&linear(m, n, k), &a, &dy, &mut dw, Some(&mut db));
            assert_close(&db, &each(1, n, &|_, j| sum(m, &|i| dy[i * n + j])), 1e-5, "db");
            let expected = each(n, k, &|j, l| sum(m, &|i| dy[i * n + j] * a[i * k + l]));
            assert_close(&dw, &expected, 1e-5, "dw");
        }
    }
}
