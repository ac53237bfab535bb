//! LogME (You et al., "LogME: Practical assessment of pre-trained models for transfer learning", ICML 2021).

use super::linalg::Decomposition;

/// Returns the mean over classes of the largest log evidence per picture of a Bayesian linear model of the class's
/// indicator; higher is better.
///
/// The fixed point of the authors' code, at most eleven rounds. Where there are fewer pictures than features the
/// determinant includes all features, which that code leaves out.
pub fn logme(features: &Decomposition, labels: &[usize], classes: usize) -> f64 {
    assert_eq!(features.n, labels.len(), "one label per picture");
    (0..classes).map(|class| evidence(features, labels, class)).sum::<f64>() / classes as f64
}

fn evidence(features: &Decomposition, labels: &[usize], class: usize) -> f64 {
    let (n, d, squares) = (features.n as f64, features.width as f64, &features.squares);
    let x2: Vec<f64> = features.project(labels, class).iter().map(|x| x * x).collect();
    let total = labels.iter().filter(|l| **l == class).count() as f64;
    let beyond = (total - x2.iter().sum::<f64>()).max(0.0);
    let sum = |f: &dyn Fn(f64, f64) -> f64| squares.iter().zip(&x2).map(|(s, x)| f(*s, *x)).sum::<f64>();
    let (mut alpha, mut beta, mut m2, mut residual) = (1.0, 1.0, 0.0, 0.0);
    for _ in 0..11 {
        let t: f64 = alpha / beta;
        let gamma = sum(&|s, _| s / (s + t));
        m2 = sum(&|s, x| s * x / ((t + s) * (t + s)));
        residual = sum(&|s, x| x / ((1.0 + s / t) * (1.0 + s / t))) + beyond;
        alpha = gamma / (m2 + 1e-5);
        beta = (n - gamma) / (residual + 1e-5);
        if (alpha / beta - t).abs() / t <= 1e-3 {
            break;
        }
    }
    let determinant = sum(&|s, _| (alpha + beta * s).ln()) + (d - squares.len() as f64) * f64::ln(alpha);
    let evidence = d / 2.0 * alpha.ln() + n / 2.0 * beta.ln()
        - determinant / 2.0
        - beta / 2.0 * residual
        - alpha / 2.0 * m2
        - n / 2.0 * std::f64::consts::TAU.ln();
    evidence / n
}
