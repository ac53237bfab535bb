//! Dense convolution over NHWC maps: inference with packed weights, forward, both gradients.
//!
//! ```text
//! direct.rs   forward, backward-data, linear: sums over taps and channels; grids.rs says which
//! winograd.rs the same for 3x3 layers of stride 1 with 32 or more channels, in a third of the products;
//!             transform/ holds its transforms, choose.rs says for which layers; `HEADSTART_CONV=direct`
//!             switches it off
//! strassen/   products of large matrices with seven multiplications for eight; the switch is the same
//! weight.rs   backward-weight: sums over pixels; winograd_weight.rs for Winograd's layers
//! pack.rs     weights into the order the micro-kernels read
//! micro.rs    the three micro-kernels' interface; avx512.rs and avx2.rs hold them, linked.rs one's text for both
//! groups.rs   narrow groups put together
//! matrix.rs   products within the caches of one core
//! scalar.rs   the definition, and the oracle of the tests
//! ```
//! Depthwise layers have their own kernel.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod choose;
mod direct;
mod grids;
mod groups;
#[cfg(target_arch = "x86_64")]
mod linked;
pub(crate) mod matrix;
mod micro;
mod pack;
mod scalar;
mod shape;
mod strassen;
#[cfg(test)]
pub(crate) mod tests;
mod transform;
mod weight;
pub(crate) mod weight_plan;
mod winograd;
mod winograd_weight;

use choose::Algorithm;
pub(crate) use direct::Finish;
use grids::{backward_phases, forward_panels, forward_panels_len, pack_forward};
use groups::with_joined;
use pack::Panels;
use strassen::Product;
use winograd::Layer;

use std::sync::OnceLock;

use crate::scratch::{self, Aligned};
use crate::{End, Level, norm};

pub use shape::ConvShape;

/// What follows the sum of a layer, in the same pass over its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Act {
    /// Nothing.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
}

/// Weights of a frozen layer, packed once for the process's [`Level`].
pub struct PackedConv {
    level: Level,
    /// The layer, with `n`, `h` and `w` zero.
    layer: ConvShape,
    /// `OIHW` at the scalar level, else panels.
    weight: Aligned,
    /// Whether the panels are in pairs.
    paired: bool,
    /// The weights as Winograd wants them, made at the first map for which it pays.
    transformed: OnceLock<Aligned>,
    bias: Option<Vec<f32>>,
}

impl PackedConv {
    /// Packs `weight` (`OIHW`) and `bias` of the layer in `shape`, whose `n`, `h`, `w` do not matter.
    ///
    /// Panics if a length does not fit the shape.
    pub fn new(shape: &ConvShape, weight: &[f32], bias: Option<&[f32]>) -> Self {
        Self::new_at(Level::current(), shape, weight, bias)
    }

    pub(crate) fn new_at(level: Level, shape: &ConvShape, weight: &[f32], bias: Option<&[f32]>) -> Self {
        let layer = ConvShape { n: 0, h: 0, w: 0, ..*shape };
        layer.check();
        check_len("weight", weight.len(), layer.w_len());
        if let Some(bias) = bias {
            check_len("bias", bias.len(), layer.c_out);
        }
        let product = Algorithm::current().product(level, &layer);
        let packed = if level == Level::Scalar {
            let mut copy = Aligned::zeroed(weight.len());
            copy.as_mut_slice().copy_from_slice(weight);
            copy
        } else if let Some(product) = &product {
            let mut pairs = Aligned::zeroed(product.packed_len());
            strassen::pack(level, product, &choose::weights_of(product, weight), pairs.as_mut_slice());
            pairs
        } else {
            with_joined(level, &layer, weight, |layer, weight| {
                let mut panels = Aligned::zeroed(forward_panels_len(level, layer));
                pack_forward(level, layer, weight, panels.as_mut_slice());
                panels
            })
        };
        let (paired, bias) = (product.is_some(), bias.map(<[f32]>::to_vec));
        Self { level, layer, weight: packed, paired, transformed: OnceLock::new(), bias }
    }
}

/// Computes `y = end(conv(x) + bias + residual)`.
///
/// Panics if a length does not fit `shape`, or `packed` is of another layer.
pub fn forward_packed(
    shape: &ConvShape,
    x: &[f32],
    packed: &PackedConv,
    residual: Option<&[f32]>,
    end: impl Into<End>,
    y: &mut [f32],
) {
    assert_eq!(ConvShape { n: 0, h: 0, w: 0, ..*shape }, packed.layer, "packed for another layer");
    check_len("x", x.len(), shape.x_len());
    check_len("y", y.len(), shape.y_len());
    if let Some(residual) = residual {
        check_len("residual", residual.len(), shape.y_len());
    }
    forward_packed_by(
        Algorithm::current(),
        shape,
        x,
        packed,
        Finish { bias: packed.bias.as_deref(), residual, end: end.into() },
        y,
    );
}

fn forward_packed_by(
    algorithm: Algorithm,
    shape: &ConvShape,
    x: &[f32],
    packed: &PackedConv,
    finish: Finish,
    y: &mut [f32],
) {
    let (level, panels) = (packed.level, packed.weight.as_slice());
    if level == Level::Scalar {
        scalar::forward(shape, x, panels, finish.bias, finish.residual, finish.end.act(), y);
        return finish.end.finish(level, y);
    }
    if let Some(layer) = algorithm.winograd(shape) {
        return choose::packed(&layer, x, packed, finish, y);
    }
    let panels = if packed.paired { Panels::Paired(panels) } else { Panels::Plain(panels) };
    match (algorithm.product(level, shape).filter(Product::has_pairs), panels) {
        (Some(product), Panels::Paired(parts)) => strassen::run(level, &product, x, parts, finish, y),
        _ => {
            let joined = groups::join(level, shape);
            forward_panels(level, joined.as_ref().unwrap_or(shape), x, panels, finish, y);
        }
    }
}

