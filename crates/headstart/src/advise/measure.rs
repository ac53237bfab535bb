//! What the photos look like to the network: size, balance, and the worth of its features beside those of the same
//! network with random weights.

use std::time::Instant;

use burn::Tensor;
use burn::tensor::activation;
use serde::Serialize;

use super::Settings;
use crate::clip::{self, Templates};
use crate::data::{Dataset, Sample, Split};
use crate::error::{Error, Result};
use crate::metrics::{accuracy, interval};
use crate::models::layers::global_avg_pool;
use crate::models::tap::Tap;
use crate::models::{Flow, HeadSpec, Network, frozen, values};
use crate::rng::Rng;
use crate::session::photos;
use crate::sources::Backbone;
use crate::train::observer::{Event, Observer};
use crate::train::{Photos, Recipe, prefix};
use crate::transfer::{self, Decomposition};

/// The pictures by number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shape {
    /// Pictures to train on.
    pub train: usize,
    /// Pictures to validate on.
    pub val: usize,
    /// Classes.
    pub classes: usize,
    /// Training pictures of the smallest class.
    pub smallest: usize,
    /// Training pictures of the largest class.
    pub largest: usize,
    /// Pictures without labels that may take part.
    pub unlabeled: usize,
}

impl Shape {
    /// Counts a data set's pictures, beside `unlabeled` others.
    pub fn of(data: &Dataset, unlabeled: usize) -> Self {
        let counts = data.class_counts(Split::Train);
        Self {
            train: data.train.len(),
            val: data.val.len(),
            classes: counts.len(),
            smallest: counts.iter().copied().min().unwrap_or(0),
            largest: counts.iter().copied().max().unwrap_or(0),
            unlabeled,
        }
    }

    /// The accuracy of always naming the largest class.
    pub fn guess(&self) -> f64 {
        self.largest as f64 / self.train.max(1) as f64
    }
}

/// An accuracy on pictures left out, with its 95 % Wilson interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// Share of right answers.
    pub top1: f64,
    /// Ends of the interval.
    pub interval95: (f64, f64),
}

impl Accuracy {
    fn of(right: usize, total: usize) -> Self {
        let i = interval::wilson(right, total, 0.95);
        Self { top1: right as f64 / total.max(1) as f64, interval95: (i.low, i.high) }
    }
}

/// What the features are worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Pictures measured on.
    pub pictures: usize,
    /// A linear probe on the embeddings.
    pub probe: Accuracy,
    /// A linear probe on the map before the last stage, averaged over its places.
    pub probe_earlier: Accuracy,
    /// The probe on half of the pictures: whether more would help.
    pub probe_half: Accuracy,
    /// Five nearest neighbours on the embeddings.
    pub knn: f64,
    /// Pictures the two networks are compared on.
    pub control_pictures: usize,
    /// The probe on those pictures, pretrained and with random weights.
    pub control_probe: (f64, f64),
    /// Nearest neighbours on those pictures, pretrained and with random weights.
    pub control_knn: (f64, f64),
    /// Share of the random network's errors that pretraining removes, the mean over probe and neighbours: how similar
    /// the source task is, from about 0 (nothing carries over) to 1.
    pub similarity: f64,
    /// LogME of the embeddings.
    pub logme: f64,
    /// H-score of the embeddings.
    pub h_score: f64,
    /// LEEP; none without the network's own classifier.
    pub leep: Option<f64>,
    /// Share of what there is to know about the classes that the network's own classifier tells; none without one.
    pub source_tells: Option<f64>,
    /// CLIP's classifier of the class names alone; none without a text tower.
    pub zero_shot: Option<Accuracy>,
    /// Pictures the network reads, decodes and embeds a second.
    pub pictures_per_second: f64,
}

/// What measuring leaves for the next step.
pub struct Seen {
    /// The numbers.
    pub measured: Measured,
    /// The pretrained network with a new head.
    pub network: Network,
    /// The same, folded for inference.
    pub inference: Network,
}

