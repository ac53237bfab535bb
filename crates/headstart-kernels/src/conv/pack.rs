//! Weights into the panels the micro-kernels read: `[columns / nr][taps][depth][width]`.
//!
//! Columns are what a tile produces side by side: output channels forward, input channels backward.

use super::micro::Blocking;
use crate::Level;
use crate::threads::{SharedMut, parallel_for};

/// Where a weight lies: column `c`, depth `d`, tap `t` at `from + c * col + d * depth + taps[t]`.
pub(super) struct Source<'a> {
    pub w: &'a [f32],
    pub from: usize,
    pub col: usize,
    pub depth: usize,
    pub taps: &'a [usize],
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

fn pack_panel(s: &Source, from: usize, cols: usize, depth: usize, width: usize, panel: &mut [f32]) {
    if cols < width {
        panel.fill(0.0);
    }
    for d in 0..depth {
        for (t, tap) in s.taps.iter().enumerate() {
            let from = from + d * s.depth + tap;
            let to = &mut panel[(t * depth + d) * width..][..width];
            if s.col == 1 {
                to[..cols].copy_from_slice(&s.w[from..from + cols]);
            } else {
                for (c, to) in to[..cols].iter_mut().enumerate() {
                    *to = s.w[from + c * s.col];
                }
            }
        }
    }
}
