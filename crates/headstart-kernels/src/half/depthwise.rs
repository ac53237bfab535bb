//! Depthwise convolution over bf16 maps, with f32 weights and sums.
//!
//! The products are few and the maps large, so plain loops over a block of channels, which the compiler
//! keeps in registers, are near the memory's speed.

use super::{bf16, check_len};
use crate::conv::ConvShape;
use crate::narrow::{Taps, each_block};
use crate::simd::{BLOCK, Bounds, mul_add};
use crate::{Act, Level};

/// Weights of a frozen depthwise layer, `[kh * kw, c]`.
pub struct PackedDepthwiseHalf {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl PackedDepthwiseHalf {
    /// Packs `weight` (`[c, 1, kh, kw]`) and `bias` of the layer in `shape`.
    ///
    /// Panics if a length does not fit the shape, or it is not depthwise.
    pub fn new(shape: &ConvShape, weight: &[f32], bias: Option<&[f32]>) -> Self {
        let (c, taps) = (shape.c_in, shape.kh * shape.kw);
        assert!(shape.groups == c && shape.c_out == c, "not a depthwise convolution: {shape:?}");
        check_len("weight", weight.len(), shape.w_len());
        let bias = bias.map_or_else(|| vec![0.0; c], <[f32]>::to_vec);
        check_len("bias", bias.len(), c);
        let weight = (0..taps * c).map(|i| bf16::widen(bf16::round(weight[i % c * taps + i / c]))).collect();
        Self { weight, bias }
    }
}

/// Computes `y = act(conv(x) + bias)` on bf16 maps, `[n, h, w, c]` to `[n, out_h, out_w, c]`.
///
/// Panics if a length does not fit `shape`.
pub fn forward(shape: &ConvShape, x: &[u16], packed: &PackedDepthwiseHalf, act: Act, y: &mut [u16]) {
    forward_at(Level::current(), shape, x, packed, act, y);
}

pub(super) fn forward_at(
    level: Level,
    shape: &ConvShape,
    x: &[u16],
    packed: &PackedDepthwiseHalf,
    act: Act,
    y: &mut [u16],
) {
    check_len("x", x.len(), shape.x_len());
    check_len("y", y.len(), shape.y_len());
    check_len("weight", packed.weight.len(), shape.w_len());
    check_len("bias", packed.bias.len(), shape.c_in);
    let bounds = Bounds::of(act);
    each_block(
        level,
        shape,
        y,
        #[inline(always)]
        |fma, taps, column, from, y| sum(fma, taps, column, from, x, packed, bounds, y),
    );
}

#[inline(always)]
#[allow(clippy::too_many_arguments)] // slices by name, so that they do not alias
fn sum(
    fma: bool,
    taps: &Taps,
    column: usize,
    from: usize,
    x: &[u16],
    packed: &PackedDepthwiseHalf,
    bounds: Bounds,
    y: &mut [u16],
) {
    let c = taps.shape.c_in;
    let mut sums = [0.0_f32; BLOCK];
    sums[..y.len()].copy_from_slice(&packed.bias[from..][..y.len()]);
    taps.each(column, |tap, pixel| {
        let x = &x[pixel * c + from..][..y.len()];
        let w = &packed.weight[tap * c + from..][..y.len()];
        for ((s, x), w) in sums.iter_mut().zip(x).zip(w) {
            *s = mul_add(fma, bf16::widen(*x), *w, *s);
        }
    });
    for (y, s) in y.iter_mut().zip(sums) {
        *y = bf16::round(bounds.clamp(s));
    }
}
