//! A linear probe without training: ridge regression of one-hot labels, scored on pictures it never saw.
//!
//! Leaving one picture out has a closed form (Allen's PRESS, 1974), so that cross-validation needs neither folds nor a
//! seed, and every penalty costs one pass over the same decomposition.

use rayon::prelude::*;

use super::linalg::{Decomposition, dot};
use crate::metrics::accuracy::argmax;
use crate::metrics::calibration::{fit_temperature, nll, softmax};

/// What a probe achieves.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Whether each picture is classified right by the probe fitted to all others.
    pub hits: Vec<bool>,
    /// The penalty that did best, as a share of the mean squared singular value.
    pub penalty: f64,
}

impl Probe {
    /// Counts the hits.
    pub fn right(&self) -> usize {
        self.hits.iter().filter(|h| **h).count()
    }
}

/// Penalties tried, as shares of the mean squared singular value.
const PENALTIES: [f64; 7] = [1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 10.0];

/// Fits probes to features `[n, width]`, standardised and with a constant, and keeps the best penalty.
pub fn probe(features: &[f32], width: usize, labels: &[usize], classes: usize) -> Probe {
    super::check(features, width, labels);
    let parts = Decomposition::new(&standardised(features, width), width + 1);
    let mean = parts.squares.iter().sum::<f64>() / parts.squares.len().max(1) as f64;
    let tried = PENALTIES.iter().map(|share| {
        let scores = left_out_scores(&parts, labels, classes, share * mean);
        let hits = scores.chunks(classes).zip(labels).map(|(row, label)| argmax(row) == *label).collect();
        Probe { hits, penalty: *share }
    });
    // Of equals the stronger penalty.
    tried
        .reduce(|best, next| if next.right() >= best.right() { next } else { best })
        .expect("penalties to try")
}

/// What the probe believes of each picture when it has not seen it.
#[derive(Clone, Debug)]
pub struct Beliefs {
    /// Probabilities `[n, classes]`.
    pub probabilities: Vec<f64>,
    /// How many labels are the most probable class.
    pub right: usize,
}

/// Ridge scores lie around 0 and 1; temperatures are sought for logits, which are several times larger.
const LOGITS: f32 = 20.0;

/// Probes of one set of features, each fitted to all pictures but the one it judges.
pub struct LeftOut {
    parts: Decomposition,
    /// Mean of the squared singular values, which penalties are shares of.
    mean: f64,
    pictures: usize,
}

impl LeftOut {
    /// Decomposes features `[n, width]`; that is the work, whatever labels are asked for afterwards.
    pub fn new(features: &[f32], width: usize) -> Self {
        assert!(width > 0 && features.len().is_multiple_of(width), "features are not pictures × width");
        let parts = Decomposition::new(&standardised(features, width), width + 1);
        let mean = parts.squares.iter().sum::<f64>() / parts.squares.len().max(1) as f64;
        Self { parts, mean, pictures: features.len() / width }
    }

    /// Returns the probabilities of each picture by the probe fitted to all others: scores of the penalty and softmax
    /// temperature under which the labels are most likely.
    pub fn probabilities(&self, labels: &[usize], classes: usize) -> Beliefs {
        assert_eq!(labels.len(), self.pictures, "a label for each picture");
        let tried = PENALTIES.iter().map(|share| {
            let mut scores = left_out_scores(&self.parts, labels, classes, share * self.mean);
            scores.iter_mut().for_each(|s| *s *= LOGITS);
            let temperature = fit_temperature(&scores, classes, labels).unwrap_or(1.0);
            (nll(&scores, classes, labels, temperature), scores, temperature)
        });
        let (_, scores, temperature) =
            tried.reduce(|best, next| if next.0 < best.0 { next } else { best }).expect("penalties to try");
        let right = scores.chunks(classes).zip(labels).filter(|(row, l)| argmax(row) == **l).count();
        let probabilities = scores.chunks(classes).flat_map(|row| softmax(row, temperature)).collect();
        Beliefs { probabilities, right }
    }
}

