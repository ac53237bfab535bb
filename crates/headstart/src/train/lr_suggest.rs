//! Learning rates worth trying, from a sweep's curve: the four readings of fastai 2.8.12
//! (`callback/schedule.py`), number for number. Slices in, numbers out.

/// What a curve suggests; `None` where it is too short to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Suggestions {
    /// Half-way into the middle third of the longest descent: fastai's default.
    pub valley: Option<f64>,
    /// Where the loss falls fastest by factor of the rate.
    pub steep: Option<f64>,
    /// A tenth of the rate with the lowest loss.
    pub minimum: Option<f64>,
    /// The end of the last calm stretch before the loss rises (Novak's interval slide rule).
    pub slide: Option<f64>,
}

/// Reads a curve of smoothed losses by rate, in order of the sweep. The first `steps / 10` points and the last five
/// are left out, and everything from the first loss that is no number.
pub fn suggest(rates: &[f64], losses: &[f64], steps: usize) -> Suggestions {
    assert_eq!(rates.len(), losses.len(), "one loss per rate");
    let start = (steps / 10).min(rates.len());
    let end = rates.len().saturating_sub(5).max(start);
    let (rates, losses) = (&rates[start..end], &losses[start..end]);
    let usable = losses.iter().position(|l| l.is_nan()).unwrap_or(losses.len());
    let (rates, losses) = (&rates[..usable], &losses[..usable]);
    Suggestions {
        valley: valley(rates, losses),
        steep: steep(rates, losses),
        minimum: minimum(rates, losses),
        slide: slide(rates, losses),
    }
}

fn valley(rates: &[f64], losses: &[f64]) -> Option<f64> {
    // Length of the longest falling subsequence that ends at each point.
    let mut lengths = vec![1_usize; losses.len()];
    let (mut start, mut end) = (0, 0);
    for i in 1..losses.len() {
        for j in 0..i {
            if losses[i] < losses[j] && lengths[i] < lengths[j] + 1 {
                lengths[i] = lengths[j] + 1;
            }
            if lengths[end] < lengths[i] {
                end = i;
                // fastai's word for the start: as if the descent had no gaps.
                start = end - lengths[end].min(end);
            }
        }
    }
    let section = (end - start) as f64 / 3.0;
    rates.get(start + section as usize + (section / 2.0) as usize).copied()
}

fn steep(rates: &[f64], losses: &[f64]) -> Option<f64> {
    let slope = |i: usize| (losses[i + 1] - losses[i]) / (rates[i + 1].ln() - rates[i].ln());
    (0..losses.len().saturating_sub(1)).min_by(|a, b| slope(*a).total_cmp(&slope(*b))).map(|i| rates[i])
}

fn minimum(rates: &[f64], losses: &[f64]) -> Option<f64> {
    (0..losses.len()).min_by(|a, b| losses[*a].total_cmp(&losses[*b])).map(|i| rates[i] / 10.0)
}

fn slide(rates: &[f64], losses: &[f64]) -> Option<f64> {
    const WIDTH: usize = 15;
    const CALM: f64 = 0.005;
    let n = losses.len();
    let gradient = gradient(losses);
    let (mut right, mut left) = (n.checked_sub(1)?, n.checked_sub(1 + WIDTH)?);
    let mut found = rates[left];
    while (gradient[right] - gradient[left]).abs() > CALM {
        found = rates[left];
        right -= 1;
        let Some(next) = left.checked_sub(1) else { break };
        left = next;
    }
    Some(found)
}

/// Central differences, one-sided at the ends, as numpy's `gradient`.
fn gradient(y: &[f64]) -> Vec<f64> {
    let last = y.len().saturating_sub(1);
    (0..y.len())
        .map(|i| match i {
            _ if last == 0 => 0.0,
            0 => y[1] - y[0],
            _ if i == last => y[last] - y[last - 1],
            _ => (y[i + 1] - y[i - 1]) / 2.0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        steps: usize,
        rates: Vec<f64>,
        losses: Vec<f64>,
        valley: f64,
        steep: f64,
        minimum: f64,
        slide: f64,
    }

    /// Reference values by fastai's own functions: `tools/golden/transfer.py`.
    #[test]
    fn suggestions_are_those_of_fastai() {
        let text = include_str!("../../../../fixtures/transfer/lr_suggest.json");
        for c in serde_json::from_str::<Vec<Case>>(text).unwrap() {
            let found = suggest(&c.rates, &c.losses, c.steps);
            let pairs = [
                (found.valley, c.valley),
                (found.steep, c.steep),
                (found.minimum, c.minimum),
                (found.slide, c.slide),
            ];
            for (found, expected) in pairs {
                assert!((found.unwrap() / expected - 1.0).abs() < 1e-12, "{found:?} {expected}");
            }
        }
    }

    #[test]
    fn short_or_broken_curves_suggest_nothing_rather_than_nonsense() {
        assert_eq!(suggest(&[], &[], 100), Suggestions::default());
        assert_eq!(suggest(&[1e-3; 12], &[f64::NAN; 12], 10), Suggestions::default());
        let flat = suggest(&[1e-4, 1e-3, 1e-2, 1e-1, 1.0, 2.0, 3.0, 4.0], &[1.0; 8], 1);
        assert_eq!((flat.slide, flat.valley), (None, Some(1e-4)));
    }
}
