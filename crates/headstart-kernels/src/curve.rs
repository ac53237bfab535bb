//! Smooth activations, whose gradient needs the input: GELU, SiLU and their piecewise relatives.
//!
//! [`crate::Act`] holds the ones that only clamp, which every kernel applies on its way out.

use crate::Level;
use crate::math::{normal, sigmoid};
use crate::simd::{at, chunk, chunks};
use crate::threads::{SharedMut, parallel_for};

/// Floats per task: with the gradient they stay in L2, and the curves cost some nanoseconds each.
const CHUNK: usize = 1 << 14;

/// A smooth function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    /// `x Φ(x)`, with the error function itself: Hendrycks & Gimpel 2016.
    Gelu,
    /// `x σ(1.702 x)`, the approximation that CLIP was trained with.
    QuickGelu,
    /// `x σ(x)`, also called swish.
    Silu,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `x · min(max(x + 3, 0), 6) / 6`.
    HardSwish,
    /// `min(max(x + 3, 0), 6) / 6`.
    HardSigmoid,
}

/// Replaces each value by the curve's.
pub fn forward(curve: Curve, x: &mut [f32]) {
    forward_at(Level::current(), curve, x);
}

/// Writes the curve's values of `x` to `y`.
pub fn forward_to(curve: Curve, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "input and output differ in length");
    run(y, |y, from| {
        y.copy_from_slice(&x[from..][..y.len()]);
        values(Level::current(), curve, y);
    });
}

/// Multiplies `dy` by the slope at `x`: replaces the output's gradient by the input's.
pub fn backward(curve: Curve, x: &[f32], dy: &mut [f32]) {
    backward_at(Level::current(), curve, x, dy);
}

fn forward_at(level: Level, curve: Curve, x: &mut [f32]) {
    run(x, |x, _| values(level, curve, x));
}

fn backward_at(level: Level, curve: Curve, x: &[f32], dy: &mut [f32]) {
    assert_eq!(x.len(), dy.len(), "input and gradient differ in length");
    run(dy, |dy, from| slopes(level, curve, &x[from..][..dy.len()], dy));
}

/// Calls `task(part, start)` for each chunk of `x`.
fn run(x: &mut [f32], task: impl Fn(&mut [f32], usize) + Sync) {
    let len = x.len();
    let x = SharedMut::new(x);
    parallel_for(chunks(len, CHUNK), |index| {
        let (from, len) = chunk(len, CHUNK, index);
        // SAFETY: chunks are disjoint and each index runs once.
        task(unsafe { x.part(from, len) }, from);
    });
}

/// Clamps to 0..1 what is linear between -3 and 3; NaN passes.
#[inline(always)]
fn ramp(x: f32) -> f32 {
    let y = x * (1.0 / 6.0) + 0.5;
    let y = if y < 0.0 { 0.0 } else { y };
    if y > 1.0 { 1.0 } else { y }
}

/// Computes the curve's value. `curve` is known where this is inlined.
#[inline(always)]
fn value(curve: Curve, fma: bool, x: f32) -> f32 {
    match curve {
        Curve::Gelu => x * normal(fma, x).0,
        Curve::QuickGelu => x * sigmoid(fma, 1.702 * x),
        Curve::Silu => x * sigmoid(fma, x),
        Curve::Sigmoid => sigmoid(fma, x),
        Curve::HardSwish => x * ramp(x),
        Curve::HardSigmoid => ramp(x),
    }
}

/// Computes the curve's slope.
#[inline(always)]
fn slope(curve: Curve, fma: bool, x: f32) -> f32 {
    match curve {
        Curve::Gelu => {
            let (cdf, density) = normal(fma, x);
            cdf + x * density
        }
        Curve::QuickGelu => swish_slope(fma, 1.702, x),
        Curve::Silu => swish_slope(fma, 1.0, x),
        Curve::Sigmoid => {
            let s = sigmoid(fma, x);
            s * (1.0 - s)
        }
        Curve::HardSwish => {
            let inside = x * (1.0 / 3.0) + 0.5;
            let slope = if x <= -3.0 { 0.0 } else { inside };
            if x >= 3.0 { 1.0 } else { slope }
        }
        Curve::HardSigmoid => {
            if (x <= -3.0) | (x >= 3.0) {
                0.0
            } else {
                1.0 / 6.0
            }
        }
    }
}

/// The slope of `x σ(a x)`.
#[inline(always)]
fn swish_slope(fma: bool, a: f32, x: f32) -> f32 {
    let s = sigmoid(fma, a * x);
    s * (1.0 + a * x * (1.0 - s))
}

