//! H-score (Bao et al., ICIP 2019) with the shrunk covariance of Ibrahim et al., "Newer is not always better",
//! ECML 2021, which keeps it meaningful when there are fewer pictures than features.

use super::linalg::{cholesky, dot, gram, solve_lower};

/// Returns `tr(cov(f)⁻¹ cov(E[f | y]))`, covariances shrunk after Ledoit & Wolf (2004); higher is better, from 0 to
/// about the number of classes less one.
pub fn h_score(features: &[f32], width: usize, labels: &[usize], classes: usize) -> f64 {
    super::check(features, width, labels);
    let n = labels.len();
    let columns = centred(features, width);
    let mut cov = covariance(&columns, width, n);
    let share = shrink(&columns, width, n, &cov);
    let mean = (0..width).map(|i| cov[i * width + i]).sum::<f64>() / width as f64;
    cov.iter_mut().for_each(|x| *x *= 1.0 - share);
    // A constant feature would make the matrix singular; what is added is below rounding for any other.
    (0..width).for_each(|i| cov[i * width + i] += share * mean + 1e-12 * mean);
    let Some(lower) = cholesky(cov, width) else { return 0.0 };
    let score: f64 = (0..classes)
        .map(|class| {
            let members: Vec<usize> = (0..n).filter(|i| labels[*i] == class).collect();
            if members.is_empty() {
                return 0.0;
            }
            let count = members.len() as f64;
            let mut mean: Vec<f64> =
                columns.chunks_exact(n).map(|c| members.iter().map(|i| c[*i]).sum::<f64>() / count).collect();
            solve_lower(&lower, width, &mut mean);
            dot(&mean, &mean) * count / (n as f64 - 1.0)
        })
        .sum();
    (1.0 - share) * score
}

/// Returns the share of the covariance that is replaced by a multiple of the identity (Ledoit & Wolf 2004).
pub fn shrinkage(features: &[f32], width: usize) -> f64 {
    let n = features.len() / width;
    let columns = centred(features, width);
    let cov = covariance(&columns, width, n);
    shrink(&columns, width, n, &cov)
}

/// Columns without their mean, `[width, n]`.
fn centred(features: &[f32], width: usize) -> Vec<f64> {
    let n = features.len() / width;
    let mut columns = vec![0.0; features.len()];
    for (j, column) in columns.chunks_mut(n.max(1)).enumerate() {
        column.iter_mut().enumerate().for_each(|(i, x)| *x = f64::from(features[i * width + j]));
        let mean = column.iter().sum::<f64>() / n as f64;
        column.iter_mut().for_each(|x| *x -= mean);
    }
    columns
}

fn covariance(columns: &[f64], width: usize, n: usize) -> Vec<f64> {
    let mut cov = gram(columns, width, n);
    cov.iter_mut().for_each(|x| *x /= n as f64);
    cov
}

fn shrink(columns: &[f64], width: usize, n: usize, cov: &[f64]) -> f64 {
    let (p, count) = (width as f64, n as f64);
    let mean = (0..width).map(|i| cov[i * width + i]).sum::<f64>() / p;
    // Σᵢⱼ Σₖ xₖᵢ² xₖⱼ² is the sum of the pictures' squared norms, squared.
    let mut norms = vec![0.0; n];
    for column in columns.chunks_exact(n) {
        norms.iter_mut().zip(column).for_each(|(s, x)| *s += x * x);
    }
    let fourth: f64 = norms.iter().map(|s| s * s).sum();
    let square = dot(cov, cov);
    let beta = (fourth / count - square) / (p * count);
    let delta = (square - p * mean * mean) / p;
    if delta <= 0.0 { 0.0 } else { beta.min(delta).max(0.0) / delta }
}
