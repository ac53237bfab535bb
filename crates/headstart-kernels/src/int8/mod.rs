//! Inference on 8-bit maps: a quarter of f32's memory traffic and four times its products a cycle.
//!
//! Maps are NHWC and contiguous, unsigned bytes with one scale and zero point a map ([`Quant`], which the
//! caller calibrates); weights are signed bytes with a scale per output channel. Sums are exact integers,
//! and every level turns them into bytes by the same float operations: the same bytes everywhere.
//!
//! ```text
//! quant.rs     the number format, conversions of slices
//! requant.rs   weights to bytes; what follows a sum
//! avx512.rs    the micro-kernel, avx2.rs that of older CPUs, portable.rs their definition; `narrow` holds
//!              the driver
//! depthwise.rs one filter per channel
//! pool.rs      max and average pooling
//! ```

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod depthwise;
mod pool;
mod portable;
mod quant;
mod requant;
#[cfg(test)]
mod tests;

pub use depthwise::PackedDepthwiseInt8;
pub use depthwise::forward as depthwise_forward;
pub use pool::{adaptive_avg_forward, max_forward};
pub use quant::{Quant, dequantise, quantise};

use crate::conv::ConvShape;
use crate::narrow::{self, Kernel, Tile};
use crate::scratch::Aligned;
use crate::{Act, Level};
use requant::{Channels, Finish};

/// Weights of a frozen dense layer as bytes, packed once.
pub struct PackedConvInt8 {
    level: Level,
    /// The layer, with `n`, `h` and `w` zero.
    layer: ConvShape,
    /// Panels of groups of four bytes, group after group.
    panels: Aligned,
    channels: Channels,
    input: Quant,
    output: Quant,
}

impl PackedConvInt8 {
    /// Rounds and packs `weight` (`OIHW`) and `bias` of the layer in `shape`, whose `n`, `h`, `w` do not
    /// matter, for maps in the formats `input` and `output`.
    ///
    /// Panics if a length does not fit the shape, a scale is not positive, a weight is not finite, or an
    /// output channel has more than 65536 weights.
    pub fn new(shape: &ConvShape, weight: &[f32], bias: Option<&[f32]>, input: Quant, output: Quant) -> Self {
        Self::new_at(Level::current(), shape, weight, bias, input, output)
    }

    fn new_at(
        level: Level,
        shape: &ConvShape,
        weight: &[f32],
        bias: Option<&[f32]>,
        input: Quant,
        output: Quant,
    ) -> Self {
        let layer = ConvShape { n: 0, h: 0, w: 0, ..*shape };
        layer.check();
        check_len("weight", weight.len(), layer.w_len());
        if let Some(bias) = bias {
            check_len("bias", bias.len(), layer.c_out);
        }
        let mut channels = Channels::new(layer.c_out, weight, bias, input, output);
        let k = layer.group_in() * layer.kh * layer.kw;
        let len = narrow::panels_len(layer.group_out(), narrow::words::<u8>(&layer));
        let mut panels = Aligned::zeroed(layer.groups * len);
        for (group, panels) in panels.as_mut_words().chunks_exact_mut(len.max(1)).enumerate() {
            let bits = |o: usize, i: usize| u32::from(channels.weight[o * k + i] as u8);
            narrow::pack::<u8>(&layer, group, bits, panels);
        }
        channels.weight = Vec::new();
        Self { level, layer, panels, channels, input, output }
    }

    /// Returns the format of the output.
    pub fn output(&self) -> Quant {
        self.output
    }
}

/// Computes `y = act(conv(x) + bias + residual)` on 8-bit maps.
///
/// `x` is `[n, h, w, c_in]` in the format `packed` was made for; `residual`, in the format given with it,
/// and `y` are `[n, out_h, out_w, c_out]`. Panics if a length does not fit `shape`, or `packed` is of
/// another layer.
pub fn forward_int8(
    shape: &ConvShape,
    x: &[u8],
    packed: &PackedConvInt8,
    residual: Option<(&[u8], Quant)>,
    act: Act,
    y: &mut [u8],
) {
    assert_eq!(ConvShape { n: 0, h: 0, w: 0, ..*shape }, packed.layer, "packed for another layer");
    check_len("x", x.len(), shape.x_len());
    check_len("y", y.len(), shape.y_len());
    if let Some((residual, quant)) = residual {
        check_len("residual", residual.len(), shape.y_len());
        quant.check();
    }
    let (residual, quant) = residual.unzip();
    let panels = packed.panels.as_words();
    let len = panels.len() / shape.groups;
    let cols = shape.group_out();
    for group in 0..shape.groups {
        let finish = packed.channels.finish(group * cols, cols, packed.output, quant, act);
        let kernel = Bytes { level: packed.level, zero: packed.input.zero, finish };
        narrow::run(&kernel, shape, group, x, &panels[group * len..][..len], residual, y);
    }
}

/// The int8 arithmetic of one group.
struct Bytes<'a> {
    level: Level,
    zero: u8,
    finish: Finish<'a>,
}

impl Kernel for Bytes<'_> {
    type Value = u8;

    fn outside(&self) -> u8 {
        self.zero
    }

    fn vanishes(_: u8) -> bool {
        true
    }

    unsafe fn tile(&self, m: usize, tile: &Tile<u8>) {
        #[cfg(target_arch = "x86_64")]
        if self.level.has_vnni() {
            // SAFETY: the caller's promise, and the CPU has the instructions.
            return unsafe { avx512::tile(m, tile, &self.finish) };
        } else if self.level >= Level::Avx2 && self.level.is_supported() {
            // SAFETY: the caller's promise, and the CPU has the instructions.
            return unsafe { avx2::tile(m, tile, &self.finish) };
        }
        // SAFETY: the caller's promise.
        unsafe { portable::tile(self.level, m, tile, &self.finish) };
    }
}

fn check_len(what: &str, len: usize, expected: usize) {
    assert_eq!(len, expected, "{what} has {len} values, its shape has {expected}");
}
