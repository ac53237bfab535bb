//! Dense layers over activations narrower than a float: the driver that `half` and `int8` share.
//!
//! Both multiply 32-bit words: two bf16 or four bytes of neighbouring channels, against a word of weights
//! per output channel, added into one 32-bit accumulator. So tiles, pointer tables and panels are the
//! same, and are those of `conv/direct.rs` with a word in place of a float. The taps of a kernel row and
//! their channels, side by side, are cut into words; zero weights fill the last one of each row.
//!
//! `stage.rs` finds a tile's inputs, `pack.rs` makes the panels, this file shares out the work; `avx512.rs` and
//! `depthwise.rs` hold what the micro-kernels and depthwise layers of both formats share.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod depthwise;
mod pack;
mod stage;

pub(crate) use depthwise::{Taps, each_block};
pub(crate) use pack::{COLUMNS, pack, panels_len, words};

use crate::conv::ConvShape;
use crate::scratch::{self, Plain};
use crate::threads::parallel_for;
use stage::Stage;

/// Pixels of a full tile: 14 by two vectors are 28 accumulators of 32 registers.
pub(crate) const ROWS: usize = 14;

/// A tile of output: up to [`ROWS`] pixels by one panel of up to [`COLUMNS`] channels.
pub(crate) struct Tile<T> {
    /// `[taps][ROWS]` pointers, each to `depth` words of one pixel; words may be unaligned.
    pub rows: *const *const u32,
    pub taps: usize,
    pub depth: usize,
    /// Weights, `[taps][depth][width]` words, `width` being 16 for up to 16 columns, else 32.
    pub panel: *const u32,
    /// Where this panel's channels begin among those of the group, and how many they are.
    pub column: usize,
    pub cols: usize,
    /// Values to add, at the offsets of the output, or null.
    pub residual: *const T,
    pub y: *mut T,
    /// Offset in `y` of each pixel's first channel of this panel.
    pub at: *const usize,
    /// Values from an output of this tile to that of the next.
    pub next: usize,
    /// Bytes from an input of this tile to that of the next, where both lie on one row.
    pub next_input: usize,
}

/// The arithmetic of a number format.
pub(crate) trait Kernel: Sync {
    /// What an activation is stored as.
    type Value: Plain;

    /// What stands for zero outside the map.
    fn outside(&self) -> Self::Value;

    /// Tells whether a value times a weight of zero is zero.
    fn vanishes(value: Self::Value) -> bool;

    /// Computes a tile of `m` pixels.
    ///
    /// # Safety
    /// `1 <= m <= ROWS`, and all pointers of `tile` are valid as described there.
    unsafe fn tile(&self, m: usize, tile: &Tile<Self::Value>);
}

/// Products in a word of values `T`.
pub(crate) const fn per_word<T>() -> usize {
    size_of::<u32>() / size_of::<T>()
}

/// Lets tasks write their own pixels of one output.
struct Output<T>(*mut T);

// SAFETY: tasks write disjoint pixels or columns, see `run`.
unsafe impl<T> Sync for Output<T> {}

/// Input bytes of a band of tiles: what should stay in L2 beside a panel of weights.
const BAND_BYTES: usize = 128 << 10;

/// Words of weights that leave room in L2 for a tile's inputs and outputs.
const WEIGHTS_IN_L2: usize = 96 << 10;

/// Fewest tasks to share, if the work can be cut that far.
const MIN_TASKS: usize = 8;

/// Where a layer's taps lie and its outputs go, if not side by side: the phases of a backward pass.
pub(crate) struct Place {
    /// Output rows and columns.
    pub out: [usize; 2],
    /// Input row and column of the first tap for output pixel (0, 0); may lie outside.
    pub origin: [isize; 2],
    /// Offset of the first output of the group, then values between images, rows and columns.
    pub at: [usize; 4],
}

impl Place {
    /// The usual place: all outputs of the group in a map of their own.
    pub(crate) fn of(s: &ConvShape, group: usize) -> Self {
        let [rows, columns] = [s.out_h(), s.out_w()];
        Self {
            out: [rows, columns],
            origin: [-(s.pad[0] as isize), -(s.pad[2] as isize)],
            at: [group * s.group_out(), rows * columns * s.c_out, columns * s.c_out, s.c_out],
        }
    }
}

