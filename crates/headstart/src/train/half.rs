//! Whether a phase trains on bf16 maps: when the recipe asks for it and the layers can.

use super::recipe::Recipe;
use crate::fast::Precision;
use crate::models::Network;
use crate::models::layers::is_cpu;

/// Tells whether the groups from `first` on train on bf16 maps.
pub(super) fn applies(recipe: &Recipe, network: &Network, first: usize) -> bool {
    recipe.precision == Precision::Bf16 && can(recipe, network, first)
}

/// The CPU engine has no bf16 sum in which a branch is left out for some pictures.
fn can(recipe: &Recipe, network: &Network, first: usize) -> bool {
    network.trains_half(first) && (recipe.drop_path == 0.0 || !is_cpu(&network.device()))
}

/// Says so where bf16 is asked for and more than the head trains in f32.
pub(super) fn exception(recipe: &Recipe, network: &Network, first: usize) -> Option<String> {
    let more = first + 1 < network.groups().len();
    (recipe.precision == Precision::Bf16 && more && !can(recipe, network, first)).then(|| {
        let (model, group) = (network.row().name, &network.groups()[first].name);
        format!("{model} from {group} on trains in f32: bf16 is for convolutions, BatchNorm and pooling, without `drop_path`")
    })
}
