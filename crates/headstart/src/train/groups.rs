//! From words in a recipe to sets of parameters: what trains, at which rate, with which BatchNorm.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::models::{Network, layer_of};

/// What BatchNorm layers inside trainable groups do; in frozen groups both parts are always frozen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNormPolicy {
    /// Batch statistics, trainable scale and shift.
    Train,
    /// Running statistics stay, scale and shift train.
    #[default]
    FreezeStats,
    /// Batch statistics, fixed scale and shift.
    FreezeAffine,
    /// Nothing of it moves.
    FreezeBoth,
}

/// A learning rate: one for all, or anchors over the ordered groups, geometric in between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`lr` is a number, or a table of numbers by group")]
pub enum Rate {
    /// The same everywhere.
    One(f64),
    /// By group name.
    Anchors(BTreeMap<String, f64>),
}

impl Rate {
    /// Returns the rate of every group of `network`, stem to head.
    pub fn per_group(&self, network: &Network) -> Result<Vec<f64>> {
        let names: Vec<&str> = network.groups().iter().map(|g| g.name.as_str()).collect();
        let anchors = match self {
            Rate::One(rate) => return Ok(vec![*rate; names.len()]),
            Rate::Anchors(anchors) => anchors,
        };
        let mut points = Vec::new();
        for (name, rate) in anchors {
            let index = names.iter().position(|n| n == name).ok_or_else(|| no_match("lr", name, network))?;
            points.push((index, *rate));
        }
        points.sort_by_key(|(index, _)| *index);
        let (Some(first), Some(last)) = (points.first().copied(), points.last().copied()) else {
            return Err(Error::BadRecipe {
                place: "lr".into(),
                what: "an empty table of rates".into(),
                hint: "name at least one group".into(),
            });
        };
        let at = |index: usize| {
            if index <= first.0 {
                return first.1;
            }
            if index >= last.0 {
                return last.1;
            }
            let right = points.iter().position(|p| p.0 >= index).expect("below the last anchor");
            let ((a, low), (b, high)) = (points[right - 1], points[right]);
            let t = (index - a) as f64 / (b - a) as f64;
            low * (high / low).powf(t)
        };
        Ok((0..names.len()).map(at).collect())
    }
}

/// The names a phase trains and the layers that use batch statistics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrainableSet {
    /// Parameters with gradients.
    pub params: BTreeSet<String>,
    /// BatchNorm layers on batch statistics, and groups whose dropout is live.
    pub live_layers: BTreeSet<String>,
    /// Index of the first group anything trains in: everything before is the frozen prefix.
    pub first_group: usize,
}

/// Resolves `patterns` (group names, `all`, or name patterns with `*`) against a network.
pub fn resolve(patterns: &[String], policy: BatchNormPolicy, network: &Network) -> Result<TrainableSet> {
    resolve_part(patterns, policy, network, &|_| true)
}

/// Resolves `patterns` and leaves out what `wanted` does not want by name.
pub(super) fn resolve_part(
    patterns: &[String],
    policy: BatchNormPolicy,
    network: &Network,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<TrainableSet> {
    let params = network.params();
    let norm_layers: BTreeSet<&str> =
        params.iter().filter_map(|p| p.name.strip_suffix(".running_mean")).collect();
    let mut chosen = BTreeSet::new();
    for pattern in patterns {
        let before = chosen.len();
        let matcher = glob(pattern);
        let group = network.groups().iter().find(|g| g.name == *pattern);
        let mut matched = false;
        for param in params.iter().filter(|p| !p.buffer) {
            let hit = match group {
                Some(group) => group.owns(&param.name),
                None => pattern == "all" || matcher.is_match(&param.name),
            };
            matched |= hit;
            if hit && wanted(&param.name) {
                chosen.insert(param.name.clone());
            }
        }
        if !matched && chosen.len() == before {
            return Err(no_match("trainable", pattern, network));
        }
    }
    let head = network.groups().len() - 1;
    let (freeze_stats, freeze_affine) = match policy {
        BatchNormPolicy::Train => (false, false),
        BatchNormPolicy::FreezeStats => (true, false),
        BatchNormPolicy::FreezeAffine => (false, true),
        BatchNormPolicy::FreezeBoth => (true, true),
    };
    let mut set = TrainableSet { first_group: head, ..TrainableSet::default() };
    for name in &chosen {
        let (group, layer) = (network.group_of(name), layer_of(name));
        set.first_group = set.first_group.min(group);
        let is_norm = norm_layers.contains(layer);
        // A new head's own BatchNorm has no pretrained statistics to protect.
        if is_norm && (group == head || !freeze_stats) {
            set.live_layers.insert(layer.to_string());
        }
        if !is_norm || group == head || !freeze_affine {
            set.params.insert(name.clone());
        }
        // Dropout inside a backbone follows its group.
        set.live_layers.insert(network.groups()[group].name.clone());
        if group == head {
            // The head's dropout, which has no name of its own.
            set.live_layers.insert(network.classifier().to_string());
        }
    }
    Ok(set)
}

/// Puts a network into the state a phase asks for.
pub fn apply(set: &TrainableSet, network: Network) -> Network {
    let head = network.classifier();
    let head_live = set.live_layers.contains(head);
    network.set_trainable(&|name| set.params.contains(name), &|layer| {
        set.live_layers.contains(layer) || (head_live && layer.starts_with(head))
    })
}

fn glob(pattern: &str) -> Regex {
    let body = regex::escape(pattern).replace(r"\*", ".*");
    Regex::new(&format!(r"^{body}(\..*)?$")).expect("an escaped pattern is a regex")
}

fn no_match(place: &str, pattern: &str, network: &Network) -> Error {
    let groups: Vec<&str> = network.groups().iter().map(|g| g.name.as_str()).collect();
    let near = crate::models::nearest(pattern, groups.iter().copied());
    let hint = match near.first() {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("groups: {}; or a name pattern such as `layer4.*`", groups.join(", ")),
    };
    Error::BadRecipe {
        place: place.into(),
        what: format!("`{pattern}` matches nothing in {}", network.row().name),
        hint,
    }
}
