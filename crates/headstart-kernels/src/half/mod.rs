//! Layers on bf16 activations: half the memory traffic of f32 and twice the products a cycle.
//!
//! Maps are NHWC and contiguous, as `u16` bit patterns; weights come in f32 and are rounded to bf16, once for
//! inference, at every call in training; sums are f32. Layers that Winograd takes are computed in f32 between reading and
//! writing the maps: a quarter of the products is faster than two at a time. Where the CPU has no bf16 products, layers widen
//! to f32 and round back: same results to within the order of the sums, no faster than f32.
//!
//! ```text
//! bf16.rs      conversions of slices
//! avx512.rs    the micro-kernel; `narrow` holds its driver
//! depthwise.rs one filter per channel
//! join.rs      residual joins
//! train.rs     forward and both gradients with weights that change; panel.rs packs them
//! weight.rs    the weight gradient; outer.rs holds its micro-kernel
//! ```
//! BatchNorm, pooling and activations take bf16 maps in [`crate::norm`], [`crate::pool`] and
//! [`crate::act`].

#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod bf16;
mod depthwise;
mod join;
#[cfg(target_arch = "x86_64")]
mod outer;
#[cfg(target_arch = "x86_64")]
mod panel;
#[cfg(test)]
mod tests;
mod train;
#[cfg(test)]
mod train_tests;
#[cfg(target_arch = "x86_64")]
mod weight;

pub use depthwise::PackedDepthwiseHalf;
pub use depthwise::forward as depthwise_forward;
pub use join::add_act;
pub use train::{backward_data, backward_weight, forward};

use std::sync::OnceLock;

use crate::conv::{self, ConvShape, PackedConv, choose};
use crate::narrow::{self, Kernel, Tile};
use crate::scratch::{self, Aligned};
use crate::simd::Bounds;
use crate::{Act, Level};

/// Weights of a frozen dense layer, rounded to bf16 and packed once for the process's [`Level`].
pub struct PackedConvHalf {
    level: Level,
    /// The layer, with `n`, `h` and `w` zero.
    layer: ConvShape,
    weight: Weight,
    bias: Vec<f32>,
}

enum Weight {
    /// Panels of bf16 pairs, group after group.
    Pairs(Aligned),
    /// Winograd takes the layer, unless maps are so small that pairs are better; either packs at its first use.
    Either { rounded: Vec<u16>, winograd: OnceLock<Box<PackedConv>>, pairs: OnceLock<Aligned> },
    /// Rounded, but in f32, for CPUs without bf16 products.
    Widened(Box<PackedConv>),
}

impl PackedConvHalf {
    /// Packs `weight` (`OIHW`) and `bias` of the layer in `shape`, whose `n`, `h`, `w` do not matter.
    ///
    /// Panics if a length does not fit the shape.
    pub fn new(shape: &ConvShape, weight: &[f32], bias: Option<&[f32]>) -> Self {
        Self::new_at(Level::current(), shape, weight, bias)
    }

    fn new_at(level: Level, shape: &ConvShape, weight: &[f32], bias: Option<&[f32]>) -> Self {
        let layer = ConvShape { n: 0, h: 0, w: 0, ..*shape };
        layer.check();
        check_len("weight", weight.len(), layer.w_len());
        if let Some(bias) = bias {
            check_len("bias", bias.len(), layer.c_out);
        }
        let weight = if !level.has_bf16() {
            let rounded: Vec<f32> = weight.iter().map(|w| bf16::widen(bf16::round(*w))).collect();
            Weight::Widened(Box::new(PackedConv::new_at(level, &layer, &rounded, bias)))
        } else if choose::half::of_packed(&ConvShape { n: 1, h: LARGE, w: LARGE, ..layer }).is_some() {
            let rounded = weight.iter().map(|w| bf16::round(*w)).collect();
            Weight::Either { rounded, winograd: OnceLock::new(), pairs: OnceLock::new() }
        } else {
            Weight::Pairs(pack_pairs(&layer, |i| bf16::round(weight[i])))
        };
        let bias = bias.map_or_else(|| vec![0.0; layer.c_out], <[f32]>::to_vec);
        Self { level, layer, weight, bias }
    }
}

/// Rows and columns of a map on which every layer pays that ever does.
const LARGE: usize = 256;

/// Packs the pairs of every group; `bits` gives a weight by its place in `OIHW`.
fn pack_pairs(layer: &ConvShape, bits: impl Fn(usize) -> u16 + Sync) -> Aligned {
    let k = layer.group_in() * layer.kh * layer.kw;
    let len = narrow::panels_len(layer.group_out(), narrow::words::<u16>(layer));
    let mut panels = Aligned::zeroed(layer.groups * len);
    for (group, panels) in panels.as_mut_words().chunks_exact_mut(len.max(1)).enumerate() {
        narrow::pack::<u16>(layer, group, |o, i| u32::from(bits(o * k + i)), panels);
    }
    panels
}

