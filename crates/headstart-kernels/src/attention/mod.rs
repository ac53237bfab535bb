//! Multi-head self-attention: softmax(q kᵀ · scale + bias) v, head by head.
//!
//! ```text
//! forward.rs   the output
//! backward.rs  gradients; the probabilities are computed anew, of the forward pass only the input is kept
//! ```
//! A task is one head of one window of one picture: it copies its q, k and v side by side, multiplies with the
//! kernels of `conv/matrix.rs`, and never holds more than its own `tokens × tokens` matrix (two in the backward pass).
//! Windows are read from where their cells lie in the map and written back there: nothing is rolled or permuted.

mod backward;
mod forward;
#[cfg(test)]
mod tests;

pub use backward::{AttentionGrads, backward};
pub use forward::forward;

use crate::Level;
use crate::conv::matrix::{Matrix, PANEL};
use crate::simd::{self, LANES, fetch};
use crate::threads::SharedMut;

/// Tokens that are asked for ahead.
const AHEAD: usize = 8;

/// The sizes of a self-attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Pictures.
    pub n: usize,
    /// Windows of a picture; one where all tokens see each other.
    pub windows: usize,
    /// Tokens of a window.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Floats of a head's query, key and value.
    pub dim: usize,
    /// Whether a token sees none after it.
    pub causal: bool,
    /// Whether query, key and value of a head lie side by side, instead of the queries of all heads, then keys, values.
    pub by_head: bool,
    /// Whether queries and keys are compared by angle: each is divided by its length.
    pub cosine: bool,
}

/// What the products of queries and keys go through before the softmax.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a> {
    /// A factor for each head.
    pub scales: &'a [f32],
    /// Added for each pair of tokens: `[heads, tokens, tokens]`.
    pub bias: Option<&'a [f32]>,
    /// Which windows there are; required where there is more than one.
    pub windows: Option<&'a Windows>,
}

/// The windows of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    /// For each token of each window, its cell in the picture: every cell once.
    cells: Vec<u32>,
    /// For each token of each window, the region it belongs to: a token hardly sees those of other regions.
    regions: Option<Vec<f32>>,
}

/// Added to the logits of tokens from different regions, as Swin's reference has it.
pub const APART: f32 = -100.0;

impl Windows {
    /// Lists the windows by their cells, and by the cells' regions where some must not see each other.
    ///
    /// Panics unless `cells` holds every number below its length once, and `regions` is as long.
    pub fn new(cells: Vec<u32>, regions: Option<Vec<f32>>) -> Self {
        let mut seen = vec![false; cells.len()];
        for cell in &cells {
            assert!(!std::mem::replace(&mut seen[*cell as usize], true), "cell {cell} is in two windows");
        }
        assert!(regions.as_ref().is_none_or(|r| r.len() == cells.len()), "a region for each cell");
        Self { cells, regions }
    }
}

impl AttentionShape {
    /// All tokens of a picture, queries of all heads first, compared by their products.
    pub fn plain(n: usize, tokens: usize, heads: usize, dim: usize) -> Self {
        Self { n, windows: 1, tokens, heads, dim, causal: false, by_head: false, cosine: false }
    }

    /// Floats of the output, `[n, windows · tokens, heads, dim]`.
    pub fn y_len(&self) -> usize {
        self.n * self.windows * self.tokens * self.width()
    }

    fn width(&self) -> usize {
        self.heads * self.dim
    }

    /// Floats from one row of a head to the next where its queries, keys or values are side by side.
    fn pitch(&self) -> usize {
        self.dim.next_multiple_of(PANEL)
    }

    /// Floats of one head, side by side.
    fn head(&self) -> usize {
        self.tokens * self.pitch()
    }

    /// Floats from one row of pairs of tokens to the next: whole blocks for the exponentials.
    fn pairs_pitch(&self) -> usize {
        self.tokens.next_multiple_of(LANES)
    }

    /// Takes what [`Task::gather`] left as a matrix.
    fn matrix<'a>(&self, values: &'a [f32]) -> Matrix<'a> {
        Matrix { values, rows: self.tokens, cols: self.dim, pitch: self.pitch() }
    }

    /// Goes through the rows of what [`Task::gather`] left.
    fn rows<'a>(&self, values: &'a mut [f32]) -> impl Iterator<Item = &'a mut [f32]> {
        let dim = self.dim;
        values.chunks_exact_mut(self.pitch()).map(move |row| &mut row[..dim])
    }

    /// Takes a value for each pair of tokens as a matrix.
    fn pairs<'a>(&self, values: &'a [f32]) -> Matrix<'a> {
        Matrix { values, rows: self.tokens, cols: self.tokens, pitch: self.pairs_pitch() }
    }

    fn square(&self) -> usize {
        self.tokens * self.tokens
    }

    fn tasks(&self) -> usize {
        if self.y_len() == 0 { 0 } else { self.n * self.windows * self.heads }
    }

    fn check(&self, logits: &Logits, qkv: &[f32], y: &[f32]) {
        assert_eq!(qkv.len(), 3 * self.y_len(), "queries, keys and values of {self:?}");
        assert_eq!(y.len(), self.y_len(), "output of {self:?}");
        assert_eq!(logits.scales.len(), self.heads, "a factor for each head of {self:?}");
        assert!(logits.bias.is_none_or(|b| b.len() == self.heads * self.square()), "bias of {self:?}");
        match logits.windows {
            Some(w) => assert_eq!(w.cells.len(), self.windows * self.tokens, "windows of {self:?}"),
            None => assert_eq!(self.windows, 1, "no windows for {self:?}"),
        }
    }
}

