//! How a weight gradient is computed in parts, whatever the maps are stored as.
//!
//! Chunks of output pixels are copied into panels that a micro-kernel reads in order: `x` padded, as `[panel][pixel][nr]`,
//! and `dy` as `[block][pixel][m]`. Where the gradient is small beside the maps, a fixed number of teams each take some of
//! the chunks and keep their own sums, added up in order at the end. Where it is large, each of its tiles belongs to one
//! task, which adds all chunks to it. Few input channels a tap (the stem) are laid side by side for all taps, as one tap of
//! many channels.

use super::ConvShape;
use crate::scratch::{self, Plain};
use crate::threads::{SharedMut, parallel_for};

/// Output pixels of a shared chunk: a panel of them stays in L2, and amortises loading a tile's sums.
const SHARED_PIXELS: usize = 1600;

/// Words of a team's chunk, `x` and `dy` together: they should stay in L2 beside its sums.
const TEAM_WORDS: usize = 100 << 10;

/// Teams. Fixed, or the bits would depend on threads.
const TEAMS: usize = 16;

/// What suits a micro-kernel.
pub(crate) struct Limits {
    /// Input channels of a panel.
    pub nr: usize,
    /// Most output channels of a block.
    pub mr: usize,
    /// Maps: images, or as many images as a word holds.
    pub maps: usize,
    /// Most floats of sums of a team.
    pub team_sums: usize,
    /// Fewest output pixels of a team; of fewer, writing and adding up its sums is too much of the work.
    pub team_pixels: usize,
}

/// Some output rows of some maps; all rows if of several maps.
pub(crate) struct Chunk {
    pub map: usize,
    pub maps: usize,
    pub row: usize,
    pub rows: usize,
}

/// How to go through a chunk's copy of `x`, in words.
pub(crate) struct Walk {
    /// Output pixels of the chunk.
    pub pixels: usize,
    /// From one map, row or pixel under a tap to the next.
    pub map: usize,
    pub row: usize,
    pub pixel: usize,
    /// From one panel, row or pixel of the copy to the next.
    copy: [usize; 3],
    kernel_width: usize,
}

impl Walk {
    /// Returns where a panel begins under a tap.
    pub fn start(&self, panel: usize, tap: usize) -> usize {
        let [next_panel, next_row, next_pixel] = self.copy;
        panel * next_panel + tap / self.kernel_width * next_row + tap % self.kernel_width * next_pixel
    }
}

/// The parts.
pub(crate) struct Plan<'a> {
    pub shape: &'a ConvShape,
    pub group: usize,
    /// Output rows and columns.
    pub out: [usize; 2],
    /// Taps of the kernel, and those of the sum: one if `flat`.
    pub kernel: usize,
    pub taps: usize,
    /// The copy of `x` has a pixel for each output pixel, with the channels of all taps.
    pub flat: bool,
    /// Columns of the copy of `x`, in panels of `nr`.
    pub columns: usize,
    pub panels: usize,
    pub nr: usize,
    /// Output channels, in `blocks` of almost equal size.
    pub outputs: usize,
    pub blocks: usize,
    pub teams: usize,
    maps: usize,
    /// Maps and rows of a full chunk.
    chunk: [usize; 2],
}

impl<'a> Plan<'a> {
    pub fn new(shape: &'a ConvShape, group: usize, limits: &Limits) -> Self {
        let kernel = shape.kh * shape.kw;
        let flat = kernel == 1 || shape.group_in() < 16;
        let columns = if flat { shape.group_in() * kernel } else { shape.group_in() };
        let mut plan = Self {
            shape,
            group,
            out: [shape.out_h(), shape.out_w()],
            kernel,
            taps: if flat { 1 } else { kernel },
            flat,
            columns,
            panels: columns.div_ceil(limits.nr),
            nr: limits.nr,
            outputs: shape.group_out(),
            blocks: shape.group_out().div_ceil(limits.mr),
            teams: 1,
            maps: limits.maps,
            chunk: [1, 1],
        };
        let map = (plan.out[0] * plan.out[1]).max(1);
        let teams = (map * plan.maps / limits.team_pixels).min(TEAMS);
        let in_teams = plan.sums_len() <= limits.team_sums && teams > 1;
        let pixels = if in_teams {
            let steps = if flat { 1 } else { shape.stride[0] * shape.stride[1] };
            (TEAM_WORDS / (columns * steps + plan.outputs).max(1)).clamp(64, SHARED_PIXELS)
        } else {
            SHARED_PIXELS
        };
        // Equal parts, so that the last is not a sliver.
        plan.chunk = if map <= pixels {
            let chunks = plan.maps.div_ceil(pixels / map).max(1);
            [plan.maps.div_ceil(chunks).max(1), plan.out[0].max(1)]
        } else {
            let bands = map.div_ceil(pixels).min(plan.out[0]);
            [1, plan.out[0].div_ceil(bands)]
        };
        plan.teams = if in_teams { teams.min(plan.chunks()).max(1) } else { 1 };
        plan
    }

