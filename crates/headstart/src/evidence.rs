//! What a report shows besides scores: which pictures, which frozen tensors, on which machine.

use std::path::PathBuf;

use crate::audit::Audit;
use crate::data::Dataset;
use crate::error::Result;
use crate::image::Pipeline;
use crate::machine::Machine;
use crate::metrics::accuracy::argmax;
use crate::metrics::calibration::softmax;
use crate::models::layers::Map;
use crate::models::tap::Tap;
use crate::models::{Network, frozen, values};
use crate::session::Scores;
use crate::train::Photos;
use crate::weights::StateDict;

/// What backs a report up.
#[derive(Debug)]
pub struct Evidence {
    /// The first pass over the photos.
    pub audit: Audit,
    /// SHA-256 of the data as trained on.
    pub data_sha256: String,
    /// Pictures a list left out.
    pub excluded: Vec<PathBuf>,
    /// The groups, stem to head, with the tensors that kept every bit.
    pub kept: Vec<Kept>,
    /// Validation pictures, in the order of the scores.
    pub files: Vec<PathBuf>,
    /// What was done to them.
    pub pipeline: Pipeline,
    /// The pictures worth showing.
    pub gallery: Gallery,
    /// Where it all ran.
    pub machine: Machine,
}

/// Tensors of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The group.
    pub group: String,
    /// Tensors equal to the source's, bit for bit.
    pub same: usize,
    /// Tensors in all.
    pub tensors: usize,
}

/// Pictures worth showing: numbers of validation pictures, and what the network looked at in them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gallery {
    /// Highest losses first.
    pub worst: Vec<Shown>,
    /// Right answers, surest first.
    pub best: Vec<Shown>,
}

/// A picture worth showing.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Its number.
    pub picture: usize,
    /// The class it was taken for.
    pub predicted: usize,
    /// How sure the network was, after temperature scaling.
    pub confidence: f64,
    /// −ln of the true class's probability, after temperature scaling.
    pub loss: f64,
    /// Where the score of `predicted` comes from, if the network's head lets it be told.
    pub map: Option<ClassMap>,
}

/// A class activation map: contributions of places to a score.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassMap {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Contributions, row by row; their mean and the bias make the score.
    pub values: Vec<f32>,
}

/// Pictures of each kind.
const SHOWN: usize = 12;

impl Evidence {
    /// Puts it together; without scores of classes there is no gallery.
    pub fn new(
        audit: Audit,
        data_sha256: String,
        excluded: Vec<PathBuf>,
        kept: Vec<Kept>,
        (network, val, scores): (&Network, &Photos, Option<&Scores>),
        pipeline: Pipeline,
    ) -> Result<Self> {
        let mut gallery = scores.map_or_else(Gallery::default, |scores| gallery(scores, SHOWN));
        add_maps(network, val, &mut gallery)?;
        let files = val.files().iter().map(|(path, _)| path.clone()).collect();
        Ok(Self { audit, data_sha256, excluded, kept, files, pipeline, gallery, machine: Machine::here() })
    }
}

impl Dataset {
    /// Takes out what the list at `list` names; without a list nothing.
    pub fn exclude_list(&mut self, list: Option<&std::path::Path>) -> Result<Vec<PathBuf>> {
        match list {
            Some(list) => self.exclude(&crate::data::read_list(list)?, list),
            None => Ok(Vec::new()),
        }
    }
}

/// Counts in each group the tensors whose values are those of the source, bit for bit.
pub fn kept_bits(network: &Network, source: Option<&StateDict>) -> Vec<Kept> {
    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let dialects = crate::models::all_dialects(network);
    let same = |name: &str, values: &[f32]| {
        dialects.iter().any(|d| {
            let entry = source.and_then(|s| s.get(&network.foreign(*d, name)));
            entry.is_some_and(|e| bits(&e.to_f32()) == bits(values))
        })
    };
    let mut kept: Vec<Kept> =
        network.groups().iter().map(|g| Kept { group: g.name.clone(), same: 0, tensors: 0 }).collect();
    for (name, _, values) in network.state() {
        let group = &mut kept[network.group_of(&name)];
        group.tensors += 1;
        group.same += usize::from(same(&name, &values));
    }
    kept
}

/// Picks the pictures with the highest losses and the surest right ones.
fn gallery(scores: &Scores, count: usize) -> Gallery {
    let classes = scores.classes.len();
    let all: Vec<Shown> = (scores.logits.chunks_exact(classes).zip(&scores.labels).enumerate())
        .map(|(picture, (row, label))| {
            let p = softmax(row, scores.temperature);
            let predicted = argmax(row);
            // A probability that underflows is a loss beyond all others, not a crash.
            let loss = -p[*label].max(f64::MIN_POSITIVE).ln();
            Shown { picture, predicted, confidence: p[predicted], loss, map: None }
        })
        .collect();
    let mut worst = all.clone();
    worst.sort_by(|a, b| b.loss.total_cmp(&a.loss));
    let mut best: Vec<Shown> = all.into_iter().filter(|s| s.predicted == scores.labels[s.picture]).collect();
    best.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    worst.truncate(count);
    best.truncate(count);
    Gallery { worst, best }
}