/// One head of one window of one picture.
#[derive(Clone, Copy)]
struct Task<'a> {
    shape: &'a AttentionShape,
    logits: &'a Logits<'a>,
    /// The picture's first token.
    picture: usize,
    window: usize,
    head: usize,
}

impl<'a> Task<'a> {
    /// Pictures come first, so that a thread's tasks are near each other; then windows, then heads.
    fn new(shape: &'a AttentionShape, logits: &'a Logits<'a>, index: usize) -> Self {
        let (window, head) = (index / shape.heads, index % shape.heads);
        let picture = window / shape.windows * shape.windows * shape.tokens;
        Self { shape, logits, picture, window: window % shape.windows, head }
    }

    /// The place of a token among all of the batch.
    #[inline(always)]
    fn place(&self, token: usize) -> usize {
        let cell = match self.logits.windows {
            Some(windows) => windows.cells[self.window * self.shape.tokens + token] as usize,
            None => token,
        };
        self.picture + cell
    }

    /// Where a token's query (0), key (1) or value (2) begins.
    #[inline(always)]
    fn at(&self, token: usize, which: usize) -> usize {
        let s = self.shape;
        let from = self.place(token) * 3 * s.width();
        from + if s.by_head { (self.head * 3 + which) * s.dim } else { which * s.width() + self.head * s.dim }
    }

    /// Where a token's output begins.
    #[inline(always)]
    fn out(&self, token: usize) -> usize {
        self.place(token) * self.shape.width() + self.head * self.shape.dim
    }

    /// Copies a row of each token, from where `at` says it begins.
    fn gather(&self, from: &[f32], at: impl Fn(usize) -> usize, to: &mut [f32]) {
        let s = self.shape;
        for (token, to) in to.chunks_exact_mut(s.pitch()).enumerate() {
            // Rows lie far apart, which the CPU does not foresee.
            let ahead = at((token + AHEAD).min(s.tokens - 1));
            fetch_row(from.as_ptr().wrapping_add(ahead), s.dim);
            to[..s.dim].copy_from_slice(&from[at(token)..][..s.dim]);
        }
    }

    /// Writes a row of each token, times its factor, to where `at` says it begins.
    fn scatter(
        &self,
        level: Level,
        rows: &mut [f32],
        at: impl Fn(usize) -> usize,
        factor: impl Fn(usize) -> f32,
        to: &SharedMut<f32>,
    ) {
        let s = self.shape;
        simd::at(
            level,
            #[inline(always)]
            |_| {
                for (token, row) in s.rows(rows).enumerate() {
                    let (from, factor) = (at(token), factor(token));
                    // SAFETY: each cell is one token of one window, and each of its heads belongs to one task.
                    let to = unsafe { to.part(from, s.dim) };
                    let ahead = at((token + AHEAD).min(s.tokens - 1));
                    fetch_row(to.as_ptr().wrapping_add(ahead).wrapping_sub(from), s.dim);
                    to.iter_mut().zip(row).for_each(|(to, v)| *to = *v * factor);
                }
            },
        );
    }

    /// Copies the queries, keys or values of all tokens.
    fn gather_qkv(&self, qkv: &[f32], which: usize, to: &mut [f32]) {
        self.gather(qkv, |token| self.at(token, which), to);
    }

    /// Adds what the head's pairs of tokens are given to a token's row of logits; what it has more than tokens, nobody sees.
    #[inline(always)]
    fn add(&self, token: usize, row: &mut [f32]) {
        let t = self.shape.tokens;
        if let Some(bias) = self.logits.bias {
            let bias = &bias[(self.head * t + token) * t..][..t];
            row.iter_mut().zip(bias).for_each(|(v, b)| *v += *b);
        }
        if let Some(regions) = self.logits.windows.and_then(|w| w.regions.as_ref()) {
            let regions = &regions[self.window * t..][..t];
            let own = regions[token];
            row.iter_mut().zip(regions).for_each(|(v, r)| *v += if *r == own { 0.0 } else { APART });
        }
        if self.shape.causal {
            row[token + 1..t].fill(f32::NEG_INFINITY);
        }
        row[t..].fill(f32::NEG_INFINITY);
    }
}

/// Divides each row by its length, and keeps one over it in `inverse`. A row of zeros stays.
fn normalise<'a>(rows: impl Iterator<Item = &'a mut [f32]>, inverse: &mut [f32]) {
    for (row, inverse) in rows.zip(inverse) {
        let square: f32 = row.iter().map(|v| v * v).sum();
        // The floor of PyTorch's `normalize`.
        *inverse = 1.0 / square.sqrt().max(1e-12);
        row.iter_mut().for_each(|v| *v *= *inverse);
    }
}

/// Asks for the cache lines of `len` floats.
#[inline(always)]
fn fetch_row(row: *const f32, len: usize) {
    for line in (0..len).step_by(16) {
        fetch(row.wrapping_add(line));
    }
}
