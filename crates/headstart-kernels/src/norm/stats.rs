//! Mean and variance of each channel, and sums of channels.

use super::plan::Plan;
use crate::simd::{at, mul_add};
use crate::{Element, Level};

pub(super) fn batch_stats_at<T: Element>(level: Level, x: &[T], mean: &mut [f32], var: &mut [f32]) {
    let c = mean.len();
    assert_eq!(var.len(), c, "mean and variance differ in length");
    let plan = Plan::new(x.len(), c);
    assert!(!x.is_empty(), "no rows to take statistics of");

    // Per chunk: mean, and sum of squared deviations from it.
    let partials = plan.partials(|from, len, [chunk_mean, chunk_m2]| {
        let x = &x[from..][..len];
        let rows = (len / c) as f64;
        let mut columns = vec![0.0; 2 * plan.wide];
        let (first, second) = columns.split_at_mut(plan.wide);
        at(
            level,
            #[inline(always)]
            |_| add_rows(x, first),
        );
        plan.fold(first, chunk_mean);
        let center = plan.widen(chunk_mean.iter().map(|sum| (sum / rows) as f32));
        first.fill(0.0);
        at(
            level,
            #[inline(always)]
            |fma| add_deviations(fma, x, &center, first, second),
        );
        plan.fold(first, chunk_mean);
        plan.fold(second, chunk_m2);
        for ((mean, m2), center) in chunk_mean.iter_mut().zip(chunk_m2).zip(&center) {
            *m2 = (*m2 - *mean * *mean / rows).max(0.0);
            *mean = f64::from(*center) + *mean / rows;
        }
    });

    // Chan, Golub and LeVeque's merge, in chunk order.
    let (mut count, mut means, mut m2s) = (0.0, vec![0.0; c], vec![0.0; c]);
    for (index, part) in partials.chunks_exact(2 * c).enumerate() {
        let rows = (plan.part(index).1 / c) as f64;
        let total = count + rows;
        let (part_means, part_m2s) = part.split_at(c);
        for k in 0..c {
            let delta = part_means[k] - means[k];
            means[k] += delta * (rows / total);
            m2s[k] += part_m2s[k] + delta * delta * (count * rows / total);
        }
        count = total;
    }
    for k in 0..c {
        mean[k] = means[k] as f32;
        var[k] = (m2s[k] / count) as f32;
    }
}

pub(crate) fn channel_sums_at<T: Element>(level: Level, x: &[T], sums: &mut [f32]) {
    let plan = Plan::new(x.len(), sums.len());
    let totals = plan.sums(|from, len, [total, _]| {
        let mut columns = vec![0.0; plan.wide];
        at(
            level,
            #[inline(always)]
            |_| add_rows(&x[from..][..len], &mut columns),
        );
        plan.fold(&columns, total);
    });
    sums.iter_mut().zip(totals).for_each(|(s, t)| *s = t as f32);
}

// The bodies walk wide rows; a shorter last row ends the zips early.

/// Adds the wide rows of `x` to `sums`, four at a time.
#[inline(always)]
fn add_rows<T: Element>(x: &[T], sums: &mut [f32]) {
    let wide = sums.len();
    let quads = x.chunks_exact(4 * wide);
    let rest = quads.remainder();
    for quad in quads {
        let (a, rest) = quad.split_at(wide);
        let (b, rest) = rest.split_at(wide);
        let (c, d) = rest.split_at(wide);
        for ((((s, a), b), c), d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *s += (a.get() + b.get()) + (c.get() + d.get());
        }
    }
    for row in rest.chunks(wide) {
        sums.iter_mut().zip(row).for_each(|(s, v)| *s += v.get());
    }
}

/// Adds `x - center` and its square to the column sums, two wide rows at a time.
#[inline(always)]
fn add_deviations<T: Element>(fma: bool, x: &[T], center: &[f32], first: &mut [f32], second: &mut [f32]) {
    let wide = center.len();
    let pairs = x.chunks_exact(2 * wide);
    let rest = pairs.remainder();
    for pair in pairs {
        let (a, b) = pair.split_at(wide);
        for ((((s, q), m), a), b) in first.iter_mut().zip(&mut *second).zip(center).zip(a).zip(b) {
            let (a, b) = (a.get() - *m, b.get() - *m);
            *s += a + b;
            *q = mul_add(fma, a, a, mul_add(fma, b, b, *q));
        }
    }
    for row in rest.chunks(wide) {
        for (((s, q), m), x) in first.iter_mut().zip(&mut *second).zip(center).zip(row) {
            let d = x.get() - *m;
            *s += d;
            *q = mul_add(fma, d, d, *q);
        }
    }
}
