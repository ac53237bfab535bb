//! How many pictures a plan takes through which steps at a time, and which results share memory.
//!
//! Large maps go through the early steps one or two pictures at a time, or they would leave the caches between two
//! steps. Small maps of many pictures go through the late steps together, whose weights would otherwise be read anew
//! for each picture.

use super::capture::{Op, Step};

/// Steps that a few pictures go through together before the next few do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub first: usize,
    pub end: usize,
    pub few: usize,
}

/// Where a result is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which memory.
    pub memory: usize,
    /// For the whole lot, as another stretch reads it, or only for the few of the moment.
    pub whole: bool,
}

/// Bytes that the maps before and after a step may take: what two threads keep in L2.
const CACHED: usize = 2 << 20;

/// Divides steps on pictures of `size` into stretches of maps of one height, for lots of `lot` pictures.
pub(super) fn stretches(size: [usize; 3], steps: &[Step], bytes: usize, lot: usize) -> Vec<Stretch> {
    let len = |result: usize| {
        let size = if result == 0 { size } else { steps[result - 1].size };
        size.iter().product::<usize>() * bytes
    };
    let mut stretches: Vec<Stretch> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        let few = (CACHED / (len(step.input) + len(i + 1)).max(1)).clamp(1, lot);
        match stretches.last_mut() {
            Some(last) if i > 0 && steps[i - 1].size[0] == step.size[0] => {
                (last.end, last.few) = (i + 1, last.few.min(few));
            }
            _ => stretches.push(Stretch { first: i, end: i + 1, few }),
        }
    }
    stretches.dedup_by(|next, last| {
        let same = next.few == last.few;
        if same {
            last.end = next.end;
        }
        same
    });
    stretches
}

/// Gives each result a memory that no result needed at the same time has.
pub(super) fn places(steps: &[Step], stretches: &[Stretch]) -> Vec<Place> {
    let stretch = |step: usize| stretches.iter().find(|s| step < s.end).expect("stretches cover all steps");
    // Result i + 1 is made in step i; the pictures are there before the first.
    let (mut born, mut dies): (Vec<usize>, Vec<usize>) =
        (0..=steps.len()).map(|r| (r.saturating_sub(1), r.saturating_sub(1))).unzip();
    let mut whole = vec![false; steps.len() + 1];
    whole[0] = true;
    for (i, step) in steps.iter().enumerate() {
        let residual = if let Op::Conv { residual, .. } = step.op { residual } else { None };
        for read in std::iter::once(step.input).chain(residual) {
            // Who reads for one part of the lot must leave the other parts for the next turn.
            whole[read] |= read == 0 || stretch(read - 1) != stretch(i);
            dies[read] = dies[read].max(if whole[read] { stretch(i).end - 1 } else { i });
        }
    }
    for result in 1..=steps.len() {
        if whole[result] {
            born[result] = stretch(result - 1).first;
            dies[result] = dies[result].max(stretch(result - 1).end - 1);
        }
    }
    let mut places: Vec<Place> = Vec::new();
    for result in 0..=steps.len() {
        let busy = |memory: usize| {
            let lives = places.iter().enumerate().filter(|(_, p)| p.memory == memory);
            lives.into_iter().any(|(other, _)| born[other] <= dies[result] && born[result] <= dies[other])
        };
        let memory = (0..).find(|memory| !busy(*memory)).expect("there are always more");
        places.push(Place { memory, whole: whole[result] });
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fast::{Clamp, ConvGeometry};

    fn step(input: usize, residual: Option<usize>, side: usize) -> Step {
        let geometry = ConvGeometry { kernel: [1; 2], stride: [1; 2], pad: [0; 4], groups: 1 };
        let op = Op::Conv { weight: vec![], bias: vec![], geometry, residual, act: Clamp::None };
        Step { op, input, size: [side, side, 64], range: (0.0, 1.0) }
    }

    #[test]
    fn memory_is_shared_only_by_results_of_different_times() {
        // 0 → 1 → 2 → 3, where 3 also reads 1, then 3 → 4.
        let steps = [step(0, None, 8), step(1, None, 8), step(2, Some(1), 8), step(3, None, 8)];
        let one = [Stretch { first: 0, end: 4, few: 4 }];
        let places = places(&steps, &one);
        // The pictures stay for the parts of the lot to come; 2 must not lie where 1 does.
        assert_eq!(places.iter().map(|p| p.memory).collect::<Vec<_>>(), [0, 1, 2, 3, 1]);
        assert_eq!(places.iter().map(|p| p.whole).collect::<Vec<_>>(), [true, false, false, false, false]);
    }

    #[test]
    fn what_another_stretch_reads_is_kept_for_the_whole_lot() {
        // The step from 64 to 8 pixels still has a large map to read.
        let steps = [step(0, None, 64), step(1, None, 8), step(2, None, 4), step(3, Some(2), 4)];
        let stretches = stretches([64, 64, 3], &steps, 2, 16);
        assert_eq!(stretches.iter().map(|s| (s.first, s.end)).collect::<Vec<_>>(), [(0, 2), (2, 4)]);
        assert!(stretches[0].few < stretches[1].few, "{stretches:?}");
        let places = places(&steps, &stretches);
        assert!(places[0].whole && !places[1].whole && places[2].whole, "{places:?}");
        assert_ne!(places[2].memory, places[3].memory);
    }
}
