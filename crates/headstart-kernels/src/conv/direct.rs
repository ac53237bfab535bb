//! Sums over taps and channels: forward, each phase of backward-data, and linear layers.
//!
//! Output pixels are numbered through rows and images and cut into tiles of `mr`; a table holds, for
//! every tap, a pointer to the inputs of each of the tile's pixels, or to zeros where the tap falls
//! outside the map. So there is no copy of the input, no border case, and tails come once a call.
//!
//! Few channels a tap (the stem) would make pointers cost more than sums, so the taps of a kernel row,
//! which lie side by side, count as one of many channels; only runs that cross an edge are copied. Rows
//! whose length would put a tile's pixels on one set of the L1 cache are copied apart, too.

use super::Act;
use super::micro::{self, Blocking, Tile};
use super::pack::copy_short;
use crate::threads::parallel_for;
use crate::{Level, scratch};

/// A sum over taps and channels for each pixel of a grid.
pub(super) struct Grid<'a> {
    /// Images, rows and columns of the grid.
    pub size: [usize; 3],
    /// Rows, columns and channels of the input map.
    pub input: [usize; 3],
    /// The channels read: first and count.
    pub channels: [usize; 2],
    /// Input rows and columns from one grid pixel to the next.
    pub step: [usize; 2],
    /// Input row and column of each tap for grid pixel (0, 0); may lie outside.
    pub taps: &'a [[isize; 2]],
    /// Where outputs go: offset of the first, then floats between images, rows, columns.
    pub at: [usize; 4],
    /// Channels produced, side by side.
    pub cols: usize,
}

/// What happens to a sum before it is stored.
#[derive(Clone, Copy)]
pub(super) struct Finish<'a> {
    pub bias: Option<&'a [f32]>,
    pub residual: Option<&'a [f32]>,
    pub act: Act,
}

/// Lets tasks write their own pixels of one output.
struct Output(*mut f32);

// SAFETY: tasks write disjoint pixels or columns, see `run`.
unsafe impl Sync for Output {}

/// Input bytes of a band of tiles: what should stay in L2 beside a panel of weights.
const BAND_BYTES: usize = 128 << 10;

/// Fewest tasks to share, if the work can be cut that far.
const MIN_TASKS: usize = 8;

/// Computes the grid into `y`; other elements of `y` are left alone.
pub(super) fn run(level: Level, g: &Grid, x: &[f32], panels: &[f32], finish: Finish, y: &mut [f32]) {
    let blocking = Blocking::of(level);
    let [images, rows, columns] = g.size;
    let [in_h, in_w, in_c] = g.input;
    let [first, depth] = g.channels;
    let pixels = images * rows * columns;
    if pixels == 0 || g.cols == 0 {
        return;
    }
    // Everything the micro-kernels will touch, checked here.
    assert!(first + depth <= in_c && x.len() >= images * in_h * in_w * in_c, "input too short");
    assert_eq!(panels.len(), blocking.panels_len(g.cols, g.taps.len() * depth), "panels do not fit");
    let last = g.at[0] + (images - 1) * g.at[1] + (rows - 1) * g.at[2] + (columns - 1) * g.at[3] + g.cols;
    assert!(last <= y.len(), "output too short");
    assert!(finish.residual.is_none_or(|r| r.len() >= y.len()), "residual too short");
    assert!(finish.bias.is_none_or(|b| b.len() >= g.cols), "bias too short");

    let k = g.taps.len() * depth;
    let staged = (g.taps.len() > 1 && depth < 16) || (g.taps.len() == 1 && depth.is_multiple_of(1024));
    let tiles = pixels.div_ceil(blocking.mr);
    let row_bytes = 4 * if staged { k } else { depth * g.step[0] * g.step[1] };
    let band = (BAND_BYTES / (blocking.mr * row_bytes).max(1)).clamp(1, 32).min(tiles.div_ceil(MIN_TASKS));
    let bands = tiles.div_ceil(band);
    let panel_count = g.cols.div_ceil(blocking.nr);
    let splits = MIN_TASKS.div_ceil(bands).min(panel_count);
    let split = panel_count.div_ceil(splits);

    let output = Output(y.as_mut_ptr());
    let output = &output;
    parallel_for(bands * splits, |task| {
        let (band_at, split_at) = (task / splits, task % splits);
        let task_tiles = band_at * band..tiles.min((band_at + 1) * band);
        let task_panels = split_at * split..panel_count.min((split_at + 1) * split);
        if task_panels.is_empty() {
            return;
        }
        let stage = Stage { g, x, mr: blocking.mr, pixels };
        let (table_taps, table_depth) = if staged { (1, k) } else { (g.taps.len(), depth) };
        let table_len = (table_taps + 1) * blocking.mr;
        let row_len = if staged { k.next_multiple_of(16) + 16 } else { 0 };
        let floats = if staged { row_len * blocking.mr * task_tiles.len() } else { depth };
        scratch::with(floats, |buffer| {
            scratch::with_usize(table_len * task_tiles.len(), |tables| {
                if !staged {
                    buffer.fill(0.0);
                }
                for (i, tile) in task_tiles.clone().enumerate() {
                    let table = &mut tables[i * table_len..][..table_len];
                    if staged {
                        let rows = &mut buffer[i * blocking.mr * row_len..][..blocking.mr * row_len];
                        stage.copy(tile, rows, row_len, table);
                    } else {
                        stage.point(tile, buffer, table);
                    }
                }
                for p in task_panels.clone() {
                    let from = p * blocking.nr;
                    let cols = blocking.nr.min(g.cols - from);
                    for (i, tile) in task_tiles.clone().enumerate() {
                        let table = &mut tables[i * table_len..][..table_len];
                        let (pointers, at) = table.split_at_mut(table_taps * blocking.mr);
                        let m = blocking.mr.min(pixels - tile * blocking.mr);
                        // SAFETY: the table points into `x` or `buffer` with `table_depth` floats
                        // each; panels, bias, residual and output were checked above; tasks differ
                        // in their pixels or their columns.
                        unsafe {
                            micro::tile(
                                level,
                                m,
                                &Tile {
                                    rows: pointers.as_ptr().cast(),
                                    taps: table_taps,
                                    depth: table_depth,
                                    panel: panels.as_ptr().add(from * k),
                                    bias: finish.bias.map_or(std::ptr::null(), |b| b.as_ptr().add(from)),
                                    residual: finish.residual.map_or(std::ptr::null(), |r| r.as_ptr().add(from)),
                                    y: output.0.add(from),
                                    at: at.as_ptr(),
                                    cols,
                                    act: finish.act,
                                },
                            );
                        }
                    }
                }
            });
        });
    });
}

