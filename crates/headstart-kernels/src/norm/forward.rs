//! The norm with residual and activation.

use super::Norm;
use crate::simd::{Bounds, at, mul_add};
use crate::threads::{SharedMut, parallel_for};
use crate::{Act, Element, Level};

pub(super) fn forward_at<T: Element>(
    level: Level,
    norm: &Norm,
    x: &[T],
    residual: Option<&[T]>,
    act: Act,
    y: &mut [T],
) {
    let plan = norm.plan(x.len());
    assert_eq!(y.len(), x.len(), "output and input differ in length");
    assert!(residual.is_none_or(|r| r.len() == x.len()), "residual and input differ in length");
    let bounds = Bounds::of(act);
    let [mean, scale, shift] = norm.constants(&plan);
    let y = SharedMut::new(y);
    parallel_for(plan.chunks(), |index| {
        let (from, len) = plan.part(index);
        let x = &x[from..][..len];
        // SAFETY: chunks are disjoint and each index runs once.
        let y = unsafe { y.part(from, len) };
        match residual {
            None => at(
                level,
                #[inline(always)]
                |fma| apply(fma, bounds, x, [&mean, &scale, &shift], y),
            ),
            Some(r) => at(
                level,
                #[inline(always)]
                |fma| apply_add(fma, bounds, x, &r[from..][..len], [&mean, &scale, &shift], y),
            ),
        }
    });
}

// The bodies walk wide rows; a shorter last row ends the zips early.

#[inline(always)]
fn apply<T: Element>(fma: bool, bounds: Bounds, x: &[T], [mean, scale, shift]: [&[f32]; 3], y: &mut [T]) {
    let wide = scale.len();
    for (y, x) in y.chunks_mut(wide).zip(x.chunks(wide)) {
        for ((y, x), ((m, a), b)) in y.iter_mut().zip(x).zip(mean.iter().zip(scale).zip(shift)) {
            *y = T::put(bounds.clamp(mul_add(fma, x.get() - *m, *a, *b)));
        }
    }
}

#[inline(always)]
fn apply_add<T: Element>(
    fma: bool,
    bounds: Bounds,
    x: &[T],
    residual: &[T],
    [mean, scale, shift]: [&[f32]; 3],
    y: &mut [T],
) {
    let wide = scale.len();
    for ((y, x), r) in y.chunks_mut(wide).zip(x.chunks(wide)).zip(residual.chunks(wide)) {
        let constants = mean.iter().zip(scale).zip(shift);
        for (((y, x), r), ((m, a), b)) in y.iter_mut().zip(x).zip(r).zip(constants) {
            *y = T::put(bounds.clamp(mul_add(fma, x.get() - *m, *a, *b) + r.get()));
        }
    }
}