/// Adds class activation maps (Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016) where
/// they are exact: the head is linear in the mean of the last map, which is checked for every picture.
fn add_maps(network: &Network, val: &Photos, gallery: &mut Gallery) -> Result<()> {
    if !network.options().head.is_linear() {
        return Ok(());
    }
    let network = frozen(network);
    let classifier = network.classifier();
    let head = network.state_of(&|name| name.starts_with(classifier));
    let part =
        |end: &str| head.iter().find(|(name, ..)| name.ends_with(end)).map(|(_, _, values)| values.clone());
    let (Some(weight), Some(bias)) = (part(".weight"), part(".bias")) else { return Ok(()) };
    let last = network.groups()[network.groups().len() - 2].name.clone();
    for shown in gallery.worst.iter_mut().chain(&mut gallery.best) {
        let batch = val.shuffled(&[shown.picture], 1, 0).next().expect("one picture")?;
        let mut tap = Tap::keep(&[&last]);
        let x = Map::from_nhwc(batch.tensor(&network.device()));
        let logits = values(&network.forward(x, &mut tap));
        let Some(map) = tap.values(&last) else { return Ok(()) };
        let [_, channels, height, width] = map.dims();
        let class = shown.predicted;
        if weight.len() != bias.len() * channels {
            return Ok(());
        }
        let map = class_map(&values(&map), &weight[class * channels..(class + 1) * channels], height, width);
        let score = map.values.iter().sum::<f32>() / map.values.len() as f32 + bias[class];
        if (score - logits[class]).abs() > 1e-3 * (1.0 + logits[class].abs()) {
            return Ok(());
        }
        shown.map = Some(map);
    }
    Ok(())
}

/// Weighs the channels of a map `[c, h, w]`.
fn class_map(map: &[f32], weights: &[f32], height: usize, width: usize) -> ClassMap {
    let mut values = vec![0.0; height * width];
    for (channel, weight) in map.chunks_exact(height * width).zip(weights) {
        values.iter_mut().zip(channel).for_each(|(v, x)| *v += weight * x);
    }
    ClassMap { height, width, values }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::metrics::Confusion;
    use crate::models::ModelOptions;

    fn scores(logits: &[f32], labels: &[usize]) -> Scores {
        Scores {
            classes: vec!["a".into(), "b".into()],
            top1: 0.0,
            top5: 1.0,
            interval: (0.0, 1.0),
            loss: 0.0,
            ece: 0.0,
            temperature: 1.0,
            confusion: Confusion::new(&vec![0; labels.len()], labels, 2),
            logits: logits.to_vec(),
            labels: labels.to_vec(),
        }
    }

    #[test]
    fn the_worst_are_wrong_and_the_best_are_sure() {
        let found = gallery(&scores(&[4.0, 0.0, 3.0, 0.0, 0.0, 5.0, 0.0, 900.0], &[0, 1, 1, 0]), 2);
        let numbers = |list: &[Shown]| list.iter().map(|s| s.picture).collect::<Vec<_>>();
        assert_eq!((numbers(&found.worst), numbers(&found.best)), (vec![3, 1], vec![2, 0]));
        assert!(found.worst[0].loss > 700.0 && found.worst[0].loss.is_finite());
    }

    #[test]
    fn maps_add_up_to_the_score_and_show_the_class() {
        let dir = tempfile::tempdir().unwrap();
        crate::synth::write_flowers(dir.path(), 2, 1, 1, 64).unwrap();
        let file = std::fs::read_dir(dir.path().join("train/daisy")).unwrap().next().unwrap().unwrap().path();
        let pipeline: Pipeline =
            "resize_short(64, bilinear) | center_crop(64) | normalize(imagenet)".parse().unwrap();
        let val = Photos::new(vec![(file, 0)], pipeline, 0, 1, "x");
        let network = Network::new("headstart_nano", &ModelOptions::new(2), &Device::flex()).unwrap().init(3);
        let logits = crate::train::fit::logits(&network, &val).unwrap();
        let mut gallery = gallery(&scores(&logits, &[0]), 1);
        add_maps(&network, &val, &mut gallery).unwrap();
        let map = gallery.worst[0].map.as_ref().expect("a linear head after the mean has maps");
        assert_eq!((map.height, map.width), (2, 2));
        let kept = kept_bits(&network, None);
        assert!(kept.iter().all(|k| k.same == 0 && k.tensors > 0) && kept.last().unwrap().group == "head");
    }
}
