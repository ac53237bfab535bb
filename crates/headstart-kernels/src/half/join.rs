//! Residual joins of bf16 maps.

use super::bf16::{round, widen};
use super::check_len;
use crate::simd::{Bounds, CONVERTED, at, chunk, chunks};
use crate::threads::{SharedMut, parallel_for};
use crate::{Act, Level};

/// Replaces `x` by `act(x + other)`: a residual join in place.
///
/// Panics if the lengths differ.
pub fn add_act(act: Act, x: &mut [u16], other: &[u16]) {
    add_act_at(Level::current(), act, x, other);
}

pub(super) fn add_act_at(level: Level, act: Act, x: &mut [u16], other: &[u16]) {
    check_len("other", other.len(), x.len());
    let (len, bounds) = (x.len(), Bounds::of(act));
    let x = SharedMut::new(x);
    parallel_for(chunks(len, CONVERTED), |index| {
        let (from, len) = chunk(len, CONVERTED, index);
        // SAFETY: chunks are disjoint and each index runs once.
        let x = unsafe { x.part(from, len) };
        at(
            level,
            #[inline(always)]
            |_| {
                for (x, other) in x.iter_mut().zip(&other[from..][..len]) {
                    *x = round(bounds.clamp(widen(*x) + widen(*other)));
                }
            },
        );
    });
}