/// Calls `$run` with the curve as a constant, so that each has a loop of its own.
macro_rules! each_curve {
    ($curve:expr, $run:ident) => {
        match $curve {
            Curve::Gelu => $run!(Curve::Gelu),
            Curve::QuickGelu => $run!(Curve::QuickGelu),
            Curve::Silu => $run!(Curve::Silu),
            Curve::Sigmoid => $run!(Curve::Sigmoid),
            Curve::HardSwish => $run!(Curve::HardSwish),
            Curve::HardSigmoid => $run!(Curve::HardSigmoid),
        }
    };
}

// Loops rather than `for_each`: a closure that is not inlined would call `fmaf` for each element.
pub(crate) fn values(level: Level, curve: Curve, x: &mut [f32]) {
    macro_rules! run {
        ($curve:expr) => {
            at(
                level,
                #[inline(always)]
                |fma| {
                    for v in x.iter_mut() {
                        *v = value($curve, fma, *v);
                    }
                },
            )
        };
    }
    each_curve!(curve, run);
}

fn slopes(level: Level, curve: Curve, x: &[f32], dy: &mut [f32]) {
    macro_rules! run {
        ($curve:expr) => {
            at(
                level,
                #[inline(always)]
                |fma| {
                    for (d, x) in dy.iter_mut().zip(x) {
                        *d *= slope($curve, fma, *x);
                    }
                },
            )
        };
    }
    each_curve!(curve, run);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::{assert_close, noise};

    const ALL: [Curve; 6] =
        [Curve::Gelu, Curve::QuickGelu, Curve::Silu, Curve::Sigmoid, Curve::HardSwish, Curve::HardSigmoid];

    /// Φ by Simpson's rule.
    fn cdf(x: f64) -> f64 {
        let (steps, phi) = (400, |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt());
        let h = x / f64::from(steps);
        let each = |i: i32| {
            let a = f64::from(i) * h;
            h / 6.0 * (phi(a) + 4.0 * phi(a + h / 2.0) + phi(a + h))
        };
        0.5 + (0..steps).map(each).sum::<f64>()
    }

    fn definition(curve: Curve, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let ramp = (x + 3.0).clamp(0.0, 6.0) / 6.0;
        match curve {
            Curve::Gelu => x * cdf(x),
            Curve::QuickGelu => x * sigmoid(1.702 * x),
            Curve::Silu => x * sigmoid(x),
            Curve::Sigmoid => sigmoid(x),
            Curve::HardSwish => x * ramp,
            Curve::HardSigmoid => ramp,
        }
    }

    #[test]
    fn values_and_slopes_match_their_definition() {
        for level in Level::available() {
            for len in [0, 1, 17, 100, CHUNK + 3] {
                let x: Vec<f32> = noise(1, len).iter().map(|v| v * 7.0).collect();
                let dy = noise(2, len);
                for curve in ALL {
                    let stride = (len / 90).max(1);
                    let pick = |v: &[f32]| v.iter().copied().step_by(stride).collect::<Vec<_>>();
                    let mut y = x.clone();
                    forward_at(level, curve, &mut y);
                    let at: Vec<f64> = pick(&x).into_iter().map(f64::from).collect();
                    let want: Vec<f64> = at.iter().map(|x| definition(curve, *x)).collect();
                    assert_close(&pick(&y), &want, 2e-6, &format!("{level} {curve:?}"));
                    let mut dx = dy.clone();
                    backward_at(level, curve, &x, &mut dx);
                    let slope = |x: f64| (definition(curve, x + 1e-5) - definition(curve, x - 1e-5)) / 2e-5;
                    let want: Vec<f64> =
                        at.iter().zip(pick(&dy)).map(|(x, d)| slope(*x) * f64::from(d)).collect();
                    assert_close(&pick(&dx), &want, 3e-6, &format!("{level} slope of {curve:?}"));
                    let mut other = vec![9.0; len];
                    forward_to(curve, &x, &mut other);
                    assert_close(
                        &pick(&other),
                        &pick(&y).into_iter().map(f64::from).collect::<Vec<_>>(),
                        1e-6,
                        "to",
                    );
                }
            }
        }
    }

    #[test]
    fn nan_is_not_hidden() {
        for level in Level::available() {
            for curve in ALL {
                let mut x = vec![f32::NAN; 40];
                forward_at(level, curve, &mut x);
                assert!(x.iter().all(|v| v.is_nan()), "{level} {curve:?}");
            }
        }
    }
}
