//! Fewer labels than there are: a part of the training pictures keeps them, the same for every recipe.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Sample, bad};
use crate::error::Result;
use crate::rng::Rng;
use crate::task::Task;

/// How many training pictures of each class keep their label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Few {
    /// This many, or all where there are fewer.
    PerClass(usize),
    /// This share, at least one.
    Share(f64),
}

impl fmt::Display for Few {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerClass(n) => write!(f, "{n} a class"),
            Self::Share(share) => write!(f, "{:.3} % of each class", 100.0 * share),
        }
    }
}

impl Dataset {
    /// Takes the labels from all but a few training pictures of each class, drawn by `seed`; returns those without.
    pub fn keep_few(&mut self, few: Few, seed: u64) -> Result<Vec<Sample>> {
        if self.task != Task::Classify {
            return Err(bad(
                &self.root,
                format!("a few of each class are asked for, but these are {}", self.task.noun()),
                "drop `--labels-per-class` and `--fraction`",
            ));
        }
        let mut by_class = vec![Vec::new(); self.classes.len()];
        self.train.iter().enumerate().for_each(|(i, sample)| by_class[sample.label].push(i));
        let mut keeps = vec![false; self.train.len()];
        for (class, members) in by_class.iter_mut().enumerate() {
            Rng::keyed(&[seed, 0xFE, class as u64]).shuffle(members);
            let wanted = match few {
                Few::PerClass(n) => n,
                Few::Share(share) => ((share * members.len() as f64).round() as usize).max(1),
            };
            members.iter().take(wanted).for_each(|i| keeps[*i] = true);
        }
        let mut keeps = keeps.into_iter();
        let (kept, rest) =
            std::mem::take(&mut self.train).into_iter().partition(|_| keeps.next().expect("one a picture"));
        self.train = kept;
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Classes;

    fn set() -> Dataset {
        let classes = Classes::sorted(["a", "b"].map(String::from));
        let train = (0..30).map(|i| Sample { path: format!("{i}.png").into(), label: usize::from(i >= 20) });
        Dataset { classes, train: train.collect(), ..Dataset::default() }
    }

    #[test]
    fn every_class_keeps_its_part_and_nothing_is_lost() {
        for (few, expected) in
            [(Few::PerClass(4), [4, 4]), (Few::Share(0.1), [2, 1]), (Few::PerClass(15), [15, 10])]
        {
            let mut data = set();
            let rest = data.keep_few(few, 3).unwrap();
            assert_eq!(data.class_counts(crate::data::Split::Train), expected);
            let mut all: Vec<_> = data.train.iter().chain(&rest).map(|s| s.path.clone()).collect();
            all.sort();
            let mut before: Vec<_> = set().train.into_iter().map(|s| s.path).collect();
            before.sort();
            assert_eq!(all, before);
            let mut again = set();
            again.keep_few(few, 3).unwrap();
            assert_eq!(again.train, data.train, "the seed decides");
        }
    }
}