/// Each feature with mean 0 and deviation 1, then a constant 1.
fn standardised(features: &[f32], width: usize) -> Vec<f32> {
    let n = (features.len() / width).max(1) as f64;
    let (mut mean, mut square) = (vec![0.0_f64; width], vec![0.0_f64; width]);
    for row in features.chunks_exact(width) {
        for (j, x) in row.iter().enumerate() {
            mean[j] += f64::from(*x) / n;
            square[j] += f64::from(*x) * f64::from(*x) / n;
        }
    }
    let scale: Vec<f64> = mean
        .iter()
        .zip(&square)
        .map(|(m, s)| (s - m * m).max(0.0).sqrt())
        .map(|d| if d > 1e-9 { 1.0 / d } else { 0.0 })
        .collect();
    let row = |row: &[f32]| {
        let each = row.iter().enumerate().map(|(j, x)| ((f64::from(*x) - mean[j]) * scale[j]) as f32);
        each.chain([1.0]).collect::<Vec<_>>()
    };
    features.chunks_exact(width).flat_map(row).collect()
}

/// Scores `[n, classes]` of each picture by ridge regression with `penalty` fitted to all other pictures.
pub fn left_out_scores(parts: &Decomposition, labels: &[usize], classes: usize, penalty: f64) -> Vec<f32> {
    let truth = |class: usize, i: usize| f64::from(u8::from(labels[i] == class));
    left_out(parts, classes, penalty, &|class| parts.project(labels, class), &truth)
}

/// Predictions `[n, targets]` of each picture by ridge regression with `penalty` fitted to all other pictures; `targets` are
/// columns with mean 0.
pub fn left_out_values(parts: &Decomposition, targets: &[Vec<f64>], penalty: f64) -> Vec<f32> {
    let weights = |t: usize| parts.left.chunks_exact(parts.n).map(|u| dot(u, &targets[t])).collect();
    left_out(parts, targets.len(), penalty, &weights, &|t, i| targets[t][i])
}

/// `weights` are the left vectors' products with a column, `truth` a column's values.
fn left_out(
    parts: &Decomposition,
    columns: usize,
    penalty: f64,
    weights: &(dyn Fn(usize) -> Vec<f64> + Sync),
    truth: &(dyn Fn(usize, usize) -> f64 + Sync),
) -> Vec<f32> {
    let n = parts.n;
    let shares: Vec<f64> = parts.squares.iter().map(|s| s / (s + penalty)).collect();
    let mut own = vec![0.0; n];
    for (u, share) in parts.left.chunks_exact(n).zip(&shares) {
        own.iter_mut().zip(u).for_each(|(h, u)| *h += u * u * share);
    }
    let by_column: Vec<Vec<f64>> = (0..columns)
        .into_par_iter()
        .map(|column| {
            let weights = weights(column);
            let mut fitted = vec![0.0; n];
            for ((u, share), w) in parts.left.chunks_exact(n).zip(&shares).zip(&weights) {
                let factor = share * w;
                fitted.iter_mut().zip(u).for_each(|(f, u)| *f += u * factor);
            }
            for i in 0..n {
                let truth = truth(column, i);
                fitted[i] = truth - (truth - fitted[i]) / (1.0 - own[i]).max(1e-9);
            }
            fitted
        })
        .collect();
    (0..n).flat_map(|i| by_column.iter().map(move |c| c[i] as f32)).collect()
}

