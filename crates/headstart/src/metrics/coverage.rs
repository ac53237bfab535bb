//! What a classifier gains by not answering when it is unsure: risk and coverage.
//!
//! El-Yaniv & Wiener, "On the Foundations of Noise-free Selective Classification" (2010); Geifman & El-Yaniv,
//! "Selective Classification for Deep Neural Networks" (2017). Confidence is the probability of the predicted class.

use super::{accuracy::argmax, calibration::softmax, check};

/// One threshold: answer if at least this sure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The lowest confidence that is answered.
    pub threshold: f64,
    /// Samples answered.
    pub answered: usize,
    /// Of those, the right ones.
    pub right: usize,
}

impl Step {
    /// Returns the share of answers that are right.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.answered as f64
    }
}

/// The trade between answering more and being right more often.
#[derive(Clone, Debug, PartialEq)]
pub struct Coverage {
    /// All thresholds that differ in what they answer, highest first; the last answers everything.
    pub steps: Vec<Step>,
    /// Samples in all.
    pub samples: usize,
}

/// Sorts samples by confidence at a temperature.
pub fn coverage(logits: &[f32], classes: usize, targets: &[usize], temperature: f64) -> Coverage {
    check(logits, classes, targets);
    let mut sure: Vec<(f64, bool)> = (logits.chunks_exact(classes).zip(targets))
        .map(|(row, target)| {
            let predicted = argmax(row);
            let confidence = softmax(row, temperature)[predicted];
            // A network that answers NaN is never sure.
            (if confidence.is_nan() { 0.0 } else { confidence }, predicted == *target)
        })
        .collect();
    sure.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut steps: Vec<Step> = Vec::new();
    let mut right = 0;
    for (i, (threshold, hit)) in sure.iter().enumerate() {
        right += usize::from(*hit);
        let step = Step { threshold: *threshold, answered: i + 1, right };
        match steps.last_mut() {
            // Equally sure: both are answered or neither is.
            Some(last) if last.threshold == *threshold => *last = step,
            _ => steps.push(step),
        }
    }
    Coverage { steps, samples: targets.len() }
}

impl Coverage {
    /// Returns the share of samples a step answers.
    pub fn share(&self, step: &Step) -> f64 {
        step.answered as f64 / self.samples as f64
    }

    /// Returns the step that answers most with at least this accuracy; `None` if no threshold reaches it.
    pub fn at_accuracy(&self, accuracy: f64) -> Option<Step> {
        self.steps.iter().rev().find(|s| s.accuracy() >= accuracy).copied()
    }

    /// Returns the area under the risk–coverage curve: the mean error over all coverages, 0 is perfect; NaN without
    /// samples.
    pub fn area(&self) -> f64 {
        let mut before = 0;
        let mut sum = 0.0;
        for step in &self.steps {
            sum += (step.answered - before) as f64 * (1.0 - step.accuracy());
            before = step.answered;
        }
        sum / self.samples as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of two classes whose confidence in class 0 is `p`.
    fn row(p: f32) -> [f32; 2] {
        [(p / (1.0 - p)).ln(), 0.0]
    }

    #[test]
    fn abstaining_buys_accuracy() {
        // Sure and right, sure and right, unsure and wrong, less sure and right.
        let logits: Vec<f32> = [0.99, 0.95, 0.8, 0.6].iter().flat_map(|p| row(*p)).collect();
        let found = coverage(&logits, 2, &[0, 0, 1, 0], 1.0);
        let steps: Vec<_> = found.steps.iter().map(|s| (s.answered, s.right)).collect();
        assert_eq!(steps, [(1, 1), (2, 2), (3, 2), (4, 3)]);
        let step = found.at_accuracy(0.99).unwrap();
        assert!((step.threshold - 0.95).abs() < 1e-6 && found.share(&step) == 0.5);
        assert_eq!(found.at_accuracy(0.7).unwrap().answered, 4);
        assert!((found.area() - (0.0 + 0.0 + 1.0 / 3.0 + 0.25) / 4.0).abs() < 1e-12);
    }

    #[test]
    fn the_equally_sure_stand_or_fall_together() {
        let logits: Vec<f32> = [0.9, 0.9].iter().flat_map(|p| row(*p)).collect();
        let found = coverage(&logits, 2, &[0, 1], 1.0);
        assert_eq!(found.steps.len(), 1);
        assert_eq!(found.at_accuracy(0.6), None);
        assert!(coverage(&[], 2, &[], 1.0).area().is_nan());
        assert_eq!(coverage(&[f32::NAN; 2], 2, &[1], 1.0).steps[0].threshold, 0.0);
    }
}
