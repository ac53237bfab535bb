//! What a run does to its recipe's phases before the first step.

use crate::error::{Error, Result};
use crate::image::Pipeline;
use crate::models::Network;
use crate::train::Recipe;
use crate::train::groups::{BatchNormPolicy, resolve};
use crate::train::recipe::Phase;

/// Takes the names under `patterns` out of every phase.
pub(super) fn freeze(recipe: &mut Recipe, patterns: &[String], network: &Network) -> Result<()> {
    if patterns.is_empty() {
        return Ok(());
    }
    let policy = BatchNormPolicy::Train;
    let frozen = resolve(patterns, policy, network).map_err(|e| e.within("--freeze"))?.params;
    for phase in &mut recipe.phases {
        if phase.lora.is_some() {
            return Err(Error::BadRecipe {
                place: "--freeze".into(),
                what: format!("phase `{}` has adapters, which say themselves what trains", phase.name),
                hint: "name their layers in the recipe: `lora = { rank = 8, layers = \"…\" }`".into(),
            });
        }
        let all = resolve(&phase.trainable, policy, network).map_err(|e| e.within(&place(phase)))?.params;
        phase.trainable = all.difference(&frozen).cloned().collect();
        if phase.trainable.is_empty() {
            return Err(Error::BadRecipe {
                place: "--freeze".into(),
                what: format!("nothing is left to train in phase `{}`", phase.name),
                hint: "freeze less".into(),
            });
        }
    }
    Ok(())
}

/// Names a phase in an error.
fn place(phase: &Phase) -> String {
    format!("phase `{}`", phase.name)
}

/// Finds what is wrong with a later phase before the first one costs its hours.
pub(super) fn check_phases(recipe: &Recipe, network: &Network) -> Result<()> {
    for phase in &recipe.phases {
        let named = |e: Error| e.within(&place(phase));
        phase.set(network).map_err(named)?;
        phase.rates(network).map_err(named)?;
    }
    Ok(())
}

/// Makes sure that pictures have as many channels as the network takes.
pub(super) fn check_channels(recipe: &Recipe, network: &Network) -> Result<()> {
    let wanted = network.options().in_chans;
    for (key, text) in [("train", &recipe.train), ("eval", &recipe.eval)] {
        let found = text.parse::<Pipeline>().map_err(|e| e.within(key))?.channels();
        if found != wanted {
            return Err(Error::BadRecipe {
                place: key.into(),
                what: format!("its pictures have {found} channels, the network takes {wanted}"),
                hint: format!("`--in-chans {found}` adapts the network"),
            });
        }
    }
    Ok(())
}

/// Makes sure that photos without labels and phases that learn from them come together.
pub(super) fn check_semi(recipe: &Recipe, there: bool) -> Result<()> {
    let wanted = recipe.phases.iter().find(|phase| phase.semi.is_some());
    match (wanted, there) {
        (Some(phase), false) => Err(Error::BadRecipe {
            place: place(phase),
            what: "it learns from photos without labels, and there are none".into(),
            hint: "name a folder with `--unlabeled DIR`, or take labels away with `--labels-per-class 10 --unlabeled rest`"
                .into(),
        }),
        (None, true) => Err(Error::BadRecipe {
            place: "--unlabeled".into(),
            what: "no phase of the recipe learns from photos without labels".into(),
            hint: "use `--recipe semi`, or add `semi = \"fixmatch\"` to a phase".into(),
        }),
        _ => Ok(()),
    }
}
