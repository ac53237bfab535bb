//! Sums over taps and channels: forward, each phase of backward-data, and linear layers.
//!
//! Output pixels are numbered through rows and images and cut into tiles of `mr`; a table holds, for
//! every tap, a pointer to the inputs of each of the tile's pixels, or to zeros where the tap falls
//! outside the map. So there is no copy of the input, no border case, and tails come once a call.
//!
//! Few channels a tap (the stem) would make pointers cost more than sums, so the taps of a kernel row,
//! which lie side by side, count as one of many channels; only runs that cross an edge are copied. Rows
//! whose length would put a tile's pixels on one set of the L1 cache are copied apart, too.
//!
//! Groups are panels that read other channels: they share the table, and a tile's pixels are written whole.

use std::ops::Range;

use super::micro::{self, Blocking, MAX_MR, Tile};
use super::pack::{Panels, copy_short};
use crate::threads::parallel_for;
use crate::{Act, End, Level, scratch};

/// A sum over taps and channels for each pixel of a grid.
pub(super) struct Grid<'a> {
    /// Images, rows and columns of the grid.
    pub size: [usize; 3],
    /// Rows, columns and channels of the input map.
    pub input: [usize; 3],
    /// Groups; each reads its own channels of the input and makes its own of the output, side by side.
    pub groups: usize,
    /// Channels a group reads.
    pub depth: usize,
    /// Input rows and columns from one grid pixel to the next.
    pub step: [usize; 2],
    /// Input row and column of each tap for grid pixel (0, 0); may lie outside.
    pub taps: &'a [[isize; 2]],
    /// Where outputs go: offset of the first, then floats between images, rows, columns.
    pub at: [usize; 4],
    /// Channels a group makes.
    pub cols: usize,
}

/// What happens to a sum before it is stored.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a, T = f32> {
    pub bias: Option<&'a [f32]>,
    pub residual: Option<&'a [T]>,
    pub end: End,
}

impl<T> Finish<'_, T> {
    /// The sum as it is.
    pub(super) const NOTHING: Self = Self { bias: None, residual: None, end: End::Clamp(Act::None) };
}

/// Lets tasks write their own pixels and columns of one output.
pub(super) struct Output(pub *mut f32);

// SAFETY: tasks write disjoint pixels or columns, see `run` here and in `strassen/`.
unsafe impl Sync for Output {}

/// Input bytes of a band of tiles: what should stay in L2 beside a panel of weights.
const BAND_BYTES: usize = 128 << 10;

/// Floats of weights that leave room in L2 for a tile's inputs and outputs.
const WEIGHTS_IN_L2: usize = 96 << 10;

/// Fewest tasks to share, if the work can be cut that far.
const MIN_TASKS: usize = 8;

