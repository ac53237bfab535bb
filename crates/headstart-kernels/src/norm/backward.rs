//! Gradients, with statistics of the batch or constant ones: a pass for the sums over rows, a pass for the input.

use super::bodies::{add_grads, add_grads_x, combine, combine_x, mask, scale_grads, scale_grads_x};
use super::{Norm, NormGrads};
use crate::simd::{Bounds, at};
use crate::threads::{SharedMut, parallel_for};
use crate::{Act, Element, Level};

/// What the statistics depend on.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Stats {
    OfBatch,
    Constant,
}

#[allow(clippy::too_many_arguments)] // the two public entries and the level of the tests
pub(super) fn backward_at<T: Element>(
    level: Level,
    stats: Stats,
    norm: &Norm,
    act: Act,
    x: &[T],
    y: Option<&[T]>,
    dy: &[T],
    mut grads: NormGrads<T>,
) {
    let plan = norm.plan(dy.len());
    let c = plan.c;
    let len = dy.len();
    let mask_from_x = act != Act::None && y.is_none();
    assert!(!(mask_from_x && grads.dresidual.is_some()), "with a residual the mask needs `y`");
    let wants_sums =
        grads.dgamma.is_some() || grads.dbeta.is_some() || (stats == Stats::OfBatch && grads.dx.is_some());
    let reads_x = mask_from_x || grads.dgamma.is_some() || (stats == Stats::OfBatch && grads.dx.is_some());
    assert!(x.len() == len || (x.is_empty() && !reads_x), "input and gradient differ in length");
    assert!(y.is_none_or(|y| y.len() == len), "output and gradient differ in length");
    for grad in [&grads.dx, &grads.dresidual].into_iter().flatten() {
        assert_eq!(grad.len(), len, "a gradient of an input has the wrong length");
    }
    for grad in [&grads.dgamma, &grads.dbeta].into_iter().flatten() {
        assert_eq!(grad.len(), c, "a gradient of a parameter has the wrong length");
    }

    let [mean, scale, shift] = norm.constants(&plan);
    let bounds = Bounds::of(act);
    // Any slice of the right length stands in for an operand that is not read or not used: `dy`
    // is in cache anyway.
    let masks = y.filter(|_| act != Act::None).unwrap_or(dy);
    let x = if reads_x { x } else { dy };

    // First pass: the masked gradient where the residual wants it, and the two sums.
    let dresidual = grads.dresidual.as_deref_mut().map(SharedMut::new);
    let sums = (wants_sums || dresidual.is_some()).then(|| {
        plan.sums(|from, len, [sum, sum_x]| {
            let (x, mut out, mut dy) = (&x[from..][..len], &masks[from..][..len], &dy[from..][..len]);
            let mut bounds = bounds;
            if let Some(dresidual) = &dresidual {
                // SAFETY: chunks are disjoint and each index runs once.
                let masked = unsafe { dresidual.part(from, len) };
                at(
                    level,
                    #[inline(always)]
                    |_| mask(bounds, out, dy, masked),
                );
                let masked = &*masked;
                (out, dy, bounds) = (masked, masked, Bounds::of(Act::None));
            }
            if wants_sums {
                let mut columns = vec![0.0; 2 * plan.wide];
                let (first, second) = columns.split_at_mut(plan.wide);
                if mask_from_x {
                    at(
                        level,
                        #[inline(always)]
                        |fma| add_grads_x(fma, bounds, x, dy, [&mean, &scale, &shift], first, second),
                    );
                } else {
                    at(
                        level,
                        #[inline(always)]
                        |fma| add_grads(fma, bounds, x, out, dy, &mean, first, second),
                    );
                }
                plan.fold(first, sum);
                plan.fold(second, sum_x);
            }
        })
    });
    let sums = sums.unwrap_or_else(|| vec![0.0; 2 * c]);
    let (sum, sum_x) = sums.split_at(c);
    let inv_std: Vec<f64> = norm.inv_std().collect();
    if let Some(dbeta) = grads.dbeta {
        dbeta.iter_mut().zip(sum).for_each(|(d, s)| *d = *s as f32);
    }
    if let Some(dgamma) = grads.dgamma {
        for k in 0..c {
            dgamma[k] = (sum_x[k] * inv_std[k]) as f32;
        }
    }

    // Second pass: dx = g * scale + (x - mean) * slope + offset, with the last two zero for
    // constant statistics.
    let Some(dx) = grads.dx else { return };
    let dx = SharedMut::new(dx);
    let (masks, dy, bounds) = match grads.dresidual.as_deref() {
        Some(masked) => (masked, masked, Bounds::of(Act::None)),
        None => (masks, dy, bounds),
    };
    let rows = (len / c) as f64;
    let factor = |k: usize| f64::from(norm.gamma[k]) * inv_std[k] / rows;
    let slope = plan.widen((0..c).map(|k| (-factor(k) * sum_x[k] * inv_std[k] * inv_std[k]) as f32));
    let offset = plan.widen((0..c).map(|k| (-factor(k) * sum[k]) as f32));
    parallel_for(plan.chunks(), |index| {
        let (from, len) = plan.part(index);
        let (x, out, dy) = (&x[from..][..len], &masks[from..][..len], &dy[from..][..len]);
        // SAFETY: chunks are disjoint and each index runs once.
        let dx = unsafe { dx.part(from, len) };
        match (stats, mask_from_x) {
            (Stats::Constant, false) => at(
                level,
                #[inline(always)]
                |_| scale_grads(bounds, out, dy, &scale, dx),
            ),
            (Stats::Constant, true) => at(
                level,
                #[inline(always)]
                |fma| scale_grads_x(fma, bounds, x, dy, [&mean, &scale, &shift], dx),
            ),
            (Stats::OfBatch, false) => at(
                level,
                #[inline(always)]
                |fma| combine(fma, bounds, x, out, dy, [&scale, &mean, &slope, &offset], dx),
            ),
            (Stats::OfBatch, true) => at(
                level,
                #[inline(always)]
                |fma| combine_x(fma, bounds, x, dy, [&mean, &scale, &shift, &slope, &offset], dx),
            ),
        }
    });
}