/// Computes `y = conv(x) + bias` with weights in `OIHW`, packing them on the way.
///
/// Panics if a length does not fit `shape`.
pub fn forward(shape: &ConvShape, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    forward_act(Level::current(), shape, x, w, bias, Act::None, y);
}

/// Computes `y = act(conv(x) + bias)` at a level, as [`forward`] does.
pub(crate) fn forward_act(
    level: Level,
    shape: &ConvShape,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    act: Act,
    y: &mut [f32],
) {
    forward_to(level, shape, x, w, Finish { bias, residual: None, end: act.into() }, y);
}

/// Computes `y = end(conv(x) + bias + residual)` at a level, as [`forward`] does.
pub(crate) fn forward_to(
    level: Level,
    shape: &ConvShape,
    x: &[f32],
    w: &[f32],
    finish: Finish,
    y: &mut [f32],
) {
    forward_at(level, Algorithm::current(), shape, x, w, finish, y);
}

fn forward_at(
    level: Level,
    algorithm: Algorithm,
    shape: &ConvShape,
    x: &[f32],
    w: &[f32],
    finish: Finish,
    y: &mut [f32],
) {
    shape.check();
    check_len("x", x.len(), shape.x_len());
    check_len("weight", w.len(), shape.w_len());
    check_len("y", y.len(), shape.y_len());
    if let Some(bias) = finish.bias {
        check_len("bias", bias.len(), shape.c_out);
    }
    if let Some(residual) = finish.residual {
        check_len("residual", residual.len(), shape.y_len());
    }
    if level == Level::Scalar {
        scalar::forward(shape, x, w, finish.bias, finish.residual, finish.end.act(), y);
        return finish.end.finish(level, y);
    }
    if let Some(layer) = algorithm.winograd(shape) {
        return choose::forward(level, &layer, shape, x, w, finish, y);
    }
    if let Some(product) = algorithm.product_once(level, shape) {
        return choose::product(level, &product, x, w, finish, y);
    }
    with_joined(level, shape, w, |shape, w| {
        scratch::with(forward_panels_len(level, shape), |panels| {
            pack_forward(level, shape, w, panels);
            forward_panels(level, shape, x, Panels::Plain(panels), finish, y);
        });
    });
}

/// Computes the gradient of the input, `dx`, from that of the output.
///
/// Panics if a length does not fit `shape`.
pub fn backward_data(shape: &ConvShape, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    backward_data_level(Level::current(), shape, dy, w, dx);
}

/// Computes [`backward_data`] at a level.
pub(crate) fn backward_data_level(level: Level, shape: &ConvShape, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    backward_data_at(level, Algorithm::current(), shape, dy, w, dx);
}

fn backward_data_at(
    level: Level,
    algorithm: Algorithm,
    shape: &ConvShape,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
) {
    shape.check();
    check_len("dy", dy.len(), shape.y_len());
    check_len("weight", w.len(), shape.w_len());
    check_len("dx", dx.len(), shape.x_len());
    if level == Level::Scalar {
        return scalar::backward_data(shape, dy, w, dx);
    }
    if let Some(layer) = algorithm.winograd_back(shape) {
        return choose::backward_data(level, &layer, shape, dy, w, dx);
    }
    if let Some(product) = algorithm.product_back(level, shape) {
        return choose::product_back(level, &product, dy, w, dx);
    }
    with_joined(level, shape, w, |shape, w| backward_phases(level, shape, dy, w, dx));
}

/// Computes the gradient of the weight, `dw` in `OIHW`.
///
/// Panics if a length does not fit `shape`.
pub fn backward_weight(shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    backward_weight_at(Level::current(), shape, x, dy, dw);
}

/// Computes [`backward_weight`] at a level.
pub(crate) fn backward_weight_at(level: Level, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    backward_weight_by(level, Algorithm::current(), shape, x, dy, dw, None);
}

/// Computes [`backward_weight`] and, where it is given, the gradient of the bias, `db`: the sums of the channels of `dy`.
pub fn backward_weight_and_bias(
    shape: &ConvShape,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) {
    backward_weight_by(Level::current(), Algorithm::current(), shape, x, dy, dw, db);
}

fn backward_weight_by(
    level: Level,
    algorithm: Algorithm,
    shape: &ConvShape,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) {
    shape.check();
    check_len("x", x.len(), shape.x_len());
    check_len("dy", dy.len(), shape.y_len());
    check_len("dw", dw.len(), shape.w_len());
    if let Some(db) = &db {
        check_len("db", db.len(), shape.c_out);
    }
    if let Some(gradient) = algorithm.gradient(level, shape) {
        return gradient.run(level, x, dy, dw, db);
    }
    if let Some(db) = db {
        norm::channel_sums_at(level, dy, db);
    }
    if level == Level::Scalar {
        return scalar::backward_weight(shape, x, dy, dw);
    }
    if let Some(layer) = algorithm.winograd(shape).filter(Layer::pays_for_weights) {
        return winograd_weight::run(level, &layer, shape, x, dy, dw);
    }
    let each_group = |shape: &ConvShape, dw: &mut [f32]| {
        (0..shape.groups).for_each(|group| weight::run(level, shape, group, x, dy, dw));
    };
    match groups::join(level, shape) {
        None => each_group(shape, dw),
        Some(wide) => scratch::with(wide.w_len(), |sums| {
            each_group(&wide, sums);
            groups::gather(shape, &wide, sums, dw);
        }),
    }
}

fn check_len(what: &str, len: usize, expected: usize) {
    assert_eq!(len, expected, "{what} has {len} floats, its shape has {expected}");
}