    /// Computes the group's rows of `dw`: copies `(x, dy)` and adds, chunk by chunk, to the sums of all teams; the last argument
    /// of `add` says to start from zero. `unpack` takes the sums of all teams, one after the other, and the rows.
    pub fn run<T: Plain>(
        &self,
        dw: &mut [f32],
        copy: impl Fn(&Chunk, &mut [T], &mut [T]) + Sync,
        add: impl Fn(&Chunk, &[T], &[T], &mut [f32], bool) + Sync,
        unpack: impl FnOnce(&mut [f32], &mut [f32]),
    ) {
        let len = self.outputs * self.shape.group_in() * self.kernel;
        let dw = &mut dw[self.group * len..][..len];
        if self.out[0] * self.out[1] * self.maps == 0 || len == 0 {
            dw.fill(0.0);
            return;
        }
        let (chunks, sums_len) = (self.chunks(), self.sums_len());
        scratch::with(self.teams * sums_len, |sums| {
            let team_sums = SharedMut::new(sums);
            parallel_for(self.teams, |team| {
                // SAFETY: each team has its own sums.
                let sums = unsafe { team_sums.part(team * sums_len, sums_len) };
                let [maps, rows] = self.chunk;
                scratch::with_plain(self.x_len(maps, rows), |x_panels| {
                    scratch::with_plain(maps * rows * self.out[1] * self.outputs, |dy_blocks| {
                        let mine = team * chunks / self.teams..(team + 1) * chunks / self.teams;
                        for index in mine.clone() {
                            let chunk = self.chunk_at(index);
                            copy(&chunk, x_panels, dy_blocks);
                            add(&chunk, x_panels, dy_blocks, sums, index == mine.start);
                        }
                    });
                });
            });
            unpack(sums, dw);
        });
    }

    /// Floats of all tiles of the gradient.
    pub fn sums_len(&self) -> usize {
        self.taps * self.panels * self.outputs * self.nr
    }

    fn chunks(&self) -> usize {
        self.maps.div_ceil(self.chunk[0]) * self.out[0].div_ceil(self.chunk[1])
    }

    fn chunk_at(&self, index: usize) -> Chunk {
        let [maps, rows] = self.chunk;
        let bands = self.out[0].div_ceil(rows);
        let (map, row) = (index / bands * maps, index % bands * rows);
        Chunk { map, maps: maps.min(self.maps - map), row, rows: rows.min(self.out[0] - row) }
    }

    /// First channel and size of a block.
    pub fn block(&self, b: usize) -> (usize, usize) {
        let (size, larger) = (self.outputs / self.blocks, self.outputs % self.blocks);
        (b * size + b.min(larger), size + usize::from(b < larger))
    }

    /// Rows and columns of one map's part of the copy of `x`.
    pub fn x_size(&self, rows: usize) -> [usize; 2] {
        let s = self.shape;
        if self.flat {
            [rows, self.out[1]]
        } else {
            [(rows - 1) * s.stride[0] + s.kh, (self.out[1] - 1) * s.stride[1] + s.kw]
        }
    }

    /// Words of the copy of so much of `x`.
    fn x_len(&self, maps: usize, rows: usize) -> usize {
        let [rows, columns] = self.x_size(rows);
        maps * rows * columns * self.panels * self.nr
    }

    /// Words between two pixels of a copied row of `x`, and between its panels.
    pub fn x_steps(&self, chunk: &Chunk) -> [usize; 2] {
        if self.flat && self.kernel > 1 {
            // The taps of a pixel are copied in runs, whatever panels they fall into.
            return [self.panels * self.nr, self.nr];
        }
        let [rows, columns] = self.x_size(chunk.rows);
        [self.nr, chunk.maps * rows * columns * self.nr]
    }

    /// Says how to go through the copies of a chunk, of which there must be enough: the last pixel read under the last tap is
    /// the last of the panel by [`Plan::x_size`], and a block of `dy` has a word for each of its channels and pixels.
    pub fn walk<T>(&self, chunk: &Chunk, x: &[T], dy: &[T]) -> Walk {
        let [rows, columns] = self.x_size(chunk.rows);
        let [pixel, panel] = self.x_steps(chunk);
        let pixels = chunk.maps * chunk.rows * self.out[1];
        assert!(x.len() >= self.x_len(chunk.maps, chunk.rows) && dy.len() >= self.outputs * pixels);
        let step = if self.flat { [1, 1] } else { self.shape.stride };
        Walk {
            pixels,
            map: rows * columns * pixel,
            row: step[0] * columns * pixel,
            pixel: step[1] * pixel,
            copy: [panel, columns * pixel, pixel],
            kernel_width: self.shape.kw,
        }
    }
}