/// Pictures on which the two networks are compared: at least these, more where there are many classes. Similarity is
/// a coarse measure and random features cost as much as good ones. Fewer when a fit is waiting.
const CONTROL: [usize; 2] = [200, 100];
/// Pictures of each class in that comparison.
const CONTROL_EACH: usize = 4;

/// Embeds the training pictures once, and a part of them with random weights.
pub fn measure(
    data: &Dataset,
    backbone: &Backbone,
    settings: Settings,
    observer: &mut dyn Observer,
) -> Result<Seen> {
    let classes = data.classes.names().len();
    let mut recipe = Recipe::open("head")?;
    recipe.resolve(&backbone.input);
    let samples = sample(data.part(Split::Train), classes, settings.pictures, settings.seed);
    let set = photos(&samples, &recipe.eval, settings.seed, 32, "advise")?;
    let labels = set.labels();
    let (network, _) = backbone.with_new_head(classes, HeadSpec::linear(), settings.seed)?;
    let inference = frozen(&network);
    let started = Instant::now();
    let own = embed(&inference, &set, observer)?;
    let pictures_per_second = labels.len() as f64 / started.elapsed().as_secs_f64();

    // `sample` interleaves the classes, so that the first so many are a fair sample as well.
    let few = labels.len().min(CONTROL[usize::from(settings.brief)].max(CONTROL_EACH * classes));
    let control_set = photos(&samples[..few], &recipe.eval, settings.seed, 32, "advise")?;
    let random = backbone.random(classes, HeadSpec::linear(), settings.seed)?;
    let random = embed(&frozen(&random), &control_set, observer)?;

    let width = own.width;
    let probe = |f: &Embedded, n: usize| {
        let right = transfer::probe(&f.last[..n * f.width], f.width, &labels[..n], classes).right();
        Accuracy::of(right, n)
    };
    let knn =
        |f: &Embedded, n: usize| transfer::knn(&f.last[..n * f.width], f.width, &labels[..n], classes, 5);
    let earlier = transfer::probe(&own.earlier, own.earlier.len() / labels.len(), &labels, classes).right();
    let all = probe(&own, labels.len());
    let own_few = if few == labels.len() { all } else { probe(&own, few) };
    let control_probe = (own_few.top1, probe(&random, few).top1);
    let control_knn = (knn(&own, few), knn(&random, few));
    let source = source_probabilities(backbone, &own);
    let removed = |(own, random): (f64, f64)| 1.0 - (1.0 - own) / (1.0 - random).max(1e-6);
    let measured = Measured {
        pictures: labels.len(),
        probe: all,
        probe_earlier: Accuracy::of(earlier, labels.len()),
        probe_half: probe(&own, labels.len() / 2),
        knn: if few == labels.len() { control_knn.0 } else { knn(&own, labels.len()) },
        control_pictures: few,
        control_probe,
        control_knn,
        similarity: 0.5 * (removed(control_probe) + removed(control_knn)),
        logme: transfer::logme(&Decomposition::new(&own.last, width), &labels, classes),
        h_score: transfer::h_score(&own.last, width, &labels, classes),
        leep: source.as_ref().map(|(p, source)| transfer::leep(p, *source, &labels, classes)),
        source_tells: source.as_ref().map(|(p, source)| transfer::told(p, *source, &labels, classes)),
        zero_shot: zero_shot_hits(backbone, data.classes.names(), &own, &labels)?
            .map(|right| Accuracy::of(right, labels.len())),
        pictures_per_second,
    };
    Ok(Seen { measured, network, inference })
}

/// Draws at most `most` pictures, the classes in turn, so that every beginning of the list is balanced as the whole is.
fn sample(samples: &[Sample], classes: usize, most: usize, seed: u64) -> Vec<Sample> {
    let mut by_class = vec![Vec::new(); classes];
    samples.iter().for_each(|s| by_class[s.label].push(s));
    let mut placed: Vec<(f64, &Sample)> = Vec::with_capacity(samples.len());
    for (class, members) in by_class.iter_mut().enumerate() {
        let mut rng = Rng::keyed(&[seed, 0xAD, class as u64]);
        rng.shuffle(members);
        // The i-th of m members stands at (i + ½) / m of the list.
        let m = members.len() as f64;
        placed.extend(members.iter().enumerate().map(|(i, s)| ((i as f64 + 0.5) / m, *s)));
    }
    placed.sort_by(|a, b| a.0.total_cmp(&b.0));
    placed.into_iter().take(most).map(|(_, s)| s.clone()).collect()
}

