//! The loops of the backward passes. Each walks wide rows; a shorter last row ends the zips early.

use crate::Element;
use crate::simd::{Bounds, mul_add};

#[inline(always)]
pub(super) fn mask<T: Element>(bounds: Bounds, out: &[T], dy: &[T], masked: &mut [T]) {
    for ((m, o), d) in masked.iter_mut().zip(out).zip(dy) {
        *m = T::put(bounds.mask(o.get(), d.get()));
    }
}

/// Adds the masked gradient `g` and `g * (x - mean)` to the column sums.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // slices by name: a struct would lose their non-aliasing
pub(super) fn add_grads<T: Element>(
    fma: bool,
    bounds: Bounds,
    x: &[T],
    out: &[T],
    dy: &[T],
    mean: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let wide = mean.len();
    for ((x, out), dy) in x.chunks(wide).zip(out.chunks(wide)).zip(dy.chunks(wide)) {
        let sums = first.iter_mut().zip(&mut *second);
        for (((((s, q), x), o), d), m) in sums.zip(x).zip(out).zip(dy).zip(mean) {
            let g = bounds.mask(o.get(), d.get());
            *s += g;
            *q = mul_add(fma, g, x.get() - *m, *q);
        }
    }
}

/// As [`add_grads`], with the mask recomputed as `forward` computed it.
#[inline(always)]
pub(super) fn add_grads_x<T: Element>(
    fma: bool,
    bounds: Bounds,
    x: &[T],
    dy: &[T],
    [mean, scale, shift]: [&[f32]; 3],
    first: &mut [f32],
    second: &mut [f32],
) {
    let wide = mean.len();
    for (x, dy) in x.chunks(wide).zip(dy.chunks(wide)) {
        let sums = first.iter_mut().zip(&mut *second);
        let constants = mean.iter().zip(scale).zip(shift);
        for ((((s, q), x), d), ((m, a), b)) in sums.zip(x).zip(dy).zip(constants) {
            let g = bounds.mask(mul_add(fma, x.get() - *m, *a, *b), d.get());
            *s += g;
            *q = mul_add(fma, g, x.get() - *m, *q);
        }
    }
}

#[inline(always)]
pub(super) fn scale_grads<T: Element>(bounds: Bounds, out: &[T], dy: &[T], scale: &[f32], dx: &mut [T]) {
    let wide = scale.len();
    for ((dx, out), dy) in dx.chunks_mut(wide).zip(out.chunks(wide)).zip(dy.chunks(wide)) {
        for (((r, o), d), a) in dx.iter_mut().zip(out).zip(dy).zip(scale) {
            *r = T::put(bounds.mask(o.get(), d.get()) * *a);
        }
    }
}

#[inline(always)]
pub(super) fn scale_grads_x<T: Element>(
    fma: bool,
    bounds: Bounds,
    x: &[T],
    dy: &[T],
    [mean, scale, shift]: [&[f32]; 3],
    dx: &mut [T],
) {
    let wide = scale.len();
    for ((dx, x), dy) in dx.chunks_mut(wide).zip(x.chunks(wide)).zip(dy.chunks(wide)) {
        let constants = mean.iter().zip(scale).zip(shift);
        for (((r, x), d), ((m, a), b)) in dx.iter_mut().zip(x).zip(dy).zip(constants) {
            *r = T::put(bounds.mask(mul_add(fma, x.get() - *m, *a, *b), d.get()) * *a);
        }
    }
}

#[inline(always)]
pub(super) fn combine<T: Element>(
    fma: bool,
    bounds: Bounds,
    x: &[T],
    out: &[T],
    dy: &[T],
    [scale, mean, slope, offset]: [&[f32]; 4],
    dx: &mut [T],
) {
    let wide = scale.len();
    let rows = dx.chunks_mut(wide).zip(x.chunks(wide)).zip(out.chunks(wide)).zip(dy.chunks(wide));
    for (((dx, x), out), dy) in rows {
        let constants = scale.iter().zip(mean).zip(slope).zip(offset);
        for ((((r, x), o), d), (((a, m), s), k)) in dx.iter_mut().zip(x).zip(out).zip(dy).zip(constants) {
            *r = T::put(mul_add(fma, bounds.mask(o.get(), d.get()), *a, mul_add(fma, x.get() - *m, *s, *k)));
        }
    }
}

#[inline(always)]
pub(super) fn combine_x<T: Element>(
    fma: bool,
    bounds: Bounds,
    x: &[T],
    dy: &[T],
    [mean, scale, shift, slope, offset]: [&[f32]; 5],
    dx: &mut [T],
) {
    let wide = scale.len();
    for ((dx, x), dy) in dx.chunks_mut(wide).zip(x.chunks(wide)).zip(dy.chunks(wide)) {
        let constants = mean.iter().zip(scale).zip(shift).zip(slope).zip(offset);
        for (((r, x), d), ((((m, a), b), s), k)) in dx.iter_mut().zip(x).zip(dy).zip(constants) {
            let g = bounds.mask(mul_add(fma, x.get() - *m, *a, *b), d.get());
            *r = T::put(mul_add(fma, g, *a, mul_add(fma, x.get() - *m, *s, *k)));
        }
    }
}
