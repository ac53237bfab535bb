//! The lanes as an array, in plain loops.

use super::Lanes;

#[derive(Clone, Copy)]
pub(super) struct Eight([i32; 8]);

impl Eight {
    #[inline(always)]
    fn of(value: impl Fn(usize) -> i32) -> Self {
        Self(std::array::from_fn(value))
    }
}

impl Lanes for Eight {
    #[inline(always)]
    fn dequantized(coefficients: &[i16; 8], quantizers: &[i32; 8]) -> Self {
        Self::of(|i| i32::from(coefficients[i]).wrapping_mul(quantizers[i]))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self::of(|i| self.0[i].wrapping_add(other.0[i]))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self::of(|i| self.0[i].wrapping_sub(other.0[i]))
    }

    #[inline(always)]
    fn mul(self, factor: i32) -> Self {
        Self::of(|i| self.0[i].wrapping_mul(factor))
    }

    #[inline(always)]
    fn shl<const DIGITS: i32>(self) -> Self {
        Self::of(|i| self.0[i] << DIGITS)
    }

    #[inline(always)]
    fn rounded<const DIGITS: i32>(self) -> Self {
        Self::of(|i| self.0[i].wrapping_add(1 << (DIGITS - 1)) >> DIGITS)
    }

    #[inline(always)]
    fn transposed(rows: [Self; 8]) -> [Self; 8] {
        std::array::from_fn(|y| Self::of(|x| rows[x].0[y]))
    }

    #[inline(always)]
    fn samples(rows: [Self; 8]) -> [[u8; 8]; 8] {
        rows.map(|row| row.0.map(|v| v.wrapping_add(128).clamp(0, 255) as u8))
    }
}
