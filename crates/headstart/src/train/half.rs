//! Whether a phase trains on bf16 maps: when the recipe asks for it and the layers can.

use super::recipe::Recipe;
use crate::fast::Precision;
use crate::models::Network;

/// Tells whether the groups from `first` on train on bf16 maps.
pub(super) fn applies(recipe: &Recipe, network: &Network, first: usize) -> bool {
    recipe.precision == Precision::Bf16 && network.trains_half(first)
}

/// Says so where bf16 is asked for and more than the head trains in f32.
pub(super) fn exception(recipe: &Recipe, network: &Network, first: usize) -> Option<String> {
    let more = first + 1 < network.groups().len();
    (recipe.precision == Precision::Bf16 && more && !network.trains_half(first)).then(|| {
        let (model, group) = (network.row().name, &network.groups()[first].name);
        format!("{model} from {group} on trains in f32: bf16 is for convolutions, BatchNorm and pooling")
    })
}
