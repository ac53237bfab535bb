//! Conversions between f32 and bf16, stored as the upper half of a float's bits in a `u16`.

use crate::Level;
use crate::simd::convert;

/// Rounds floats to bf16, to the nearest, ties to even; NaN stays NaN.
///
/// Panics if the lengths differ.
pub fn from_f32(x: &[f32], y: &mut [u16]) {
    from_f32_at(Level::current(), x, y);
}

/// Widens bf16 to floats, exactly.
///
/// Panics if the lengths differ.
pub fn to_f32(x: &[u16], y: &mut [f32]) {
    to_f32_at(Level::current(), x, y);
}

pub(super) fn from_f32_at(level: Level, x: &[f32], y: &mut [u16]) {
    convert(level, x, y, round);
}

pub(super) fn to_f32_at(level: Level, x: &[u16], y: &mut [f32]) {
    convert(level, x, y, widen);
}

/// Rounds one float. NaN loses payload bits and becomes quiet, as the hardware does it.
#[inline(always)]
pub(crate) fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    let nan = (bits >> 16) as u16 | 0x40;
    if x.is_nan() { nan } else { rounded }
}

/// Widens one value.
#[inline(always)]
pub(crate) fn widen(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}
