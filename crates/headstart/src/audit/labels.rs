//! Labels that features contradict, and pictures that only features find alike.

use serde::Serialize;

use super::Photo;
use super::duplicates::{Clusters, Group, by_features};
use crate::error::{Error, Result};
use crate::metrics::accuracy::argmax;
use crate::models::{HeadSpec, Network, frozen, values};
use crate::session::photos as photos_of;
use crate::sources::Backbone;
use crate::train::observer::{Event, Observer};
use crate::train::{Photos, Recipe, prefix};
use crate::transfer::{close_pairs, confident, left_out_probabilities};

/// A label that is probably wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspect {
    /// The picture's number.
    pub photo: usize,
    /// The label the probe believes.
    pub suggested: String,
    /// How much it believes it.
    pub confidence: f64,
    /// How much it believes the given label.
    pub given_probability: f64,
}

/// What the probe behind the suspects is worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probed {
    /// The network whose features were read.
    pub weights: String,
    /// Pictures; of copies only one.
    pub photos: usize,
    /// Share of given labels the probe agrees with on pictures it did not see.
    pub top1: f64,
    /// Estimated share of wrong labels.
    pub noise: f64,
    /// Estimated pictures by given class (row) and true class (column); none for more than a hundred classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joint: Option<Vec<Vec<usize>>>,
}

/// What features add to an audit.
pub struct Seen {
    /// Pictures alike to the network.
    pub groups: Vec<Group>,
    /// Labels to look at, the least believed first.
    pub suspects: Vec<Suspect>,
    /// What the probe is worth; none where there is nothing to probe.
    pub probed: Option<Probed>,
}

/// Fewer pictures than this teach a probe nothing.
const LEAST: usize = 20;

/// Reads the features of all photos and compares them with one another and with the labels.
pub fn look(
    photos: &[Photo],
    clusters: Clusters,
    classes: &[String],
    backbone: &Backbone,
    similarity: f32,
    observer: &mut dyn Observer,
) -> Result<Seen> {
    let mut recipe = Recipe::open("head")?;
    recipe.resolve(&backbone.input);
    let class_of = |p: &Photo| classes.binary_search(&p.class).expect("classes are those of the photos");
    let samples: Vec<_> =
        photos.iter().map(|p| crate::data::Sample { path: p.path.clone(), label: class_of(p) }).collect();
    let set = photos_of(&samples, &recipe.eval, 0, 32, "audit")?;
    let (network, _) = backbone.with_new_head(classes.len().max(2), HeadSpec::linear(), 0)?;
    let features = embed(&network, &set, observer)?;
    let width = features.len() / photos.len().max(1);
    // Of copies only one: a wrong label must not be believed because its copy has it too.
    let single: Vec<usize> = (0..photos.len()).filter(|i| clusters.find(*i) == *i).collect();
    let groups = by_features(photos, clusters, &close_pairs(&features, width.max(1), similarity));
    if single.len() < LEAST || classes.len() < 2 {
        return Ok(Seen { groups, suspects: vec![], probed: None });
    }
    let own: Vec<f32> = single.iter().flat_map(|i| &features[i * width..(i + 1) * width]).copied().collect();
    let labels: Vec<usize> = single.iter().map(|i| samples[*i].label).collect();
    let beliefs = left_out_probabilities(&own, width, &labels, classes.len());
    let found = confident(&beliefs.probabilities, classes.len(), &labels);
    let suspect = |at: &usize| {
        let row = &beliefs.probabilities[at * classes.len()..(at + 1) * classes.len()];
        let best = argmax(&row.iter().map(|p| *p as f32).collect::<Vec<_>>());
        Suspect {
            photo: single[*at],
            suggested: classes[best].clone(),
            confidence: row[best],
            given_probability: row[labels[*at]],
        }
    };
    let rows = || found.joint.chunks(classes.len()).map(<[usize]>::to_vec).collect();
    Ok(Seen {
        groups,
        suspects: found.issues.iter().map(suspect).collect(),
        probed: Some(Probed {
            weights: backbone.origin.clone(),
            photos: single.len(),
            top1: beliefs.right as f64 / single.len() as f64,
            noise: found.noise(),
            joint: (classes.len() <= 100).then(rows),
        }),
    })
}

fn embed(network: &Network, set: &Photos, observer: &mut dyn Observer) -> Result<Vec<f32>> {
    let (network, device) = (frozen(network), network.device());
    let head = network.groups().len() - 1;
    let (mut all, mut done) = (Vec::new(), 0);
    for batch in set.in_order(0) {
        let batch = batch?;
        done += batch.n;
        all.extend(values(&prefix::run(&network, head, batch, &device).flat()));
        observer.event(Event::Caching { done, total: set.len(), before: &network.groups()[head].name });
        if observer.wants_to_stop() {
            return Err(Error::Interrupted { checkpoint: None });
        }
    }
    Ok(all)
}