/// Computes one group of a layer into `y`; channels of other groups are left alone.
pub(crate) fn run<K: Kernel>(
    kernel: &K,
    s: &ConvShape,
    group: usize,
    x: &[K::Value],
    panels: &[u32],
    residual: Option<&[K::Value]>,
    y: &mut [K::Value],
) {
    assert_eq!(y.len(), s.y_len(), "the output fits {s:?}");
    run_at(kernel, s, &Place::of(s, group), group, x, panels, residual, y);
}

/// As [`run`], with the taps and outputs in `place`; other values of `y` are left alone.
#[allow(clippy::too_many_arguments)]
pub(crate) fn run_at<K: Kernel>(
    kernel: &K,
    s: &ConvShape,
    place: &Place,
    group: usize,
    x: &[K::Value],
    panels: &[u32],
    residual: Option<&[K::Value]>,
    y: &mut [K::Value],
) {
    let [rows, columns] = place.out;
    let pixels = s.n * rows * columns;
    let cols = s.group_out();
    if pixels == 0 || cols == 0 {
        return;
    }
    // Everything the micro-kernels will touch, checked here.
    assert!(group < s.groups && x.len() == s.x_len() && s.kh * s.kw > 0, "lengths fit {s:?}");
    assert!(residual.is_none_or(|r| r.len() == y.len()), "the residual fits {s:?}");
    let [first, image, row, column] = place.at;
    let last = first + (s.n - 1) * image + (rows - 1) * row + (columns - 1) * column + cols;
    assert!(last <= y.len(), "the output is too short for {s:?}");
    let k = words::<K::Value>(s);
    assert_eq!(panels.len(), panels_len(cols, k), "panels fit {s:?}");

    let stage = Stage::new(s, place, group, x, kernel.outside());
    let [taps, depth] = stage.table_size();
    let tiles = pixels.div_ceil(ROWS);
    let band = (BAND_BYTES / stage.tile_bytes().max(1)).clamp(1, 32).min(tiles.div_ceil(MIN_TASKS));
    let bands = tiles.div_ceil(band);
    let panel_count = cols.div_ceil(COLUMNS);
    let splits = MIN_TASKS.div_ceil(bands).min(panel_count);
    let split = panel_count.div_ceil(splits);
    // Weights that fit in L2 are read once a tile, which then writes whole pixels; of others each
    // panel is kept there for all tiles of the band.
    let together = if panels.len() <= WEIGHTS_IN_L2 { 1 } else { band };

    let table_len = (taps + 1) * ROWS;
    let copies_len = stage.copies_len();
    let output = Output(y.as_mut_ptr());
    let output = &output;
    let sweep = |task: usize, zeros: &[K::Value], copies: &mut [K::Value], tables: &mut [usize]| {
        let (band_at, split_at) = (task / splits, task % splits);
        let task_tiles = band_at * band..tiles.min((band_at + 1) * band);
        let task_panels = split_at * split..panel_count.min((split_at + 1) * split);
        for first in task_tiles.clone().step_by(together) {
            let group_tiles = first..task_tiles.end.min(first + together);
            for (i, tile) in group_tiles.clone().enumerate() {
                let copies = &mut copies[i * copies_len..][..copies_len];
                stage.fill(tile, zeros, copies, &mut tables[i * table_len..][..table_len], K::vanishes);
            }
            for p in task_panels.clone() {
                let column = p * COLUMNS;
                for (i, tile) in group_tiles.clone().enumerate() {
                    let (rows, at) = tables[i * table_len..][..table_len].split_at(taps * ROWS);
                    let m = ROWS.min(pixels - tile * ROWS);
                    let tile = Tile {
                        rows: rows.as_ptr().cast(),
                        taps,
                        depth,
                        panel: panels[column * k..].as_ptr(),
                        column,
                        cols: COLUMNS.min(cols - column),
                        residual: residual.map_or(std::ptr::null(), |r| r[column..].as_ptr()),
                        y: output.0.wrapping_add(column),
                        at: at.as_ptr(),
                        next: ROWS * place.at[3],
                        next_input: ROWS * s.stride[1] * s.c_in * size_of::<K::Value>(),
                    };
                    // SAFETY: the table points into `x`, `copies` or `zeros`, with `depth` words each;
                    // panels, residual and output were checked above; tasks differ in their pixels or
                    // their columns.
                    unsafe { kernel.tile(m, &tile) };
                }
            }
        }
    };
    parallel_for(bands * splits, |task| {
        scratch::with_plain(depth * per_word::<K::Value>(), |zeros| {
            zeros.fill(kernel.outside());
            scratch::with_plain(copies_len * together, |copies| {
                scratch::with_usize(table_len * together, |tables| sweep(task, zeros, copies, tables));
            });
        });
    });
}
