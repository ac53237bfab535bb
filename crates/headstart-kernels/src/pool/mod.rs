//! Max pooling and average pooling of NHWC maps in f32 or bf16.
//!
//! Backward passes gather: each input pixel adds what the windows over it send back, in a fixed
//! order. That writes every gradient once, needs no zero-fill, and tasks never share a pixel.

mod each;
mod max;
mod mean;
mod shape;
#[cfg(test)]
mod tests;

use max::{max_backward_at, max_forward_at};
use mean::{window_mean, window_mean_backward};
use shape::Map;

use crate::{Element, Level};

pub(crate) use each::each_window;
pub use shape::PoolShape;
pub(crate) use shape::adaptive;

/// Takes the largest value of each window; padding never wins, NaN always does.
///
/// `taps`, where given, receives the winner's place in the window (`ky * kw + kx`, the first of
/// equals): a byte per output, for [`max_backward`].
pub fn max_forward<T: Element>(shape: &PoolShape, x: &[T], y: &mut [T], taps: Option<&mut [u8]>) {
    max_forward_at(Level::current(), shape, x, y, taps);
}

/// Sends each output's gradient to the pixel that won its window.
pub fn max_backward<T: Element>(shape: &PoolShape, taps: &[u8], dy: &[T], dx: &mut [T]) {
    max_backward_at(Level::current(), shape, taps, dy, dx);
}

/// Averages each window; `count_include_pad` divides by the padded window as PyTorch does by default.
pub fn average_forward(shape: &PoolShape, count_include_pad: bool, x: &[f32], y: &mut [f32]) {
    window_mean(Level::current(), shape.map(), &shape.windows(), count_include_pad, x, y);
}

/// Differentiates [`average_forward`].
pub fn average_backward(shape: &PoolShape, count_include_pad: bool, dy: &[f32], dx: &mut [f32]) {
    window_mean_backward(Level::current(), shape.map(), &shape.windows(), count_include_pad, dy, dx);
}

/// Averages `[n, h, w, c]` to `[n, out_h, out_w, c]` over windows that tile the map, as PyTorch's
/// `AdaptiveAvgPool2d`; `out` = `[1, 1]` is the global average, in f32 whatever the map is.
pub fn adaptive_avg_forward<T: Element>([n, h, w, c]: [usize; 4], out: [usize; 2], x: &[T], y: &mut [f32]) {
    let windows = [adaptive(h, out[0]), adaptive(w, out[1])];
    window_mean(Level::current(), Map { n, h, w, c }, &windows, false, x, y);
}

/// Differentiates [`adaptive_avg_forward`]; the shape is the input's.
pub fn adaptive_avg_backward<T: Element>(
    [n, h, w, c]: [usize; 4],
    out: [usize; 2],
    dy: &[f32],
    dx: &mut [T],
) {
    let windows = [adaptive(h, out[0]), adaptive(w, out[1])];
    window_mean_backward(Level::current(), Map { n, h, w, c }, &windows, false, dy, dx);
}
