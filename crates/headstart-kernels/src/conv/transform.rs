//! The three transforms of `winograd.rs`, over as many channels side by side as a vector has lanes.
//!
//! Each is a small matrix applied to the columns and then the rows of a tile. The text is the same for
//! both instruction sets, so one macro writes it twice.

use crate::Level;

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

/// `V = Bᵀ d B` for each of the channels, a multiple of 16.
pub(super) fn input(level: Level, inputs: [&[f32]; 36], mut points: [&mut [f32]; 36]) {
    let len = inputs[0].len();
    assert!(len.is_multiple_of(16) && inputs.iter().all(|i| i.len() == len));
    assert!(points.iter().all(|p| p.len() == len));
    let (inputs, points) = (inputs.map(<[f32]>::as_ptr), points.each_mut().map(|p| p.as_mut_ptr()));
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` is supported; all slices have `len` floats, whole vectors.
        Level::Avx512 => unsafe { avx512::input(len, &inputs, &points) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` is supported; all slices have `len` floats, whole vectors.
        Level::Avx2 => unsafe { avx2::input(len, &inputs, &points) },
        _ => unreachable!("the scalar level has no Winograd"),
    }
}

/// `y = clamp(Aᵀ m A + bias + residual)` for each of the channels, a multiple of 16.
///
/// # Safety
/// `residuals` and `outputs` lead to as many floats as `points` have; outputs that are read do not overlap.
pub(super) unsafe fn output(
    level: Level,
    points: [&[f32]; 36],
    bias: Option<&[f32]>,
    residuals: Option<[*const f32; 16]>,
    limits: [f32; 2],
    outputs: [*mut f32; 16],
) {
    let len = points[0].len();
    assert!(len.is_multiple_of(16) && points.iter().all(|p| p.len() == len));
    assert!(bias.is_none_or(|b| b.len() == len));
    let points = points.map(<[f32]>::as_ptr);
    let bias = bias.map(<[f32]>::as_ptr);
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` is supported; lengths are checked above or promised by the caller.
        Level::Avx512 => unsafe { avx512::output(len, &points, bias, residuals.as_ref(), limits, &outputs) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` is supported; lengths are checked above or promised by the caller.
        Level::Avx2 => unsafe { avx2::output(len, &points, bias, residuals.as_ref(), limits, &outputs) },
        _ => unreachable!("the scalar level has no Winograd"),
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! transforms {
    (
        $features:literal, $lanes:literal, $vector:ident, $load:ident, $store:ident, $set:ident,
        $add:ident, $sub:ident, $mul:ident, $fmadd:ident, $fnmadd:ident, $max:ident, $min:ident
    ) => {
        use std::arch::x86_64::*;

        #[target_feature(enable = $features)]
        pub(super) unsafe fn weight(len: usize, taps: &[*const f32; 9], points: &[*mut f32; 36]) {
            for c in (0..len).step_by($lanes) {
                let mut half = [[$set(0.0); 3]; 6];
                for x in 0..3 {
                    // SAFETY: whole vectors within `len`, see the caller.
                    let g: [$vector; 3] = unsafe {
                        [$load(taps[x].add(c)), $load(taps[3 + x].add(c)), $load(taps[6 + x].add(c))]
                    };
                    let column = weight_line(g);
                    for y in 0..6 {
                        half[y][x] = column[y];
                    }
                }
                for y in 0..6 {
                    let row = weight_line(half[y]);
                    for x in 0..6 {
                        // SAFETY: as above.
                        unsafe { $store(points[6 * y + x].add(c), row[x]) };
                    }
                }
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

        #[inline]
        #[target_feature(enable = $features)]
        fn weight_line(g: [$vector; 3]) -> [$vector; 6] {
            let even = $mul($set(-1.0 / 6.0), $add(g[0], g[2]));
            let odd = $mul($set(1.0 / 6.0), g[1]);
            let even2 = $fmadd($set(1.0 / 24.0), g[0], $mul($set(1.0 / 6.0), g[2]));
            let odd2 = $mul($set(1.0 / 12.0), g[1]);
            [
                $mul($set(0.25), g[0]),
                $sub(even, odd),
                $add(even, odd),
                $add(even2, odd2),
                $sub(even2, odd2),
                g[2],
            ]
        }

        #[target_feature(enable = $features)]
        pub(super) unsafe fn input(len: usize, inputs: &[*const f32; 36], points: &[*mut f32; 36]) {
            for c in (0..len).step_by($lanes) {
                let mut half = [[$set(0.0); 6]; 6];
                for x in 0..6 {
                    let mut d = [$set(0.0); 6];
                    for y in 0..6 {
                        // SAFETY: whole vectors within `len`, see the caller.
                        d[y] = unsafe { $load(inputs[6 * y + x].add(c)) };
                    }
                    let column = input_line(d);
                    for y in 0..6 {
                        half[y][x] = column[y];
                    }
                }
                for y in 0..6 {
                    let row = input_line(half[y]);
                    for x in 0..6 {
                        // SAFETY: as above.
                        unsafe { $store(points[6 * y + x].add(c), row[x]) };
                    }
                }
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn input_line(d: [$vector; 6]) -> [$vector; 6] {
            let (two, four, five) = ($set(2.0), $set(4.0), $set(5.0));
            let even = $fnmadd(four, d[2], d[4]);
            let odd = $fnmadd(four, d[1], d[3]);
            let even2 = $sub(d[4], d[2]);
            let odd2 = $sub(d[3], d[1]);
            [
                $fmadd(four, d[0], $fnmadd(five, d[2], d[4])),
                $add(even, odd),
                $sub(even, odd),
                $fmadd(two, odd2, even2),
                $fnmadd(two, odd2, even2),
                $fmadd(four, d[1], $fnmadd(five, d[3], d[5])),
            ]
        }

        #[target_feature(enable = $features)]
        pub(super) unsafe fn output(
            len: usize,
            points: &[*const f32; 36],
            bias: Option<*const f32>,
            residuals: Option<&[*const f32; 16]>,
            limits: [f32; 2],
            outputs: &[*mut f32; 16],
        ) {
            let (low, high) = ($set(limits[0]), $set(limits[1]));
            for c in (0..len).step_by($lanes) {
                let mut half = [[$set(0.0); 6]; 4];
                for x in 0..6 {
                    let mut m = [$set(0.0); 6];
                    for y in 0..6 {
                        // SAFETY: whole vectors within `len`, see the caller.
                        m[y] = unsafe { $load(points[6 * y + x].add(c)) };
                    }
                    let column = output_line(m);
                    for y in 0..4 {
                        half[y][x] = column[y];
                    }
                }
                // SAFETY: as above.
                let bias = bias.map_or($set(0.0), |bias| unsafe { $load(bias.add(c)) });
                for y in 0..4 {
                    let row = output_line(half[y]);
                    for x in 0..4 {
                        let mut sum = $add(row[x], bias);
                        if let Some(residuals) = residuals {
                            // SAFETY: as above.
                            sum = $add(sum, unsafe { $load(residuals[4 * y + x].add(c)) });
                        }
                        // SAFETY: as above.
                        unsafe { $store(outputs[4 * y + x].add(c), $min(high, $max(low, sum))) };
                    }
                }
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn output_line(m: [$vector; 6]) -> [$vector; 4] {
            let (sum, difference) = ($add(m[1], m[2]), $sub(m[1], m[2]));
            let (sum2, difference2) = ($add(m[3], m[4]), $sub(m[3], m[4]));
            [
                $add(m[0], $add(sum, sum2)),
                $fmadd($set(2.0), difference2, difference),
                $fmadd($set(4.0), sum2, sum),
                $add($fmadd($set(8.0), difference2, difference), m[5]),
            ]
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    transforms!(
        "avx512f",
        16,
        __m512,
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
    transforms!(
        "avx2,fma",
        8,
        __m256,
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
