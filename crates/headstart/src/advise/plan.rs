//! The recipe of each choice: a built-in one, or that with its groups put in.

use std::collections::BTreeMap;

use super::decide::{Choice, Quadrant};
use super::measure::Shape;
use crate::error::Result;
use crate::models::Network;
use crate::train::Recipe;
use crate::train::groups::{BatchNormPolicy, Rate};

/// Classes this many times larger than the smallest get weights.
const UNBALANCED: f64 = 3.0;

/// From so many training pictures on, fine-tuning bears higher rates, measured in docs/which-recipe.md: `recipes/more.toml`
/// against `finetune` on 50 to 3 630 pictures (no better up to 1 000, 1.5 points at 2 569), and on 3 630 unlike the source's
/// `recipes/bold.toml` against both (0.873 against 0.777 and 0.731). On photos like the source's `bold` gains a point (flowers) or none
/// (tinyimagenet50) over `more`, in more than twice the time.
const MANY: usize = 1500;

/// How fine-tuning treats what the network learned before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Moves it a little.
    Keep,
    /// Takes it as a good start and no more: `recipes/bold.toml`.
    Overwrite,
}

impl Care {
    /// Overwrites what hardly fits, where pictures are many. Without BatchNorm nothing was measured, and transformers bear less.
    pub fn of(network: &Network, shape: &Shape, quadrant: Quadrant) -> Self {
        let has_batch_norm = network.params().iter().any(|p| p.buffer);
        if shape.train >= MANY && !quadrant.similar && has_batch_norm { Self::Overwrite } else { Self::Keep }
    }
}

/// Returns the recipe of `choice`; none for collecting more pictures.
pub fn recipe(choice: Choice, network: &Network, shape: &Shape, care: Care) -> Result<Option<Recipe>> {
    let name = match choice {
        Choice::CollectMore => return Ok(None),
        Choice::Head => "head",
        Choice::LastStages | Choice::Finetune => "finetune",
        Choice::Semi => "semi",
        Choice::Scratch => "scratch",
    };
    let mut recipe = Recipe::open(name)?;
    recipe.class_weights = shape.largest as f64 > UNBALANCED * shape.smallest as f64;
    if choice == Choice::Finetune && shape.train >= MANY {
        let phase = recipe.phases.last_mut().expect("`finetune` has phases");
        let rates =
            |stem, head| Rate::Anchors(BTreeMap::from([("stem".into(), stem), ("head".into(), head)]));
        match care {
            Care::Keep => phase.lr = rates(1e-5, 1e-4),
            Care::Overwrite => {
                phase.epochs = 8;
                phase.batch_norm = BatchNormPolicy::Train;
                phase.lr = rates(3e-4, 1e-3);
            }
        }
    }
    if choice == Choice::LastStages {
        let groups = network.groups();
        let (last, head) = (&groups[groups.len().saturating_sub(2)].name, &groups[groups.len() - 1].name);
        let phase = recipe.phases.last_mut().expect("`finetune` has phases");
        phase.name = "last stage".into();
        phase.trainable = vec![last.clone(), head.clone()];
        // Its features are cached: epochs are cheap, and with few weights moving the rates can be higher.
        phase.epochs = 6;
        phase.lr = Rate::Anchors(BTreeMap::from([(last.clone(), 3e-5), (head.clone(), 3e-4)]));
    }
    Ok(Some(recipe))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::models::ModelOptions;

    #[test]
    fn thousands_of_pictures_bear_higher_rates() {
        let network = Network::new("headstart_nano", &ModelOptions::new(2), &Device::flex()).unwrap();
        let shape = |train| Shape { train, val: 100, classes: 2, smallest: 100, largest: 100, unlabeled: 0 };
        let with = |network: &Network, choice, train, similar| {
            let care = Care::of(network, &shape(train), Quadrant { large: false, similar });
            recipe(choice, network, &shape(train), care).unwrap().unwrap()
        };
        let of = |choice, train| with(&network, choice, train, true);
        assert_eq!(of(Choice::Finetune, 480), Recipe::open("finetune").unwrap());
        let more = Recipe::parse(include_str!("../../../../recipes/more.toml"), "more").unwrap();
        assert_eq!(of(Choice::Finetune, 2500), more);
        let bold = Recipe::parse(include_str!("../../../../recipes/bold.toml"), "bold").unwrap();
        assert_eq!(with(&network, Choice::Finetune, 2500, false), bold);
        assert_eq!(with(&network, Choice::Finetune, 480, false), Recipe::open("finetune").unwrap());
        let vit = Network::new("vit_tiny_patch16_224", &ModelOptions::new(2), &Device::flex()).unwrap();
        assert_eq!(with(&vit, Choice::Finetune, 2500, false), more);
        assert_eq!(of(Choice::LastStages, 2500).phases[1].trainable, ["layer4", "head"]);
    }
}
