//! LEEP (Nguyen et al., "LEEP: A new measure to evaluate transferability", ICML 2020).

/// Returns the mean log probability of the right class when the network's own classes are translated into the new
/// ones by how often they go together; at most 0, higher is better.
///
/// `source` holds the probabilities of the `source_classes` the network was trained for, picture by picture.
pub fn leep(source: &[f32], source_classes: usize, labels: &[usize], classes: usize) -> f64 {
    let together = Together::count(source, source_classes, labels, classes);
    together.mean_log(
        source,
        labels,
        |p, joint, margin, _| if margin > 0.0 { p * joint / margin } else { 0.0 },
    )
}

/// Weight of the classes' shares beside the pictures seen with a source class, in pictures.
const PRIOR: f64 = 0.03;

/// Returns the share of what there is to know about the classes that the network's own classes tell: 1 for all of it,
/// about 0 for nothing, below where there are too few pictures to say.
///
/// It is [`leep`] over the entropy of the labels, with each picture translated by the others alone: LEEP itself grows with
/// the number of classes and, where pictures are few, with their number, for each then explains itself.
pub fn told(source: &[f32], source_classes: usize, labels: &[usize], classes: usize) -> f64 {
    let together = Together::count(source, source_classes, labels, classes);
    let n = labels.len() as f64;
    let mut shares = vec![0.0; classes];
    labels.iter().for_each(|label| shares[*label] += 1.0 / n);
    let entropy = -shares.iter().filter(|s| **s > 0.0).map(|s| s * s.ln()).sum::<f64>();
    let log = together.mean_log(source, labels, |p, joint, margin, label| {
        // Sums of floats: what is left of a picture may be a hair below nothing.
        p * ((joint - p).max(0.0) + PRIOR * shares[label]) / ((margin - p).max(0.0) + PRIOR)
    });
    1.0 + log / entropy
}

/// How often classes and the network's own go together: sums of probabilities.
struct Together {
    source_classes: usize,
    /// `[classes, source_classes]`.
    joint: Vec<f64>,
    /// Its sums over the classes.
    margin: Vec<f64>,
}

impl Together {
    fn count(source: &[f32], source_classes: usize, labels: &[usize], classes: usize) -> Self {
        super::check(source, source_classes, labels);
        let mut joint = vec![0.0_f64; classes * source_classes];
        for (p, label) in source.chunks_exact(source_classes).zip(labels) {
            let row = &mut joint[label * source_classes..(label + 1) * source_classes];
            row.iter_mut().zip(p).for_each(|(sum, p)| *sum += f64::from(*p));
        }
        let mut margin = vec![0.0_f64; source_classes];
        for row in joint.chunks_exact(source_classes) {
            margin.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        Self { source_classes, joint, margin }
    }

    /// Returns the mean over pictures of ln Σ `term(probability, joint, margin, label)` over the network's own classes.
    fn mean_log(&self, source: &[f32], labels: &[usize], term: impl Fn(f64, f64, f64, usize) -> f64) -> f64 {
        let log = |(p, label): (&[f32], &usize)| {
            let row = &self.joint[label * self.source_classes..][..self.source_classes];
            let terms = p.iter().zip(row).zip(&self.margin);
            terms.map(|((p, joint), margin)| term(f64::from(*p), *joint, *margin, *label)).sum::<f64>().ln()
        };
        let total: f64 = source.chunks_exact(self.source_classes).zip(labels).map(log).sum();
        total / labels.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures whose own class is sure, `n` of each of four classes.
    fn sure(n: usize, own: impl Fn(usize, usize) -> usize) -> (Vec<f32>, Vec<usize>) {
        let labels: Vec<usize> = (0..4 * n).map(|i| i % 4).collect();
        let at = |at: usize| f32::from(u8::from(at % 8 == own(at / 8 / 4, at / 8 % 4)));
        ((0..4 * n * 8).map(at).collect(), labels)
    }

    #[test]
    fn a_class_of_its_own_tells_all_and_one_for_two_tells_half() {
        let (source, labels) = sure(50, |_, class| class);
        assert!((told(&source, 8, &labels, 4) - 1.0).abs() < 0.01);
        let (source, labels) = sure(50, |_, class| class / 2);
        assert!((told(&source, 8, &labels, 4) - 0.5).abs() < 0.02);
        // LEEP knows no scale: ln 1 and ln ½.
        assert!((leep(&source, 8, &labels, 4) + 2f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn pictures_do_not_explain_themselves() {
        // Each picture has a class of its own choice: nothing is told, which LEEP cannot see on so few.
        let (source, labels) = sure(2, |i, class| i * 4 + class);
        assert!(told(&source, 8, &labels, 4) < 0.01);
        assert!(leep(&source, 8, &labels, 4).abs() < 1e-9);
    }
}
