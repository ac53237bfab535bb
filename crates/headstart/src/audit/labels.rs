//! Labels that features contradict, and pictures that only features find alike.

use serde::Serialize;

use super::Photo;
use super::duplicates::{Clusters, Group, by_features};
use crate::data::Sample;
use crate::error::{Error, Result};
use crate::metrics::labels::mean;
use crate::metrics::{Confusion, argmax};
use crate::models::{HeadSpec, Network, frozen, values};
use crate::session::photos as photos_of;
use crate::sources::Backbone;
use crate::task::Task;
use crate::train::observer::{Event, Observer};
use crate::train::{Photos, Recipe, prefix};
use crate::transfer::{LeftOut, close_pairs, confident};

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
    /// Share of given labels the probe agrees with on pictures it did not see; of several labels a picture the mean over
    /// labels, those that are there and those that are not weighed alike.
    pub top1: f64,
    /// Estimated share of wrong labels, likewise.
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

/// Fewer pictures with or without a label than this do not show what it looks like.
const LEAST_OF_LABEL: usize = 5;

/// The data that features are compared with.
pub struct Whole<'a> {
    /// What the pictures are labelled for.
    pub task: Task,
    /// The pictures.
    pub photos: &'a [Photo],
    /// Which of them are one.
    pub clusters: &'a Clusters,
    /// Classes or labels, sorted.
    pub names: &'a [String],
    /// The network whose features are read.
    pub backbone: &'a Backbone,
}

impl Whole<'_> {
    /// Reads the features of all photos and compares them with one another and with the labels; numbers are not doubted.
    pub fn look(&self, similarity: f32, observer: &mut dyn Observer) -> Result<Seen> {
        let mut recipe = Recipe::open("head")?;
        recipe.resolve(&self.backbone.input);
        let unlabelled = |p: &Photo| Sample { path: p.path.clone(), label: 0 };
        let samples: Vec<_> = self.photos.iter().map(unlabelled).collect();
        let set = photos_of(&samples, &recipe.eval, 0, 32, "audit")?;
        let (network, _) = self.backbone.with_new_head(2, HeadSpec::linear(), 0)?;
        let features = embed(&network, &set, observer)?;
        let width = (features.len() / self.photos.len().max(1)).max(1);
        // Of copies only one: a wrong label must not be believed because its copy has it too.
        let single: Vec<usize> = (0..self.photos.len()).filter(|i| self.clusters.find(*i) == *i).collect();
        let pairs = close_pairs(&features, width, similarity);
        let groups = by_features(self.photos, self.clusters.clone(), &pairs);
        let own = || -> Vec<f32> {
            single.iter().flat_map(|i| &features[i * width..(i + 1) * width]).copied().collect()
        };
        let doubted = match self.task {
            _ if single.len() < LEAST => None,
            Task::Classify if self.names.len() < 2 => None,
            Task::Classify => Some(self.doubt_classes(&own(), width, &single)),
            Task::Multilabel => self.doubt_labels(&own(), width, &single),
            Task::Regress => None,
        };
        let (suspects, probed) = doubted.unzip();
        Ok(Seen { groups, suspects: suspects.unwrap_or_default(), probed })
    }

    fn doubt_classes(&self, features: &[f32], width: usize, single: &[usize]) -> (Vec<Suspect>, Probed) {
        let classes = self.names.len();
        let class = |i: &usize| {
            let name = &self.photos[*i].marked.names[0];
            self.names.binary_search(name).expect("classes are those of the photos")
        };
        let labels: Vec<usize> = single.iter().map(class).collect();
        let beliefs = LeftOut::new(features, width).probabilities(&labels, classes);
        let found = confident(&beliefs.probabilities, classes, &labels);
        let suspect = |at: &usize| {
            let row = &beliefs.probabilities[at * classes..(at + 1) * classes];
            let best = argmax(&row.iter().map(|p| *p as f32).collect::<Vec<_>>());
            Suspect {
                photo: single[*at],
                suggested: self.names[best].clone(),
                confidence: row[best],
                given_probability: row[labels[*at]],
            }
        };
        let rows = || found.joint.chunks(classes).map(<[usize]>::to_vec).collect();
        let probed = Probed {
            weights: self.backbone.origin.clone(),
            photos: single.len(),
            top1: beliefs.right as f64 / single.len() as f64,
            noise: found.noise(),
            joint: (classes <= 100).then(rows),
        };
        (found.issues.iter().map(suspect).collect(), probed)
    }

    /// Doubts each label by itself, there or not there; `None` if no label has enough pictures on both sides.
    fn doubt_labels(
        &self,
        features: &[f32],
        width: usize,
        single: &[usize],
    ) -> Option<(Vec<Suspect>, Probed)> {
        let probe = LeftOut::new(features, width);
        let (mut suspects, mut right, mut noise) = (vec![], vec![], vec![]);
        for name in self.names {
            let there: Vec<usize> =
                single.iter().map(|i| usize::from(self.photos[*i].marked.names.contains(name))).collect();
            let with = there.iter().sum::<usize>();
            if with.min(there.len() - with) < LEAST_OF_LABEL {
                continue;
            }
            let beliefs = probe.probabilities(&there, 2).probabilities;
            let found = confident(&beliefs, 2, &there);
            suspects.extend(found.issues.iter().map(|at| Suspect {
                photo: single[*at],
                suggested: if there[*at] == 1 { format!("without {name}") } else { format!("with {name}") },
                confidence: beliefs[2 * at + 1 - there[*at]],
                given_probability: beliefs[2 * at + there[*at]],
            }));
            // A rare label is not known by saying no.
            let believed: Vec<usize> = beliefs.chunks_exact(2).map(|p| usize::from(p[1] > p[0])).collect();
            right.push(Confusion::new(&believed, &there, 2).balanced_accuracy());
            noise.push(found.noise());
        }
        suspects.sort_by(|a, b| a.given_probability.total_cmp(&b.given_probability));
        (!right.is_empty()).then(|| {
            let probed = Probed {
                weights: self.backbone.origin.clone(),
                photos: single.len(),
                top1: mean(right.into_iter()),
                noise: mean(noise.into_iter()),
                joint: None,
            };
            (suspects, probed)
        })
    }
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
