//! Nearest neighbours by cosine: the plainest reading of features, with nothing to fit.

use rayon::prelude::*;

/// Returns the share of pictures whose `k` nearest others, voting equally, have their label in the majority. Ties go to
/// the lower class number.
pub fn leave_one_out(features: &[f32], width: usize, labels: &[usize], classes: usize, k: usize) -> f64 {
    super::check(features, width, labels);
    let unit: Vec<f32> = features
        .chunks_exact(width)
        .flat_map(|row| {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            row.iter().map(move |x| x / norm)
        })
        .collect();
    let row = |i: usize| &unit[i * width..(i + 1) * width];
    let right = (0..labels.len()).into_par_iter().filter(|i| {
        let mut near: Vec<(f32, usize)> =
            (0..labels.len()).filter(|j| j != i).map(|j| (dot(row(*i), row(j)), labels[j])).collect();
        let k = k.min(near.len());
        if k == 0 {
            return false;
        }
        near.select_nth_unstable_by(k - 1, |a, b| b.0.total_cmp(&a.0));
        let mut votes = vec![0; classes];
        near[..k].iter().for_each(|(_, label)| votes[*label] += 1);
        let best = (0..classes).rev().max_by_key(|class| votes[*class]);
        best == Some(labels[*i])
    });
    right.count() as f64 / labels.len() as f64
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    let (a16, b16) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a16.remainder().iter().zip(b16.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a16.zip(b16) {
        for i in 0..16 {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}
