//! Winograd's F(4x4, 3x3): 36 products instead of 144 for 16 outputs of a 3x3 layer of stride 1.
//!
//! The map is cut into tiles of 4x4 outputs, which read 6x6 inputs. A tile's inputs are transformed
//! into 36 values a channel (`V`), as are the 3x3 weights once (`U`); for each of the 36 a matrix
//! product over channels, by the micro-kernel of `direct.rs`, gives `M`; 36 values of `M` transform
//! into 16 outputs. (Lavin and Gray, arXiv:1509.09308, with points 0, ±5/8, ±3/2, ∞ for half the error of their ±1 and
//! ±2.) Outputs are within 1e-5 of the largest where direct sums are within 1e-6, and an infinity spreads to its tile as
//! NaN.
//!
//! Up to about 128 channels a thread takes a band of tiles through all steps in its L2. Beyond that `U`
//! alone exceeds it, so the threads share each step of a large band. There `U` is never stored whole: 4
//! times the weights would come from memory, while transforming a panel at a time takes L2 only.

use super::direct::Finish;
use super::micro::{self, Blocking, MAX_MR, Tile};
use super::transform::{Stored, Sums};
use super::{Act, transform};
use crate::threads::{SharedMut, parallel_for};
use crate::{End, Level, scratch};

/// The 3x3 layer of stride 1 to compute; backward-data is one too.
#[derive(Clone, Copy)]
pub(crate) struct Layer {
    pub n: usize,
    /// Input rows, columns, channels.
    pub input: [usize; 3],
    /// Output rows, columns, channels.
    pub output: [usize; 3],
    /// Input row and column under the first tap of output (0, 0).
    pub origin: [isize; 2],
}

/// Tiles have this many output rows and columns, and two more of inputs.
const SIDE: usize = 4;

/// What transforming a weight costs, in products: about 1 ns, and a product takes 1/270 ns.
const TOLL: usize = 270;

/// Values of a transformed tile.
pub(super) const POINTS: usize = 36;

/// Bytes of `V` and `M` that stay in L2 beside the stream of `U`, and those that stay in L3.
const BAND_BYTES: usize = 576 << 10;
const SHARED_BYTES: usize = 12 << 20;

/// Largest `U` that each thread may stream for itself.
const STREAMED_BYTES: usize = 3 << 20;

impl Layer {
    fn tile_rows(&self) -> usize {
        self.output[0].div_ceil(SIDE)
    }

    fn tile_columns(&self) -> usize {
        self.output[1].div_ceil(SIDE)
    }

    pub(super) fn tiles(&self) -> usize {
        self.n * self.tile_rows() * self.tile_columns()
    }

    /// Tells whether threads take bands of tiles alone, reading a stored `U`.
    pub(super) fn alone(&self, level: Level) -> bool {
        let u_bytes = POINTS * 4 * self.input[2] * self.output[2];
        BAND_BYTES / self.tile_bytes() >= Blocking::of(level).mr && u_bytes <= STREAMED_BYTES
    }

    /// Image, and first output row and column of a tile.
    fn place(&self, tile: usize) -> [usize; 3] {
        let (rows, columns) = (self.tile_rows(), self.tile_columns());
        [tile / columns / rows, tile / columns % rows * SIDE, tile % columns * SIDE]
    }

    /// The channels of the 6x6 inputs of a tile, those outside the map being `zeros`.
    pub(super) fn inputs<T>(&self, tile: usize, x: &[T], zeros: &[T]) -> [*const T; POINTS] {
        let [in_h, in_w, c_in] = self.input;
        let [image, out_y, out_x] = self.place(tile);
        assert_eq!(zeros.len(), c_in);
        std::array::from_fn(|point| {
            let y = (out_y + point / 6).checked_add_signed(self.origin[0]);
            let x_at = (out_x + point % 6).checked_add_signed(self.origin[1]);
            match (y.filter(|y| *y < in_h), x_at.filter(|x| *x < in_w)) {
                (Some(y), Some(x_at)) => x[((image * in_h + y) * in_w + x_at) * c_in..][..c_in].as_ptr(),
                _ => zeros.as_ptr(),
            }
        })
    }

