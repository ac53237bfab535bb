//! How often the right class is among the first k.

use super::check;

/// Returns the class with the highest score; of equal ones the first. NaN counts as lowest.
///
/// Panics if there are no scores.
pub fn argmax(scores: &[f32]) -> usize {
    assert!(!scores.is_empty(), "no class to choose from");
    let mut best = 0;
    for (class, &score) in scores.iter().enumerate() {
        if score > scores[best] || (scores[best].is_nan() && !score.is_nan()) {
            best = class;
        }
    }
    best
}

/// Tells for each sample whether its target is among the `k` highest scores.
///
/// Of equal scores the lower class number comes first, so a network that gives every class the
/// same score is right on class 0 only. A target whose own score is NaN is never right, and other
/// classes' NaNs rank before it: a broken network must not look good.
pub fn hits(scores: &[f32], classes: usize, targets: &[usize], k: usize) -> Vec<bool> {
    check(scores, classes, targets);
    let rows = scores.chunks_exact(classes);
    rows.zip(targets).map(|(row, &target)| rank(row, target).is_some_and(|r| r < k)).collect()
}

/// How many classes come before the target.
fn rank(row: &[f32], target: usize) -> Option<usize> {
    let own = row[target];
    let before =
        |(class, &score): (usize, &f32)| score > own || score.is_nan() || (score == own && class < target);
    (!own.is_nan()).then(|| row.iter().enumerate().filter(|&item| before(item)).count())
}

/// Returns the fraction of samples whose target is among the `k` highest scores; NaN without samples.
///
/// ```
/// use headstart::metrics::top_k;
///
/// let scores = [0.1, 0.7, 0.2, /* second sample */ 0.5, 0.3, 0.2];
/// assert_eq!(top_k(&scores, 3, &[1, 1], 1), 0.5);
/// assert_eq!(top_k(&scores, 3, &[1, 1], 2), 1.0);
/// ```
pub fn top_k(scores: &[f32], classes: usize, targets: &[usize], k: usize) -> f64 {
    let right = hits(scores, classes, targets, k).into_iter().filter(|&hit| hit).count();
    right as f64 / targets.len() as f64
}

/// Counts, for each class, how many of its samples there are and how many of them hit:
/// `(right, total)`.
pub fn per_class(hits: &[bool], targets: &[usize], classes: usize) -> Vec<(usize, usize)> {
    assert_eq!(hits.len(), targets.len(), "one hit or miss per target");
    let mut counts = vec![(0, 0); classes];
    for (&hit, &target) in hits.iter().zip(targets) {
        counts[target].0 += usize::from(hit);
        counts[target].1 += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_class() {
        let flat = [1.0; 8];
        assert_eq!(hits(&flat, 4, &[0, 1], 1), [true, false]);
        assert_eq!(hits(&flat, 4, &[1, 2], 2), [true, false]);
        assert_eq!(argmax(&flat), 0);
        assert_eq!(argmax(&[f32::NAN, -1.0, 2.0, 2.0]), 2);
    }

    #[test]
    fn a_broken_network_is_never_right() {
        let nan = [f32::NAN; 4];
        assert_eq!(top_k(&nan, 4, &[0], 5), 0.0);
        assert_eq!(hits(&[f32::NAN, 1.0], 2, &[1], 1), [false]);
        assert_eq!(hits(&[f32::NAN, 1.0], 2, &[1], 2), [true]);
    }

    #[test]
    fn k_beyond_the_classes_is_always_right() {
        assert_eq!(top_k(&[0.3, 0.7, 0.9, 0.1], 2, &[0, 1], 5), 1.0);
        assert!(top_k(&[], 2, &[], 1).is_nan());
    }

    #[test]
    fn classes_are_counted_apart() {
        let counts = per_class(&[true, false, true, true], &[0, 0, 2, 2], 3);
        assert_eq!(counts, [(1, 2), (0, 0), (2, 2)]);
    }

    #[test]
    #[should_panic(expected = "target 3 of 3")]
    fn a_target_beyond_the_classes_is_refused() {
        top_k(&[0.0; 3], 3, &[3], 1);
    }
}