/// Features of a set of pictures.
pub(super) struct Embedded {
    /// Embeddings `[n, width]`.
    pub last: Vec<f32>,
    pub width: usize,
    /// Means over the map before the last stage.
    pub earlier: Vec<f32>,
}

/// Runs pictures through a network that is ready for inference.
pub(super) fn embed(network: &Network, set: &Photos, observer: &mut dyn Observer) -> Result<Embedded> {
    let device = network.device();
    let head = network.groups().len() - 1;
    let stage = head.saturating_sub(1);
    let before = network.groups()[head].name.as_str();
    let (mut last, mut earlier, mut done) = (Vec::new(), Vec::new(), 0);
    for batch in set.in_order(0) {
        let batch = batch?;
        done += batch.n;
        let flow = prefix::run(network, stage, batch, &device);
        earlier.extend(pooled(&flow));
        last.extend(values(&network.run(stage..head, flow, &mut Tap::off()).flat()));
        observer.event(Event::Caching { done, total: set.len(), before });
        if observer.wants_to_stop() {
            return Err(Error::Interrupted { checkpoint: None });
        }
    }
    let width = last.len() / set.len().max(1);
    Ok(Embedded { last, width, earlier })
}

/// Means over places: `[n, c]`.
fn pooled(flow: &Flow) -> Vec<f32> {
    match flow {
        Flow::Flat(x) => values(x),
        Flow::Tokens(tokens) => values(&tokens.clone().mean()),
        Flow::Map(map) => values(&global_avg_pool(map.clone())),
    }
}

/// The probabilities the network's own classifier gives, from the embeddings; none if the weights have none.
fn source_probabilities(backbone: &Backbone, own: &Embedded) -> Option<(Vec<f32>, usize)> {
    // CLIP's is a projection, no classifier.
    let (network, _) = backbone.whole().ok().filter(|_| backbone.text.is_none())?;
    Some((head(&network, own, |logits| activation::softmax(logits, 1)), network.options().num_classes))
}

/// Counts the pictures that the text tower names right by the names of their classes; none without one.
fn zero_shot_hits(
    backbone: &Backbone,
    classes: &[String],
    own: &Embedded,
    labels: &[usize],
) -> Result<Option<usize>> {
    if backbone.text.is_none() {
        return Ok(None);
    }
    let (network, _) = clip::zero_shot(backbone, classes, &Templates::default())?;
    let hits = accuracy::hits(&head(&network, own, |logits| logits), classes.len(), labels, 1);
    Ok(Some(hits.into_iter().filter(|hit| *hit).count()))
}

/// Runs a network's head alone on the embeddings.
fn head(network: &Network, own: &Embedded, finish: impl Fn(Tensor<2>) -> Tensor<2>) -> Vec<f32> {
    let (network, head) = (frozen(network), network.groups().len() - 1);
    let mut all = Vec::new();
    for rows in own.last.chunks(own.width * 256) {
        let data = burn::tensor::TensorData::new(rows.to_vec(), [rows.len() / own.width, own.width]);
        let x = Flow::Flat(Tensor::from_data(data, &network.device()));
        all.extend(values(&finish(network.run(head..head + 1, x, &mut Tap::off()).flat())));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_beginning_of_the_sample_is_balanced() {
        let samples: Vec<Sample> = (0..90)
            .map(|i| Sample { path: format!("{i}.png").into(), label: usize::from(i >= 60) })
            .collect();
        let drawn = sample(&samples, 2, 60, 1);
        let rare = |n: usize| drawn[..n].iter().filter(|s| s.label == 1).count();
        assert_eq!((drawn.len(), rare(60), rare(30)), (60, 20, 10));
        let again = sample(&samples, 2, 60, 1);
        assert!(drawn.iter().zip(&again).all(|(a, b)| a.path == b.path));
    }
}