/// Fits probes to features `[n, width]`, standardised and with a constant, for `targets`, columns with mean 0; returns the
/// left-out predictions `[n, targets]` that `merit` likes best, and their merit.
pub fn probe_values(
    features: &[f32],
    width: usize,
    targets: &[Vec<f64>],
    merit: &dyn Fn(&[f32]) -> f64,
) -> (Vec<f32>, f64) {
    let parts = Decomposition::new(&standardised(features, width), width + 1);
    let mean = parts.squares.iter().sum::<f64>() / parts.squares.len().max(1) as f64;
    let tried = PENALTIES.iter().map(|share| {
        let found = left_out_values(&parts, targets, share * mean);
        let worth = merit(&found);
        (found, worth)
    });
    tried.reduce(|best, next| if next.1 >= best.1 { next } else { best }).expect("penalties to try")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn noise_is_not_learned_and_a_signal_is() {
        let mut rng = Rng::keyed(&[4]);
        let labels: Vec<usize> = (0..120).map(|i| i % 3).collect();
        let noise: Vec<f32> = (0..120 * 200).map(|_| rng.normal()).collect();
        let chance = probe(&noise, 200, &labels, 3).right();
        assert!((25..62).contains(&chance), "{chance} of 120 by chance");
        let mut signal = noise[..120 * 20].to_vec();
        labels.iter().enumerate().for_each(|(i, l)| signal[i * 20 + l] += 8.0);
        assert!(probe(&signal, 20, &labels, 3).right() > 115);
    }

    #[test]
    fn a_wrong_label_is_not_believed() {
        let mut rng = Rng::keyed(&[5]);
        let truth: Vec<usize> = (0..120).map(|i| i % 3).collect();
        let mut features: Vec<f32> = (0..120 * 20).map(|_| rng.normal()).collect();
        truth.iter().enumerate().for_each(|(i, l)| features[i * 20 + l] += 5.0);
        let mut labels = truth.clone();
        labels[7] = (labels[7] + 1) % 3;
        let found = LeftOut::new(&features, 20).probabilities(&labels, 3);
        assert!(found.right > 105, "{}", found.right);
        let row = &found.probabilities[21..24];
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(row[truth[7]] > 0.5 && row[labels[7]] < 0.3, "{row:?}");
        let confident = crate::transfer::confident(&found.probabilities, 3, &labels);
        assert!(confident.issues.contains(&7), "{:?}", confident.issues);
    }

    #[test]
    fn values_left_out_are_those_of_probes_fitted_without_them() {
        let mut rng = Rng::keyed(&[5]);
        let (n, width) = (30, 4);
        let features: Vec<f32> = (0..n * width).map(|_| rng.normal()).collect();
        let mut target: Vec<f64> =
            features.chunks(width).map(|r| f64::from(2.0 * r[0] - r[3] + 0.3 * rng.normal())).collect();
        let mean = target.iter().sum::<f64>() / n as f64;
        target.iter_mut().for_each(|t| *t -= mean);
        let targets = [target];
        let found = left_out_values(&Decomposition::new(&features, width), &targets, 0.7);
        // Without picture 11, by the normal equations and Cholesky.
        let rows: Vec<&[f32]> = features.chunks(width).collect();
        let mut a = vec![0.0; width * width];
        let mut b = vec![0.0; width];
        for i in (0..n).filter(|i| *i != 11) {
            for j in 0..width {
                b[j] += f64::from(rows[i][j]) * targets[0][i];
                (0..width).for_each(|k| a[j * width + k] += f64::from(rows[i][j]) * f64::from(rows[i][k]));
            }
        }
        (0..width).for_each(|j| a[j * width + j] += 0.7);
        let l = super::super::linalg::cholesky(a, width).unwrap();
        super::super::linalg::solve_lower(&l, width, &mut b);
        for i in (0..width).rev() {
            let rest: f64 = (i + 1..width).map(|k| l[k * width + i] * b[k]).sum();
            b[i] = (b[i] - rest) / l[i * width + i];
        }
        let wanted: f64 = rows[11].iter().zip(&b).map(|(x, w)| f64::from(*x) * w).sum();
        assert!((f64::from(found[11]) - wanted).abs() < 1e-5, "{} {wanted}", found[11]);
        let error =
            |p: &[f32]| -p.iter().zip(&targets[0]).map(|(p, t)| (f64::from(*p) - t).powi(2)).sum::<f64>();
        let (_, merit) = probe_values(&features, width, &targets, &error);
        let spread: f64 = targets[0].iter().map(|t| t * t).sum();
        assert!(-merit < 0.1 * spread, "{merit} of {spread}");
    }
}
