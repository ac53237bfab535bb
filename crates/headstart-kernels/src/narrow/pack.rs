//! Weights into the panels the micro-kernels read: `[columns / 32][words][width]`, a word holding the
//! weights of neighbouring products for one output channel.

use super::per_word;
use crate::conv::ConvShape;

/// Channels of a full panel: two vectors of 16 accumulators.
pub(crate) const COLUMNS: usize = 32;

/// Width of a panel that holds `cols` channels: one vector or two.
fn width(cols: usize) -> usize {
    if cols * 2 <= COLUMNS { COLUMNS / 2 } else { COLUMNS }
}

/// Words of weights per output channel: each kernel row is filled up to whole words.
pub(crate) fn words<T>(s: &ConvShape) -> usize {
    s.kh * row_words::<T>(s)
}

/// Words of a kernel row: its taps and their channels side by side.
pub(super) fn row_words<T>(s: &ConvShape) -> usize {
    (s.kw * s.group_in()).div_ceil(per_word::<T>())
}

/// Words of all panels for `cols` channels with `words` each.
pub(crate) fn panels_len(cols: usize, words: usize) -> usize {
    let full = cols / COLUMNS * COLUMNS;
    let rest = if cols > full { width(cols - full) } else { 0 };
    (full + rest) * words
}

/// Packs a group's weights. `bits(o, i)` is weight `i` of channel `o` as PyTorch orders them
/// (`[c_out][c_in / groups][kh][kw]`, channels counted over all groups), in the low bits of a word.
pub(crate) fn pack<T>(s: &ConvShape, group: usize, bits: impl Fn(usize, usize) -> u32, panels: &mut [u32]) {
    let (taps, depth, cols) = (s.kh * s.kw, s.group_in(), s.group_out());
    let k = words::<T>(s);
    assert_eq!(panels.len(), panels_len(cols, k), "panels fit {s:?}");
    panels.fill(0);
    for c in 0..cols {
        let from = c / COLUMNS * COLUMNS;
        let width = width((cols - from).min(COLUMNS));
        let panel = &mut panels[from * k..][..width * k];
        for tap in 0..taps {
            for d in 0..depth {
                let at = tap % s.kw * depth + d;
                let word = tap / s.kw * row_words::<T>(s) + at / per_word::<T>();
                let part = at % per_word::<T>();
                let weight = bits(group * cols + c, d * taps + tap);
                panel[word * width + c - from] |= weight << (8 * size_of::<T>() * part);
            }
        }
    }
}
