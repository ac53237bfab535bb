//! LayerNorm over the last axis: each row of `[rows, c]` by its own mean and variance.
//!
//! A row fits L1, so it is read once and passed over three times. The backward pass takes the statistics
//! anew, which costs less than keeping them. Sums over rows run in f32 inside a chunk of at most 128 rows
//! and in f64 from there on, in chunk order: the bits do not depend on the threads.

use crate::Level;
use crate::simd::{LANES, at, chunk, chunks, fold, mul_add};
use crate::threads::{SharedMut, parallel_for};

/// Floats per task, roughly.
const CHUNK: usize = 1 << 15;

/// The gradients that a backward pass writes: only those asked for.
#[derive(Debug, Default)]
pub struct LayerNormGrads<'a> {
    /// Of the input, `[rows, c]`.
    pub dx: Option<&'a mut [f32]>,
    /// Of the scale, `[c]`.
    pub dgamma: Option<&'a mut [f32]>,
    /// Of the shift, `[c]`.
    pub dbeta: Option<&'a mut [f32]>,
}

/// Computes `y = (x - mean) / sqrt(var + eps) * gamma + beta` for each row of `x`, `[rows, c]`; `c` is
/// `gamma.len()`.
pub fn forward(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, y: &mut [f32]) {
    forward_at(Level::current(), x, gamma, beta, eps, y);
}

/// Differentiates [`forward`].
pub fn backward(x: &[f32], gamma: &[f32], eps: f32, dy: &[f32], grads: LayerNormGrads) {
    backward_at(Level::current(), x, gamma, eps, dy, grads);
}

/// Rows, and rows a task: from the shape alone.
fn plan(len: usize, c: usize) -> (usize, usize) {
    assert!(c > 0 && len.is_multiple_of(c), "{len} values do not make rows of {c}");
    (len / c, (CHUNK / c).clamp(1, 128))
}

fn forward_at(level: Level, x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, y: &mut [f32]) {
    let c = gamma.len();
    let (rows, per_task) = plan(x.len(), c);
    assert_eq!(y.len(), x.len(), "input and output differ in length");
    assert_eq!(beta.len(), c, "scale and shift differ in length");
    let y = SharedMut::new(y);
    parallel_for(chunks(rows, per_task), |index| {
        let (from, count) = chunk(rows, per_task, index);
        // SAFETY: each task has its own rows.
        let y = unsafe { y.part(from * c, count * c) };
        at(
            level,
            #[inline(always)]
            |fma| {
                for (x, y) in x[from * c..].chunks_exact(c).zip(y.chunks_exact_mut(c)) {
                    let (mean, factor) = moments(fma, x, eps);
                    for (((y, x), g), b) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                        *y = mul_add(fma, (*x - mean) * factor, *g, *b);
                    }
                }
            },
        );
    });
}

fn backward_at(level: Level, x: &[f32], gamma: &[f32], eps: f32, dy: &[f32], grads: LayerNormGrads) {
    let c = gamma.len();
    let (rows, per_task) = plan(x.len(), c);
    let LayerNormGrads { dx, dgamma, dbeta } = grads;
    assert_eq!(dy.len(), x.len(), "input and gradient differ in length");
    assert!(dx.as_ref().is_none_or(|d| d.len() == x.len()), "input and its gradient differ in length");
    let tasks = chunks(rows, per_task);
    let mut partials = vec![0.0_f32; tasks * 2 * c];
    let partials_of = SharedMut::new(&mut partials);
    let dx = dx.map(SharedMut::new);
    parallel_for(tasks, |index| {
        let (from, count) = chunk(rows, per_task, index);
        // SAFETY: each task has its own sums.
        let (dgamma, dbeta) = unsafe { partials_of.part(index * 2 * c, 2 * c) }.split_at_mut(c);
        for row in from..from + count {
            let (x, dy) = (&x[row * c..][..c], &dy[row * c..][..c]);
            // SAFETY: each row belongs to one task.
            let dx = dx.as_ref().map(|dx| unsafe { dx.part(row * c, c) });
            at(
                level,
                #[inline(always)]
                |fma| row_backward(fma, x, gamma, eps, dy, dx, dgamma, dbeta),
            );
        }
    });
    for (sums, first) in [(dgamma, 0), (dbeta, c)] {
        let Some(sums) = sums else { continue };
        assert_eq!(sums.len(), c, "scale or shift and its gradient differ in length");
        let mut totals = vec![0.0_f64; c];
        for part in partials.chunks_exact(2 * c) {
            totals.iter_mut().zip(&part[first..]).for_each(|(t, p)| *t += f64::from(*p));
        }
        sums.iter_mut().zip(totals).for_each(|(s, t)| *s = t as f32);
    }
}

