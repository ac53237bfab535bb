//! The recipe of each choice: a built-in one, or that with its groups put in.

use std::collections::BTreeMap;

use super::decide::Choice;
use super::measure::Shape;
use crate::error::Result;
use crate::models::Network;
use crate::train::Recipe;
use crate::train::groups::Rate;

/// Classes this many times larger than the smallest get weights.
const UNBALANCED: f64 = 3.0;

/// From so many training pictures on, fine-tuning bears higher rates: `recipes/more.toml`, measured in docs/which-recipe.md
/// against `finetune` on 50 to 3 630 pictures: no better up to 1 000, 1.5 points at 2 569.
const MANY: usize = 1500;

/// Returns the recipe of `choice`; none for collecting more pictures.
pub fn recipe(choice: Choice, network: &Network, shape: &Shape) -> Result<Option<Recipe>> {
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
        phase.lr = Rate::Anchors(BTreeMap::from([("stem".into(), 1e-5), ("head".into(), 1e-4)]));
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
        let of = |choice, train| recipe(choice, &network, &shape(train)).unwrap().unwrap();
        assert_eq!(of(Choice::Finetune, 480), Recipe::open("finetune").unwrap());
        let more = Recipe::parse(include_str!("../../../../recipes/more.toml"), "more").unwrap();
        assert_eq!(of(Choice::Finetune, 2500), more);
        assert_eq!(of(Choice::LastStages, 2500).phases[1].trainable, ["layer4", "head"]);
    }
}
