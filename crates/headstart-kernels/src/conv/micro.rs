//! What the drivers ask of a micro-kernel, and the choice of one by instruction set.
//!
//! Three micro-kernels make every dense layer. `Tile` sums over taps and channels with the
//! accumulators of a few output pixels in registers (forward, backward-data, linear). `Outer` sums
//! over pixels with the accumulators of a few weights in registers (backward-weight). `Linked` is a
//! sum of `strassen/`, which has to do with others.

use super::Act;
use crate::Level;

/// A tile of output: up to `mr` pixels by one panel of up to `nr` channels.
pub(super) struct Tile {
    /// `[taps][mr]` pointers, each to the inputs of one pixel under one tap.
    pub rows: *const *const f32,
    /// The first of the `depth` inputs to read there.
    pub channel: usize,
    pub taps: usize,
    pub depth: usize,
    /// Weights `[taps][depth][width]`, `width` being [`Blocking::width`] of `cols`.
    pub panel: *const f32,
    /// `cols` values, or null.
    pub bias: *const f32,
    /// Added before `act` at the offsets of the output, or null.
    pub residual: *const f32,
    pub y: *mut f32,
    /// Offset in `y` of each pixel's first channel of this panel.
    pub at: *const usize,
    pub cols: usize,
    pub act: Act,
}

/// A sum over a depth for up to `mr` rows by a full panel, with what it has to do with other sums of its size, which lie as
/// `[mr][nr]`.
pub(super) struct Linked {
    /// Value `k` of row `r` is at `r * a_row + k * a_step`.
    pub a: *const f32,
    pub a_row: usize,
    pub a_step: usize,
    /// `[depth][nr]`
    pub panel: *const f32,
    pub depth: usize,
    /// Where the sum is kept, or null, and what is added to it there, or null.
    pub keep: *mut f32,
    pub plus: *const f32,
    /// What is added to the sum on its way to `y`, and the first rows that go there: all others are only kept.
    pub also: *const f32,
    pub written: usize,
    /// For a panel, or null.
    pub bias: *const f32,
    /// Added before `act` at the offsets of the output, or null.
    pub residual: *const f32,
    pub y: *mut f32,
    /// Offset in `y` of each row's first column.
    pub at: *const usize,
    pub act: Act,
}

/// A tile of weight gradient: `dw[mr][nr] += Σ over pixels of a[pixel][mr] ⊗ b[pixel][nr]`.
pub(super) struct Outer {
    /// `[maps][rows][pixels]`, `m` floats each `a_pixel` from the last.
    pub a: *const f32,
    pub a_pixel: usize,
    /// Panel of `nr` floats a pixel, walked with the three steps below (in floats).
    pub b: *const f32,
    pub maps: usize,
    pub rows: usize,
    pub pixels: usize,
    pub b_map: usize,
    pub b_row: usize,
    pub b_pixel: usize,
    /// `[m][nr]`, contiguous.
    pub dw: *mut f32,
    /// Starts from zero rather than from what `dw` holds.
    pub first: bool,
}

/// The least and greatest value an activation lets through.
pub(super) fn limits(act: Act) -> (f32, f32) {
    match act {
        Act::None => (f32::NEG_INFINITY, f32::INFINITY),
        Act::Relu => (0.0, f32::INFINITY),
        Act::Relu6 => (0.0, 6.0),
    }
}

/// At least the rows of any tile.
pub(super) const MAX_MR: usize = 16;

/// The register blocking of an instruction set.
#[derive(Clone, Copy)]
pub(super) struct Blocking {
    /// Most rows (pixels, or channels of `dy`) of a tile.
    pub mr: usize,
    /// Channels of a full panel: two vectors.
    pub nr: usize,
}

impl Blocking {
    pub(super) fn of(level: Level) -> Self {
        match level {
            Level::Avx512 => Self { mr: 14, nr: 32 },
            Level::Avx2 => Self { mr: 6, nr: 16 },
            Level::Scalar => unreachable!("the scalar level has no micro-kernel"),
        }
    }

    /// Width of a panel that holds `cols` channels: one vector or two.
    pub(super) fn width(self, cols: usize) -> usize {
        if cols * 2 <= self.nr { self.nr / 2 } else { self.nr }
    }

    /// Floats of all panels for `cols` channels with `k` weights each.
    pub(super) fn panels_len(self, cols: usize, k: usize) -> usize {
        let full = cols / self.nr * self.nr;
        let rest = if cols > full { self.width(cols - full) } else { 0 };
        (full + rest) * k
    }
}

/// Computes a tile of `m` pixels.
///
/// # Safety
/// `level` is supported, `1 <= m <= mr`, and all pointers of `tile` are valid as described there.
pub(super) unsafe fn tile(level: Level, m: usize, tile: &Tile) {
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        Level::Avx512 => unsafe { super::avx512::tile(m, tile) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        Level::Avx2 => unsafe { super::avx2::tile(m, tile) },
        _ => unreachable!("the scalar level has no micro-kernel, {m} rows, {} columns", tile.cols),
    }
}

/// Computes a linked sum of `m` rows.
///
/// # Safety
/// `level` is supported, `1 <= m <= mr`, and all pointers of `linked` are valid as described there, `also` if any row is written.
pub(super) unsafe fn linked(level: Level, m: usize, linked: &Linked) {
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        Level::Avx512 => unsafe { super::avx512::linked(m, linked) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        Level::Avx2 => unsafe { super::avx2::linked(m, linked) },
        _ => unreachable!("the scalar level has no micro-kernel, {m} rows, {} deep", linked.depth),
    }
}

/// Adds an outer-product sum with `m` rows.
///
/// # Safety
/// `level` is supported, `1 <= m <= mr`, and all pointers of `outer` are valid as described there.
pub(super) unsafe fn outer(level: Level, m: usize, outer: &Outer) {
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        Level::Avx512 => unsafe { super::avx512::outer(m, outer) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        Level::Avx2 => unsafe { super::avx2::outer(m, outer) },
        _ => unreachable!("the scalar level has no micro-kernel, {m} rows, {} maps", outer.maps),
    }
}
