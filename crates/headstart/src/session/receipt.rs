//! What a run says about itself: where weights came from, what of them is left, its log.

use std::io::Write;
use std::path::Path;

use crate::error::Result;
use crate::models::Network;
use crate::sources::Backbone;
use crate::train::observer::EpochRecord;
use crate::weights::{StateDict, write_atomically};

/// Hashes the weights file; none for random weights and for the built-in backbone, which the version names.
pub(super) fn weights_hash(backbone: &Backbone, pretrained: bool) -> Result<Option<String>> {
    let file = &backbone.weights.source;
    if pretrained && file.is_file() { crate::data::file_sha256(file).map(Some) } else { Ok(None) }
}

/// Counts the tensors whose values are those of the source, bit for bit.
pub(super) fn kept_bits(network: &Network, source: &StateDict) -> usize {
    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let dialects = crate::models::all_dialects(network);
    let same = |name: &str, values: &[f32]| {
        dialects.iter().any(|d| {
            source.get(&network.foreign(*d, name)).is_some_and(|e| bits(&e.to_f32()) == bits(values))
        })
    };
    network.state().iter().filter(|(name, _, values)| same(name, values)).count()
}

/// Writes a line an epoch.
pub(super) fn write_log(out: &Path, history: &[EpochRecord]) -> Result<()> {
    let path = out.join("metrics.jsonl");
    let lines: String = history.iter().map(|r| serde_json::to_string(r).expect("numbers") + "\n").collect();
    write_atomically(&path, |out| out.write_all(lines.as_bytes()))
}
