//! In which order, and how often, an epoch shows the pictures.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// How the pictures of an epoch are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// Each picture once, in random order.
    #[default]
    Shuffle,
    /// As many draws as there are pictures, with replacement, every class as likely as any other
    /// (PyTorch's `WeightedRandomSampler` with weights inverse to class sizes).
    Balanced,
}

impl Sampler {
    /// Tells whether this is the default, which recipes need not mention.
    pub(super) fn is_shuffle(&self) -> bool {
        *self == Self::Shuffle
    }

    /// Returns picture numbers in the order of an epoch.
    pub fn order(self, labels: &[usize], rng: &mut Rng) -> Vec<usize> {
        let mut order: Vec<usize> = (0..labels.len()).collect();
        if self == Self::Shuffle {
            rng.shuffle(&mut order);
            return order;
        }
        let classes = labels.iter().max().map_or(0, |m| m + 1);
        let mut members = vec![Vec::new(); classes];
        labels.iter().enumerate().for_each(|(i, label)| members[*label].push(i));
        members.retain(|m| !m.is_empty());
        order.fill_with(|| {
            let class = &members[rng.below(members.len())];
            class[rng.below(class.len())]
        });
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_epochs_show_classes_equally_often() {
        let labels: Vec<usize> = (0..2000).map(|i| usize::from(i >= 1900) * 2).collect();
        let order = Sampler::Balanced.order(&labels, &mut Rng::keyed(&[1]));
        let rare = order.iter().filter(|i| labels[**i] == 2).count();
        assert!(order.len() == 2000 && (900..1100).contains(&rare), "{rare}");
        let mut once = Sampler::Shuffle.order(&labels, &mut Rng::keyed(&[1]));
        once.sort_unstable();
        assert_eq!(once, (0..2000).collect::<Vec<_>>());
    }
}
