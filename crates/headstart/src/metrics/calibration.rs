//! Whether a stated probability can be believed, and the one number that mends it.
//!
//! Guo et al., "On Calibration of Modern Neural Networks" (2017): the expected calibration error
//! over 15 equal bins, and temperature scaling. Everything takes logits and works in f64.

use super::{accuracy::argmax, check};

/// How many bins [`reliability`] sorts confidences into.
pub const BINS: usize = 15;

/// Temperatures outside this range say that the data do not determine one.
const TEMPERATURES: (f64, f64) = (0.05, 20.0);

/// Returns the probabilities of one row of logits at a temperature.
pub fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let raw: Vec<f64> = logits.iter().map(|&z| (f64::from(z - top) / temperature).exp()).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|e| e / sum).collect()
}

/// Returns the mean of −ln p(target); NaN without samples.
pub fn nll(logits: &[f32], classes: usize, targets: &[usize], temperature: f64) -> f64 {
    check(logits, classes, targets);
    let mut sum = 0.0;
    for (row, &target) in logits.chunks_exact(classes).zip(targets) {
        // From the logits, not from ln(softmax): that is −∞ once a probability underflows.
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f64 = row.iter().map(|&z| (f64::from(z - top) / temperature).exp()).sum();
        sum += total.ln() - f64::from(row[target] - top) / temperature;
    }
    sum / targets.len() as f64
}

/// Returns the mean squared distance of the probabilities from the truth, summed over the classes
/// (0 is perfect, 2 the worst); NaN without samples.
pub fn brier(logits: &[f32], classes: usize, targets: &[usize], temperature: f64) -> f64 {
    check(logits, classes, targets);
    let score = |(row, &target): (&[f32], &usize)| {
        let p = softmax(row, temperature);
        let off = |(class, p): (usize, &f64)| (p - f64::from(class == target)).powi(2);
        p.iter().enumerate().map(off).sum::<f64>()
    };
    logits.chunks_exact(classes).zip(targets).map(score).sum::<f64>() / targets.len() as f64
}

/// Samples sorted by how sure the network was.
#[derive(Debug, Clone, PartialEq)]
pub struct Reliability {
    /// [`BINS`] bins of equal width over 0..1.
    pub bins: Vec<Bin>,
}

/// The samples whose confidence lies in `(low, high]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
    /// How many samples.
    pub count: usize,
    /// Their mean confidence; 0 if there are none.
    pub confidence: f64,
    /// The fraction that was right; 0 if there are none.
    pub accuracy: f64,
}

/// Sorts samples by the probability of their predicted class.
pub fn reliability(logits: &[f32], classes: usize, targets: &[usize], temperature: f64) -> Reliability {
    check(logits, classes, targets);
    let answer = |(row, &target): (&[f32], &usize)| {
        let predicted = argmax(row);
        (softmax(row, temperature)[predicted], predicted == target)
    };
    Reliability::of(logits.chunks_exact(classes).zip(targets).map(answer))
}

impl Reliability {
    /// Sorts statements by the probability each was made with, given with whether it came true.
    pub fn of(statements: impl IntoIterator<Item = (f64, bool)>) -> Self {
        let mut sums = [(0usize, 0.0, 0usize); BINS];
        for (confidence, right) in statements {
            // Bins are closed above, as in Guo's code. A NaN falls into the first.
            let index = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            let (count, total, came_true) = &mut sums[index];
            *count += 1;
            *total += confidence;
            *came_true += usize::from(right);
        }
        let bin = |(i, &(count, total, right)): (usize, &(usize, f64, usize))| {
            let mean = |sum: f64| if count == 0 { 0.0 } else { sum / count as f64 };
            Bin {
                low: i as f64 / BINS as f64,
                high: (i + 1) as f64 / BINS as f64,
                count,
                confidence: mean(total),
                accuracy: mean(right as f64),
            }
        };
        Self { bins: sums.iter().enumerate().map(bin).collect() }
    }

    /// Returns the expected calibration error: the mean gap between confidence and accuracy,
    /// weighted by the samples in each bin; NaN without samples.
    pub fn ece(&self) -> f64 {
        let samples: usize = self.bins.iter().map(|b| b.count).sum();
        let gaps: f64 = self.bins.iter().map(|b| b.count as f64 * (b.confidence - b.accuracy).abs()).sum();
        gaps / samples as f64
    }

    /// Returns the largest gap of any bin that has samples; 0 without samples.
    pub fn largest_gap(&self) -> f64 {
        self.bins.iter().map(|b| (b.confidence - b.accuracy).abs()).fold(0.0, f64::max)
    }
}