/// Computes the grid into `y`; other elements of `y` are left alone. `panels` has those of each group in turn.
pub(super) fn run(level: Level, g: &Grid, x: &[f32], panels: Panels, finish: Finish, y: &mut [f32]) {
    let blocking = Blocking::of(level);
    let [images, rows, columns] = g.size;
    let [in_h, in_w, in_c] = g.input;
    let depth = g.depth;
    let pixels = images * rows * columns;
    let width = g.groups * g.cols;
    if pixels == 0 || width == 0 {
        return;
    }
    // Everything the micro-kernels will touch, checked here.
    let k = g.taps.len() * depth;
    let group_panels = blocking.panels_len(g.cols, k);
    assert!(g.groups * depth <= in_c && x.len() >= images * in_h * in_w * in_c, "input too short");
    assert_eq!(panels.len(), g.groups * group_panels, "panels do not fit");
    let last = g.at[0] + (images - 1) * g.at[1] + (rows - 1) * g.at[2] + (columns - 1) * g.at[3] + width;
    assert!(last <= y.len(), "output too short");
    assert!(finish.residual.is_none_or(|r| r.len() >= y.len()), "residual too short");
    assert!(finish.bias.is_none_or(|b| b.len() >= width), "bias too short");

    let reading = Reading::of(g);
    let tiles = pixels.div_ceil(blocking.mr);
    let row_bytes = 4 * if reading == Reading::Points { g.groups * depth * g.step[0] * g.step[1] } else { k };
    let band = (BAND_BYTES / (blocking.mr * row_bytes).max(1)).clamp(1, 32).min(tiles.div_ceil(MIN_TASKS));
    let bands = tiles.div_ceil(band);
    let group_count = g.cols.div_ceil(blocking.nr);
    let panel_count = g.groups * group_count;
    let splits = MIN_TASKS.div_ceil(bands).min(panel_count);
    let split = panel_count.div_ceil(splits);
    // Weights that fit in L2 are read once a tile, which then writes whole pixels; of others each
    // panel is kept there for all tiles of the band.
    let group = if panels.len() <= WEIGHTS_IN_L2 { 1 } else { band };

    let stage = Stage { g, x, mr: blocking.mr, pixels, reading };
    let (taps, depth) = stage.table_size();
    let reach = depth + (g.groups - 1) * g.depth;
    let table_len = (taps + 1) * blocking.mr;
    let output = Output(y.as_mut_ptr());
    let output = &output;
    parallel_for(bands * splits, |task| {
        let (band_at, split_at) = (task / splits, task % splits);
        let task_tiles = band_at * band..tiles.min((band_at + 1) * band);
        let task_panels = split_at * split..panel_count.min((split_at + 1) * split);
        if task_panels.is_empty() {
            return;
        }
        let first_column = |p: usize| p / group_count * g.cols + p % group_count * blocking.nr;
        let made = first_column(task_panels.start)..if task_panels.end == panel_count {
            width
        } else {
            first_column(task_panels.end)
        };
        scratch::with(reach, |zeros| {
            zeros.fill(0.0);
            scratch::with(stage.copies_len() * group, |copies| {
                scratch::with_usize(table_len * group, |tables| {
                    for first in task_tiles.clone().step_by(group) {
                        let group_tiles = first..task_tiles.end.min(first + group);
                        for (i, tile) in group_tiles.clone().enumerate() {
                            let copies = &mut copies[i * stage.copies_len()..][..stage.copies_len()];
                            let table = &mut tables[i * table_len..][..table_len];
                            stage.fill(tile, zeros, copies, table);
                        }
                        for p in task_panels.clone() {
                            let (of_group, p) = (p / group_count, p % group_count);
                            let cols = blocking.nr.min(g.cols - p * blocking.nr);
                            let panel =
                                panels.panel(of_group * group_panels + p * blocking.nr * k, blocking.nr * k);
                            let from = of_group * g.cols + p * blocking.nr;
                            for (i, tile) in group_tiles.clone().enumerate() {
                                let table = &tables[i * table_len..][..table_len];
                                let (rows, at) = table.split_at(taps * blocking.mr);
                                let m = blocking.mr.min(pixels - tile * blocking.mr);
                                let tile = Tile {
                                    rows: rows.as_ptr().cast(),
                                    channel: of_group * g.depth,
                                    taps,
                                    depth,
                                    panel: panel.as_ptr(),
                                    bias: finish.bias.map_or(std::ptr::null(), |b| b[from..].as_ptr()),
                                    residual: finish
                                        .residual
                                        .map_or(std::ptr::null(), |r| r[from..].as_ptr()),
                                    y: output.0.wrapping_add(from),
                                    at: at.as_ptr(),
                                    cols,
                                    act: finish.end.act(),
                                };
                                // SAFETY: the table points into `x`, `copies` or `zeros`, with `reach`
                                // floats each; panels, bias, residual and output were checked above;
                                // tasks differ in their pixels or their columns.
                                unsafe { micro::tile(level, m, &tile) };
                            }
                        }
                        if matches!(finish.end, End::Clamp(_)) {
                            continue;
                        }
                        for (i, tile) in group_tiles.enumerate() {
                            let at = &tables[i * table_len + taps * blocking.mr..][..blocking.mr];
                            let at = &at[..blocking.mr.min(pixels - tile * blocking.mr)];
                            for_each_run(at, made.clone(), g.at[3], |run| {
                                let to = output.0.wrapping_add(run.start);
                                // SAFETY: this task wrote these outputs above; no other has their pixels and columns.
                                let written = unsafe { std::slice::from_raw_parts_mut(to, run.len()) };
                                finish.end.finish(level, written);
                            });
                        }
                    }
                });
            });
        });
    });
}

/// Calls `each` with the columns `made` of every pixel of a tile; pixels that follow each other and were made whole
/// count as one run.
fn for_each_run(at: &[usize], made: Range<usize>, width: usize, mut each: impl FnMut(Range<usize>)) {
    let whole = made.len() == width && at.windows(2).all(|pair| pair[1] == pair[0] + width);
    if whole {
        return each(at[0]..at[0] + at.len() * width);
    }
    at.iter().for_each(|at| each(at + made.start..at + made.end));
}

/// How a tile's inputs are found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// A pointer for each tap.
    Points,
    /// A pointer for each run of this many taps that lie side by side.
    Runs(usize),
    /// All taps copied into a row.
    Copies,
}

impl Reading {
    fn of(g: &Grid) -> Self {
        let depth = g.depth;
        if g.groups > 1 {
            Self::Points
        } else if g.taps.len() > 1 && depth < 16 {
            match run_len(g.taps) {
                run if run > 1 && depth == g.input[2] => Self::Runs(run),
                _ => Self::Copies,
            }
        } else if g.taps.len() == 1 && depth.is_multiple_of(1024) {
            Self::Copies
        } else {
            Self::Points
        }
    }
}

