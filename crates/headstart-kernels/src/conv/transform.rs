//! The three transforms of `winograd.rs`, over as many channels side by side as a vector has lanes.
//!
//! Each is a small matrix applied to the columns and then the rows of a tile. The text is the same for
//! both instruction sets and for maps in f32 and bf16, so macros write it.

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

/// Applies a matrix, `$line`, to the columns of a square tile and then to the rows: of `$from` numbers it makes `$to`.
#[cfg(target_arch = "x86_64")]
macro_rules! both_ways {
    (
        $line:ident: $from:literal to $to:literal, $zero:expr,
        |$y:ident, $x:ident| $read:expr, |$to_y:ident, $to_x:ident, $value:ident| $write:expr
    ) => {
        let mut half = [[$zero; $from]; $to];
        for $x in 0..$from {
            let mut column = [$zero; $from];
            for $y in 0..$from {
                // SAFETY: whole vectors within `len`, see the caller.
                column[$y] = unsafe { $read };
            }
            let column = $line(column);
            for y in 0..$to {
                half[y][$x] = column[y];
            }
        }
        for $to_y in 0..$to {
            let row = $line(half[$to_y]);
            for $to_x in 0..$to {
                let $value = row[$to_x];
                // SAFETY: as above.
                unsafe { $write };
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
macro_rules! weights {
    (
        $features:literal, $lanes:literal, $vector:ident, $load:ident, $store:ident, $set:ident,
        $add:ident, $sub:ident, $mul:ident, $fmadd:ident
    ) => {
        #[target_feature(enable = $features)]
        pub(super) unsafe fn weight(len: usize, taps: &[*const f32; 9], points: &[*mut f32; 36]) {
            for c in (0..len).step_by($lanes) {
                both_ways!(
                    weight_line: 3 to 6, $set(0.0),
                    |y, x| $load(taps[3 * y + x].add(c)), |y, x, v| $store(points[6 * y + x].add(c), v)
                );
            }
        }

        #[target_feature(enable = $features)]
        pub(super) unsafe fn weight_row(
            y: usize,
            len: usize,
            taps: &[*const f32; 9],
            points: &[*mut f32; 6],
        ) {
            // SAFETY: the caller's promise.
            unsafe {
                match y {
                    0 => weight_row_of::<0>(len, taps, points),
                    1 => weight_row_of::<1>(len, taps, points),
                    2 => weight_row_of::<2>(len, taps, points),
                    3 => weight_row_of::<3>(len, taps, points),
                    4 => weight_row_of::<4>(len, taps, points),
                    _ => weight_row_of::<5>(len, taps, points),
                }
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn weight_row_of<const Y: usize>(len: usize, taps: &[*const f32; 9], points: &[*mut f32; 6]) {
            for c in (0..len).step_by($lanes) {
                let mut half = [$set(0.0); 3];
                for x in 0..3 {
                    // SAFETY: whole vectors within `len`, see the caller.
                    let g: [$vector; 3] = unsafe {
                        [$load(taps[x].add(c)), $load(taps[3 + x].add(c)), $load(taps[6 + x].add(c))]
                    };
                    half[x] = weight_line(g)[Y];
                }
                let row = weight_line(half);
                for x in 0..6 {
                    // SAFETY: as above.
                    unsafe { $store(points[x].add(c), row[x]) };
                }
            }
        }

        #[target_feature(enable = $features)]
        pub(super) unsafe fn gradient(len: usize, gradients: &[*const f32; 16], points: &[*mut f32; 36]) {
            for c in (0..len).step_by($lanes) {
                both_ways!(
                    gradient_line: 4 to 6, $set(0.0),
                    |y, x| $load(gradients[4 * y + x].add(c)), |y, x, v| $store(points[6 * y + x].add(c), v)
                );
            }
        }

        /// The transpose of `output_line`.
        #[inline]
        #[target_feature(enable = $features)]
        fn gradient_line(d: [$vector; 4]) -> [$vector; 6] {
            let even = $fmadd($set(P2), d[2], d[0]);
            let odd = $mul($set(P), $fmadd($set(P2), d[3], d[1]));
            let even2 = $fmadd($set(Q2), d[2], d[0]);
            let odd2 = $mul($set(Q), $fmadd($set(Q2), d[3], d[1]));
            [d[0], $add(even, odd), $sub(even, odd), $add(even2, odd2), $sub(even2, odd2), d[3]]
        }

        #[target_feature(enable = $features)]
        pub(super) unsafe fn weight_gradient(len: usize, points: &[*const f32; 36], taps: &[*mut f32; 9]) {
            for c in (0..len).step_by($lanes) {
                both_ways!(
                    weight_gradient_line: 6 to 3, $set(0.0),
                    |y, x| $load(points[6 * y + x].add(c)), |y, x, v| $store(taps[3 * y + x].add(c), v)
                );
            }
        }

        /// The transpose of `weight_line`.
        #[inline]
        #[target_feature(enable = $features)]
        fn weight_gradient_line(p: [$vector; 6]) -> [$vector; 3] {
            let (near, far) = ($add(p[1], p[2]), $add(p[3], p[4]));
            let (near_odd, far_odd) = ($sub(p[1], p[2]), $sub(p[3], p[4]));
            [
                $fmadd($set(AT_0), p[0], $fmadd($set(AT_Q), far, $mul($set(AT_P), near))),
                $fmadd($set(P * AT_P), near_odd, $mul($set(Q * AT_Q), far_odd)),
                $fmadd($set(P2 * AT_P), near, $fmadd($set(Q2 * AT_Q), far, p[5])),
            ]
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn weight_line(g: [$vector; 3]) -> [$vector; 6] {
            let even = $mul($set(AT_P), $fmadd($set(P2), g[2], g[0]));
            let odd = $mul($set(P * AT_P), g[1]);
            let even2 = $mul($set(AT_Q), $fmadd($set(Q2), g[2], g[0]));
            let odd2 = $mul($set(Q * AT_Q), g[1]);
            [
                $mul($set(AT_0), g[0]),
                $add(even, odd),
                $sub(even, odd),
                $add(even2, odd2),
                $sub(even2, odd2),
                g[2],
            ]
        }
    };
}

/// The transforms of maps; `$read` and `$write` take and give `$value` in place of floats.
#[cfg(target_arch = "x86_64")]
macro_rules! maps {
    (
        $features:literal, $lanes:literal, $vector:ident, $value:ident, $read:ident, $write:ident, $load:ident,
        $store:ident, $set:ident, $add:ident, $sub:ident, $mul:ident, $fmadd:ident, $fnmadd:ident, $max:ident,
        $min:ident
    ) => {
        #[target_feature(enable = $features)]
        pub(super) unsafe fn input(len: usize, inputs: &[*const $value; 36], points: &[*mut f32; 36]) {
            for c in (0..len).step_by($lanes) {
                both_ways!(
                    input_line: 6 to 6, $set(0.0),
                    |y, x| $read(inputs[6 * y + x].add(c)), |y, x, v| $store(points[6 * y + x].add(c), v)
                );
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn input_line(d: [$vector; 6]) -> [$vector; 6] {
            let even = $fnmadd($set(Q2), d[2], d[4]);
            let odd = $fnmadd($set(Q2), d[1], d[3]);
            let even2 = $fnmadd($set(P2), d[2], d[4]);
            let odd2 = $fnmadd($set(P2), d[1], d[3]);
            let (product, sum) = ($set(P2 * Q2), $set(P2 + Q2));
            [
                $fmadd(product, d[0], $fnmadd(sum, d[2], d[4])),
                $fmadd($set(P), odd, even),
                $fnmadd($set(P), odd, even),
                $fmadd($set(Q), odd2, even2),
                $fnmadd($set(Q), odd2, even2),
                $fmadd(product, d[1], $fnmadd(sum, d[3], d[5])),
            ]
        }

        #[target_feature(enable = $features)]
        pub(super) unsafe fn output(len: usize, sums: &Sums<$value>, outputs: &[*mut $value; 16]) {
            let (low, high) = ($set(sums.limits[0]), $set(sums.limits[1]));
            for c in (0..len).step_by($lanes) {
                // SAFETY: whole vectors within `len`, see the caller.
                let bias = sums.bias.map_or($set(0.0), |bias| unsafe { $load(bias.add(c)) });
                both_ways!(
                    output_line: 6 to 4, $set(0.0),
                    |y, x| $load(sums.points[6 * y + x].add(c)), |y, x, v| {
                        let mut sum = $add(v, bias);
                        if let Some(residuals) = &sums.residuals {
                            sum = $add(sum, $read(residuals[4 * y + x].add(c)));
                        }
                        $write(outputs[4 * y + x].add(c), $min(high, $max(low, sum)))
                    }
                );
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn output_line(m: [$vector; 6]) -> [$vector; 4] {
            let (sum, difference) = ($add(m[1], m[2]), $sub(m[1], m[2]));
            let (sum2, difference2) = ($add(m[3], m[4]), $sub(m[3], m[4]));
            [
                $add(m[0], $add(sum, sum2)),
                $fmadd($set(Q), difference2, $mul($set(P), difference)),
                $fmadd($set(Q2), sum2, $mul($set(P2), sum)),
                $fmadd($set(Q3), difference2, $fmadd($set(P3), difference, m[5])),
            ]
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{AT_0, AT_P, AT_Q, P, P2, P3, Q, Q2, Q3, Sums};

    weights!(
        "avx512f",
        16,
        __m512,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps
    );
    maps!(
        "avx512f",
        16,
        __m512,
        f32,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps,
        _mm512_fnmadd_ps,
        _mm512_max_ps,
        _mm512_min_ps
    );
}

/// Maps in bf16.
#[cfg(target_arch = "x86_64")]
mod half {
    use std::arch::x86_64::*;

    use super::{P, P2, P3, Q, Q2, Q3, Sums};

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn read(from: *const u16) -> __m512 {
        // SAFETY: the caller's promise.
        let values = unsafe { _mm256_loadu_si256(from.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(values)))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn write(to: *mut u16, values: __m512) {
        // SAFETY: both are 32 plain bytes.
        let half = unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)) };
        // SAFETY: there is room by the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), half) };
    }

    maps!(
        "avx512f,avx512bf16",
        16,
        __m512,
        u16,
        read,
        write,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps,
        _mm512_fnmadd_ps,
        _mm512_max_ps,
        _mm512_min_ps
    );
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{AT_0, AT_P, AT_Q, P, P2, P3, Q, Q2, Q3, Sums};

    weights!(
        "avx2,fma",
        8,
        __m256,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps
    );
    maps!(
        "avx2,fma",
        8,
        __m256,
        f32,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps,
        _mm256_fnmadd_ps,
        _mm256_max_ps,
        _mm256_min_ps
    );
}
