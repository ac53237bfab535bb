//! What a report shows besides scores: which pictures, which frozen tensors, on which machine.

mod gallery;
mod maps;

use std::path::PathBuf;

use crate::audit::Audit;
use crate::data::Dataset;
use crate::error::Result;
use crate::image::Pipeline;
use crate::machine::Machine;
use crate::models::Network;
use crate::scored::Scored;
use crate::train::Photos;
use crate::weights::StateDict;

pub use gallery::{ClassMap, Gallery, Shown};

/// What backs a report up.
#[derive(Debug)]
pub struct Evidence {
    /// The first pass over the photos.
    pub audit: Audit,
    /// SHA-256 of the data as trained on.
    pub data_sha256: String,
    /// Pictures a list left out.
    pub excluded: Vec<PathBuf>,
    /// The groups, stem to head, with the tensors that kept every bit.
    pub kept: Vec<Kept>,
    /// Validation pictures, in the order of the scores.
    pub files: Vec<PathBuf>,
    /// What was done to them.
    pub pipeline: Pipeline,
    /// The pictures worth showing.
    pub gallery: Gallery,
    /// Where it all ran.
    pub machine: Machine,
}

/// Tensors of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The group.
    pub group: String,
    /// Tensors equal to the source's, bit for bit.
    pub same: usize,
    /// Tensors in all.
    pub tensors: usize,
}

/// Pictures of each kind.
const SHOWN: usize = 12;

impl Evidence {
    /// Puts it together.
    pub fn new(
        audit: Audit,
        data_sha256: String,
        excluded: Vec<PathBuf>,
        kept: Vec<Kept>,
        (network, val, scores): (&Network, &Photos, &Scored),
        pipeline: Pipeline,
    ) -> Result<Self> {
        let mut gallery = Gallery::of(scores, SHOWN);
        maps::add_maps(network, val, &mut gallery)?;
        let files = val.files().iter().map(|(path, _)| path.clone()).collect();
        Ok(Self { audit, data_sha256, excluded, kept, files, pipeline, gallery, machine: Machine::here() })
    }
}

impl Dataset {
    /// Takes out what the list at `list` names; without a list nothing.
    pub fn exclude_list(&mut self, list: Option<&std::path::Path>) -> Result<Vec<PathBuf>> {
        match list {
            Some(list) => self.exclude(&crate::data::read_list(list)?, list),
            None => Ok(Vec::new()),
        }
    }
}

/// Counts in each group the tensors whose values are those of the source, bit for bit.
pub fn kept_bits(network: &Network, source: Option<&StateDict>) -> Vec<Kept> {
    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let dialects = crate::models::all_dialects(network);
    let same = |name: &str, values: &[f32]| {
        dialects.iter().any(|d| {
            let entry = source.and_then(|s| s.get(&network.foreign(*d, name)));
            entry.is_some_and(|e| bits(&e.to_f32()) == bits(values))
        })
    };
    let mut kept: Vec<Kept> =
        network.groups().iter().map(|g| Kept { group: g.name.clone(), same: 0, tensors: 0 }).collect();
    for (name, _, values) in network.state() {
        let group = &mut kept[network.group_of(&name)];
        group.tensors += 1;
        group.same += usize::from(same(&name, &values));
    }
    kept
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::models::ModelOptions;

    #[test]
    fn a_new_network_keeps_nothing() {
        let network = Network::new("headstart_nano", &ModelOptions::new(2), &Device::flex()).unwrap().init(3);
        let kept = kept_bits(&network, None);
        assert!(kept.iter().all(|k| k.same == 0 && k.tensors > 0) && kept.last().unwrap().group == "head");
    }
}
