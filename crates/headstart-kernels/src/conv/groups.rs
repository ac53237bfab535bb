//! Groups narrower than a vector, put together so that a few of them fill one.
//!
//! A layer of four channels a group (the first stage of a ResNeXt) would leave most lanes of a vector empty. Four such
//! groups count as one of sixteen channels whose weights between different groups are zero: more products, but all of
//! them fast. An infinite or NaN input reaches the neighbours that were put together with its group.

use super::ConvShape;
use super::micro::Blocking;
use crate::Level;
use crate::scratch;

/// The same layer with fewer and wider groups, if some can be put together.
pub(super) fn join(level: Level, s: &ConvShape) -> Option<ConvShape> {
    if level == Level::Scalar || s.groups == 1 {
        return None;
    }
    let widest = s.group_in().max(s.group_out()).max(1);
    let most = Blocking::of(level).nr / 2 / widest;
    let together = (2..=most).rev().find(|m| s.groups.is_multiple_of(*m))?;
    Some(ConvShape { groups: s.groups / together, ..*s })
}

/// Pieces that both forms of the weights have: for each output channel, offset in `s`' form and in `wide`'s, of equal length.
fn pieces(s: &ConvShape, wide: &ConvShape) -> impl Iterator<Item = (usize, usize, usize)> {
    let taps = s.kh * s.kw;
    let (len, wide_len) = (s.group_in() * taps, wide.group_in() * taps);
    let (outputs, together) = (s.group_out(), s.groups / wide.groups);
    (0..s.c_out).map(move |o| (o * len, o * wide_len + o / outputs % together * len, len))
}

/// Calls `f` with the layer and its weights, narrow groups put together.
pub(super) fn with_joined<R>(
    level: Level,
    s: &ConvShape,
    w: &[f32],
    f: impl FnOnce(&ConvShape, &[f32]) -> R,
) -> R {
    match join(level, s) {
        None => f(s, w),
        Some(wide) => scratch::with(wide.w_len(), |weights| {
            spread(s, &wide, w, weights);
            f(&wide, weights)
        }),
    }
}

/// Writes the weights of `s` as those of `wide`.
pub(super) fn spread(s: &ConvShape, wide: &ConvShape, w: &[f32], to: &mut [f32]) {
    to.fill(0.0);
    for (from, at, len) in pieces(s, wide) {
        to[at..at + len].copy_from_slice(&w[from..from + len]);
    }
}

/// Takes the weights of `s` out of those of `wide`.
pub(super) fn gather(s: &ConvShape, wide: &ConvShape, w: &[f32], to: &mut [f32]) {
    for (at, from, len) in pieces(s, wide) {
        to[at..at + len].copy_from_slice(&w[from..from + len]);
    }
}