/// Finds the temperature that makes the targets most likely.
///
/// `None` if the data do not determine one within 0.05..20: no samples, every answer right (any
/// lower temperature would look better still), an answer no better than chance, or logits that are
/// not finite. Keep 1 then.
pub fn fit_temperature(logits: &[f32], classes: usize, targets: &[usize]) -> Option<f64> {
    check(logits, classes, targets);
    if targets.is_empty() || logits.iter().any(|z| !z.is_finite()) {
        return None;
    }
    // In b = 1/T the loss is convex, with slope E[z] − z_target and curvature Var[z] (under p).
    let slope = |b: f64| {
        let (mut first, mut second) = (0.0, 0.0);
        for (row, &target) in logits.chunks_exact(classes).zip(targets) {
            let p = softmax(row, 1.0 / b);
            // Relative to the target, or large logits would cost digits.
            let gap = |z: f32| f64::from(z) - f64::from(row[target]);
            let mean: f64 = p.iter().zip(row).map(|(p, &z)| p * gap(z)).sum();
            first += mean;
            second += p.iter().zip(row).map(|(p, &z)| p * (gap(z) - mean).powi(2)).sum::<f64>();
        }
        (first, second)
    };
    let (mut low, mut high) = (1.0 / TEMPERATURES.1, 1.0 / TEMPERATURES.0);
    if slope(low).0 >= 0.0 || slope(high).0 <= 0.0 {
        return None;
    }
    let mut b = 1.0;
    for _ in 0..100 {
        let (first, second) = slope(b);
        if first > 0.0 {
            high = b
        } else {
            low = b
        }
        // Newton, or half the bracket where Newton would leave it.
        let step = b - first / second;
        let next = if step > low && step < high { step } else { 0.5 * (low + high) };
        let done = (next - b).abs() <= 1e-10 * b;
        b = next;
        if done {
            break;
        }
    }
    Some(1.0 / b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    /// Logits whose softmax is the given probabilities.
    fn logits(p: &[f32]) -> Vec<f32> {
        p.iter().map(|p| p.ln()).collect()
    }

    #[test]
    fn losses_match_a_hand_count() {
        let z = logits(&[0.8, 0.2, 0.4, 0.6]);
        let targets = [0, 0];
        assert!(close(nll(&z, 2, &targets, 1.0), -(0.8f64.ln() + 0.4f64.ln()) / 2.0));
        assert!(close(brier(&z, 2, &targets, 1.0), (0.08 + 0.72) / 2.0));
    }

    #[test]
    fn a_vanished_probability_is_a_finite_loss() {
        assert!(close(nll(&[1000.0, 0.0], 2, &[1], 1.0), 1000.0));
    }

    #[test]
    fn ece_matches_a_hand_count() {
        // Confidences 0.9 (right), 0.9 (wrong), 0.6 (right): gaps 0.4 with weight 2/3, 0.4 with 1/3.
        let z = logits(&[0.9, 0.1, 0.9, 0.1, 0.4, 0.6]);
        let r = reliability(&z, 2, &[0, 1, 1], 1.0);
        assert_eq!(r.bins.len(), 15);
        assert_eq!(r.bins[13].count, 2);
        assert!(close(r.bins[13].accuracy, 0.5) && close(r.bins[13].confidence, 0.9));
        assert!(close(r.ece(), 0.4) && close(r.largest_gap(), 0.4));
        assert!(reliability(&[], 2, &[], 1.0).ece().is_nan());
    }

    #[test]
    fn a_sure_answer_is_in_the_last_bin() {
        let r = reliability(&[200.0, 0.0], 2, &[0], 1.0);
        assert_eq!(r.bins[14].count, 1);
        assert_eq!(r.ece(), 0.0);
    }

    #[test]
    fn the_temperature_that_was_put_in_comes_out() {
        // Three of four right: the best probability is 0.75, that is a logit gap of ln 3; it is 3 here.
        let z = [3.0, 0.0].repeat(4);
        let t = fit_temperature(&z, 2, &[0, 0, 0, 1]).unwrap();
        assert!(close(t, 3.0 / 3f64.ln()), "{t}");
        let at = |t: f64| nll(&z, 2, &[0, 0, 0, 1], t);
        assert!(at(t) < at(t * 1.01) && at(t) < at(t * 0.99) && at(t) < at(1.0));
    }

    #[test]
    fn data_that_determine_no_temperature_say_so() {
        assert_eq!(fit_temperature(&[2.0, 0.0], 2, &[0]), None);
        assert_eq!(fit_temperature(&[2.0, 0.0], 2, &[1]), None);
        assert_eq!(fit_temperature(&[], 2, &[]), None);
        assert_eq!(fit_temperature(&[f32::NAN, 0.0, 1.0, 0.0], 2, &[0, 1]), None);
    }
}
