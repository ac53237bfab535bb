//! Pairs of pictures whose features point the same way: the same scene in another crop, light or encoding.

use rayon::prelude::*;

/// Pictures compared with one another at a time; their features stay in the nearest cache.
const BLOCK: usize = 64;

/// Returns the pairs `(i, j, cosine)`, `i < j`, whose features `[n, width]` reach `threshold` once their common mean is
/// taken away, in order of `i`, then `j`.
///
/// Without that, features after a rectifier all point roughly one way and cosines near 1 mean little.
pub fn close_pairs(features: &[f32], width: usize, threshold: f32) -> Vec<(usize, usize, f32)> {
    assert!(width > 0 && features.len().is_multiple_of(width), "features are not pictures × width");
    let n = features.len() / width;
    let mut mean = vec![0.0_f64; width];
    for row in features.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += f64::from(*x) / n as f64);
    }
    let unit: Vec<f32> = (features.chunks_exact(width))
        .flat_map(|row| {
            let off: Vec<f32> = row.iter().zip(&mean).map(|(x, m)| (f64::from(*x) - m) as f32).collect();
            let norm = off.iter().map(|x| x * x).sum::<f32>().sqrt();
            // Exactly the mean: no direction, close to nothing.
            let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
            off.into_iter().map(move |x| x * scale)
        })
        .collect();
    let row = |i: usize| &unit[i * width..(i + 1) * width];
    let blocks = n.div_ceil(BLOCK);
    let mut pairs: Vec<(usize, usize, f32)> = (0..blocks)
        .into_par_iter()
        .flat_map_iter(|a| (a..blocks).map(move |b| (a, b)))
        .flat_map_iter(|(a, b)| {
            let range = |block: usize| block * BLOCK..((block + 1) * BLOCK).min(n);
            let mut found = Vec::new();
            for i in range(a) {
                for j in range(b).filter(|j| *j > i) {
                    let cosine = super::knn::dot(row(i), row(j));
                    if cosine >= threshold {
                        found.push((i, j, cosine));
                    }
                }
            }
            found
        })
        .collect();
    pairs.sort_by_key(|(i, j, _)| (*i, *j));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn planted_pairs_are_found_and_no_others() {
        let (n, width) = (150, 40);
        let mut rng = Rng::keyed(&[9]);
        // A large common part, as after a rectifier.
        let mut features: Vec<f32> = (0..n * width).map(|_| 5.0 + rng.normal()).collect();
        for (from, to) in [(3, 140), (70, 71)] {
            for k in 0..width {
                features[to * width + k] = features[from * width + k] + 0.05 * rng.normal();
            }
        }
        let found: Vec<_> = close_pairs(&features, width, 0.95).into_iter().map(|(i, j, _)| (i, j)).collect();
        assert_eq!(found, [(3, 140), (70, 71)]);
        assert!(close_pairs(&[1.0; 12], 4, 0.5).is_empty(), "equal to the mean has no direction");
    }
}
