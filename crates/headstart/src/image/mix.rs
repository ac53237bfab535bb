//! Mixing the pictures of a batch and their labels: MixUp and CutMix.
//!
//! As in torchvision and timm, each picture is mixed with its neighbour in the batch (the batch
//! is already in random order) and one mixing weight serves the whole batch.

use super::key::beta;
use crate::rng::Rng;

/// Which mixing to use, and how strongly; 0 turns one off.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Mix {
    /// Parameter of MixUp's Beta distribution (Zhang et al. 2017).
    pub mixup: f32,
    /// Parameter of CutMix's Beta distribution (Yun et al. 2019).
    pub cutmix: f32,
}

/// Mixes a batch in place.
///
/// `x` is `[n][height][width][channels]`, `targets` is `[n][classes]` and holds soft labels (one-hot or
/// smoothed). When both kinds are on, a fair coin chooses for the batch. Returns the weight that
/// the first picture of each pair kept, 1 if nothing was mixed.
///
/// Panics if the lengths do not fit.
pub fn mix(
    x: &mut [f32],
    targets: &mut [f32],
    n: usize,
    size: (usize, usize),
    mix: Mix,
    rng: &mut Rng,
) -> f32 {
    let channels = x.len() / (n * size.0 * size.1).max(1);
    let room = n * size.0 * size.1 * channels;
    assert!(room > 0 && x.len() == room, "{} values for {n} pictures of {size:?}", x.len());
    assert!(targets.len().is_multiple_of(n), "{} targets for {n} pictures", targets.len());
    let cut = match (mix.mixup > 0.0, mix.cutmix > 0.0) {
        (false, false) => return 1.0,
        (true, true) => rng.chance(0.5),
        (_, cut) => cut,
    };
    let strength = f64::from(if cut { mix.cutmix } else { mix.mixup });
    let mut weight = beta(rng, strength, strength) as f32;
    if cut {
        let (height, width) = size;
        let window = cut_window(height, width, weight, rng);
        let erased = (window.rows.len() * window.columns.len()) as f32;
        // The window may be clipped at the border: its true area decides.
        weight = 1.0 - erased / (height * width) as f32;
        roll(x, n, |own, other| {
            for row in window.rows.clone() {
                let span = (row * width + window.columns.start) * channels
                    ..(row * width + window.columns.end) * channels;
                own[span.clone()].copy_from_slice(&other[span]);
            }
        });
    } else {
        roll(x, n, |own, other| blend(own, other, weight));
    }
    roll(targets, n, |own, other| blend(own, other, weight));
    weight
}

fn blend(own: &mut [f32], other: &[f32], weight: f32) {
    own.iter_mut().zip(other).for_each(|(a, b)| *a = weight * *a + (1.0 - weight) * b);
}

/// Combines every item with the one before it, the first with the last, all as they were.
fn roll(items: &mut [f32], n: usize, combine: impl Fn(&mut [f32], &[f32])) {
    let len = items.len() / n;
    let last = items[(n - 1) * len..].to_vec();
    for i in (1..n).rev() {
        let (before, own) = items.split_at_mut(i * len);
        combine(&mut own[..len], &before[(i - 1) * len..]);
    }
    combine(&mut items[..len], &last);
}

struct Window {
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

/// Draws a window that covers `1 - weight` of the picture where it is not clipped.
fn cut_window(height: usize, width: usize, weight: f32, rng: &mut Rng) -> Window {
    let half = 0.5 * (1.0 - weight).max(0.0).sqrt();
    let mut side = |length: usize| {
        let centre = rng.below(length);
        let reach = (half * length as f32) as usize;
        centre.saturating_sub(reach)..(centre + reach).min(length)
    };
    Window { rows: side(height), columns: side(width) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(n: usize) -> (Vec<f32>, Vec<f32>) {
        let x = (0..n).flat_map(|i| vec![i as f32; 8 * 6 * 3]).collect();
        let targets = (0..n * n).map(|at| f32::from(u8::from(at / n == at % n))).collect();
        (x, targets)
    }

    #[test]
    fn labels_are_mixed_as_much_as_pixels() {
        for kind in [Mix { mixup: 0.4, cutmix: 0.0 }, Mix { mixup: 0.0, cutmix: 1.0 }] {
            for seed in 0..40 {
                let (mut x, mut targets) = batch(4);
                let weight = mix(&mut x, &mut targets, 4, (8, 6), kind, &mut Rng::keyed(&[seed]));
                for i in 0..4 {
                    let own = &targets[i * 4..i * 4 + 4];
                    assert!((own.iter().sum::<f32>() - 1.0).abs() < 1e-6);
                    assert!((own[i] - weight).abs() < 1e-6, "{kind:?} {own:?} {weight}");
                    let mean = x[i * 144..(i + 1) * 144].iter().sum::<f32>() / 144.0;
                    let want = weight * i as f32 + (1.0 - weight) * ((i + 3) % 4) as f32;
                    assert!((mean - want).abs() < 1e-4, "{kind:?}: {mean} {want}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_mixed_when_both_are_off_or_the_batch_is_one_picture() {
        let (mut x, mut targets) = batch(3);
        assert_eq!(mix(&mut x, &mut targets, 3, (8, 6), Mix::default(), &mut Rng::keyed(&[1])), 1.0);
        assert_eq!((x, targets), batch(3));
        let (mut x, mut targets) = batch(1);
        mix(&mut x, &mut targets, 1, (8, 6), Mix { mixup: 1.0, cutmix: 1.0 }, &mut Rng::keyed(&[1]));
        assert!((targets[0] - 1.0).abs() < 1e-6);
    }
}