    /// Offsets of the 4x4 outputs of a tile, where they are on the map.
    pub(super) fn outputs(&self, tile: usize) -> [Option<usize>; SIDE * SIDE] {
        let [out_h, out_w, c_out] = self.output;
        let [image, out_y, out_x] = self.place(tile);
        std::array::from_fn(|i| {
            let (y, x) = (out_y + i / SIDE, out_x + i % SIDE);
            (y < out_h && x < out_w).then(|| ((image * out_h + y) * out_w + x) * c_out)
        })
    }

    /// Bytes of one tile in `V` and `M`.
    pub(super) fn tile_bytes(&self) -> usize {
        POINTS * 4 * (self.input[2] + self.output[2])
    }

    /// Tells whether the products saved outweigh transforming the weights.
    pub(super) fn pays(&self) -> bool {
        let [c_in, c_out] = [self.input[2], self.output[2]];
        if c_in < 32 || c_out < 32 || !c_in.is_multiple_of(16) || !c_out.is_multiple_of(16) {
            return false;
        }
        9 * self.pixels() > POINTS * self.tiles() + TOLL
    }

    /// Tells the same where direct sums take two products at a time: of bf16. Transforming the maps, a quarter of the
    /// products' time, now counts; `packs` tells that weights are used once, and must be rounded and packed for it.
    pub(super) fn beats_pairs(&self, packs: bool) -> bool {
        let toll = if packs { 4 * TOLL } else { TOLL };
        9 * self.pixels() / 2 > POINTS * self.tiles() * 5 / 4 + toll
    }

    /// Tells the same of the weight gradient, where every weight has 36 sums to keep and to transform.
    pub(super) fn pays_for_weights(&self) -> bool {
        9 * self.pixels() > POINTS * self.tiles() * 5 / 4 + 4 * TOLL
    }

    fn pixels(&self) -> usize {
        self.n * self.output[0] * self.output[1]
    }
}

/// Floats between two points of `U`; not a multiple of 4096 bytes, or all would share a cache set.
fn u_step(level: Level, c_in: usize, c_out: usize) -> usize {
    Blocking::of(level).panels_len(c_out, c_in) + 16
}

/// Floats of `U` for a layer.
pub(super) fn u_len(level: Level, c_in: usize, c_out: usize) -> usize {
    POINTS * u_step(level, c_in, c_out)
}

/// Transforms packed 3x3 weights, `[panel][9][c_in][width]`, into `U`: `[36][panel][c_in][width]`.
pub(super) fn transform_weight(level: Level, c_in: usize, c_out: usize, panels: &[f32], u: &mut [f32]) {
    let blocking = Blocking::of(level);
    assert_eq!(panels.len(), blocking.panels_len(c_out, 9 * c_in));
    assert_eq!(u.len(), u_len(level, c_in, c_out));
    let step = u_step(level, c_in, c_out);
    let u = SharedMut::new(u);
    let parts = c_in.div_ceil(16);
    parallel_for(c_out.div_ceil(blocking.nr) * parts, |task| {
        let (p, part) = (task / parts, task % parts);
        let width = blocking.width(blocking.nr.min(c_out - p * blocking.nr));
        let from = p * blocking.nr * c_in;
        for c in part * 16..c_in.min(part * 16 + 16) {
            let taps: [&[f32]; 9] =
                std::array::from_fn(|t| &panels[9 * from + (t * c_in + c) * width..][..width]);
            // SAFETY: each task writes its own channels of its own panel.
            let points =
                std::array::from_fn(|point| unsafe { u.part(point * step + from + c * width, width) });
            transform::weight(level, taps, points);
        }
    });
}