/// The number of taps that lie side by side, over and over; 1 if the rows differ.
fn run_len(taps: &[[isize; 2]]) -> usize {
    let joined = |pair: &[[isize; 2]]| pair[0][0] == pair[1][0] && pair[0][1] + 1 == pair[1][1];
    let run = 1 + taps.windows(2).take_while(|pair| joined(pair)).count();
    let even = taps.len().is_multiple_of(run) && taps.chunks_exact(run).all(|t| t.windows(2).all(joined));
    if even { run } else { 1 }
}

/// Prepares the inputs of one tile.
struct Stage<'a> {
    g: &'a Grid<'a>,
    x: &'a [f32],
    mr: usize,
    pixels: usize,
    reading: Reading,
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

    /// Taps and depth as the micro-kernel sees them.
    fn table_size(&self) -> (usize, usize) {
        let (taps, depth) = (self.g.taps.len(), self.g.depth);
        match self.reading {
            Reading::Points => (taps, depth),
            Reading::Runs(run) => (taps / run, depth * run),
            Reading::Copies => (1, taps * depth),
        }
    }

    /// Floats of one pixel's copies; an odd number of cache lines.
    fn row_len(&self) -> usize {
        (self.g.taps.len() * self.g.depth).next_multiple_of(32) + 16
    }

    /// Floats of a tile's copies.
    fn copies_len(&self) -> usize {
        if self.reading == Reading::Points { 0 } else { self.mr * self.row_len() }
    }

    /// Writes `[taps][mr]` pointers, then `mr` output offsets.
    fn fill(&self, tile: usize, zeros: &[f32], copies: &mut [f32], table: &mut [usize]) {
        let g = self.g;
        let [in_h, in_w, in_c] = g.input;
        let (taps, _) = self.table_size();
        let (pointers, at) = table.split_at_mut(taps * self.mr);
        // Each pixel's image, and its input row and column were the tap (0, 0).
        let (mut images, mut ys, mut xs) = ([0; MAX_MR], [0_isize; MAX_MR], [0_isize; MAX_MR]);
        let mut m = 0;
        self.for_each_pixel(tile, |r, image, row, column| {
            at[r] = self.at(image, row, column);
            images[r] = image;
            ys[r] = (row * g.step[0]) as isize;
            xs[r] = (column * g.step[1]) as isize;
            m = r + 1;
        });
        if self.reading == Reading::Copies {
            for r in 0..m {
                let copy = &mut copies[r * self.row_len()..][..g.taps.len() * g.depth];
                pointers[r] = copy.as_ptr() as usize;
                self.copy(g.taps, images[r], [ys[r], xs[r]], copy);
            }
            return;
        }

        let float = size_of::<f32>() as isize;
        let zeros = zeros.as_ptr() as usize;
        let start = self.x.as_ptr() as usize;
        let mut bases = [0_usize; MAX_MR];
        for r in 0..m {
            let pixel = (images[r] * in_h * in_w) as isize + ys[r] * in_w as isize + xs[r];
            bases[r] = start.wrapping_add_signed(pixel * in_c as isize * float);
        }
        let run = if let Reading::Runs(run) = self.reading { run } else { 1 };
        for (t, taps) in g.taps.chunks_exact(run).enumerate() {
            let ([y, x], last) = (taps[0], taps[run - 1][1]);
            let offset = (y * in_w as isize + x) * in_c as isize * float;
            let pointers = &mut pointers[t * self.mr..][..m];
            let mut outside = false;
            for (r, pointer) in pointers.iter_mut().enumerate() {
                // A negative position is a large one without its sign.
                let inside = ((ys[r] + y) as usize) < in_h
                    && ((xs[r] + x) as usize) < in_w
                    && ((xs[r] + last) as usize) < in_w;
                *pointer = if inside { bases[r].wrapping_add_signed(offset) } else { zeros };
                outside |= !inside;
            }
            if run > 1 && outside {
                let len = run * g.depth;
                for (r, pointer) in pointers.iter_mut().enumerate().filter(|(_, p)| **p == zeros) {
                    let copy = &mut copies[r * self.row_len() + t * len..][..len];
                    *pointer = copy.as_ptr() as usize;
                    self.copy(taps, images[r], [ys[r], xs[r]], copy);
                }
            }
        }
    }

    /// Copies the channels under each tap side by side, zeros where it falls outside.
    fn copy(&self, taps: &[[isize; 2]], image: usize, from: [isize; 2], to: &mut [f32]) {
        let [in_h, in_w, in_c] = self.g.input;
        let depth = self.g.depth;
        for (to, tap) in to.chunks_exact_mut(depth).zip(taps) {
            let (y, x) = ((from[0] + tap[0]) as usize, (from[1] + tap[1]) as usize);
            if y < in_h && x < in_w {
                copy_short(to, &self.x[((image * in_h + y) * in_w + x) * in_c..][..depth]);
            } else {
                to.fill(0.0);
            }
        }
    }
}
