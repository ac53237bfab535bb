//! Rows times weights. A pair of rows is of one image, since its rounding is shared: the features of an image must not
//! depend on its neighbours.

use super::quad::{Pairs, Quad};
use super::{LEAST_COLS, LEAST_DEPTH, SUMS, each_line_of, of_panels, of_rows};
use crate::conv::ConvShape;
use crate::conv::direct::{Finish, Output};
use crate::conv::micro::Blocking;
use crate::conv::pack::{Source, pack_full};
use crate::scratch::cut;
use crate::simd::at;
use crate::threads::{SharedMut, parallel_for};
use crate::{End, Level, scratch};

/// Parts of a pair of panels: the operands of the sums, with `B12` before the last. The first two and the last two are the
/// panels themselves.
const PARTS: usize = 8;

/// The part each sum takes.
const PART_OF: [usize; SUMS] = [0, 1, 2, 3, 4, 5, 7];

/// Floats of a cache line.
const LINE: usize = 16;

/// Rows that make up for packing the weights for one use.
const LEAST_ROWS: usize = 1024;

/// Bytes of the rows that a task multiplies with one pair of panels after the other.
const BAND_BYTES: usize = 320 << 10;

/// More tiles than that are: the least depth makes 13 of the smallest tiles.
const MOST_TILES: usize = 16;

/// Fewest tasks to share, if the work can be cut that far.
const MIN_TASKS: usize = 16;

/// Rows times weights: `[images, rows, depth] · [depth, cols]`.
#[derive(Clone, Copy, Debug)]
pub(in crate::conv) struct Product {
    pub images: usize,
    pub rows: usize,
    pub depth: usize,
    pub cols: usize,
}

impl Product {
    /// The layer as such a product, if it is one, large enough, and of sizes that divide.
    pub fn of(level: Level, s: &ConvShape) -> Option<Self> {
        let product = Self { images: s.n, rows: s.h * s.w, depth: s.c_in, cols: s.c_out };
        (s.is_pixelwise() && s.groups == 1 && product.fits(level)).then_some(product)
    }

    /// The gradient of the layer's input as such a product.
    pub fn back(level: Level, s: &ConvShape) -> Option<Self> {
        let back = ConvShape { c_in: s.c_out, c_out: s.c_in, ..*s };
        Self::of(level, &back)
    }

    /// Whether weights of this size are packed in pairs of panels.
    fn fits(&self, level: Level) -> bool {
        level != Level::Scalar
            && self.depth.is_multiple_of(2 * LINE)
            && self.cols.is_multiple_of(2 * Blocking::of(level).nr)
            && self.depth >= LEAST_DEPTH
            && self.cols >= LEAST_COLS
    }

    /// Whether there are pairs of rows. Not whether there are many: the number of images must not change the bits of any.
    pub fn has_pairs(&self) -> bool {
        self.rows > 1
    }

    /// Whether the product saves more than packing the weights for it alone costs.
    pub fn pays_once(&self) -> bool {
        self.has_pairs() && self.images * self.rows >= LEAST_ROWS
    }

    fn pairs(&self) -> usize {
        self.images * self.rows.div_ceil(2)
    }

    /// The rows of a pair: the next two of an image; the last of an odd number comes, after all others, alone.
    fn pair(&self, index: usize) -> (usize, Option<usize>) {
        let each = self.rows / 2;
        if index < self.images * each {
            let first = index / each * self.rows + index % each * 2;
            return (first, Some(first + 1));
        }
        ((index - self.images * each + 1) * self.rows - 1, None)
    }

    /// Where the rows of some pairs are in the output; those without a second row come last.
    fn offsets(&self, pairs: std::ops::Range<usize>) -> Pairs {
        let mut offsets = Pairs { m: pairs.len(), ..Pairs::default() };
        for (r, pair) in pairs.enumerate() {
            let (first, second) = self.pair(pair);
            offsets.first[r] = first * self.cols;
            if let Some(second) = second {
                (offsets.second[r], offsets.both) = (second * self.cols, r + 1);
            }
        }
        offsets
    }

    /// Floats of the weights as [`pack`] leaves them: twice as many as there are.
    pub fn packed_len(&self) -> usize {
        self.depth * self.cols / 4 * PARTS
    }
}

/// Makes the parts of all pairs of panels, `[pair][8][depth / 2][nr]`, from the weights.
pub(in crate::conv) fn pack(level: Level, product: &Product, weights: &Source, packed: &mut [f32]) {
    let nr = Blocking::of(level).nr;
    let len = product.depth / 2 * nr;
    assert_eq!(packed.len(), product.packed_len(), "parts of {product:?}");
    let packed = SharedMut::new(packed);
    parallel_for(product.cols / (2 * nr), |pair| {
        // SAFETY: each task makes its own parts.
        let parts = cut::<PARTS>(unsafe { packed.part(pair * PARTS * len, PARTS * len) }, len, len);
        scratch::with(4 * len, |panels| {
            for (side, panel) in panels.chunks_exact_mut(2 * len).enumerate() {
                let from = weights.from + (2 * pair + side) * nr * weights.col;
                pack_full(weights, from, product.depth, nr, panel);
            }
            let quarter = |i: usize| &panels[i * len..][..len];
            at(
                level,
                #[inline(always)]
                |_| {
                    // The left panel comes first, upper half before lower.
                    each_line_of::<PARTS, LINE>(
                        [quarter(0), quarter(2), quarter(1), quarter(3)],
                        0,
                        parts,
                        |b11, b12, b21, b22| {
                            let [o11, o21, o2, o3, o4, o1, o22] = of_panels(b11, b12, b21, b22);
                            [o11, o21, o2, o3, o4, o1, b12, o22]
                        },
                    );
                },
            );
        });
    });
}

