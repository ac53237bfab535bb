//! How a `[rows, c]` tensor is cut, and how sums over its rows are put together.

use crate::simd::{chunk, chunks};
use crate::threads::{SharedMut, parallel_for};

/// How a `[rows, c]` tensor is cut: wide rows, and chunks of whole wide rows (the last of each
/// may be shorter, by whole rows).
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub c: usize,
    /// Floats of a wide row, a multiple of `c`.
    pub wide: usize,
    /// Floats of a chunk, a multiple of `wide`.
    chunk: usize,
    len: usize,
}

impl Plan {
    pub fn new(len: usize, c: usize) -> Self {
        assert!(c > 0 && len.is_multiple_of(c), "{len} values do not make rows of {c} channels");
        let wide = 256_usize.div_ceil(c) * c;
        let chunk = (32 * 1024 / wide).max(1) * wide;
        Self { c, wide, chunk, len }
    }

    pub fn chunks(&self) -> usize {
        chunks(self.len, self.chunk)
    }

    pub fn part(&self, index: usize) -> (usize, usize) {
        chunk(self.len, self.chunk, index)
    }

    /// Repeats per-channel values over a wide row.
    pub fn widen(&self, values: impl Iterator<Item = f32> + Clone) -> Vec<f32> {
        values.cycle().take(self.wide).collect()
    }

    /// Folds the column sums of a wide row to channels.
    pub fn fold(&self, columns: &[f32], channels: &mut [f64]) {
        channels.fill(0.0);
        for row in columns.chunks_exact(self.c) {
            channels.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
        }
    }

    /// Runs `task(from, len, [a, b])` for each chunk, where the task leaves two sums per channel,
    /// and returns the sums in chunk order, `[chunks][2][c]`.
    pub fn partials(&self, task: impl Fn(usize, usize, [&mut [f64]; 2]) + Sync) -> Vec<f64> {
        let mut partials = vec![0.0; self.chunks() * 2 * self.c];
        let shared = SharedMut::new(&mut partials);
        parallel_for(self.chunks(), |index| {
            let (from, len) = self.part(index);
            // SAFETY: each task has its own 2c values.
            let (a, b) = unsafe { shared.part(index * 2 * self.c, 2 * self.c) }.split_at_mut(self.c);
            task(from, len, [a, b]);
        });
        partials
    }

    /// As [`Plan::partials`], added up over the chunks.
    pub fn sums(&self, task: impl Fn(usize, usize, [&mut [f64]; 2]) + Sync) -> Vec<f64> {
        let mut partials = self.partials(task);
        partials.resize(partials.len().max(2 * self.c), 0.0);
        let (sums, rest) = partials.split_at_mut(2 * self.c);
        for part in rest.chunks_exact(2 * self.c) {
            sums.iter_mut().zip(part).for_each(|(s, p)| *s += p);
        }
        partials.truncate(2 * self.c);
        partials
    }
}
