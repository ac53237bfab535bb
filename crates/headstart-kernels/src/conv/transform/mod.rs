//! The three transforms of `winograd.rs`, over as many channels side by side as a vector has lanes.
//!
//! Each is a small matrix applied to the columns and then the rows of a tile. The text is the same for
//! both instruction sets and for maps in f32 and bf16, so the macros of `text.rs` write it.

#[cfg(target_arch = "x86_64")]
#[macro_use]
mod text;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
use x86::{avx2, avx512, half};

use crate::scratch::Plain;
use crate::{End, Level};

/// The points are 0, ±P, ±Q, ∞. The usual 1 and 2 save a few products of powers of two and lose twice the digits.
const P: f32 = 0.625;
const Q: f32 = 1.5;

/// Their squares and cubes.
const P2: f32 = P * P;
const Q2: f32 = Q * Q;
const P3: f32 = P * P2;
const Q3: f32 = Q * Q2;

/// One over the product of a point's distances from the other four.
const AT_0: f32 = 1.0 / (P2 * Q2);
const AT_P: f32 = 1.0 / (2.0 * P2 * (P2 - Q2));
const AT_Q: f32 = 1.0 / (2.0 * Q2 * (Q2 - P2));

/// `U = G g Gᵀ` for each of the channels.
pub(super) fn weight(level: Level, taps: [&[f32]; 9], mut points: [&mut [f32]; 36]) {
    let len = taps[0].len();
    assert!(len.is_multiple_of(8) && taps.iter().all(|t| t.len() == len));
    assert!(points.iter().all(|p| p.len() == len));
    let (taps, points) = (taps.map(<[f32]>::as_ptr), points.each_mut().map(|p| p.as_mut_ptr()));
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` is supported; all slices have `len` floats, whole vectors of 16.
        Level::Avx512 if len.is_multiple_of(16) => unsafe { avx512::weight(len, &taps, &points) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` is supported; all slices have `len` floats, whole vectors of 8.
        Level::Avx2 | Level::Avx512 => unsafe { avx2::weight(len, &taps, &points) },
        _ => unreachable!("the scalar level has no Winograd"),
    }
}

/// Row `y` of [`weight`]'s result: six of the 36 points.
pub(super) fn weight_row(level: Level, y: usize, taps: [&[f32]; 9], mut points: [&mut [f32]; 6]) {
    let len = taps[0].len();
    assert!(y < 6 && len.is_multiple_of(8) && taps.iter().all(|t| t.len() == len));
    assert!(points.iter().all(|p| p.len() == len));
    let (taps, points) = (taps.map(<[f32]>::as_ptr), points.each_mut().map(|p| p.as_mut_ptr()));
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` is supported; all slices have `len` floats, whole vectors of 16.
        Level::Avx512 if len.is_multiple_of(16) => unsafe { avx512::weight_row(y, len, &taps, &points) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` is supported; all slices have `len` floats, whole vectors of 8.
        Level::Avx2 | Level::Avx512 => unsafe { avx2::weight_row(y, len, &taps, &points) },
        _ => unreachable!("the scalar level has no Winograd"),
    }
}

/// `Z = A y Aᵀ` of 4x4 gradients `y` for each of `len` channels, a multiple of 16.
///
/// # Safety
/// `level` is supported; every pointer leads to `len` floats.
pub(super) unsafe fn gradient(level: Level, len: usize, y: &[*const f32; 16], points: &[*mut f32; 36]) {
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        Level::Avx512 => unsafe { avx512::gradient(len, y, points) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        Level::Avx2 => unsafe { avx2::gradient(len, y, points) },
        _ => unreachable!("the scalar level has no Winograd"),
    }
}

/// `g = Gᵀ U G` for each of the channels, a multiple of 16: the transpose of [`weight`].
pub(super) fn weight_gradient(level: Level, points: [&[f32]; 36], mut taps: [&mut [f32]; 9]) {
    let len = points[0].len();
    assert!(len.is_multiple_of(16) && points.iter().all(|p| p.len() == len));
    assert!(level.is_supported() && taps.iter().all(|t| t.len() == len));
    let (points, taps) = (points.map(<[f32]>::as_ptr), taps.each_mut().map(|t| t.as_mut_ptr()));
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` is supported; all slices have `len` floats, whole vectors.
        Level::Avx512 => unsafe { avx512::weight_gradient(len, &points, &taps) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { avx2::weight_gradient(len, &points, &taps) },
        _ => unreachable!("the scalar level has no Winograd"),
    }
}

/// What the maps of a layer are stored as; the transforms compute in f32.
pub(super) trait Stored: Plain {
    /// Tells whether the transforms of such maps exist at a level of this CPU.
    fn runs_at(level: Level) -> bool;

    /// `V = Bᵀ d B` for each of `len` channels, a multiple of 16.
    ///
    /// # Safety
    /// [`Stored::runs_at`] is true of `level`; every pointer leads to `len` values.
    unsafe fn input(level: Level, len: usize, inputs: &[*const Self; 36], points: &[*mut f32; 36]);

    /// `y = clamp(Aᵀ m A + bias + residual)` for each of `len` channels, a multiple of 16.
    ///
    /// # Safety
    /// As for [`Stored::input`]; outputs that are read do not overlap.
    unsafe fn output(level: Level, len: usize, sums: &Sums<Self>, outputs: &[*mut Self; 16]);

    /// Does what `end` leaves to do to what was written.
    fn finish(end: End, level: Level, written: &mut [Self]);
}

/// What becomes the 16 outputs of a tile.
pub(super) struct Sums<T> {
    pub points: [*const f32; 36],
    pub bias: Option<*const f32>,
    pub residuals: Option<[*const T; 16]>,
    pub limits: [f32; 2],
}

impl Stored for f32 {
    fn runs_at(level: Level) -> bool {
        level != Level::Scalar && level.is_supported()
    }

    unsafe fn input(level: Level, len: usize, inputs: &[*const f32; 36], points: &[*mut f32; 36]) {
        match level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the caller's promise.
            Level::Avx512 => unsafe { avx512::input(len, inputs, points) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the caller's promise.
            Level::Avx2 => unsafe { avx2::input(len, inputs, points) },
            _ => unreachable!("the scalar level has no Winograd"),
        }
    }

    unsafe fn output(level: Level, len: usize, sums: &Sums<f32>, outputs: &[*mut f32; 16]) {
        match level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the caller's promise.
            Level::Avx512 => unsafe { avx512::output(len, sums, outputs) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the caller's promise.
            Level::Avx2 => unsafe { avx2::output(len, sums, outputs) },
            _ => unreachable!("the scalar level has no Winograd"),
        }
    }

    fn finish(end: End, level: Level, written: &mut [f32]) {
        end.finish(level, written);
    }
}

impl Stored for u16 {
    fn runs_at(level: Level) -> bool {
        level.has_bf16()
    }

    unsafe fn input(level: Level, len: usize, inputs: &[*const u16; 36], points: &[*mut f32; 36]) {
        match level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the caller's promise.
            Level::Avx512 => unsafe { half::input(len, inputs, points) },
            _ => unreachable!("Winograd over bf16 needs its instructions"),
        }
    }

    unsafe fn output(level: Level, len: usize, sums: &Sums<u16>, outputs: &[*mut u16; 16]) {
        match level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the caller's promise.
            Level::Avx512 => unsafe { half::output(len, sums, outputs) },
            _ => unreachable!("Winograd over bf16 needs its instructions"),
        }
    }

    fn finish(end: End, _: Level, _: &mut [u16]) {
        assert!(matches!(end, End::Clamp(_)), "layers on bf16 maps end in clamps");
    }
}
