//! Depthwise convolution over 8-bit maps, with integer sums.
//!
//! Taps outside the map count as the zero point: they are left out, and so is their share of the start.

use super::requant::{Channels, Finish};
use super::{Quant, check_len};
use crate::conv::ConvShape;
use crate::narrow::{Taps, each_block};
use crate::simd::BLOCK;
use crate::{Act, Level};

/// Weights of a frozen depthwise layer as bytes, `[kh * kw, c]`.
pub struct PackedDepthwiseInt8 {
    weight: Vec<i16>,
    pub(super) channels: Channels,
    input: Quant,
    output: Quant,
}

impl PackedDepthwiseInt8 {
    /// Rounds and packs `weight` (`[c, 1, kh, kw]`) and `bias` of the layer in `shape`, for maps in the
    /// formats `input` and `output`.
    ///
    /// Panics if a length does not fit the shape, it is not depthwise, or a scale is not positive.
    pub fn new(shape: &ConvShape, weight: &[f32], bias: Option<&[f32]>, input: Quant, output: Quant) -> Self {
        let (c, taps) = (shape.c_in, shape.kh * shape.kw);
        assert!(shape.groups == c && shape.c_out == c, "not a depthwise convolution: {shape:?}");
        check_len("weight", weight.len(), shape.w_len());
        if let Some(bias) = bias {
            check_len("bias", bias.len(), c);
        }
        let channels = Channels::new(c, weight, bias, input, output);
        let weight = (0..taps * c).map(|i| i16::from(channels.weight[i % c * taps + i / c])).collect();
        Self { weight, channels, input, output }
    }
}

/// Computes `y = act(conv(x) + bias)` on 8-bit maps, `[n, h, w, c]` to `[n, out_h, out_w, c]`.
///
/// Panics if a length does not fit `shape`.
pub fn forward(shape: &ConvShape, x: &[u8], packed: &PackedDepthwiseInt8, act: Act, y: &mut [u8]) {
    forward_at(Level::current(), shape, x, packed, act, y);
}

pub(super) fn forward_at(
    level: Level,
    shape: &ConvShape,
    x: &[u8],
    packed: &PackedDepthwiseInt8,
    act: Act,
    y: &mut [u8],
) {
    check_len("x", x.len(), shape.x_len());
    check_len("y", y.len(), shape.y_len());
    check_len("weight", packed.weight.len(), shape.w_len());
    let finish = packed.channels.finish(0, shape.c_in, packed.output, None, act);
    each_block(
        level,
        shape,
        y,
        #[inline(always)]
        |_, taps, column, from, y| sum(taps, column, from, x, packed, &finish, y),
    );
}

#[inline(always)]
fn sum(
    taps: &Taps,
    column: usize,
    from: usize,
    x: &[u8],
    packed: &PackedDepthwiseInt8,
    finish: &Finish,
    y: &mut [u8],
) {
    let c = taps.shape.c_in;
    let zero = i16::from(packed.input.zero);
    let mut sums = [0_i32; BLOCK];
    taps.each(column, |tap, pixel| {
        let x = &x[pixel * c + from..][..y.len()];
        let w = &packed.weight[tap * c + from..][..y.len()];
        for ((s, x), w) in sums.iter_mut().zip(x).zip(w) {
            *s += i32::from(i16::from(*x) - zero) * i32::from(*w);
        }
    });
    for (i, (y, s)) in y.iter_mut().zip(sums).enumerate() {
        *y = finish.byte(from + i, s, None);
    }
}
