//! Which layers Winograd and Strassen compute, and where their weights come from: packed once, or at each use.

use std::sync::OnceLock;

use super::direct::Finish;
use super::micro::Blocking;
use super::pack::{self, Source};
use super::strassen::{self, Gradient, Product};
use super::transform::Stored;
use super::winograd::{self, Layer, Weights};
use super::{Act, ConvShape, PackedConv, pack_forward};
use crate::scratch::{self, Aligned};
use crate::{End, Level};

/// How dense layers are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Winograd or Strassen where they pay, else direct.
    Best,
    /// Always plain sums, which are more accurate: `HEADSTART_CONV=direct`.
    Direct,
}

impl Algorithm {
    pub(super) fn current() -> Self {
        static CURRENT: OnceLock<Algorithm> = OnceLock::new();
        *CURRENT.get_or_init(|| match std::env::var("HEADSTART_CONV").as_deref() {
            Ok("direct") => Algorithm::Direct,
            _ => Algorithm::Best,
        })
    }

    /// The layer as Winograd sees it, if that is how to compute it: 3x3 with stride 1, one group, enough channels.
    pub(super) fn winograd(self, s: &ConvShape) -> Option<Layer> {
        let layer = Layer {
            n: s.n,
            input: [s.h, s.w, s.c_in],
            output: [s.out_h(), s.out_w(), s.c_out],
            origin: [-(s.pad[0] as isize), -(s.pad[2] as isize)],
        };
        (self.may_transform(s) && layer.pays()).then_some(layer)
    }

    /// The same for the gradient of its input, which is such a layer with the taps reversed.
    pub(super) fn winograd_back(self, s: &ConvShape) -> Option<Layer> {
        let layer = Layer {
            n: s.n,
            input: [s.out_h(), s.out_w(), s.c_out],
            output: [s.h, s.w, s.c_in],
            origin: [s.pad[0] as isize - 2, s.pad[2] as isize - 2],
        };
        (self.may_transform(s) && layer.pays()).then_some(layer)
    }

    /// The layer as a product that Strassen computes if its rows make pairs: packed weights lie in pairs for it.
    pub(super) fn product(self, level: Level, s: &ConvShape) -> Option<Product> {
        Product::of(level, s).filter(|_| self == Algorithm::Best)
    }

    /// The same with weights that are packed for this one use, which takes so many rows.
    pub(super) fn product_once(self, level: Level, s: &ConvShape) -> Option<Product> {
        self.product(level, s).filter(Product::pays_once)
    }

    /// The same for the gradient of its input.
    pub(super) fn product_back(self, level: Level, s: &ConvShape) -> Option<Product> {
        Product::back(level, s).filter(|p| self == Algorithm::Best && p.pays_once())
    }

    /// The same for the gradient of its weights.
    pub(super) fn gradient(self, level: Level, s: &ConvShape) -> Option<Gradient> {
        Gradient::of(level, s).filter(|_| self == Algorithm::Best)
    }

    fn may_transform(self, s: &ConvShape) -> bool {
        self == Algorithm::Best && [s.kh, s.kw] == [3, 3] && s.stride == [1, 1] && s.groups == 1
    }
}

/// Computes a layer with weights packed before, transformed at their first use.
pub(super) fn packed<T: Stored>(layer: &Layer, x: &[T], packed: &PackedConv, finish: Finish<T>, y: &mut [T]) {
    let (level, panels) = (packed.level, packed.weight.as_slice());
    if !layer.alone(level) {
        return winograd::run(level, layer, x, Weights::Panels(panels), finish, y);
    }
    let (c_in, c_out) = (layer.input[2], layer.output[2]);
    let u = packed.transformed.get_or_init(|| {
        let mut u = Aligned::zeroed(winograd::u_len(level, c_in, c_out));
        winograd::transform_weight(level, c_in, c_out, panels, u.as_mut_slice());
        u
    });
    winograd::run(level, layer, x, Weights::Transformed(u.as_slice()), finish, y);
}

/// Computes a layer with weights `w` in `OIHW`.
pub(super) fn forward<T: Stored>(
    level: Level,
    layer: &Layer,
    shape: &ConvShape,
    x: &[T],
    w: &[f32],
    finish: Finish<T>,
    y: &mut [T],
) {
    scratch::with(super::forward_panels_len(level, shape), |panels| {
        pack_forward(level, shape, w, panels);
        with_panels(level, layer, x, panels, finish, y);
    });
}

