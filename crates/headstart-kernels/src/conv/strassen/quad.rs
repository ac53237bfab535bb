//! A tile of pairs of rows by a pair of panels, as seven sums.

use super::SUMS;
use crate::Level;
use crate::conv::Act;
use crate::conv::micro::{self, Blocking, Linked, MAX_MR};
use crate::scratch::cut;

/// Where the pairs of rows of a tile are in the output.
#[derive(Clone, Copy, Default)]
pub(super) struct Pairs {
    /// Pairs; only the first `both` have a second row.
    pub m: usize,
    pub both: usize,
    /// Offsets of the first and of the second row of each.
    pub first: [usize; MAX_MR],
    pub second: [usize; MAX_MR],
}

/// The operands of the tile, and what happens to its four quarters.
pub(super) struct Quad<'a> {
    pub level: Level,
    /// Half the depth of the product.
    pub half: usize,
    /// Seven operands, `a_sum` floats apart: value `k` of row `r` at `r * a_row + k * a_step`.
    pub a: &'a [f32],
    pub a_sum: usize,
    pub a_row: usize,
    pub a_step: usize,
    /// Operands `[half][nr]`, and which of them each sum takes.
    pub parts: &'a [f32],
    pub part_of: [usize; SUMS],
    /// For both columns, or null.
    pub bias: *const f32,
    /// At the offsets of the outputs, or null.
    pub residual: *const f32,
    pub act: Act,
}

impl Quad<'_> {
    /// Computes the quarters. `y` is their first column; `sums` has room for three tiles.
    ///
    /// # Safety
    /// `y` and the residual have two panels of columns at each offset, the bias has two panels; nobody else uses these outputs meanwhile.
    pub unsafe fn run(&self, pairs: &Pairs, sums: &mut [f32], y: *mut f32) {
        let Blocking { mr, nr } = Blocking::of(self.level);
        let (Pairs { m, both, first, second }, none) = (pairs, std::ptr::null_mut());
        let (m, both) = (*m, *both);
        assert!(m <= mr && both <= m, "{m} pairs of rows");
        let [p, u, w] = cut(sums, mr * nr, mr * nr).map(<[f32]>::as_mut_ptr);
        let v = p;
        // The rows, the side and how many are written, what is added for it; what is kept, and what is added for that.
        let (left, right) = (0, nr);
        let links = [
            (first, left, 0, none, p, none),
            (first, left, m, p, none, none),
            (first, left, 0, none, u, p),
            (first, left, 0, none, w, u),
            (second, left, both, w, none, none),
            (second, right, both, w, v, u),
            (first, right, m, v, none, none),
        ];
        let beside =
            |pointer: *const f32, side| if pointer.is_null() { pointer } else { pointer.wrapping_add(side) };
        for (sum, (at, side, written, also, keep, plus)) in links.into_iter().enumerate() {
            let a = &self.a[sum * self.a_sum..];
            assert!(a.len() > (m - 1) * self.a_row + (self.half - 1) * self.a_step, "operand {sum} is short");
            let linked = Linked {
                a: a.as_ptr(),
                a_row: self.a_row,
                a_step: self.a_step,
                panel: self.parts[self.part_of[sum] * self.half * nr..][..self.half * nr].as_ptr(),
                depth: self.half,
                keep,
                plus,
                also,
                written,
                bias: beside(self.bias, side),
                residual: beside(self.residual, side),
                y: y.wrapping_add(side),
                at: at.as_ptr(),
                act: self.act,
            };
            // SAFETY: both operands have `half` values a row, checked here; each kept sum has `mr * nr`; outputs, residual and bias are
            // the caller's promise.
            unsafe { micro::linked(self.level, m, &linked) };
        }
    }
}
