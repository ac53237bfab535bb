//! The number format: a byte `q` stands for `scale * (q - zero)`.

use crate::simd::convert;
use crate::{Act, Level};

/// How the bytes of one map stand for numbers: `scale * (q - zero)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quant {
    /// The step between neighbouring bytes; positive and finite.
    pub scale: f32,
    /// The byte that stands for zero.
    pub zero: u8,
}

impl Quant {
    /// Returns the format that just holds `low..=high`, widened to contain zero.
    ///
    /// Panics if a limit is not finite.
    pub fn of_range(low: f32, high: f32) -> Self {
        assert!(low.is_finite() && high.is_finite(), "a range from {low} to {high}");
        let (low, high) = (low.min(0.0), high.max(0.0));
        // Halved, so that the widest range does not overflow; a map of zeros takes any step.
        let scale = (high / 2.0 - low / 2.0) / 127.5;
        let scale = if scale >= f32::MIN_POSITIVE { scale } else { 1.0 };
        Self { scale, zero: (-low / scale).round_ties_even() as u8 }
    }

    pub(super) fn check(self) {
        assert!(self.scale > 0.0 && self.scale.is_finite(), "not a step: {}", self.scale);
    }

    /// The least and greatest byte that an activation lets through.
    pub(super) fn limits(self, act: Act) -> [f32; 2] {
        let zero = f32::from(self.zero);
        match act {
            Act::None => [0.0, 255.0],
            Act::Relu => [zero, 255.0],
            Act::Relu6 => [zero, (zero + 6.0 / self.scale).round_ties_even().min(255.0)],
        }
    }
}

/// Rounds floats to bytes, to the nearest, ties to even, limited to 0..=255; NaN becomes 0.
///
/// Panics if the lengths differ.
pub fn quantise(quant: Quant, x: &[f32], y: &mut [u8]) {
    quantise_at(Level::current(), quant, x, y);
}

/// Turns bytes back into floats.
///
/// Panics if the lengths differ.
pub fn dequantise(quant: Quant, x: &[u8], y: &mut [f32]) {
    dequantise_at(Level::current(), quant, x, y);
}

pub(super) fn quantise_at(level: Level, quant: Quant, x: &[f32], y: &mut [u8]) {
    quant.check();
    let (steps, zero) = (1.0 / quant.scale, f32::from(quant.zero));
    convert(
        level,
        x,
        y,
        #[inline(always)]
        |v: f32| to_byte(v * steps + zero, [0.0, 255.0]),
    );
}

pub(super) fn dequantise_at(level: Level, quant: Quant, x: &[u8], y: &mut [f32]) {
    quant.check();
    let (scale, zero) = (quant.scale, i32::from(quant.zero));
    convert(
        level,
        x,
        y,
        #[inline(always)]
        |q: u8| (i32::from(q) - zero) as f32 * scale,
    );
}

/// Limits, then rounds to the nearest even. NaN becomes the lower limit, as the vector's max does it.
#[inline(always)]
pub(super) fn to_byte(v: f32, [low, high]: [f32; 2]) -> u8 {
    let v = if v > low { v } else { low };
    let v = if v < high { v } else { high };
    // Adding 1.5 * 2^23 leaves the integer in the low bits, rounded as floats round: no library call
    // on CPUs that cannot round to the nearest even in one instruction.
    (v + 12_582_912.0).to_bits() as u8
}
