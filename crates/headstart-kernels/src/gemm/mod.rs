//! Linear layers: `[out, in]` weights, row-major matrices, forward and both gradients.
//!
//! A linear layer is a 1x1 convolution over `m` pixels, so `conv` does the work; only the names
//! of the dimensions differ. Small `m` (a classification head) is bound by reading the weights.

use crate::Level;
use crate::conv::{self, Act, ConvShape};

/// Computes `y[m, n] = act(a[m, k] · b_t[n, k]ᵀ + bias[n])`.
///
/// Panics if a length does not fit.
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    m: usize,
    n: usize,
    k: usize,
    a: &[f32],
    b_t: &[f32],
    bias: Option<&[f32]>,
    act: Act,
    y: &mut [f32],
) {
    conv::forward_act(Level::current(), &linear(m, n, k), a, b_t, bias, act, y);
}

/// Computes the gradient of the input of a linear layer, `dx[m, k] = dy[m, n] · w[n, k]`.
///
/// Panics if a length does not fit.
pub fn gemm_backward_data(m: usize, n: usize, k: usize, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    conv::backward_data(&linear(m, n, k), dy, w, dx);
}

/// Computes the gradient of the weight of a linear layer, `dw[n, k] = dy[m, n]ᵀ · x[m, k]`.
///
/// Panics if a length does not fit.
pub fn gemm_backward_weight(m: usize, n: usize, k: usize, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    conv::backward_weight(&linear(m, n, k), x, dy, dw);
}

/// Returns the 1x1 convolution that is the linear layer `[m, k] -> [m, n]`: with it,
/// [`conv::PackedConv`] and [`conv::forward_packed`] serve frozen linear layers too.
pub fn linear(m: usize, n: usize, k: usize) -> ConvShape {
    ConvShape { n: 1, h: 1, w: m, c_in: k, c_out: n, kh: 1, kw: 1, stride: [1, 1], pad: [0; 4], groups: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::tests::{assert_close, noise};

    #[test]
    fn the_three_products_match_their_definitions() {
        for (m, n, k) in [(1, 1, 1), (16, 10, 512), (5, 37, 19), (33, 70, 100), (15, 3, 2048)] {
            let (a, w, b, dy) = (noise(m * k, 1), noise(n * k, 2), noise(n, 3), noise(m * n, 4));
            let sum = |len: usize, f: &dyn Fn(usize) -> f32| (0..len).map(f).sum::<f32>();
            let each = |rows: usize, cols: usize, f: &dyn Fn(usize, usize) -> f32| {
                (0..rows * cols).map(|i| f(i / cols, i % cols)).collect::<Vec<_>>()
            };

            let mut y = vec![f32::NAN; m * n];
            gemm(m, n, k, &a, &w, Some(&b), Act::Relu, &mut y);
            let expected = each(m, n, &|i, j| (b[j] + sum(k, &|l| a[i * k + l] * w[j * k + l])).max(0.0));
            assert_close(&y, &expected, 1e-5, "y");

            let mut dx = vec![f32::NAN; m * k];
            gemm_backward_data(m, n, k, &dy, &w, &mut dx);
            let expected = each(m, k, &|i, l| sum(n, &|j| dy[i * n + j] * w[j * k + l]));
            assert_close(&dx, &expected, 1e-5, "dx");

            let mut dw = vec![f32::NAN; n * k];
            gemm_backward_weight(m, n, k, &a, &dy, &mut dw);
            let expected = each(n, k, &|j, l| sum(m, &|i| dy[i * n + j] * a[i * k + l]));
            assert_close(&dw, &expected, 1e-5, "dw");
        }
    }
}
