//! A linear probe without training: ridge regression of one-hot labels, scored on pictures it never saw.
//!
//! Leaving one picture out has a closed form (Allen's PRESS, 1974), so that cross-validation needs neither folds nor a
//! seed, and every penalty costs one pass over the same decomposition.

use rayon::prelude::*;

use super::linalg::Decomposition;
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

/// Returns the probabilities of each picture by the probe fitted to all others: scores of the penalty and softmax
/// temperature under which the labels are most likely.
pub fn left_out_probabilities(features: &[f32], width: usize, labels: &[usize], classes: usize) -> Beliefs {
    super::check(features, width, labels);
    let parts = Decomposition::new(&standardised(features, width), width + 1);
    let mean = parts.squares.iter().sum::<f64>() / parts.squares.len().max(1) as f64;
    let tried = PENALTIES.iter().map(|share| {
        let mut scores = left_out_scores(&parts, labels, classes, share * mean);
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
    let n = parts.n;
    let shares: Vec<f64> = parts.squares.iter().map(|s| s / (s + penalty)).collect();
    let mut own = vec![0.0; n];
    for (u, share) in parts.left.chunks_exact(n).zip(&shares) {
        own.iter_mut().zip(u).for_each(|(h, u)| *h += u * u * share);
    }
    let by_class: Vec<Vec<f64>> = (0..classes)
        .into_par_iter()
        .map(|class| {
            let weights = parts.project(labels, class);
            let mut fitted = vec![0.0; n];
            for ((u, share), w) in parts.left.chunks_exact(n).zip(&shares).zip(&weights) {
                let factor = share * w;
                fitted.iter_mut().zip(u).for_each(|(f, u)| *f += u * factor);
            }
            for i in 0..n {
                let truth = f64::from(u8::from(labels[i] == class));
                fitted[i] = truth - (truth - fitted[i]) / (1.0 - own[i]).max(1e-9);
            }
            fitted
        })
        .collect();
    (0..n).flat_map(|i| by_class.iter().map(move |c| c[i] as f32)).collect()
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
        let found = left_out_probabilities(&features, 20, &labels, 3);
        assert!(found.right > 105, "{}", found.right);
        let row = &found.probabilities[21..24];
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(row[truth[7]] > 0.5 && row[labels[7]] < 0.3, "{row:?}");
        let confident = crate::transfer::confident(&found.probabilities, 3, &labels);
        assert!(confident.issues.contains(&7), "{:?}", confident.issues);
    }
}