/// Computes `y = act(conv(x) + bias + residual)` on bf16 maps.
///
/// `x` is `[n, h, w, c_in]`, `residual` and `y` are `[n, out_h, out_w, c_out]`. Panics if a length does
/// not fit `shape`, or `packed` is of another layer.
pub fn forward_half(
    shape: &ConvShape,
    x: &[u16],
    packed: &PackedConvHalf,
    residual: Option<&[u16]>,
    act: Act,
    y: &mut [u16],
) {
    assert_eq!(ConvShape { n: 0, h: 0, w: 0, ..*shape }, packed.layer, "packed for another layer");
    check_len("x", x.len(), shape.x_len());
    check_len("y", y.len(), shape.y_len());
    if let Some(residual) = residual {
        check_len("residual", residual.len(), shape.y_len());
    }
    let pairs = |panels: &Aligned, y: &mut [u16]| {
        let len = panels.as_words().len() / shape.groups;
        for group in 0..shape.groups {
            let bias = &packed.bias[group * shape.group_out()..][..shape.group_out()];
            let kernel = Pairs { bias, bounds: Bounds::of(act) };
            let panels = &panels.as_words()[group * len..][..len];
            narrow::run(&kernel, shape, group, x, panels, residual, y);
        }
    };
    match &packed.weight {
        Weight::Pairs(panels) => pairs(panels, y),
        Weight::Either { rounded, winograd, pairs: panels } => match choose::half::of_packed(shape) {
            Some(layer) => {
                let weight = winograd.get_or_init(|| {
                    let wide: Vec<f32> = rounded.iter().map(|w| bf16::widen(*w)).collect();
                    Box::new(PackedConv::new_at(packed.level, &packed.layer, &wide, Some(&packed.bias)))
                });
                choose::half::packed(&layer, x, weight, residual, act, y);
            }
            None => pairs(panels.get_or_init(|| pack_pairs(&packed.layer, |i| rounded[i])), y),
        },
        Weight::Widened(weight) => forward_widened(packed.level, shape, x, weight, residual, act, y),
    }
}

fn forward_widened(
    level: Level,
    shape: &ConvShape,
    x: &[u16],
    packed: &PackedConv,
    residual: Option<&[u16]>,
    act: Act,
    y: &mut [u16],
) {
    if shape.n == 0 {
        return;
    }
    // A few images at a time: their floats stay in the caches.
    let (x_len, y_len) = (shape.x_len() / shape.n, shape.y_len() / shape.n);
    let step = (FLOATS_IN_CACHE / (x_len + 2 * y_len).max(1)).clamp(1, shape.n);
    let residual_len = if residual.is_some() { step * y_len } else { 0 };
    scratch::with(step * x_len, |wide_x| {
        scratch::with(residual_len, |wide_residual| {
            scratch::with(step * y_len, |sums| {
                for first in (0..shape.n).step_by(step) {
                    let shape = ConvShape { n: step.min(shape.n - first), ..*shape };
                    let (x_len, y_len, at) = (shape.x_len(), shape.y_len(), first * y_len);
                    bf16::to_f32_at(level, &x[first * (x_len / shape.n)..][..x_len], &mut wide_x[..x_len]);
                    let residual = residual.map(|r| {
                        bf16::to_f32_at(level, &r[at..][..y_len], &mut wide_residual[..y_len]);
                        &wide_residual[..y_len]
                    });
                    conv::forward_packed(&shape, &wide_x[..x_len], packed, residual, act, &mut sums[..y_len]);
                    bf16::from_f32_at(level, &sums[..y_len], &mut y[at..][..y_len]);
                }
            });
        });
    });
}

/// Floats of inputs and outputs that are widened together.
const FLOATS_IN_CACHE: usize = 1 << 20;

/// The bf16 arithmetic of one group.
struct Pairs<'a> {
    bias: &'a [f32],
    bounds: Bounds,
}

impl Kernel for Pairs<'_> {
    type Value = u16;

    fn outside(&self) -> u16 {
        0
    }

    fn vanishes(value: u16) -> bool {
        // Not an infinity, not a NaN.
        value & 0x7f80 != 0x7f80
    }

    unsafe fn tile(&self, m: usize, tile: &Tile<u16>) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise; pairs are only packed where the CPU has the instructions.
        unsafe {
            avx512::tile(m, tile, self.bias, self.bounds);
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("no bf16 products here: {m} pixels, {} channels, {:?}", tile.cols, self.bounds.low);
    }
}

fn check_len(what: &str, len: usize, expected: usize) {
    assert_eq!(len, expected, "{what} has {len} values, its shape has {expected}");
}
