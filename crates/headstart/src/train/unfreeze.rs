//! Gradual unfreezing (Howard & Ruder, "Universal Language Model Fine-tuning", ACL 2018): the head first, then one
//! group more at a time towards the stem.

use super::groups::resolve;
use super::recipe::Phase;
use crate::error::{Error, Result};
use crate::models::Network;

/// Writes a phase with `unfreeze_every` out as one phase for each group that thaws; another phase stays as it is.
///
/// Each part runs the phase's schedule from its beginning; what is left of the epochs goes to the last.
pub fn expand(phase: &Phase, network: &Network) -> Result<Vec<Phase>> {
    let Some(every) = phase.unfreeze_every else { return Ok(vec![phase.clone()]) };
    let place = format!("phase `{}`", phase.name);
    let set = resolve(&phase.trainable, phase.batch_norm, network).map_err(|e| e.within(&place))?;
    let all = resolve(&phase.trainable, super::groups::BatchNormPolicy::Train, network)?.params;
    let groups = network.groups();
    let thawing: Vec<usize> =
        (set.first_group..groups.len()).rev().filter(|g| all.iter().any(|p| groups[*g].owns(p))).collect();
    let needed = thawing.len() * every;
    if phase.epochs < needed {
        return Err(Error::BadRecipe {
            place,
            what: match thawing.len() {
                1 => format!("{} epochs are too few to thaw one group, for {every} epochs", phase.epochs),
                n => format!("{} epochs are too few to thaw {n} groups, one every {every}", phase.epochs),
            },
            hint: format!("give it `epochs = {needed}` or more, or fewer groups under `trainable`"),
        });
    }
    let mut trainable: Vec<String> = Vec::new();
    let mut phases = Vec::new();
    for (i, index) in thawing.iter().enumerate() {
        let group = &groups[*index];
        let own: Vec<String> = all.iter().filter(|p| group.owns(p)).cloned().collect();
        let whole = network.params().iter().filter(|p| !p.buffer && group.owns(&p.name)).count();
        // A group's name reads better than the names of all its tensors.
        trainable.extend(if own.len() == whole { vec![group.name.clone()] } else { own });
        let last = i + 1 == thawing.len();
        phases.push(Phase {
            name: format!("{} + {}", phase.name, group.name).trim_start_matches(" + ").to_string(),
            epochs: if last { phase.epochs - every * i } else { every },
            trainable: trainable.clone(),
            unfreeze_every: None,
            ..phase.clone()
        });
    }
    Ok(phases)
}
