//! Weights into the panels the micro-kernels read: `[columns / nr][taps][depth][width]`.
//!
//! Columns are what a tile produces side by side: output channels forward, input channels backward.

use super::micro::Blocking;
use super::strassen;
use crate::Level;
use crate::threads::{SharedMut, parallel_for};

/// Packed weights, as a pass takes them.
#[derive(Clone, Copy)]
pub(super) enum Panels<'a> {
    /// One panel after the other.
    Plain(&'a [f32]),
    /// In pairs, with their sums between them: see `strassen/`.
    Paired(&'a [f32]),
}

impl<'a> Panels<'a> {
    /// Floats of the panels, without sums.
    pub(super) fn len(self) -> usize {
        match self {
            Self::Plain(panels) => panels.len(),
            Self::Paired(packed) => packed.len() / 2,
        }
    }

    /// Returns the panel that begins after `from` floats of panels; in pairs, all are of `len` floats.
    pub(super) fn panel(self, from: usize, len: usize) -> &'a [f32] {
        match self {
            Self::Plain(panels) => &panels[from..],
            Self::Paired(packed) => strassen::panel(packed, from / len, len),
        }
    }
}

/// Where a weight lies: column `c`, depth `d`, tap `t` at `from + c * col + d * depth + taps[t]`.
pub(super) struct Source<'a> {
    pub w: &'a [f32],
    pub from: usize,
    pub col: usize,
    pub depth: usize,
    pub taps: &'a [usize],
}

/// Copies a few floats: inline, where a call of `memcpy` would cost more than the copy.
#[inline(always)]
pub(super) fn copy_short(to: &mut [f32], from: &[f32]) {
    let len = to.len();
    assert_eq!(len, from.len());
    if len < 8 {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
        return;
    }
    for (to, from) in to.chunks_exact_mut(8).zip(from.chunks_exact(8)) {
        to.copy_from_slice(from);
    }
    // The last eight again, to take the remainder along.
    to[len - 8..].copy_from_slice(&from[len - 8..]);
}

/// Packs `cols` columns of `depth` weights a tap into `panels`, of [`Blocking::panels_len`] floats.
pub(super) fn pack(level: Level, source: &Source, cols: usize, depth: usize, panels: &mut [f32]) {
    let blocking = Blocking::of(level);
    let k = depth * source.taps.len();
    assert_eq!(panels.len(), blocking.panels_len(cols, k), "panels for {cols} columns of {k}");
    if cols == 0 || k == 0 {
        return;
    }
    let reach = (cols - 1) * source.col + (depth - 1) * source.depth + source.taps.iter().max().unwrap_or(&0);
    assert!(source.from + reach < source.w.len(), "weights end before the last one to pack");

    let panels = SharedMut::new(panels);
    parallel_for(cols.div_ceil(blocking.nr), |p| {
        let from = p * blocking.nr;
        let cols = blocking.nr.min(cols - from);
        let width = blocking.width(cols);
        // SAFETY: each task takes its own panel.
        let panel = unsafe { panels.part(from * k, width * k) };
        pack_panel(source, source.from + from * source.col, cols, depth, width, panel);
    });
}

/// Packs the full panel whose first weight is at `from`.
pub(super) fn pack_full(source: &Source, from: usize, depth: usize, nr: usize, panel: &mut [f32]) {
    assert_eq!(panel.len(), depth * source.taps.len() * nr, "a panel of {nr} columns of {depth}");
    pack_panel(source, from, nr, depth, nr, panel);
}

fn pack_panel(s: &Source, from: usize, cols: usize, depth: usize, width: usize, panel: &mut [f32]) {
    if cols < width {
        panel.fill(0.0);
    }
    let taps = s.taps.len();
    if s.depth == taps && s.taps.iter().enumerate().all(|(i, tap)| *tap == i) {
        return pack_rows(s, from, cols, depth * taps, width, panel);
    }
    for d in 0..depth {
        let from = from + d * s.depth;
        for (t, tap) in s.taps.iter().enumerate() {
            let to = &mut panel[(t * depth + d) * width..][..cols];
            let w = &s.w[from + tap..];
            if s.col == 1 {
                copy_short(to, &w[..cols]);
            } else {
                for (to, w) in to.iter_mut().zip(w.iter().step_by(s.col)) {
                    *to = *w;
                }
            }
        }
    }
}

/// Packs columns whose `k` weights lie in a row, tap by tap within a channel. Goes by pieces of a
/// cache line: rows a multiple of some KiB apart would throw each other out of L1.
fn pack_rows(s: &Source, from: usize, cols: usize, k: usize, width: usize, panel: &mut [f32]) {
    const LINE: usize = 16;
    let taps = s.taps.len();
    let depth = k / taps;
    let mut lines = [[0.0; LINE]; 32];
    for start in (0..k).step_by(LINE) {
        let count = LINE.min(k - start);
        for (c, line) in lines[..cols].iter_mut().enumerate() {
            copy_short(&mut line[..count], &s.w[from + c * s.col + start..][..count]);
        }
        for i in 0..count {
            let at = start + i;
            let to = &mut panel[(at % taps * depth + at / taps) * width..][..cols];
            for (to, line) in to.iter_mut().zip(&lines) {
                *to = line[i];
            }
        }
    }
}
