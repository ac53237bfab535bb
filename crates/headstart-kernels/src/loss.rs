//! Softmax and cross-entropy over rows of logits.

use crate::Level;
use crate::math::exp;
use crate::simd::{LANES, at, chunk, chunks, fold, mul_add};
use crate::threads::{SharedMut, parallel_for};

/// Floats per task, roughly.
const CHUNK: usize = 1 << 13;

/// Replaces each row of `x`, `[rows, c]`, by its softmax.
pub fn softmax(x: &mut [f32], c: usize) {
    softmax_at(Level::current(), x, c);
}

/// Returns the mean cross-entropy of `logits` against soft `targets`, both `[rows, c]`, and writes
/// its gradient.
///
/// `weights` has one factor per row: the result is `sum(w * loss) / sum(w)`, what
/// `CrossEntropyLoss(weight)` computes for hard labels with `w = weight[label]`. A target of 0
/// contributes nothing, even where the logit is minus infinity.
pub fn cross_entropy(
    logits: &[f32],
    targets: &[f32],
    c: usize,
    weights: Option<&[f32]>,
    dlogits: Option<&mut [f32]>,
) -> f64 {
    cross_entropy_at(Level::current(), logits, targets, c, weights, dlogits)
}

fn softmax_at(level: Level, x: &mut [f32], c: usize) {
    let rows = rows_of(x, c);
    let shared = SharedMut::new(x);
    let per_task = (CHUNK / c).max(1);
    parallel_for(chunks(rows, per_task), |index| {
        let (from, len) = chunk(rows, per_task, index);
        // SAFETY: each task has its own rows.
        let part = unsafe { shared.part(from * c, len * c) };
        at(
            level,
            #[inline(always)]
            |fma| {
                for row in part.chunks_exact_mut(c) {
                    let max = max(row);
                    let factor = 1.0 / exp_all(fma, row, max);
                    row.iter_mut().for_each(|v| *v *= factor);
                }
            },
        );
    });
}

fn cross_entropy_at(
    level: Level,
    logits: &[f32],
    targets: &[f32],
    c: usize,
    weights: Option<&[f32]>,
    dlogits: Option<&mut [f32]>,
) -> f64 {
    let rows = rows_of(logits, c);
    assert_eq!(targets.len(), logits.len(), "targets and logits differ in length");
    assert!(weights.is_none_or(|w| w.len() == rows), "one weight per row");
    assert!(dlogits.as_ref().is_none_or(|d| d.len() == logits.len()), "gradient and logits differ in length");
    let total: f64 = weights.map_or(rows as f64, |w| w.iter().map(|w| f64::from(*w)).sum());
    let weight = |row: usize| weights.map_or(1.0, |w| w[row]);

    let mut losses = vec![0.0_f64; rows];
    let losses_of = SharedMut::new(&mut losses);
    let dlogits = dlogits.map(SharedMut::new);
    let per_task = (CHUNK / c).max(1);
    parallel_for(chunks(rows, per_task), |index| {
        let (from, len) = chunk(rows, per_task, index);
        // SAFETY: each task has its own rows.
        let losses = unsafe { losses_of.part(from, len) };
        let mut spare = if dlogits.is_none() { vec![0.0; c] } else { Vec::new() };
        for (row, loss) in (from..).zip(losses) {
            let (logits, targets) = (&logits[row * c..][..c], &targets[row * c..][..c]);
            let gradient = match &dlogits {
                // SAFETY: each row belongs to one task.
                Some(d) => unsafe { d.part(row * c, c) },
                None => &mut spare[..],
            };
            let factor = (f64::from(weight(row)) / total) as f32;
            *loss = at(
                level,
                #[inline(always)]
                |fma| row_loss(fma, logits, targets, factor, gradient),
            );
        }
    });
    let sum: f64 = losses.iter().enumerate().map(|(row, loss)| f64::from(weight(row)) * loss).sum();
    sum / total
}

fn rows_of(x: &[f32], c: usize) -> usize {
    assert!(c > 0 && x.len().is_multiple_of(c), "{} values do not make rows of {c}", x.len());
    x.len() / c
}

/// Returns the loss of one row; leaves `factor` times its gradient.
#[inline(always)]
fn row_loss(fma: bool, logits: &[f32], targets: &[f32], factor: f32, gradient: &mut [f32]) -> f64 {
    let max = max(logits);
    gradient.copy_from_slice(logits);
    let sum = exp_all(fma, gradient, max);
    // -sum(t * log p), with log p = (x - max) - ln(sum).
    let (mut cross, mut mass) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    for (x, t) in logits.chunks(LANES).zip(targets.chunks(LANES)) {
        for (((s, m), x), t) in cross.iter_mut().zip(&mut mass).zip(x).zip(t) {
            *s += if *t == 0.0 { 0.0 } else { *t * (max - *x) };
            *m += *t;
        }
    }
    let sum_of = |lanes: [f32; LANES]| lanes.iter().map(|v| f64::from(*v)).sum::<f64>();
    let (cross, mass) = (sum_of(cross), sum_of(mass));
    let scale = factor * mass as f32 / sum;
    for (g, t) in gradient.iter_mut().zip(targets) {
        *g = mul_add(fma, *g, scale, -factor * *t);
    }
    cross + mass * f64::from(sum).ln()
}

