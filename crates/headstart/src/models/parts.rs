//! Running the first groups on one picture at a time.
//!
//! Early maps are large: those of 16 pictures push each other out of the last cache before the next layer reads them.
//! Those of one stay there, until the maps are small and many pictures pay better again.

use std::ops::Range;

use super::layers::Map;
use super::{Flow, Network, Tap};
use crate::fast;

/// Pixels from which a map counts as large: those of the stem and the first stage at the usual sizes.
const LARGE: usize = 48 * 48;

/// Runs groups of `range` for as long as the maps are large. Returns the first group left, and what it receives.
pub(super) fn run(network: &Network, range: &Range<usize>, x: Flow) -> (usize, Flow) {
    let x = match x {
        Flow::Map(map) if pays(&map) => map,
        other => return (range.start, other),
    };
    let mut end = range.end.min(network.groups().len() - 1);
    let mut parts = Vec::new();
    for part in x.pictures() {
        let mut flow = Flow::Map(part);
        for index in range.start..end {
            if !matches!(&flow, Flow::Map(map) if is_large(map)) {
                // Pictures of a batch are of one size: it is the same group for all parts.
                end = index;
                break;
            }
            flow = network.run_group(index, flow, &mut Tap::off());
        }
        parts.push(flow);
    }
    (end.max(range.start), Flow::join(parts))
}

fn pays(map: &Map) -> bool {
    map.is_fast()
        && !map.raw().device().is_autodiff()
        && map.dims()[0] > 1
        && is_large(map)
        && !fast::listening()
}

fn is_large(map: &Map) -> bool {
    let [.., h, w] = map.dims();
    h * w >= LARGE
}
