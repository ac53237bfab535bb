//! BatchNorm over NHWC rows in f32 or bf16, fused with a residual sum and an activation.
//!
//! Few channels make short inner loops, so `g` pixels are taken as one *wide row* of `g * c`
//! floats with the per-channel constants repeated `g` times. Reductions run over chunks of about
//! 128 KiB: f32 column sums inside a chunk (at most 128 terms), f64 from there on, merged in chunk
//! order. Chunks follow from the shape alone, so the bits do not depend on the threads.

use crate::simd::{Bounds, at, chunk, chunks, mul_add};
use crate::threads::{SharedMut, parallel_for};
use crate::{Act, Element, Level};

/// The statistics and the affine part of a BatchNorm, one value per channel.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Mean of the batch, or the running mean of a frozen layer.
    pub mean: &'a [f32],
    /// Biased variance of the batch, or the running variance of a frozen layer.
    pub var: &'a [f32],
    /// Scale.
    pub gamma: &'a [f32],
    /// Shift.
    pub beta: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
}

/// The gradients that a backward pass writes: only those asked for.
#[derive(Debug)]
pub struct NormGrads<'a, T> {
    /// Of the input, `[rows, c]`.
    pub dx: Option<&'a mut [T]>,
    /// Of the scale, `[c]`.
    pub dgamma: Option<&'a mut [f32]>,
    /// Of the shift, `[c]`.
    pub dbeta: Option<&'a mut [f32]>,
    /// Of the residual term, `[rows, c]`.
    pub dresidual: Option<&'a mut [T]>,
}

impl<T> Default for NormGrads<'_, T> {
    fn default() -> Self {
        Self { dx: None, dgamma: None, dbeta: None, dresidual: None }
    }
}

/// Computes mean and biased variance of each channel of `x`, `[rows, c]`; `c` is `mean.len()`.
///
/// Each chunk takes its mean first and deviations from it second, while it is in cache, so a large
/// common offset costs no digits. Panics if `x` has no rows.
pub fn batch_stats<T: Element>(x: &[T], mean: &mut [f32], var: &mut [f32]) {
    batch_stats_at(Level::current(), x, mean, var);
}

/// Computes `y = act((x - mean) / sqrt(var + eps) * gamma + beta + residual)`.
pub fn forward<T: Element>(norm: &Norm, x: &[T], residual: Option<&[T]>, act: Act, y: &mut [T]) {
    forward_at(Level::current(), norm, x, residual, act, y);
}

/// Differentiates [`forward`] through statistics that [`batch_stats`] took from the same `x`.
///
/// `y` is the output of the forward pass, read for the activation's mask. Without a residual it
/// may be `None`: the mask is then recomputed from `x`, which saves a third of the reading.
pub fn backward_train<T: Element>(
    norm: &Norm,
    act: Act,
    x: &[T],
    y: Option<&[T]>,
    dy: &[T],
    grads: NormGrads<T>,
) {
    backward_at(Level::current(), Stats::OfBatch, norm, act, x, y, dy, grads);
}

/// Differentiates [`forward`] with the statistics held constant.
///
/// `x` may be empty where nothing needs it: `y` is given (or there is no activation) and `dgamma`
/// is not asked for.
pub fn backward_frozen<T: Element>(
    norm: &Norm,
    act: Act,
    x: &[T],
    y: Option<&[T]>,
    dy: &[T],
    grads: NormGrads<T>,
) {
    backward_at(Level::current(), Stats::Constant, norm, act, x, y, dy, grads);
}

/// Sums each channel of `x`, `[rows, c]`, over the rows: the gradient of a bias.
pub fn channel_sums<T: Element>(x: &[T], sums: &mut [f32]) {
    channel_sums_at(Level::current(), x, sums);
}

#[derive(Clone, Copy, PartialEq)]
enum Stats {
    OfBatch,
    Constant,
}

/// How a `[rows, c]` tensor is cut: wide rows, and chunks of whole wide rows (the last of each
/// may be shorter, by whole rows).
#[derive(Clone, Copy)]
struct Plan {
    c: usize,
    /// Floats of a wide row, a multiple of `c`.
    wide: usize,
    /// Floats of a chunk, a multiple of `wide`.
    chunk: usize,
    len: usize,
}

