//! Starting late stages anew: what the source task taught them may be in the way (Zhang et al., "Revisiting
//! Few-sample BERT Fine-tuning", ICLR 2021, for the last layers of transformers).

use std::collections::HashSet;

use super::groups::{BatchNormPolicy, resolve};
use crate::error::{Error, Result};
use crate::models::{Network, is_buffer, layer_of};

/// Draws the tensors under `patterns` (groups, or names with `*`) from `seed`, BatchNorm's statistics included.
pub fn reinit(network: Network, patterns: &[String], seed: u64) -> Result<Network> {
    if patterns.is_empty() {
        return Ok(network);
    }
    let chosen = resolve(patterns, BatchNormPolicy::Train, &network).map_err(|e| match e {
        // The key is this one, not the phase's.
        Error::BadRecipe { what, hint, .. } => Error::BadRecipe { place: "reinit".into(), what, hint },
        other => other,
    })?;
    let layers: HashSet<&str> = chosen.params.iter().map(|name| layer_of(name)).collect();
    Ok(network.init_where(seed, &|name| {
        chosen.params.contains(name) || (is_buffer(name) && layers.contains(layer_of(name)))
    }))
}
