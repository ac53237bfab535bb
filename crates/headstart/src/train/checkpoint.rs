//! The checkpoint of a run: everything needed to go on as if nothing had happened.
//!
//! One safetensors file, replaced atomically after each epoch: `model/…` the weights now, `best/…` the
//! weights of the best epoch, `optimizer/…` its memory,
//! `ema/…` the moving average, `kept/N/…` epochs to be averaged; counters and history as JSON in the metadata.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::observer::EpochRecord;
use crate::error::{Error, Result};
use crate::weights::{Entry, StateDict, safetensors};

/// A tensor by name: name, shape, values.
pub type Named = (String, Vec<usize>, Vec<f32>);

/// Where a run stands between two epochs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Counters and history.
    pub place: Place,
    /// Weights now.
    pub model: Vec<Named>,
    /// Weights of the best epoch.
    pub best: Vec<Named>,
    /// The optimizer's memory.
    pub optimizer: Vec<(String, Vec<f32>)>,
    /// The moving average of the weights, where the recipe keeps one.
    pub ema: Vec<(String, Vec<f32>)>,
    /// Weights of epochs that will be averaged, in the order of `place.kept`.
    pub kept: Vec<Vec<Named>>,
}

/// The counters of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Version of this format.
    pub version: u32,
    /// Hash of recipe, data and starting weights: a checkpoint of another run is refused.
    pub job: String,
    /// Phase to go on with.
    pub phase: usize,
    /// Epoch of that phase to go on with.
    pub epoch: usize,
    /// Optimizer steps of that phase so far.
    pub steps: u64,
    /// Every epoch so far.
    pub history: Vec<EpochRecord>,
    /// Index into `history` of the best epoch.
    pub best_epoch: Option<usize>,
    /// Whether the current phase was ended early.
    pub stopped: bool,
    /// Where within `epoch` to go on.
    pub within: Within,
    /// Peak rates that a phase's own sweep found: phase, and the bits of the rate.
    pub found: Vec<(usize, u64)>,
    /// Epochs whose weights are kept to be averaged.
    pub kept: Vec<usize>,
}

/// A place within an epoch: where a signal stopped it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Within {
    /// Batches done.
    pub step: usize,
    /// Sum of the losses of their pictures, as the bits of an `f64`: JSON's digits would not be exact.
    pub loss_bits: u64,
    /// Their pictures.
    pub seen: usize,
}

const VERSION: u32 = 2;

impl Checkpoint {
    /// Saves atomically: a crash or a full disk leaves the previous checkpoint.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut dict = StateDict::new(path);
        for (part, tensors) in [("model", &self.model), ("best", &self.best)] {
            for (name, shape, values) in tensors {
                dict.insert(format!("{part}/{name}"), Entry::from_f32(shape, values));
            }
        }
        for (name, values) in &self.optimizer {
            dict.insert(format!("optimizer/{name}"), Entry::from_f32(&[values.len()], values));
        }
        for (name, values) in &self.ema {
            dict.insert(format!("ema/{name}"), Entry::from_f32(&[values.len()], values));
        }
        for (i, tensors) in self.kept.iter().enumerate() {
            for (name, shape, values) in tensors {
                dict.insert(format!("kept/{i}/{name}"), Entry::from_f32(shape, values));
            }
        }
        let place = Place { version: VERSION, ..self.place.clone() };
        let json = serde_json::to_string(&place).expect("counters are plain data");
        dict.metadata.insert("headstart_checkpoint".into(), json);
        safetensors::write(path, &dict)
    }

    /// Reads a checkpoint of the job `job`.
    pub fn load(path: &Path, job: &str) -> Result<Self> {
        let bad = |reason: String| Error::BadBundle { path: path.to_path_buf(), reason };
        let dict = safetensors::read(path)?;
        let json =
            dict.metadata.get("headstart_checkpoint").ok_or_else(|| bad("it is not a checkpoint".into()))?;
        let place: Place =
            serde_json::from_str(json).map_err(|e| bad(format!("its counters are garbled: {e}")))?;
        if place.version != VERSION {
            return Err(bad(format!("it has version {}, this program reads {VERSION}", place.version)));
        }
        if place.job != job {
            return Err(bad("it belongs to a run with another recipe, data set or starting weights".into()));
        }
        let kept = vec![Vec::new(); place.kept.len()];
        let mut found = Self { place, kept, ..Self::default() };
        for (name, entry) in dict.into_tensors() {
            let values = entry.to_f32();
            match name.split_once('/') {
                Some(("model", rest)) => found.model.push((rest.into(), entry.shape, values)),
                Some(("best", rest)) => found.best.push((rest.into(), entry.shape, values)),
                Some(("optimizer", rest)) => found.optimizer.push((rest.into(), values)),
                Some(("ema", rest)) => found.ema.push((rest.into(), values)),
                Some(("kept", rest)) => {
                    let (slot, rest) = rest
                        .split_once('/')
                        .and_then(|(i, rest)| Some((found.kept.get_mut(i.parse::<usize>().ok()?)?, rest)))
                        .ok_or_else(|| bad(format!("it holds an unknown tensor `{name}`")))?;
                    slot.push((rest.into(), entry.shape, values));
                }
                _ => return Err(bad(format!("it holds an unknown tensor `{name}`"))),
            }
        }
        Ok(found)
    }
}