/// The weights of a layer.
#[derive(Clone, Copy)]
pub(super) enum Weights<'a> {
    /// `U`, for layers that threads take alone.
    Transformed(&'a [f32]),
    /// As packed for the direct sums, for the others.
    Panels(&'a [f32]),
}

/// Computes the layer into `y`.
pub(super) fn run<T: Stored>(
    level: Level,
    layer: &Layer,
    x: &[T],
    weights: Weights,
    finish: Finish<T>,
    y: &mut [T],
) {
    let [in_h, in_w, c_in] = layer.input;
    let [out_h, out_w, c_out] = layer.output;
    assert!(T::runs_at(level) && c_in.is_multiple_of(16) && c_out.is_multiple_of(16), "whole vectors");
    assert_eq!(x.len(), layer.n * in_h * in_w * c_in);
    assert_eq!(y.len(), layer.n * out_h * out_w * c_out);
    match weights {
        Weights::Transformed(u) => assert_eq!(u.len(), u_len(level, c_in, c_out)),
        Weights::Panels(panels) => {
            assert_eq!(panels.len(), Blocking::of(level).panels_len(c_out, 9 * c_in));
        }
    }
    assert!(
        finish.bias.is_none_or(|b| b.len() == c_out) && finish.residual.is_none_or(|r| r.len() == y.len())
    );
    let tiles = layer.tiles();
    if tiles == 0 {
        return;
    }

    let mr = Blocking::of(level).mr;
    let alone = layer.alone(level);
    let most = (if alone { BAND_BYTES } else { SHARED_BYTES } / layer.tile_bytes() / mr).max(1) * mr;
    // Equal bands, whole micro-tiles.
    let most = if alone { most.min(tiles.div_ceil(8)) } else { most };
    let band = tiles.div_ceil(tiles.div_ceil(most)).next_multiple_of(mr).min(tiles);
    let work = Work { level, layer, x, weights, finish, y: SharedMut::new(y) };
    let bands = tiles.div_ceil(band);
    let run_band = |b: usize| work.run(b * band, band.min(tiles - b * band));
    if alone {
        parallel_for(bands, run_band);
    } else {
        (0..bands).for_each(run_band);
    }
}

struct Work<'a, T: Stored> {
    level: Level,
    layer: &'a Layer,
    x: &'a [T],
    weights: Weights<'a>,
    finish: Finish<'a, T>,
    y: SharedMut<'a, T>,
}

/// Rows of `V` and `M` are padded so that the rows of a micro-tile do not share a cache set.
pub(super) fn padded(channels: usize) -> usize {
    if channels.is_multiple_of(256) { channels + 16 } else { channels }
}