/// Returns the largest value of a row; NaN if it holds one.
#[inline(always)]
pub(crate) fn max(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if (b > a) | b.is_nan() { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    // Whole blocks of a known length stay in registers.
    let (blocks, rest) = row.as_chunks::<LANES>();
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(m, v)| *m = larger(*m, *v));
    }
    lanes.iter_mut().zip(rest).for_each(|(m, v)| *m = larger(*m, *v));
    fold(lanes, larger)
}

/// Replaces each value by `exp(value - max)` and returns their sum.
#[inline(always)]
pub(crate) fn exp_all(fma: bool, row: &mut [f32], max: f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let mut blocks = row.chunks_exact_mut(LANES);
    for block in &mut blocks {
        for (s, v) in lanes.iter_mut().zip(block) {
            *v = exp(fma, *v - max);
            *s += *v;
        }
    }
    for (s, v) in lanes.iter_mut().zip(blocks.into_remainder()) {
        *v = exp(fma, *v - max);
        *s += *v;
    }
    fold(lanes.map(f64::from), |a, b| a + b) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::{assert_close, noise};

    const SHAPES: [(usize, usize); 6] = [(1, 1), (3, 2), (16, 10), (5, 33), (7, 100), (40, 1000)];

    fn probabilities(x: &[f32]) -> Vec<f64> {
        let max = x.iter().fold(f64::NEG_INFINITY, |m, v| m.max(f64::from(*v)));
        let e: Vec<f64> = x.iter().map(|v| (f64::from(*v) - max).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.iter().map(|v| v / sum).collect()
    }

    #[test]
    fn softmax_matches_f64() {
        for level in Level::available() {
            for (rows, c) in SHAPES {
                let x: Vec<f32> = noise(1, rows * c).iter().map(|v| v * 20.0 + 500.0).collect();
                let want: Vec<f64> = x.chunks(c).flat_map(probabilities).collect();
                let mut y = x.clone();
                softmax_at(level, &mut y, c);
                assert_close(&y, &want, 1e-6, &format!("{level} {rows}x{c}"));
            }
        }
    }

    #[test]
    fn cross_entropy_and_gradient_match_f64() {
        for level in Level::available() {
            for (rows, c) in SHAPES {
                let x: Vec<f32> = noise(1, rows * c).iter().map(|v| v * 5.0 - 100.0).collect();
                let mut t: Vec<f32> = noise(2, rows * c).iter().map(|v| v.max(0.0)).collect();
                for row in t.chunks_mut(c) {
                    let sum: f32 = row.iter().sum();
                    row.iter_mut().for_each(|v| *v /= sum.max(1e-3));
                }
                let w: Vec<f32> = noise(3, rows).iter().map(|v| v + 1.5).collect();
                for weights in [None, Some(&w[..])] {
                    let weight = |i: usize| weights.map_or(1.0, |w| f64::from(w[i]));
                    let total: f64 = (0..rows).map(weight).sum();
                    let (mut loss, mut gradient) = (0.0, Vec::new());
                    for i in 0..rows {
                        let p = probabilities(&x[i * c..][..c]);
                        let t: Vec<f64> = t[i * c..][..c].iter().map(|v| f64::from(*v)).collect();
                        let mass: f64 = t.iter().sum();
                        loss -= weight(i) / total * p.iter().zip(&t).map(|(p, t)| t * p.ln()).sum::<f64>();
                        gradient.extend(p.iter().zip(&t).map(|(p, t)| weight(i) / total * (p * mass - t)));
                    }
                    let mut got = vec![9.0; x.len()];
                    let value = cross_entropy_at(level, &x, &t, c, weights, Some(&mut got));
                    let alone = cross_entropy_at(level, &x, &t, c, weights, None);
                    assert!((value - loss).abs() < 1e-5 * (1.0 + loss), "{level} {rows}x{c}: {value} {loss}");
                    assert_eq!(value, alone);
                    assert_close(&got, &gradient, 1e-6, &format!("{level} {rows}x{c} gradient"));
                }
            }
        }
    }

    #[test]
    fn an_impossible_class_with_target_zero_costs_nothing() {
        for level in Level::available() {
            let x = [0.0, f32::NEG_INFINITY, 0.0];
            let mut d = [9.0; 3];
            let loss = cross_entropy_at(level, &x, &[1.0, 0.0, 0.0], 3, None, Some(&mut d));
            assert!((loss - 2.0_f64.ln()).abs() < 1e-6, "{level} {loss}");
            assert_close(&d, &[-0.5, 0.0, 0.5], 1e-7, level.name());
        }
    }
}