impl Plan {
    fn new(len: usize, c: usize) -> Self {
        assert!(c > 0 && len.is_multiple_of(c), "{len} values do not make rows of {c} channels");
        let wide = 256_usize.div_ceil(c) * c;
        let chunk = (32 * 1024 / wide).max(1) * wide;
        Self { c, wide, chunk, len }
    }

    fn chunks(&self) -> usize {
        chunks(self.len, self.chunk)
    }

    fn part(&self, index: usize) -> (usize, usize) {
        chunk(self.len, self.chunk, index)
    }

    /// Repeats per-channel values over a wide row.
    fn widen(&self, values: impl Iterator<Item = f32> + Clone) -> Vec<f32> {
        values.cycle().take(self.wide).collect()
    }

    /// Folds the column sums of a wide row to channels.
    fn fold(&self, columns: &[f32], channels: &mut [f64]) {
        channels.fill(0.0);
        for row in columns.chunks_exact(self.c) {
            channels.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
        }
    }

    /// Runs `task(from, len, [a, b])` for each chunk, where the task leaves two sums per channel,
    /// and returns the sums in chunk order, `[chunks][2][c]`.
    fn partials(&self, task: impl Fn(usize, usize, [&mut [f64]; 2]) + Sync) -> Vec<f64> {
        let mut partials = vec![0.0; self.chunks() * 2 * self.c];
        let shared = SharedMut::new(&mut partials);
        parallel_for(self.chunks(), |index| {
            let (from, len) = self.part(index);
            // SAFETY: each task has its own 2c values.
            let (a, b) = unsafe { shared.part(index * 2 * self.c, 2 * self.c) }.split_at_mut(self.c);
            task(from, len, [a, b]);
        });
        partials
    }

    /// As [`Plan::partials`], added up over the chunks.
    fn sums(&self, task: impl Fn(usize, usize, [&mut [f64]; 2]) + Sync) -> Vec<f64> {
        let mut partials = self.partials(task);
        partials.resize(partials.len().max(2 * self.c), 0.0);
        let (sums, rest) = partials.split_at_mut(2 * self.c);
        for part in rest.chunks_exact(2 * self.c) {
            sums.iter_mut().zip(part).for_each(|(s, p)| *s += p);
        }
        partials.truncate(2 * self.c);
        partials
    }
}

