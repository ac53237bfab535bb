//! The int8 tile in plain loops: the specification of the vector kernel, and the path of other CPUs.

use super::requant::Finish;
use crate::Level;
use crate::narrow::{COLUMNS, ROWS, Tile};
use crate::simd::at;

/// Computes a tile of `m` pixels; `finish` is that of the group's channels.
///
/// # Safety
/// That of [`crate::narrow::Kernel::tile`].
pub(super) unsafe fn tile(level: Level, m: usize, t: &Tile<u8>, finish: &Finish) {
    at(
        level,
        #[inline(always)]
        |_| {
            for r in 0..m {
                let mut sums = [0; COLUMNS];
                sums[..t.cols].copy_from_slice(&finish.start[t.column..][..t.cols]);
                // SAFETY: the caller's promise.
                unsafe {
                    if t.cols > COLUMNS / 2 {
                        sum::<COLUMNS>(r, t, &mut sums);
                    } else {
                        sum::<{ COLUMNS / 2 }>(r, t, &mut sums);
                    }
                    let at = *t.at.add(r);
                    for c in 0..t.cols {
                        let residual = (!t.residual.is_null()).then(|| *t.residual.add(at + c));
                        *t.y.add(at + c) = finish.byte(t.column + c, sums[c], residual);
                    }
                }
            }
        },
    );
}

/// Adds the products of one pixel, for a panel `W` channels wide.
///
/// # Safety
/// That of [`tile`].
#[inline(always)]
unsafe fn sum<const W: usize>(r: usize, t: &Tile<u8>, out: &mut [i32; COLUMNS]) {
    let mut sums = [0_i32; W];
    let mut panel = t.panel.cast::<[[i8; 4]; W]>();
    for tap in 0..t.taps {
        // SAFETY: the table has a pointer per tap and row, each to `depth` words; the panel goes along.
        unsafe {
            let row = *t.rows.add(tap * ROWS + r);
            for k in 0..t.depth {
                let x = row.add(k).cast::<[u8; 4]>().read_unaligned().map(i32::from);
                for (sum, w) in sums.iter_mut().zip(&*panel) {
                    let w = w.map(i32::from);
                    *sum = sum.wrapping_add(x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3]);
                }
                panel = panel.add(1);
            }
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = out.wrapping_add(sum);
    }
}
