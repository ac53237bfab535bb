//! The learning-rate finder on a folder of photos: what `headstart lr-find` runs.

use std::path::Path;

use crate::clip::{HeadPlan, with_head};
use crate::data::{Dataset, OnUnreadable, Split, SplitConfig, check_files};
use crate::device::check_precision;
use crate::error::Result;
use crate::session::photos;
use crate::sources::Backbone;
use crate::task::TaskSpec;
use crate::train::lr_find::{LrFind, Sweep, lr_find};
use crate::train::objective::suit;
use crate::train::observer::Observer;
use crate::train::prefix::{CacheLimits, FeatureCache};
use crate::train::recipe::Phase;
use crate::train::{Job, Recipe};

/// Sweeps the rate of `phase` on the training photos of `data`; `out` takes what the feature cache cannot hold in memory.
///
/// Pictures, head, optimizer and batches are those of `recipe`, whose own phases do not matter.
pub fn sweep(
    (data, task): (&Path, &TaskSpec),
    mut recipe: Recipe,
    phase: &Phase,
    backbone: &Backbone,
    settings: LrFind,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<Sweep> {
    let config = SplitConfig { seed: recipe.seed, ..SplitConfig::default() };
    let mut data = Dataset::open_as(data, &config, task)?;
    check_files(&mut data, OnUnreadable::LeaveOut, &|_, _| {})?;
    recipe.resolve(&backbone.input);
    check_precision(backbone.device(), recipe.precision)?;
    suit(&mut recipe, data.task)?;
    let (classes, head): (_, HeadPlan) = (data.classes.names(), recipe.head.parse()?);
    let network = match recipe.pretrained {
        true => with_head(backbone, classes, head, recipe.seed)?.0,
        false => backbone.random(classes.len(), head.layers()?, recipe.seed)?,
    };
    let network = crate::train::reinit::reinit(network, &recipe.reinit, recipe.seed)?;
    let train =
        photos(data.part(Split::Train), &recipe.train, recipe.seed, recipe.batch_size, &data.digest()?)?;
    let train = train.with_truth(data.truth(Split::Train, &data.scales()));
    let val = photos(&[], &recipe.eval, recipe.seed, recipe.batch_size, "none")?;
    let job = Job {
        recipe: &recipe,
        train: &train,
        val: &val,
        unlabeled: None,
        key: String::new(),
        checkpoint: None,
        resume: false,
        every: None,
        limits: CacheLimits::usual(out),
    };
    Ok(lr_find(&job, phase, network, &mut FeatureCache::default(), settings, observer)?.1)
}