fn batch_stats_at<T: Element>(level: Level, x: &[T], mean: &mut [f32], var: &mut [f32]) {
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

fn channel_sums_at<T: Element>(level: Level, x: &[T], sums: &mut [f32]) {
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

fn forward_at<T: Element>(level: Level, norm: &Norm, x: &[T], residual: Option<&[T]>, act: Act, y: &mut [T]) {
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

#[allow(clippy::too_many_arguments)] // the two public entries and the level of the tests
fn backward_at<T: Element>(
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

impl Norm<'_> {
    fn plan(&self, len: usize) -> Plan {
        let c = self.mean.len();
        assert!(
            self.var.len() == c && self.gamma.len() == c && self.beta.len() == c,
            "the parameters of a norm differ in length"
        );
        Plan::new(len, c)
    }

    fn inv_std(&self) -> impl Iterator<Item = f64> {
        self.var.iter().map(|v| 1.0 / (f64::from(*v) + f64::from(self.eps)).sqrt())
    }

    /// Returns mean, scale and shift over a wide row: the norm as `(x - mean) * scale + shift`.
    /// Folding the mean into the shift would cancel digits where it is far from zero.
    fn constants(&self, plan: &Plan) -> [Vec<f32>; 3] {
        let scale: Vec<f32> =
            self.inv_std().zip(self.gamma).map(|(i, g)| (i * f64::from(*g)) as f32).collect();
        [self.mean, &scale, self.beta].map(|v| plan.widen(v.iter().copied()))
    }
}

// The bodies. Each walks wide rows; a shorter last row ends the zips early.

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

#[inline(always)]
fn mask<T: Element>(bounds: Bounds, out: &[T], dy: &[T], masked: &mut [T]) {
    for ((m, o), d) in masked.iter_mut().zip(out).zip(dy) {
        *m = T::put(bounds.mask(o.get(), d.get()));
    }
}

/// Adds the masked gradient `g` and `g * (x - mean)` to the column sums.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // slices by name: a struct would lose their non-aliasing
fn add_grads<T: Element>(
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
fn add_grads_x<T: Element>(
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
fn scale_grads<T: Element>(bounds: Bounds, out: &[T], dy: &[T], scale: &[f32], dx: &mut [T]) {
    let wide = scale.len();
    for ((dx, out), dy) in dx.chunks_mut(wide).zip(out.chunks(wide)).zip(dy.chunks(wide)) {
        for (((r, o), d), a) in dx.iter_mut().zip(out).zip(dy).zip(scale) {
            *r = T::put(bounds.mask(o.get(), d.get()) * *a);
        }
    }
}

#[inline(always)]
fn scale_grads_x<T: Element>(
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
fn combine<T: Element>(
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
fn combine_x<T: Element>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::{assert_close, noise};

    const SHAPES: [(usize, usize); 8] =
        [(1, 1), (1, 64), (5, 3), (300, 17), (49, 100), (2000, 64), (33, 257), (700, 520)];

    struct Case {
        c: usize,
        x: Vec<f32>,
        residual: Vec<f32>,
        dy: Vec<f32>,
        gamma: Vec<f32>,
        beta: Vec<f32>,
    }

    impl Case {
        fn new(rows: usize, c: usize) -> Self {
            let len = rows * c;
            let offset = |i: usize| ((i % c) as f32 - 3.0) * 0.5;
            Self {
                c,
                x: noise(1, len).iter().enumerate().map(|(i, v)| v * 2.0 + offset(i)).collect(),
                residual: noise(2, len),
                dy: noise(3, len),
                gamma: noise(4, c).iter().map(|v| 1.0 + 0.5 * v).collect(),
                beta: noise(5, c),
            }
        }

        fn stats(&self) -> (Vec<f64>, Vec<f64>) {
            let rows = self.x.len() / self.c;
            (0..self.c)
                .map(|k| {
                    let column = || self.x[k..].iter().step_by(self.c).map(|v| f64::from(*v));
                    let mean = column().sum::<f64>() / rows as f64;
                    (mean, column().map(|v| (v - mean).powi(2)).sum::<f64>() / rows as f64)
                })
                .unzip()
        }
    }

    fn clamp(act: Act, v: f64) -> f64 {
        match act {
            Act::None => v,
            Act::Relu => v.max(0.0),
            Act::Relu6 => v.clamp(0.0, 6.0),
        }
    }

    /// The forward pass in f64, statistics given or taken from `x`.
    fn oracle(
        case: &Case,
        x: &[f64],
        stats: Option<&(Vec<f64>, Vec<f64>)>,
        gamma: &[f64],
        beta: &[f64],
        residual: bool,
        act: Act,
    ) -> Vec<f64> {
        let (c, rows) = (case.c, x.len() / case.c);
        let mut y = vec![0.0; x.len()];
        for k in 0..c {
            let column = || x[k..].iter().step_by(c);
            let (mean, var) = stats.map_or_else(
                || {
                    let mean = column().sum::<f64>() / rows as f64;
                    (mean, column().map(|v| (v - mean).powi(2)).sum::<f64>() / rows as f64)
                },
                |(m, v)| (m[k], v[k]),
            );
            for i in (k..x.len()).step_by(c) {
                let r = if residual { f64::from(case.residual[i]) } else { 0.0 };
                y[i] = clamp(act, (x[i] - mean) / (var + 1e-5).sqrt() * gamma[k] + beta[k] + r);
            }
        }
        y
    }

    fn wide(v: &[f32]) -> Vec<f64> {
        v.iter().map(|v| f64::from(*v)).collect()
    }

    #[test]
    fn statistics_match_f64() {
        for level in Level::available() {
            for (rows, c) in SHAPES {
                let case = Case::new(rows, c);
                let (mut mean, mut var) = (vec![0.0; c], vec![0.0; c]);
                batch_stats_at(level, &case.x, &mut mean, &mut var);
                let want = case.stats();
                assert_close(&mean, &want.0, 1e-6, &format!("{level} {rows}x{c} mean"));
                assert_close(&var, &want.1, 2e-6, &format!("{level} {rows}x{c} var"));
                let mut sums = vec![0.0; c];
                channel_sums_at(level, &case.x, &mut sums);
                let want: Vec<f64> = want.0.iter().map(|m| m * rows as f64).collect();
                assert_close(&sums, &want, 1e-4, &format!("{level} {rows}x{c} sums"));
            }
        }
    }

    #[test]
    fn a_large_offset_costs_no_digits_of_the_variance() {
        for level in Level::available() {
            let (rows, c) = (5000, 17);
            let mut case = Case::new(rows, c);
            case.x.iter_mut().for_each(|v| *v += 4096.0);
            // One row far from all others must not spoil its chunk either.
            case.x[..c].fill(0.0);
            let (mut mean, mut var) = (vec![0.0; c], vec![0.0; c]);
            batch_stats_at(level, &case.x, &mut mean, &mut var);
            let want = case.stats();
            assert_close(&mean, &want.0, 1e-7, &format!("{level} mean"));
            assert_close(&var, &want.1, 1e-6, &format!("{level} var"));
        }
    }

    #[test]
    fn forward_matches_f64() {
        for level in Level::available() {
            for (rows, c) in SHAPES {
                let case = Case::new(rows, c);
                let (mean, var) = case.stats();
                let narrow = |v: &[f64]| v.iter().map(|v| *v as f32).collect::<Vec<_>>();
                let (mean32, var32) = (narrow(&mean), narrow(&var));
                let norm =
                    Norm { mean: &mean32, var: &var32, gamma: &case.gamma, beta: &case.beta, eps: 1e-5 };
                for act in [Act::None, Act::Relu, Act::Relu6] {
                    for residual in [false, true] {
                        let mut y = vec![0.0; case.x.len()];
                        forward_at(level, &norm, &case.x, residual.then_some(&case.residual), act, &mut y);
                        let stats = (wide(&mean32), wide(&var32));
                        let (g, b) = (wide(&case.gamma), wide(&case.beta));
                        let want = oracle(&case, &wide(&case.x), Some(&stats), &g, &b, residual, act);
                        // A single row has variance 0: everything is multiplied by 1/sqrt(eps).
                        let tolerance = if rows == 1 { 2e-3 } else { 2e-5 };
                        assert_close(&y, &want, tolerance, &format!("{level} {rows}x{c} {act:?}"));
                    }
                }
            }
        }
    }

    /// The gradients against central differences of the f64 oracle.
    #[test]
    fn gradients_match_finite_differences() {
        let (rows, c) = (12, 5);
        let case = Case::new(rows, c);
        let (mean, var) = case.stats();
        let narrow = |v: &[f64]| v.iter().map(|v| *v as f32).collect::<Vec<_>>();
        let (mean32, var32) = (narrow(&mean), narrow(&var));
        let norm = Norm { mean: &mean32, var: &var32, gamma: &case.gamma, beta: &case.beta, eps: 1e-5 };
        let fixed = (wide(&mean32), wide(&var32));
        for stats in [Stats::OfBatch, Stats::Constant] {
            for act in [Act::None, Act::Relu, Act::Relu6] {
                for residual in [false, true] {
                    let loss = |x: &[f64], g: &[f64], b: &[f64]| -> f64 {
                        let fixed = (stats == Stats::Constant).then_some(&fixed);
                        let y = oracle(&case, x, fixed, g, b, residual, act);
                        y.iter().zip(&case.dy).map(|(y, d)| y * f64::from(*d)).sum()
                    };
                    let (x, g, b) = (wide(&case.x), wide(&case.gamma), wide(&case.beta));
                    let h = 1e-6;
                    let slope = |which: usize, i: usize| {
                        let mut up = [x.clone(), g.clone(), b.clone()];
                        let mut down = up.clone();
                        up[which][i] += h;
                        down[which][i] -= h;
                        (loss(&up[0], &up[1], &up[2]) - loss(&down[0], &down[1], &down[2])) / (2.0 * h)
                    };
                    let want_dx: Vec<f64> = (0..x.len()).map(|i| slope(0, i)).collect();
                    let want_dgamma: Vec<f64> = (0..c).map(|i| slope(1, i)).collect();
                    let want_dbeta: Vec<f64> = (0..c).map(|i| slope(2, i)).collect();
                    for level in Level::available() {
                        let what = format!("{level} {act:?} residual {residual}");
                        let mut y = vec![0.0; x.len()];
                        forward_at(level, &norm, &case.x, residual.then_some(&case.residual), act, &mut y);
                        for from_y in [true, false] {
                            if residual && !from_y {
                                continue;
                            }
                            let (mut dx, mut dr) = (vec![9.0; x.len()], vec![9.0; x.len()]);
                            let (mut dgamma, mut dbeta) = (vec![9.0; c], vec![9.0; c]);
                            let grads = NormGrads {
                                dx: Some(&mut dx),
                                dgamma: Some(&mut dgamma),
                                dbeta: Some(&mut dbeta),
                                dresidual: residual.then_some(&mut dr),
                            };
                            let seen = from_y.then_some(&y[..]);
                            backward_at(level, stats, &norm, act, &case.x, seen, &case.dy, grads);
                            assert_close(&dx, &want_dx, 1e-5, &format!("{what} dx"));
                            assert_close(&dgamma, &want_dgamma, 1e-5, &format!("{what} dgamma"));
                            assert_close(&dbeta, &want_dbeta, 1e-5, &format!("{what} dbeta"));
                            if residual {
                                let want: Vec<f64> = (0..x.len())
                                    .map(|i| {
                                        let out = act != Act::None && y[i] <= 0.0;
                                        let out = out || (act == Act::Relu6 && y[i] >= 6.0);
                                        if out { 0.0 } else { f64::from(case.dy[i]) }
                                    })
                                    .collect();
                                assert_close(&dr, &want, 0.0, &format!("{what} dresidual"));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Larger shapes: every level against the closed formula in f64, all optional outputs off too.
    #[test]
    fn gradients_match_the_formula_on_odd_shapes() {
        for level in Level::available() {
            for (rows, c) in SHAPES.into_iter().filter(|(rows, _)| *rows > 1) {
                let case = Case::new(rows, c);
                let (mut mean, mut var) = (vec![0.0; c], vec![0.0; c]);
                batch_stats_at(level, &case.x, &mut mean, &mut var);
                let norm = Norm { mean: &mean, var: &var, gamma: &case.gamma, beta: &case.beta, eps: 1e-5 };
                let mut y = vec![0.0; case.x.len()];
                forward_at(level, &norm, &case.x, None, Act::Relu, &mut y);
                let mut want = vec![0.0; y.len()];
                for k in 0..c {
                    let at = || (k..y.len()).step_by(c);
                    let g = |i: usize| if y[i] > 0.0 { f64::from(case.dy[i]) } else { 0.0 };
                    let inv = 1.0 / (f64::from(var[k]) + 1e-5).sqrt();
                    let hat = |i: usize| (f64::from(case.x[i]) - f64::from(mean[k])) * inv;
                    let sum = at().map(g).sum::<f64>() / rows as f64;
                    let sum_x = at().map(|i| g(i) * hat(i)).sum::<f64>() / rows as f64;
                    for i in at() {
                        want[i] = f64::from(case.gamma[k]) * inv * (g(i) - sum - hat(i) * sum_x);
                    }
                }
                for seen in [Some(&y[..]), None] {
                    let mut dx = vec![9.0; y.len()];
                    let grads = NormGrads { dx: Some(&mut dx), ..NormGrads::default() };
                    backward_at(level, Stats::OfBatch, &norm, Act::Relu, &case.x, seen, &case.dy, grads);
                    assert_close(&dx, &want, 1e-5, &format!("{level} {rows}x{c}"));
                }
            }
        }
    }

    #[test]
    fn frozen_needs_no_input_where_only_dx_is_asked_for() {
        let (dy, y) = ([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 0.0]);
        let one = [1.0, 1.0];
        let norm = Norm { mean: &one, var: &[3.0, 0.0], gamma: &[2.0, 5.0], beta: &one, eps: 1.0 };
        let mut dx = [0.0; 4];
        let grads = NormGrads { dx: Some(&mut dx), ..NormGrads::default() };
        backward_frozen(&norm, Act::Relu, &[], Some(&y), &dy, grads);
        assert_eq!(dx, [0.0, 10.0, 3.0, 0.0]);
    }
}
