//! LEEP (Nguyen et al., "LEEP: A new measure to evaluate transferability", ICML 2020).

/// Returns the mean log probability of the right class when the network's own classes are translated into the new
/// ones by how often they go together; at most 0, higher is better.
///
/// `source` holds the probabilities of the `source_classes` the network was trained for, picture by picture.
pub fn leep(source: &[f32], source_classes: usize, labels: &[usize], classes: usize) -> f64 {
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
    let log = |p: &[f32], label: usize| {
        let row = &joint[label * source_classes..(label + 1) * source_classes];
        let terms = p.iter().zip(row).zip(&margin).filter(|(_, m)| **m > 0.0);
        terms.map(|((p, joint), margin)| f64::from(*p) * joint / margin).sum::<f64>().ln()
    };
    let total: f64 = source.chunks_exact(source_classes).zip(labels).map(|(p, label)| log(p, *label)).sum();
    total / labels.len() as f64
}
