//! Fine-tuning few parameters: low-rank adapters (`lora`), and biases alone (`bitfit`: Ben Zaken et al., "BitFit", ACL 2022).
//!
//! Adapters live for one phase: they are put onto the network when it begins and made a part of its matrices when it ends.
//! The weights of the best epoch are kept merged, with the adapters beside them.

use super::checkpoint::{Checkpoint, Named};
use super::groups::{TrainableSet, resolve_part};
use super::recipe::{Phase, Recipe};
use crate::error::{Error, Result};
use crate::models::Network;
use crate::models::lora::{Adapter, is_adapter};

impl Phase {
    /// Resolves what the phase trains; names of adapters are in it whether the network has them yet or not.
    pub fn set(&self, network: &Network) -> Result<TrainableSet> {
        let head = network.groups().last().expect("a head");
        let wanted = |name: &str| !self.bitfit || head.owns(name) || name.ends_with("bias");
        let mut set = resolve_part(&self.trainable, self.batch_norm, network, &wanted)?;
        let bad = |place: &str, what: String, hint: &str| {
            Err(Error::BadRecipe { place: place.into(), what, hint: hint.into() })
        };
        let Some(lora) = &self.lora else {
            if self.bitfit && set.params.is_empty() {
                return bad(
                    "bitfit",
                    "there is no bias under `trainable`".into(),
                    "list more groups, or `all`",
                );
            }
            return Ok(set);
        };
        for layer in lora.layers(network)? {
            if set.params.contains(&format!("{layer}.weight")) {
                let what = format!("`{layer}.weight` trains and has an adapter");
                return bad("lora", what, "list only `head` under `trainable`, or add `bitfit = true`");
            }
            let group = network.group_of(&layer);
            set.first_group = set.first_group.min(group);
            set.live_layers.insert(network.groups()[group].name.clone());
            set.params.extend(["lora_a", "lora_b"].map(|part| format!("{layer}.{part}")));
        }
        Ok(set)
    }

    /// Puts the phase's adapters onto a network that has none yet.
    pub(super) fn adapt(&self, network: Network, seed: u64) -> Result<Network> {
        match &self.lora {
            Some(lora) if !network.is_adapted() => lora.attach(network, seed),
            _ => Ok(network),
        }
    }

    /// Counts the numbers the phase trains.
    pub fn trainable_parameters(&self, network: &Network) -> Result<usize> {
        let set = self.set(network)?;
        let network = self.adapt(network.clone(), 0)?;
        let trains = network.params().into_iter().filter(|p| set.params.contains(&p.name));
        Ok(trains.map(|p| p.shape.iter().product::<usize>()).sum())
    }
}

/// Copies out weights with adapters merged, and the adapters as well.
pub(super) fn settled(network: &Network) -> Vec<Named> {
    if !network.is_adapted() {
        return network.state();
    }
    let mut state = network.clone().merged().state();
    state.extend(network.state_of(&is_adapter));
    state
}

/// Returns the adapters of the best epoch, if they and the head are all that tells the final network from its start; says
/// in `notes` if they are not.
pub(super) fn adapter(
    recipe: &Recipe,
    network: &Network,
    state: &Checkpoint,
    notes: &mut Vec<String>,
) -> Result<Option<Adapter>> {
    let Some(best) = state.place.best_epoch else { return Ok(None) };
    let last = state.place.history[best].phase;
    let Some(spec) = recipe.phases[last].lora.clone() else { return Ok(None) };
    let head = network.groups().len() - 1;
    let mut alone = recipe.average.is_none() && recipe.wise.is_none();
    for (i, phase) in recipe.phases[..=last].iter().enumerate() {
        let set = phase.set(network)?;
        let moves = set.params.iter().any(|name| network.group_of(name) < head && !is_adapter(name));
        alone &= !moves && (i == last || phase.lora.is_none());
    }
    if !alone {
        notes.push(
            "the adapters are merged and not kept apart: other weights of the backbone changed too".into(),
        );
    }
    let mut tensors: Vec<Named> = state.best.iter().filter(|(name, ..)| is_adapter(name)).cloned().collect();
    // A resumed run has them in another order.
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(alone.then_some(Adapter { spec, tensors }))
}