/// Returns a panel from the parts of its pair.
pub(in crate::conv) fn panel(packed: &[f32], index: usize, len: usize) -> &[f32] {
    let pair = &packed[index / 2 * PARTS * (len / 2)..][..PARTS * (len / 2)];
    if index.is_multiple_of(2) { &pair[..len] } else { &pair[pair.len() - len..] }
}

/// Copies a pair of rows as the operands of the seven sums.
fn copy(level: Level, p: &Product, x: &[f32], pair: usize, operands: [&mut [f32]; SUMS], none: &[f32]) {
    let (first, second) = p.pair(pair);
    let row = |row: usize| x[row * p.depth..][..p.depth].split_at(p.depth / 2);
    let ((a11, a12), (a21, a22)) = (row(first), second.map_or((none, none), row));
    at(
        level,
        #[inline(always)]
        |_| each_line_of::<SUMS, LINE>([a11, a12, a21, a22], 4 * p.depth, operands, of_rows),
    );
}

/// Computes `y = end(x · w + bias + residual)` from the parts of the weights.
pub(in crate::conv) fn run(
    level: Level,
    p: &Product,
    x: &[f32],
    packed: &[f32],
    finish: Finish,
    y: &mut [f32],
) {
    let Blocking { mr, nr } = Blocking::of(level);
    // Everything the micro-kernels will touch, checked here.
    assert_eq!(x.len(), p.images * p.rows * p.depth, "input of {p:?}");
    assert_eq!(y.len(), p.images * p.rows * p.cols, "output of {p:?}");
    assert_eq!(packed.len(), p.packed_len(), "parts of {p:?}");
    assert!(finish.residual.is_none_or(|r| r.len() >= y.len()), "residual too short");
    assert!(finish.bias.is_none_or(|b| b.len() >= p.cols), "bias too short");

    let half = p.depth / 2;
    // An odd number of cache lines apart.
    let step = half.next_multiple_of(2 * LINE) + LINE;
    let (tile_len, part_len) = (SUMS * mr * step, half * nr);
    let (pairs, panel_pairs) = (p.pairs(), p.cols / (2 * nr));
    let tiles = pairs.div_ceil(mr);
    let band = (BAND_BYTES / (4 * tile_len)).clamp(1, tiles.div_ceil(MIN_TASKS).clamp(1, MOST_TILES));
    let bands = tiles.div_ceil(band);
    let splits = MIN_TASKS.div_ceil(bands.max(1)).min(panel_pairs);
    let split = panel_pairs.div_ceil(splits);
    let output = Output(y.as_mut_ptr());
    let output = &output;
    parallel_for(bands * splits, |task| {
        let (first, from) = (task / splits * band, task % splits * split);
        let my_tiles = first..tiles.min(first + band);
        let my_panels = from..panel_pairs.min(from + split);
        if my_panels.is_empty() {
            return;
        }
        let mut offsets = [Pairs::default(); MOST_TILES];
        scratch::with(band * tile_len + half + 3 * mr * nr, |buffer| {
            let (rows, rest) = buffer.split_at_mut(band * tile_len);
            let (none, sums) = rest.split_at_mut(half);
            none.fill(0.0);
            for ((tile, offsets), rows) in
                my_tiles.clone().zip(&mut offsets).zip(rows.chunks_exact_mut(tile_len))
            {
                let my_pairs = tile * mr..pairs.min((tile + 1) * mr);
                *offsets = p.offsets(my_pairs.clone());
                for (r, pair) in my_pairs.enumerate() {
                    copy(level, p, x, pair, cut(&mut rows[r * step..], mr * step, half), none);
                }
            }
            let offsets = &offsets[..my_tiles.len()];
            for panels in my_panels.clone() {
                let column = panels * 2 * nr;
                for (offsets, rows) in offsets.iter().zip(rows.chunks_exact(tile_len)) {
                    let quad = Quad {
                        level,
                        half,
                        a: rows,
                        a_sum: mr * step,
                        a_row: step,
                        a_step: 1,
                        parts: &packed[panels * PARTS * part_len..][..PARTS * part_len],
                        part_of: PART_OF,
                        bias: finish.bias.map_or(std::ptr::null(), |b| b[column..].as_ptr()),
                        residual: finish.residual.map_or(std::ptr::null(), |r| r[column..].as_ptr()),
                        act: finish.end.act(),
                    };
                    // SAFETY: the lengths were checked above; tasks differ in their pairs or their columns.
                    unsafe { quad.run(offsets, sums, output.0.wrapping_add(column)) };
                }
            }
            if let End::Curve(_) = finish.end {
                let columns = my_panels.start * 2 * nr..my_panels.end * 2 * nr;
                for offsets in offsets {
                    for at in offsets.first[..offsets.m].iter().chain(&offsets.second[..offsets.both]) {
                        let to = output.0.wrapping_add(at + columns.start);
                        // SAFETY: this task wrote these outputs above; no other has their rows and columns.
                        let written = unsafe { std::slice::from_raw_parts_mut(to, columns.len()) };
                        finish.end.finish(level, written);
                    }
                }
            }
        });
    });
}
