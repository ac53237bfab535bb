//! The transforms as text, with the intrinsics of an instruction set put in.

/// Applies a matrix, `$line`, to the columns of a square tile and then to the rows: of `$from` numbers it makes `$to`.
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

macro_rules! weights {
    (
        $features:literal, $lanes:literal, $vector:ident, $load:ident, $store:ident, $set:ident,
        $add:ident, $sub:ident, $mul:ident, $fmadd:ident
    ) => {
        #[target_feature(enable = $features)]
        pub unsafe fn weight(len: usize, taps: &[*const f32; 9], points: &[*mut f32; 36]) {
            for c in (0..len).step_by($lanes) {
                both_ways!(
                    weight_line: 3 to 6, $set(0.0),
                    |y, x| $load(taps[3 * y + x].add(c)), |y, x, v| $store(points[6 * y + x].add(c), v)
                );
            }
        }

        #[target_feature(enable = $features)]
        pub unsafe fn weight_row(
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
        pub unsafe fn gradient(len: usize, gradients: &[*const f32; 16], points: &[*mut f32; 36]) {
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
        pub unsafe fn weight_gradient(len: usize, points: &[*const f32; 36], taps: &[*mut f32; 9]) {
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
macro_rules! maps {
    (
        $features:literal, $lanes:literal, $vector:ident, $value:ident, $read:ident, $write:ident, $load:ident,
        $store:ident, $set:ident, $add:ident, $sub:ident, $mul:ident, $fmadd:ident, $fnmadd:ident, $max:ident,
        $min:ident
    ) => {
        #[target_feature(enable = $features)]
        pub unsafe fn input(len: usize, inputs: &[*const $value; 36], points: &[*mut f32; 36]) {
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
        pub unsafe fn output(len: usize, sums: &Sums<$value>, outputs: &[*mut $value; 16]) {
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
