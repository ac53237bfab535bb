//! Products of large matrices with seven multiplications in place of eight: V. Strassen, "Gaussian elimination is not
//! optimal", 1969, in S. Winograd's form of fifteen additions, one level deep.
//!
//! ```text
//! quad.rs     the seven sums of a tile
//! forward.rs  rows times weights, and the gradient of the rows
//! weight.rs   the gradient of the weights
//! ```
//! A tile is of pairs of rows and of a pair of panels, and the depth is halved, so that a tile is the four quarters of a
//! product. One side's four additions are made as it is copied for a tile, the other's once for all tiles, and the seven sums of a tile
//! follow each other: what one leaves for another stays in L1.
//!
//! With the quarters `A11 A12` (first of each pair of rows) and `A21 A22` (second), and `B` of the panels, in order of use:
//!
//! ```text
//! A11 · B11                                             P = this
//! A12 · B21                           C11 = P + this
//! S2  · T2    S2 = A21 + A22 - A11                      U = P + this   T2 = B22 - B12 + B11
//! S3  · T3    S3 = A11 - A21                            W = U + this   T3 = B22 - B12
//! A22 · T4                            C21 = W + this                   T4 = B21 - T2
//! S1  · T1    S1 = A21 + A22          C22 = W + this    V = U + this   T1 = B12 - B11
//! S4  · B22   S4 = A12 - S2           C12 = V + this
//! ```

mod forward;
mod quad;
mod weight;

pub(super) use forward::{Product, pack, panel, run};
pub(super) use weight::Gradient;

use crate::simd::fetch;

/// Sums of a tile.
const SUMS: usize = 7;

/// Least sizes of the sides for which the additions cost less than the products they save.
const LEAST_DEPTH: usize = 256;
const LEAST_COLS: usize = 192;

/// The operands of the rows of a tile, in the order of the sums.
#[inline(always)]
fn of_rows(a11: f32, a12: f32, a21: f32, a22: f32) -> [f32; SUMS] {
    let s1 = a21 + a22;
    let s2 = s1 - a11;
    [a11, a12, s2, a11 - a21, a22, s1, a12 - s2]
}

/// The operands of a pair of panels, in the order of the sums.
#[inline(always)]
fn of_panels(b11: f32, b12: f32, b21: f32, b22: f32) -> [f32; SUMS] {
    let t1 = b12 - b11;
    let t2 = b22 - t1;
    [b11, b21, t2, b22 - b12, b21 - t2, t1, b22]
}

/// Writes `of` the lines of four quarters to `N` places: of whole slices the compiler would not see that they are apart.
#[inline(always)]
fn each_line<'a, const N: usize, const L: usize>(
    count: usize,
    mut quarters: impl FnMut(usize) -> [&'a [f32; L]; 4],
    to: [&mut [f32]; N],
    of: impl Fn(f32, f32, f32, f32) -> [f32; N],
) {
    let mut to = to.map(|to| &mut to.as_chunks_mut::<L>().0[..count]);
    for n in 0..count {
        let [a, b, c, d] = quarters(n);
        let mut lines = [[0.0; L]; N];
        for i in 0..L {
            let values = of(a[i], b[i], c[i], d[i]);
            lines.iter_mut().zip(values).for_each(|(line, value)| line[i] = value);
        }
        for (to, line) in to.iter_mut().zip(lines) {
            to[n] = line;
            // So many stores at once would wait for L2 one by one.
            fetch(to[n].as_ptr().wrapping_add(2 * L));
        }
    }
}

/// Writes `of` the lines of four slices of one length, as [`each_line`] does, and asks for those `ahead` floats further.
#[inline(always)]
fn each_line_of<const N: usize, const L: usize>(
    quarters: [&[f32]; 4],
    ahead: usize,
    to: [&mut [f32]; N],
    of: impl Fn(f32, f32, f32, f32) -> [f32; N],
) {
    let count = quarters[0].len() / L;
    let quarters = quarters.map(|quarter| &quarter.as_chunks::<L>().0[..count]);
    each_line(
        count,
        #[inline(always)]
        |n| {
            quarters.map(|quarter| {
                let line = &quarter[n];
                fetch(line.as_ptr().wrapping_add(ahead));
                line
            })
        },
        to,
        of,
    );
}
