//! What a run writes down beside its bundle: hashes, and the log of epochs.

use std::io::Write;
use std::path::Path;

use crate::error::Result;
use crate::sources::Backbone;
use crate::train::observer::EpochRecord;
use crate::weights::write_atomically;

/// Hashes the weights file; none for random weights and for the built-in backbone, which the version names.
pub(super) fn weights_hash(backbone: &Backbone, pretrained: bool) -> Result<Option<String>> {
    let file = &backbone.weights.source;
    if pretrained && file.is_file() { crate::data::file_sha256(file).map(Some) } else { Ok(None) }
}

/// Writes an epoch a line.
pub(super) fn write_log(out: &Path, history: &[EpochRecord]) -> Result<()> {
    let path = out.join("metrics.jsonl");
    let lines: String = history.iter().map(|r| serde_json::to_string(r).expect("numbers") + "\n").collect();
    write_atomically(&path, |out| out.write_all(lines.as_bytes()))
}