/// With n the normalised row and g = dy · gamma: dx = (g - mean(g) - n · mean(g · n)) / sqrt(var + eps).
#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn row_backward(
    fma: bool,
    x: &[f32],
    gamma: &[f32],
    eps: f32,
    dy: &[f32],
    dx: Option<&mut [f32]>,
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let c = x.len() as f32;
    let (mean, factor) = moments(fma, x, eps);
    for (((sg, sb), x), dy) in dgamma.iter_mut().zip(dbeta).zip(x).zip(dy) {
        *sg = mul_add(fma, (*x - mean) * factor, *dy, *sg);
        *sb += *dy;
    }
    let Some(dx) = dx else { return };
    let (mut plain, mut along) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let blocks = x.chunks(LANES).zip(dy.chunks(LANES)).zip(gamma.chunks(LANES));
    for ((x, dy), gamma) in blocks {
        for ((((p, a), x), dy), g) in plain.iter_mut().zip(&mut along).zip(x).zip(dy).zip(gamma) {
            let g = *dy * *g;
            *p += g;
            *a = mul_add(fma, g, (*x - mean) * factor, *a);
        }
    }
    let (plain, along) = (sum(plain) / c, sum(along) / c);
    for (((d, x), dy), g) in dx.iter_mut().zip(x).zip(dy).zip(gamma) {
        let n = (*x - mean) * factor;
        *d = factor * mul_add(fma, -n, along, mul_add(fma, *dy, *g, -plain));
    }
}

/// Returns mean and 1 / sqrt(var + eps); deviations are taken from the mean, so an offset costs no digits.
#[inline(always)]
fn moments(fma: bool, x: &[f32], eps: f32) -> (f32, f32) {
    let c = x.len() as f32;
    let mut lanes = [0.0_f32; LANES];
    for block in x.chunks(LANES) {
        for (s, v) in lanes.iter_mut().zip(block) {
            *s += *v;
        }
    }
    let mean = sum(lanes) / c;
    let mut lanes = [0.0_f32; LANES];
    for block in x.chunks(LANES) {
        for (s, v) in lanes.iter_mut().zip(block) {
            *s = mul_add(fma, *v - mean, *v - mean, *s);
        }
    }
    (mean, 1.0 / (sum(lanes) / c + eps).sqrt())
}

#[inline(always)]
fn sum(lanes: [f32; LANES]) -> f32 {
    fold(lanes, |a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::{assert_close, noise};

    const SHAPES: [(usize, usize); 7] = [(0, 3), (1, 1), (3, 2), (5, 33), (7, 100), (300, 384), (130, 96)];

    #[test]
    fn matches_f64_at_every_level() {
        for level in Level::available() {
            for (rows, c) in SHAPES {
                let x: Vec<f32> = noise(1, rows * c).iter().map(|v| v * 3.0 + 5.0).collect();
                let (gamma, beta, dy) = (noise(2, c), noise(3, c), noise(4, rows * c));
                let eps = 1e-3;
                let (mut y, mut dx) = (Vec::new(), Vec::new());
                let (mut dgamma, mut dbeta) = (vec![0.0; c], vec![0.0; c]);
                for (x, dy) in x.chunks(c).zip(dy.chunks(c)) {
                    let n = c as f64;
                    let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
                    let var = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
                    let factor = 1.0 / (var + f64::from(eps)).sqrt();
                    let hat: Vec<f64> = x.iter().map(|v| (f64::from(*v) - mean) * factor).collect();
                    let g: Vec<f64> = dy.iter().zip(&gamma).map(|(d, g)| f64::from(*d * *g)).collect();
                    let plain = g.iter().sum::<f64>() / n;
                    let along = g.iter().zip(&hat).map(|(g, h)| g * h).sum::<f64>() / n;
                    for i in 0..c {
                        y.push(hat[i] * f64::from(gamma[i]) + f64::from(beta[i]));
                        dx.push(factor * (g[i] - plain - hat[i] * along));
                        dgamma[i] += f64::from(dy[i]) * hat[i];
                        dbeta[i] += f64::from(dy[i]);
                    }
                }
                let what = format!("{level} {rows}x{c}");
                let mut got = vec![9.0; x.len()];
                forward_at(level, &x, &gamma, &beta, eps, &mut got);
                assert_close(&got, &y, 3e-6, &what);
                let (mut got_gamma, mut got_beta) = (vec![9.0; c], vec![9.0; c]);
                let grads = LayerNormGrads {
                    dx: Some(&mut got),
                    dgamma: Some(&mut got_gamma),
                    dbeta: Some(&mut got_beta),
                };
                backward_at(level, &x, &gamma, eps, &dy, grads);
                // Rows of one or two values divide rounding errors by sqrt(eps).
                let tolerance = if c < 3 { 1e-3 } else { 1e-5 };
                assert_close(&got, &dx, tolerance, &format!("{what} dx"));
                assert_close(&got_gamma, &dgamma, 1e-5, &format!("{what} dgamma"));
                assert_close(&got_beta, &dbeta, 1e-5, &format!("{what} dbeta"));
            }
        }
    }

    #[test]
    fn nan_stays_in_its_row() {
        for level in Level::available() {
            let mut x = noise(1, 120);
            x[50] = f32::NAN;
            let mut y = vec![0.0; 120];
            forward_at(level, &x, &[1.0; 40], &[0.0; 40], 1e-6, &mut y);
            assert!((0..120).all(|i| y[i].is_nan() == (40..80).contains(&i)), "{level}");
        }
    }
}
