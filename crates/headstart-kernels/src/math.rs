//! Elementary functions in plain Rust, so that loops over them vectorise; the library's would be a call
//! per element.

use crate::simd::mul_add;

/// Computes e^x for x <= 0, with subnormal results as 0; a unit in the last place off, with Cephes'
/// coefficients.
#[inline(always)]
pub(crate) fn exp(fma: bool, x: f32) -> f32 {
    /// Adding and subtracting 1.5 * 2^23 rounds to an integer, and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LEAST: f32 = -87.336_54; // ln of the smallest normal number
    let small = x < LEAST;
    let x = if small { LEAST } else { x };
    let shifted = mul_add(fma, x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, the first with few bits, so that n times it is exact.
    let r = mul_add(fma, n, -0.693_359_4, x);
    let r = mul_add(fma, n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = mul_add(fma, p, r, coefficient);
    }
    let p = mul_add(fma, p, r * r, r) + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if small { 0.0 } else { p * power }
}

/// Computes the logistic function 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid(fma: bool, x: f32) -> f32 {
    let e = exp(fma, -x.abs());
    let s = 1.0 / (1.0 + e);
    if x < 0.0 { e * s } else { s }
}

/// Computes the normal distribution's Φ(x) and its density φ(x).
///
/// Abramowitz & Stegun 7.1.26: the tail is a polynomial in 1 / (1 + p x) times e^(-x²/2); off by less than 2e-7.
#[inline(always)]
pub(crate) fn normal(fma: bool, x: f32) -> (f32, f32) {
    const FRAC_1_SQRT_TAU: f32 = 0.398_942_3;
    let bell = exp(fma, -0.5 * x * x);
    let t = 1.0 / mul_add(fma, x.abs(), 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2, 1.0);
    // Half of the series' coefficients: Φ is half of 1 + erf.
    let mut p = 0.530_702_7;
    for coefficient in [-0.726_576, 0.710_706_9, -0.142_248_37, 0.127_414_8] {
        p = mul_add(fma, p, t, coefficient);
    }
    let tail = p * t * bell;
    (if x < 0.0 { tail } else { 1.0 - tail }, FRAC_1_SQRT_TAU * bell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_and_keeps_nan() {
        for fma in [false, true] {
            for i in 0..87_000 {
                let x = -i as f32 / 1000.0;
                let want = f64::from(x).exp();
                let error = (f64::from(exp(fma, x)) - want).abs() / want;
                assert!(error < 2e-7, "exp({x}): relative error {error}");
            }
            assert_eq!(exp(fma, 0.0), 1.0);
            assert_eq!(exp(fma, f32::NEG_INFINITY), 0.0);
            assert!(exp(fma, f32::NAN).is_nan());
        }
    }

    #[test]
    fn sigmoid_is_accurate() {
        for fma in [false, true] {
            for i in -40_000..40_000 {
                let x = i as f32 / 500.0;
                let want = 1.0 / (1.0 + (-f64::from(x)).exp());
                let error = (f64::from(sigmoid(fma, x)) - want).abs() / want;
                assert!(error < 4e-7, "sigmoid({x}): relative error {error}");
            }
            assert!(sigmoid(fma, f32::NAN).is_nan());
        }
    }

    #[test]
    fn normal_matches_its_integral() {
        // Simpson's rule from 0, in steps of 1/500.
        let phi = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
        let (mut area, h) = (0.5, 0.002);
        for i in 0..4000 {
            let x = f64::from(i) * h;
            for fma in [false, true] {
                for (sign, want) in [(1.0, area), (-1.0, 1.0 - area)] {
                    let (cdf, density) = normal(fma, sign * x as f32);
                    assert!((f64::from(cdf) - want).abs() < 3e-7, "Φ({sign}·{x}): {cdf}, not {want}");
                    assert!((f64::from(density) - phi(x)).abs() < 2e-7, "φ({sign}·{x}): {density}");
                }
            }
            area += h / 6.0 * (phi(x) + 4.0 * phi(x + h / 2.0) + phi(x + h));
        }
        assert!(normal(true, f32::NAN).0.is_nan());
    }
}