impl<T: Stored> Work<'_, T> {
    /// Takes `count` tiles from `first` on through all steps. The steps' tasks run in this thread
    /// alone when it is itself a task.
    fn run(&self, first: usize, count: usize) {
        let v_step = count * padded(self.layer.input[2]) + 16;
        let m_step = count * padded(self.layer.output[2]) + 16;
        scratch::with(POINTS * v_step, |v| {
            scratch::with(POINTS * m_step, |m| {
                self.transform_inputs(first, count, v, v_step);
                self.multiply(count, v, v_step, m, m_step);
                self.transform_outputs(first, count, m, m_step);
            });
        });
    }

    fn transform_inputs(&self, first: usize, count: usize, v: &mut [f32], v_step: usize) {
        let c_in = self.layer.input[2];
        let row = padded(c_in);
        let v = SharedMut::new(v);
        parallel_for(count.div_ceil(4), |task| {
            scratch::with_plain(c_in, |zeros: &mut [T]| {
                zeros.fill(T::default());
                for t in task * 4..count.min(task * 4 + 4) {
                    let inputs = self.layer.inputs(first + t, self.x, zeros);
                    // SAFETY: each task writes its own tiles of each point.
                    let points = std::array::from_fn(|point| {
                        unsafe { v.part(point * v_step + t * row, c_in) }.as_mut_ptr()
                    });
                    // SAFETY: every pointer leads to `c_in` values; `run` was given a level that has them.
                    unsafe { T::input(self.level, c_in, &inputs, &points) };
                }
            });
        });
    }

    fn multiply(&self, count: usize, v: &[f32], v_step: usize, m: &mut [f32], m_step: usize) {
        let (c_in, c_out) = (self.layer.input[2], self.layer.output[2]);
        let blocking = Blocking::of(self.level);
        let panels = c_out.div_ceil(blocking.nr);
        let m = SharedMut::new(m);
        let width_of = |p: usize| blocking.width(blocking.nr.min(c_out - p * blocking.nr));
        match self.weights {
            Weights::Transformed(u) => {
                let u_step = u_step(self.level, c_in, c_out);
                parallel_for(POINTS, |point| {
                    for p in 0..panels {
                        let panel = &u[point * u_step + p * blocking.nr * c_in..][..c_in * width_of(p)];
                        self.multiply_panel(count, &v[point * v_step..], panel, p, &m, point * m_step);
                    }
                });
            }
            // A panel and a row of six points at a time.
            Weights::Panels(direct) => parallel_for(panels * 6, |task| {
                let (p, y) = (task / 6, task % 6);
                let len = c_in * width_of(p);
                let direct = &direct[9 * p * blocking.nr * c_in..][..9 * len];
                // An odd number of cache lines apart.
                let step = len.next_multiple_of(32) + 16;
                scratch::with(6 * step, |u| {
                    let mut rows = u.chunks_exact_mut(step);
                    let points = std::array::from_fn(|_| &mut rows.next().expect("six rows")[..len]);
                    let taps = std::array::from_fn(|t| &direct[t * len..][..len]);
                    transform::weight_row(self.level, y, taps, points);
                    for (x, u) in u.chunks_exact(step).enumerate() {
                        let point = 6 * y + x;
                        self.multiply_panel(count, &v[point * v_step..], &u[..len], p, &m, point * m_step);
                    }
                });
            }),
        }
    }

    /// Multiplies one point's tiles by one panel of its weights, into `m` from `m_from` on.
    fn multiply_panel(
        &self,
        count: usize,
        v: &[f32],
        panel: &[f32],
        p: usize,
        m: &SharedMut<f32>,
        m_from: usize,
    ) {
        let (c_in, c_out) = (self.layer.input[2], self.layer.output[2]);
        let (v_row, m_row) = (padded(c_in), padded(c_out));
        let blocking = Blocking::of(self.level);
        let cols = blocking.nr.min(c_out - p * blocking.nr);
        assert_eq!(panel.len(), c_in * blocking.width(cols));
        let groups = count.div_ceil(blocking.mr);
        for group in 0..groups {
            let (start, end) = (group * count / groups, (group + 1) * count / groups);
            let v = &v[start * v_row..][..(end - start) * v_row];
            let m_len = (end - start - 1) * m_row + cols;
            // SAFETY: each task writes its own columns of its own points; no other part of the
            // same elements is live while the micro-kernel runs.
            let y = unsafe { m.part(m_from + start * m_row + p * blocking.nr, m_len) };
            let mut rows = [std::ptr::null::<f32>(); MAX_MR];
            let mut at = [0; MAX_MR];
            for r in 0..end - start {
                rows[r] = v[r * v_row..].as_ptr();
                at[r] = r * m_row;
            }
            let tile = Tile {
                rows: rows.as_ptr(),
                channel: 0,
                taps: 1,
                depth: c_in,
                panel: panel.as_ptr(),
                bias: std::ptr::null(),
                residual: std::ptr::null(),
                y: y.as_mut_ptr(),
                at: at.as_ptr(),
                cols,
                act: Act::None,
            };
            // SAFETY: each row has `c_in` floats, the panel `c_in * width`, and `y` reaches
            // `cols` floats past the last offset.
            unsafe { micro::tile(self.level, end - start, &tile) };
        }
    }

    fn transform_outputs(&self, first: usize, count: usize, m: &[f32], m_step: usize) {
        let c_out = self.layer.output[2];
        let row = padded(c_out);
        let (low, high) = micro::limits(self.finish.end.act());
        parallel_for(count.div_ceil(4), |task| {
            scratch::with_plain(c_out, |rest: &mut [T]| {
                for t in task * 4..count.min(task * 4 + 4) {
                    let points = std::array::from_fn(|point| m[point * m_step + t * row..][..c_out].as_ptr());
                    let at = self.layer.outputs(first + t);
                    // Outputs beyond the map go where no one reads them.
                    let rest = rest.as_mut_ptr();
                    let outputs = at.map(|at| match at {
                        // SAFETY: each task writes its own tiles' pixels.
                        Some(at) => unsafe { self.y.part(at, c_out) }.as_mut_ptr(),
                        None => rest,
                    });
                    let residuals = self
                        .finish
                        .residual
                        .map(|r| at.map(|at| at.map_or(rest.cast_const(), |at| r[at..][..c_out].as_ptr())));
                    let bias = self.finish.bias.map(|b| b[..c_out].as_ptr());
                    let sums = Sums { points, bias, residuals, limits: [low, high] };
                    // SAFETY: every pointer leads to `c_out` values; only `rest` is written twice.
                    unsafe { T::output(self.level, c_out, &sums, &outputs) };
                    if let End::Curve(_) = self.finish.end {
                        for at in at.into_iter().flatten() {
                            // SAFETY: as above.
                            T::finish(self.finish.end, self.level, unsafe { self.y.part(at, c_out) });
                        }
                    }
                }
            });
        });
    }
}