/// Prepares the inputs of one tile.
struct Stage<'a> {
    g: &'a Grid<'a>,
    x: &'a [f32],
    mr: usize,
    pixels: usize,
}

impl Stage<'_> {
    /// Calls `each(row of the tile, image, grid row, grid column)`.
    fn for_each_pixel(&self, tile: usize, mut each: impl FnMut(usize, usize, usize, usize)) {
        let [_, rows, columns] = self.g.size;
        let from = tile * self.mr;
        let (mut row, mut column) = (from / columns, from % columns);
        let mut image = row / rows;
        row %= rows;
        for r in 0..self.mr.min(self.pixels - from) {
            each(r, image, row, column);
            column += 1;
            if column == columns {
                (row, column) = (row + 1, 0);
                if row == rows {
                    (image, row) = (image + 1, 0);
                }
            }
        }
    }

    /// Offset of the output of a grid pixel.
    fn at(&self, image: usize, row: usize, column: usize) -> usize {
        let at = self.g.at;
        at[0] + image * at[1] + row * at[2] + column * at[3]
    }

    /// Input row or column under a tap, if inside the map.
    fn under(position: usize, step: usize, tap: isize, len: usize) -> Option<usize> {
        (position * step).checked_add_signed(tap).filter(|i| *i < len)
    }

    /// Writes `[taps][mr]` pointers, then `mr` output offsets.
    fn point(&self, tile: usize, zeros: &[f32], table: &mut [usize]) {
        let g = self.g;
        let [in_h, in_w, in_c] = g.input;
        let mr = self.mr;
        let x = self.x.as_ptr() as usize;
        self.for_each_pixel(tile, |r, image, row, column| {
            for (t, tap) in g.taps.iter().enumerate() {
                let iy = Self::under(row, g.step[0], tap[0], in_h);
                let ix = Self::under(column, g.step[1], tap[1], in_w);
                table[t * mr + r] = match (iy, ix) {
                    (Some(iy), Some(ix)) => x + 4 * (((image * in_h + iy) * in_w + ix) * in_c + g.channels[0]),
                    _ => zeros.as_ptr() as usize,
                };
            }
            table[g.taps.len() * mr + r] = self.at(image, row, column);
        });
    }

    /// Copies all taps of each pixel into a row, and points the one tap of the table at the rows.
    fn copy(&self, tile: usize, rows: &mut [f32], row_len: usize, table: &mut [usize]) {
        let g = self.g;
        let [in_h, in_w, in_c] = g.input;
        let [first, depth] = g.channels;
        let mr = self.mr;
        // Taps side by side are one run of floats, if all channels are read.
        let run = if depth == in_c { self.run_len() } else { 1 };
        self.for_each_pixel(tile, |r, image, row, column| {
            let to = &mut rows[r * row_len..][..g.taps.len() * depth];
            for (to, taps) in to.chunks_exact_mut(depth * run).zip(g.taps.chunks_exact(run)) {
                let Some(iy) = Self::under(row, g.step[0], taps[0][0], in_h) else {
                    to.fill(0.0);
                    continue;
                };
                let ends = [taps[0], taps[run - 1]].map(|tap| Self::under(column, g.step[1], tap[1], in_w));
                if let [Some(ix), Some(_)] = ends {
                    let from = ((image * in_h + iy) * in_w + ix) * in_c + first;
                    copy_short(to, &self.x[from..from + to.len()]);
                    continue;
                }
                for (to, tap) in to.chunks_exact_mut(depth).zip(taps) {
                    match Self::under(column, g.step[1], tap[1], in_w) {
                        Some(ix) => {
                            let from = ((image * in_h + iy) * in_w + ix) * in_c + first;
                            copy_short(to, &self.x[from..from + depth]);
                        }
                        None => to.fill(0.0),
                    }
                }
            }
            table[r] = to_address(&rows[r * row_len..]);
            table[mr + r] = self.at(image, row, column);
        });
    }

    /// The number of taps that lie side by side, over and over.
    fn run_len(&self) -> usize {
        let taps = self.g.taps;
        let joined = |pair: &[[isize; 2]]| pair[0][0] == pair[1][0] && pair[0][1] + 1 == pair[1][1];
        let run = 1 + taps.windows(2).take_while(|pair| joined(pair)).count();
        let even = taps.len().is_multiple_of(run) && taps.chunks_exact(run).all(|t| t.windows(2).all(joined));
        if even { run } else { 1 }
    }
}

fn to_address(row: &[f32]) -> usize {
    row.as_ptr() as usize
}