/// Computes the gradient of a layer's input, with [`Algorithm::winograd_back`].
pub(super) fn backward_data<T: Stored>(
    level: Level,
    layer: &Layer,
    shape: &ConvShape,
    dy: &[T],
    w: &[f32],
    dx: &mut [T],
) {
    let (c_in, c_out) = (shape.c_out, shape.c_in);
    let source = Source { w, from: 0, col: 9, depth: 9 * shape.c_in, taps: &[8, 7, 6, 5, 4, 3, 2, 1, 0] };
    scratch::with(Blocking::of(level).panels_len(c_out, 9 * c_in), |panels| {
        pack::pack(level, &source, c_out, c_in, panels);
        with_panels(level, layer, dy, panels, Finish::NOTHING, dx);
    });
}

/// Computes the layer from packed weights that are used once.
fn with_panels<T: Stored>(
    level: Level,
    layer: &Layer,
    x: &[T],
    panels: &[f32],
    finish: Finish<T>,
    y: &mut [T],
) {
    if !layer.alone(level) {
        return winograd::run(level, layer, x, Weights::Panels(panels), finish, y);
    }
    let (c_in, c_out) = (layer.input[2], layer.output[2]);
    scratch::with(winograd::u_len(level, c_in, c_out), |u| {
        winograd::transform_weight(level, c_in, c_out, panels, u);
        winograd::run(level, layer, x, Weights::Transformed(u), finish, y);
    });
}

/// Where the weights of a linear layer `[outputs, inputs]` lie for its forward pass.
pub(super) fn weights_of<'a>(product: &Product, w: &'a [f32]) -> Source<'a> {
    Source { w, from: 0, col: product.depth, depth: 1, taps: &[0] }
}

/// Computes a linear layer with weights `w`, with [`Algorithm::product_once`].
pub(super) fn product(level: Level, p: &Product, x: &[f32], w: &[f32], finish: Finish, y: &mut [f32]) {
    packed_once(level, p, x, &weights_of(p, w), finish, y);
}

/// Computes the gradient of a layer's input, with [`Algorithm::product_back`].
pub(super) fn product_back(level: Level, back: &Product, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    let weights = Source { w, from: 0, col: 1, depth: back.cols, taps: &[0] };
    packed_once(level, back, dy, &weights, Finish::NOTHING, dx);
}

fn packed_once(level: Level, p: &Product, x: &[f32], weights: &Source, finish: Finish, y: &mut [f32]) {
    scratch::with(p.packed_len(), |packed| {
        strassen::pack(level, p, weights, packed);
        strassen::run(level, p, x, packed, finish, y);
    });
}

/// The layers on bf16 maps that are computed in f32: with products saved, that is faster than pairs of bf16.
pub(crate) mod half {
    use super::*;

    /// The layer, if its weights are packed once and [`packed`] is the best way: for 16 images, as a few more or fewer must
    /// not change the bits of any.
    pub(crate) fn of_packed(shape: &ConvShape) -> Option<Layer> {
        let usual = Algorithm::current().winograd(&ConvShape { n: 16, ..*shape })?;
        usual.beats_pairs(false).then_some(Layer { n: shape.n, ..usual })
    }

    /// The layer, if [`forward`] is the best way.
    pub(crate) fn of_forward(shape: &ConvShape) -> Option<Layer> {
        Algorithm::current().winograd(shape).filter(|layer| layer.beats_pairs(true))
    }

    /// The layer, if [`backward_data`] is the best way.
    pub(crate) fn of_backward(shape: &ConvShape) -> Option<Layer> {
        Algorithm::current().winograd_back(shape).filter(|layer| layer.beats_pairs(true))
    }

    /// Computes `y = act(conv(x) + bias + residual)`.
    ///
    /// Panics if the CPU has no bf16 products, or a length does not fit.
    pub(crate) fn packed(
        layer: &Layer,
        x: &[u16],
        packed: &PackedConv,
        residual: Option<&[u16]>,
        act: Act,
        y: &mut [u16],
    ) {
        let finish = Finish { bias: packed.bias.as_deref(), residual, end: End::Clamp(act) };
        super::packed(layer, x, packed, finish, y);
    }

    /// Computes `y = act(conv(x) + bias)`; panics as [`packed`] does.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn forward(
        level: Level,
        layer: &Layer,
        shape: &ConvShape,
        x: &[u16],
        w: &[f32],
        bias: Option<&[f32]>,
        act: Act,
        y: &mut [u16],
    ) {
        super::forward(level, layer, shape, x, w, Finish { bias, residual: None, end: End::Clamp(act) }, y);
    }

    /// Computes the gradient of the input; panics as [`packed`] does.
    pub(crate) fn backward_data(
        level: Level,
        layer: &Layer,
        shape: &ConvShape,
        dy: &[u16],
        w: &[f32],
        dx: &mut [u16],
    ) {
        super::backward_data(level, layer, shape, dy, w, dx);
    }
}
