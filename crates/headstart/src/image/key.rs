//! The key of a random choice: a picture at a moment of training.
//!
//! Every operation on the picture opens its own stream of [`crate::rng`], so the same picture gets
//! the same augmentation whatever thread draws it and in whatever order, and a resumed run needs
//! no generator state.

use crate::rng::Rng;

/// Names a picture at a moment of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Key {
    /// Seed of the run.
    pub seed: u64,
    /// Epoch, or number of the cached view.
    pub epoch: u64,
    /// Index of the sample in its list.
    pub sample: u64,
}

impl Key {
    /// Opens the stream of operation number `op`.
    pub fn stream(self, op: u64) -> Rng {
        Rng::keyed(&[self.seed, self.epoch, self.sample, op])
    }
}

/// Draws from the Beta distribution.
///
/// Panics unless both parameters are positive.
pub fn beta(rng: &mut Rng, a: f64, b: f64) -> f64 {
    assert!(a > 0.0 && b > 0.0, "Beta needs positive parameters, not {a} and {b}");
    let (x, y) = (log_gamma_draw(rng, a), log_gamma_draw(rng, b));
    // Tiny parameters underflow a plain ratio x / (x + y); their logarithms do not.
    1.0 / (1.0 + (y - x).exp())
}

/// Returns the logarithm of a Gamma(`shape`, 1) draw (Marsaglia & Tsang 2000).
fn log_gamma_draw(rng: &mut Rng, shape: f64) -> f64 {
    if shape < 1.0 {
        let boost = open_unit(rng).ln() / shape;
        return log_gamma_draw(rng, shape + 1.0) + boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = f64::from(rng.normal());
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && open_unit(rng).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln();
        }
    }
}

/// Returns a number in `(0, 1]`, which has a logarithm.
fn open_unit(rng: &mut Rng) -> f64 {
    1.0 - f64::from(rng.unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_every_part_of_its_key() {
        let key = Key { seed: 1, epoch: 2, sample: 3 };
        let first = |key: Key, op| key.stream(op).bits();
        let same = first(key, 4);
        assert_eq!(same, first(key, 4));
        for (other, op) in [
            (Key { seed: 2, ..key }, 4),
            (Key { epoch: 3, ..key }, 4),
            (Key { sample: 2, ..key }, 4),
            (Key { epoch: 3, sample: 2, ..key }, 4),
            (key, 5),
        ] {
            assert_ne!(same, first(other, op), "{other:?} {op}");
        }
    }

    #[test]
    fn beta_has_its_moments() {
        let mut rng = Rng::keyed(&[7]);
        for (a, b) in [(0.2, 0.2), (1.0, 1.0), (2.0, 5.0)] {
            let draws: Vec<f64> = (0..40_000).map(|_| beta(&mut rng, a, b)).collect();
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
            let want = a * b / ((a + b).powi(2) * (a + b + 1.0));
            assert!(
                (mean - a / (a + b)).abs() < 0.01 && (variance - want).abs() < 0.01,
                "{a} {b}: {mean} {variance}"
            );
        }
        let tiny = beta(&mut rng, 1e-3, 1e-3);
        assert!((0.0..=1.0).contains(&tiny), "{tiny}");
    }
}
