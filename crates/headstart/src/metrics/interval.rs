//! How sure a measured number is: intervals that cover the truth in, say, 95 of 100 cases.

/// A range that holds the true value with the stated confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Returns Wilson's interval for a fraction `right / total` (1927): unlike ±1.96 standard errors
/// it stays within 0..1 and is honest near both ends.
///
/// `confidence` is 0.95, say. Without samples nothing is known: 0..1.
/// Panics if `right > total` or `confidence` is not between 0 and 1.
///
/// ```
/// let i = headstart::metrics::wilson(95, 100, 0.95);
/// assert!(i.low > 0.88 && i.high < 0.98);
/// ```
pub fn wilson(right: usize, total: usize, confidence: f64) -> Interval {
    assert!(right <= total, "{right} right of {total}");
    let z = two_sided_z(confidence);
    if total == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (n, p) = (total as f64, right as f64 / total as f64);
    let centre = p + z * z / (2.0 * n);
    let reach = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    // Rounding could leave −1e-17 or miss 1 where the ends are exact.
    let low = if right == 0 { 0.0 } else { (centre - reach) / scale };
    let high = if right == total { 1.0 } else { (centre + reach) / scale };
    Interval { low, high }
}

/// Returns the percentile bootstrap interval of any statistic of `samples` samples.
///
/// `statistic` gets, `resamples` times, a list of sample numbers drawn with replacement. The same
/// seed gives the same interval. Values that are not numbers (a resample without any sample of a
/// class, say) are left out; if all are, both ends are NaN.
///
/// Two networks are compared by a statistic of their difference on the same samples:
///
/// ```
/// use headstart::metrics::bootstrap;
///
/// let (a, b) = ([1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]);
/// let gain = bootstrap(4, 1000, 0.95, 0, |pick| pick.iter().map(|&i| a[i] - b[i]).sum::<f64>() / 4.0);
/// assert!(gain.low >= 0.0 && gain.high <= 1.0);
/// ```
pub fn bootstrap(
    samples: usize,
    resamples: usize,
    confidence: f64,
    seed: u64,
    mut statistic: impl FnMut(&[usize]) -> f64,
) -> Interval {
    assert!(confidence > 0.0 && confidence < 1.0, "confidence {confidence} is not between 0 and 1");
    let mut state = seed;
    let mut pick = vec![0; samples];
    let mut values = Vec::with_capacity(resamples);
    for _ in 0..if samples == 0 { 0 } else { resamples } {
        pick.fill_with(|| ((u128::from(split_mix(&mut state)) * samples as u128) >> 64) as usize);
        values.push(statistic(&pick));
    }
    values.retain(|v| !v.is_nan());
    values.sort_by(f64::total_cmp);
    let tail = 0.5 * (1.0 - confidence);
    Interval { low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) }
}

/// Returns the bootstrap interval of a mean.
pub fn bootstrap_mean(values: &[f64], resamples: usize, confidence: f64, seed: u64) -> Interval {
    bootstrap(values.len(), resamples, confidence, seed, |pick| {
        pick.iter().map(|&i| values[i]).sum::<f64>() / values.len() as f64
    })
}

/// SplitMix64 (Steele, Lea & Flood 2014); here because `metrics` imports nothing of the library.
pub(super) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Linear interpolation between order statistics, numpy's default.
pub(super) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = q * last as f64;
    let (below, t) = (at.floor() as usize, at.fract());
    sorted[below] + t * (sorted[(below + 1).min(last)] - sorted[below])
}

/// How many standard deviations either side of the mean hold `confidence` of a normal distribution.
fn two_sided_z(confidence: f64) -> f64 {
    assert!(confidence > 0.0 && confidence < 1.0, "confidence {confidence} is not between 0 and 1");
    let q = 0.5 * (1.0 - confidence);
    // Abramowitz & Stegun 26.2.23 is good to 4.5e-4; two Newton steps on the tail make it exact.
    let t = (-2.0 * q.ln()).sqrt();
    let mut z = t
        - (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
    for _ in 0..2 {
        let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
        z += (upper_tail(z) - q) / density;
    }
    z
}

/// Probability beyond `z` ≥ 0: a series near the middle, a continued fraction far out.
fn upper_tail(z: f64) -> f64 {
    let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    if z < 3.0 {
        // Φ(z) − ½ = φ(z) · (z + z³/3 + z⁵/15 + …)
        let (mut term, mut sum) = (z, z);
        for k in 1..60 {
            term *= z * z / f64::from(2 * k + 1);
            sum += term;
        }
        0.5 - density * sum
    } else {
        let fraction = (1..60).rev().fold(z, |rest, k| z + f64::from(k) / rest);
        density / fraction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn z_is_the_one_in_the_tables() {
        for (confidence, z) in
            [(0.5, 0.674_489_750), (0.95, 1.959_963_985), (0.99, 2.575_829_304), (0.9999, 3.890_591_886)]
        {
            assert!((two_sided_z(confidence) - z).abs() < 1e-8, "{confidence}: {}", two_sided_z(confidence));
        }
    }

    #[test]
    fn wilson_matches_published_values() {
        // 81 of 263: 0.2553 to 0.3662; 0 of 20: 0 to 0.1611; 1 of 29: 0.0061 to 0.1718 (Newcombe 1998).
        for (right, total, low, high) in
            [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let i = wilson(right, total, 0.95);
            assert!((i.low - low).abs() < 5e-5 && (i.high - high).abs() < 5e-5, "{right}/{total}: {i:?}");
        }
        assert_eq!(wilson(20, 20, 0.95).high, 1.0);
        assert_eq!(wilson(0, 0, 0.95), Interval { low: 0.0, high: 1.0 });
    }

    #[test]
    fn bootstrap_of_a_fraction_is_close_to_wilson() {
        let values: Vec<f64> = (0..200).map(|i| f64::from(i < 140)).collect();
        let (b, w) = (bootstrap_mean(&values, 4000, 0.95, 1), wilson(140, 200, 0.95));
        assert!((b.low - w.low).abs() < 0.01 && (b.high - w.high).abs() < 0.01, "{b:?} {w:?}");
    }

    #[test]
    fn the_seed_decides_the_resamples() {
        let values: Vec<f64> = (0..50).map(|i| f64::from(i).sqrt()).collect();
        let draw = |seed| bootstrap_mean(&values, 200, 0.95, seed);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn nothing_to_resample_is_not_a_number() {
        assert!(bootstrap_mean(&[], 100, 0.95, 0).low.is_nan());
        assert_eq!(bootstrap_mean(&[0.25; 3], 10, 0.95, 0), Interval { low: 0.25, high: 0.25 });
    }
}
