//! How well any number of labels a picture is found: average precision, F1 with a threshold for each label.
//!
//! Scores and truth of `n` pictures are slices of `n · labels` numbers; a truth of 1 means that the picture has the label.

/// Returns the average precision of one label: Σ (Rᵢ − Rᵢ₋₁) · Pᵢ over the distinct scores, highest first, as scikit-learn's
/// `average_precision_score`; `None` without a picture that has the label.
pub fn average_precision(scores: &[f32], truth: &[bool]) -> Option<f64> {
    let curve = curve(scores, truth)?;
    let (mut area, mut recall) = (0.0, 0.0);
    for point in &curve {
        area += (point.recall - recall) * point.precision;
        recall = point.recall;
    }
    Some(area)
}

/// What naming a label from a score on achieves.
struct Point {
    score: f32,
    precision: f64,
    recall: f64,
}

/// Precision and recall from each distinct score on, highest first; NaN counts as lowest.
fn curve(scores: &[f32], truth: &[bool]) -> Option<Vec<Point>> {
    assert_eq!(scores.len(), truth.len(), "one truth per score");
    let all = truth.iter().filter(|t| **t).count();
    if all == 0 {
        return None;
    }
    let key = |i: &usize| if scores[*i].is_nan() { f32::NEG_INFINITY } else { scores[*i] };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| key(b).total_cmp(&key(a)));
    let (mut right, mut points) = (0, Vec::new());
    for (named, i) in order.iter().enumerate() {
        right += usize::from(truth[*i]);
        // Equal scores are named together.
        if order.get(named + 1).is_none_or(|next| key(next) < key(i)) {
            let precision = right as f64 / (named + 1) as f64;
            points.push(Point { score: key(i), precision, recall: right as f64 / all as f64 });
        }
    }
    Some(points)
}

/// Returns the score from which naming the label gives the highest F1, half way to the next lower score (half below the
/// lowest); `None` without a picture that has the label. Of equals the highest.
pub fn best_threshold(scores: &[f32], truth: &[bool]) -> Option<f64> {
    let curve = curve(scores, truth)?;
    let f1 = |p: &Point| 2.0 * p.precision * p.recall / (p.precision + p.recall).max(f64::MIN_POSITIVE);
    let mut best = 0;
    for i in 1..curve.len() {
        if f1(&curve[i]) > f1(&curve[best]) {
            best = i;
        }
    }
    let score = f64::from(curve[best].score);
    let below = curve.get(best + 1).map_or(score - 1.0, |next| f64::from(next.score));
    Some(if below.is_finite() { 0.5 * (score + below) } else { score })
}

/// Hits and misses of one label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Named, and there.
    pub right: usize,
    /// Named, but not there.
    pub wrong: usize,
    /// There, but not named.
    pub missed: usize,
}

impl Counts {
    /// Compares what was named with what is there.
    pub fn of(named: impl IntoIterator<Item = bool>, truth: impl IntoIterator<Item = bool>) -> Self {
        let mut counts = Self::default();
        for pair in named.into_iter().zip(truth) {
            match pair {
                (true, true) => counts.right += 1,
                (true, false) => counts.wrong += 1,
                (false, true) => counts.missed += 1,
                (false, false) => {}
            }
        }
        counts
    }

    /// Of those named, the fraction that is there; `None` if none was named.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.right, self.right + self.wrong)
    }

    /// Of those there, the fraction named; `None` if there is none.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.right, self.right + self.missed)
    }

    /// The harmonic mean of both; `None` if the label neither occurs nor is named.
    pub fn f1(&self) -> Option<f64> {
        ratio(2 * self.right, 2 * self.right + self.wrong + self.missed)
    }
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// F1 of all labels' counts together.
pub fn micro_f1(counts: &[Counts]) -> f64 {
    let sum = counts.iter().fold(Counts::default(), |a, b| Counts {
        right: a.right + b.right,
        wrong: a.wrong + b.wrong,
        missed: a.missed + b.missed,
    });
    sum.f1().unwrap_or(f64::NAN)
}

/// The mean of the labels' F1, those that neither occur nor are named left out.
pub fn macro_f1(counts: &[Counts]) -> f64 {
    mean(counts.iter().filter_map(Counts::f1))
}

/// Returns the mean; NaN of nothing.
pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), v| (sum + v, count + 1));
    sum / f64::from(count)
}

/// Mean over pictures and labels of the binary cross-entropy of logits.
pub fn bce(logits: &[f32], truth: &[bool]) -> f64 {
    assert_eq!(logits.len(), truth.len(), "one truth per logit");
    let each = |(x, t): (&f32, &bool)| {
        let x = f64::from(if *t { -*x } else { *x });
        // ln(1 + eˣ) without overflow.
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    };
    mean(logits.iter().zip(truth).map(each))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        scores: Vec<f32>,
        truth: Vec<bool>,
        labels: usize,
        ap: Vec<Option<f64>>,
        thresholds: Vec<f64>,
        f1: Vec<f64>,
        micro_f1: f64,
        macro_f1: f64,
        bce: f64,
        best_f1: Vec<f64>,
    }

    fn column<T: Copy>(all: &[T], labels: usize, label: usize) -> Vec<T> {
        all.iter().skip(label).step_by(labels).copied().collect()
    }

    /// Reference values by scikit-learn and PyTorch: `tools/golden/tasks.py`.
    #[test]
    fn scores_are_those_of_the_reference() {
        let text = include_str!("../../../../fixtures/tasks/labels.json");
        for c in serde_json::from_str::<Vec<Case>>(text).unwrap() {
            let near = |a: f64, b: f64, what: &str| assert!((a - b).abs() < 1e-9, "{what}: {a} {b}");
            let mut counts = Vec::new();
            for label in 0..c.labels {
                let (scores, truth) = (column(&c.scores, c.labels, label), column(&c.truth, c.labels, label));
                let ap = average_precision(&scores, &truth);
                assert_eq!(ap.is_some(), c.ap[label].is_some());
                near(ap.unwrap_or(0.0), c.ap[label].unwrap_or(0.0), "AP");
                let named = |from: f64| scores.iter().map(move |s| f64::from(*s) >= from);
                counts.push(Counts::of(named(c.thresholds[label]), truth.clone()));
                near(counts[label].f1().unwrap_or(0.0), c.f1[label], "F1");
                if let Some(best) = best_threshold(&scores, &truth) {
                    near(Counts::of(named(best), truth).f1().unwrap(), c.best_f1[label], "best F1");
                }
            }
            near(micro_f1(&counts), c.micro_f1, "micro F1");
            near(macro_f1(&counts), c.macro_f1, "macro F1");
            assert!(
                (bce(&c.scores, &c.truth) - c.bce).abs() < 1e-6,
                "{} {}",
                bce(&c.scores, &c.truth),
                c.bce
            );
        }
    }

    #[test]
    fn a_broken_network_is_worth_what_chance_is() {
        assert_eq!(average_precision(&[f32::NAN; 4], &[true, false, false, false]), Some(0.25));
        assert_eq!(average_precision(&[1.0], &[false]), None);
        let between = best_threshold(&[0.9, 0.5, 0.1], &[true, true, false]).unwrap();
        assert!((between - 0.3).abs() < 1e-6, "{between}");
        assert!(micro_f1(&[]).is_nan() && macro_f1(&[Counts::default()]).is_nan());
    }
}
