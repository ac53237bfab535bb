//! What becomes of the trained weights at the end: an average of epochs, a step back towards the start.
//!
//! "Soup": Wortsman et al., "Model soups", ICML 2022, of the epochs of one run, as SWA (Izmailov et al.,
//! UAI 2018). "WiSE-FT": Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
//! Running statistics are averaged with the weights. Tensors that agree in every bit stay as they are.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use super::checkpoint::{Named, Place};
use crate::error::{Error, Result};

/// Which epochs of the last phase are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// The last so many.
    Last(usize),
    /// The best so many, by validation top-1, mAP or RMSE, ties by loss.
    Best(usize),
}

impl fmt::Display for Average {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last(n) => write!(f, "last({n})"),
            Self::Best(n) => write!(f, "best({n})"),
        }
    }
}

impl FromStr for Average {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |what: String| Error::BadRecipe {
            place: "average".into(),
            what,
            hint: "write `last(3)` or `best(3)`; each epoch kept costs the memory of the weights once".into(),
        };
        let (name, rest) =
            text.trim().split_once('(').ok_or_else(|| bad(format!("`{text}` has no count")))?;
        let count = rest.strip_suffix(')').and_then(|n| n.trim().parse::<usize>().ok());
        let count = count
            .filter(|n| (2..=100).contains(n))
            .ok_or_else(|| bad(format!("`{text}` has no count from 2 to 100")))?;
        match name.trim() {
            "last" => Ok(Self::Last(count)),
            "best" => Ok(Self::Best(count)),
            _ => Err(bad(format!("`{name}` is neither `last` nor `best`"))),
        }
    }
}

impl Average {
    /// Takes in the weights of the epoch just booked into `place.history`, and lets go of what is no longer wanted.
    pub fn keep(self, place: &mut Place, kept: &mut Vec<Vec<Named>>, weights: &[Named]) {
        place.kept.push(place.history.len() - 1);
        kept.push(weights.to_vec());
        let (Self::Last(count) | Self::Best(count)) = self;
        if kept.len() <= count {
            return;
        }
        let worst = match self {
            Self::Last(_) => 0,
            Self::Best(_) => {
                let score = |slot: usize| {
                    let record = &place.history[place.kept[slot]];
                    (record.merit(), -record.val_loss)
                };
                let slots = 0..kept.len();
                slots.reduce(|a, b| if score(b) < score(a) { b } else { a }).expect("more than `count`")
            }
        };
        place.kept.remove(worst);
        kept.remove(worst);
    }
}

/// Averages sets of the same tensors, which may come in different orders.
pub fn soup(sets: &[Vec<Named>]) -> Vec<Named> {
    let by_name: Vec<HashMap<&str, &Vec<f32>>> =
        sets.iter().map(|set| set.iter().map(|(n, _, v)| (n.as_str(), v)).collect()).collect();
    let average = |(name, shape, first): &Named| {
        let each: Vec<&Vec<f32>> = by_name.iter().map(|set| set[name.as_str()]).collect();
        let mean = |i: usize| (each.iter().map(|v| f64::from(v[i])).sum::<f64>() / each.len() as f64) as f32;
        let values = match each.iter().all(|v| *v == first) {
            true => first.clone(),
            false => (0..first.len()).map(mean).collect(),
        };
        (name.clone(), shape.clone(), values)
    };
    sets[0].iter().map(average).collect()
}

/// Moves `tensors` to the point between `start` (`share` 0) and themselves (`share` 1), by name, except those
/// `is_new` names: a new head's start was random, and worth nothing.
pub fn wise(tensors: &mut [Named], start: &[Named], share: f64, is_new: &dyn Fn(&str) -> bool) {
    let start: HashMap<&str, &Vec<f32>> = start.iter().map(|(n, _, v)| (n.as_str(), v)).collect();
    for (name, _, values) in tensors.iter_mut().filter(|(name, ..)| !is_new(name)) {
        let Some(start) = start.get(name.as_str()) else { continue };
        for (v, s) in values.iter_mut().zip(start.iter()) {
            if v.to_bits() != s.to_bits() {
                *v = (share * f64::from(*v) + (1.0 - share) * f64::from(*s)) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::observer::EpochRecord;

    fn set(values: &[f32]) -> Vec<Named> {
        vec![("a".into(), vec![values.len()], values.to_vec()), ("fc".into(), vec![1], vec![0.1])]
    }

    #[test]
    fn the_right_epochs_are_kept_and_averaged() {
        let run = |text: &str| {
            let average: Average = text.parse().unwrap();
            assert_eq!(average.to_string(), text);
            let (mut place, mut kept) = (Place::default(), Vec::new());
            for (i, top1) in [0.5, 0.9, 0.8, 0.7].into_iter().enumerate() {
                place.history.push(EpochRecord { top1, ..EpochRecord::default() });
                average.keep(&mut place, &mut kept, &set(&[i as f32]));
            }
            (place.kept, soup(&kept)[0].2[0], soup(&kept)[1].2[0])
        };
        let mixed = [set(&[2.0]), set(&[4.0]).into_iter().rev().collect()];
        assert_eq!(soup(&mixed)[0].2, [3.0]);
        assert_eq!(run("last(2)"), (vec![2, 3], 2.5, 0.1));
        assert_eq!(run("best(2)"), (vec![1, 2], 1.5, 0.1));
        assert!("last".parse::<Average>().is_err() && "best(1)".parse::<Average>().is_err());
    }

    #[test]
    fn half_way_back_spares_the_head_and_equal_bits() {
        let (start, mut now) = (set(&[1.0, 0.3]), set(&[3.0, 0.3]));
        now[1].2[0] = 7.0;
        wise(&mut now, &start, 0.25, &|name| name == "fc");
        assert_eq!((now[0].2.clone(), now[1].2[0]), (vec![1.5, 0.3], 7.0));
    }
}
