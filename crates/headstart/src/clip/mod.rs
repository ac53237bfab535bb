//! CLIP whole: texts as tokens, classes as texts, and the classifier that needs no training.
//!
//! Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021. Its image towers
//! are networks of the zoo; the text tower is `models/clip_text.rs`. A zero-shot classifier is one of the zoo's networks
//! with a head of three layers: the projection into the space shared with texts, division by the length, and the texts
//! of the classes times CLIP's factor. So whatever takes a network takes it: scores, bundles, training.

mod clean;
mod entities;
mod plan;
mod templates;
mod tokenizer;

use burn::tensor::Device;

use crate::error::{Error, Result};
use crate::models::layers::Act;
use crate::models::{ClipText, HeadSpec, Network, TextSpec, unit_length, values};
use crate::pretrained::{self, HeadRule};
use crate::sources::{Backbone, TextWeights, no_text};
use crate::weights::{Entry, LoadReport, StateDict};

pub use plan::HeadPlan;
pub use templates::Templates;
pub use tokenizer::{END, START, Tokenizer};

/// Texts that go through the tower at a time.
const BATCH: usize = 64;
/// Tokens of CLIP's vocabulary.
const VOCAB: usize = 49_408;

/// Builds the text tower of a backbone.
pub fn text_tower(backbone: &Backbone) -> Result<ClipText> {
    let TextWeights { weights, quick_gelu } =
        backbone.text.as_ref().ok_or_else(|| no_text(&backbone.origin))?;
    let spec = spec(weights, if *quick_gelu { Act::QuickGelu } else { Act::Gelu })?;
    let mut used = 0;
    let tower = ClipText::new(spec, &Device::flex(), &mut |name, shape| {
        used += 1;
        tensor(weights, name, shape).map(Entry::to_f32)
    })?;
    if used < weights.len() {
        let reason = format!("{} tensors of its text tower are not CLIP's", weights.len() - used);
        return Err(bad(weights, reason));
    }
    Ok(tower)
}

fn bad(weights: &StateDict, reason: String) -> Error {
    let hint =
        "a CLIP of OpenAI, open_clip or Hugging Face has a transformer with heads of 64 for its texts".into();
    Error::BadWeights { path: weights.source.clone(), reason, hint }
}

fn tensor<'a>(weights: &'a StateDict, name: &str, shape: &[usize]) -> Result<&'a Entry> {
    let entry = weights.get(name).ok_or_else(|| bad(weights, format!("its text tower lacks `{name}`")))?;
    // A scalar is stored without an axis.
    if entry.shape != shape && !(shape == [1] && entry.shape.is_empty()) {
        return Err(bad(weights, format!("`{name}` is {:?}, not {shape:?}", entry.shape)));
    }
    Ok(entry)
}

/// Reads the sizes off the tensors.
fn spec(weights: &StateDict, act: Act) -> Result<TextSpec> {
    let size = |name: &str, axis: usize| {
        let entry = weights.get(name).filter(|e| e.shape.len() == 2);
        entry
            .map(|e| e.shape[axis])
            .ok_or_else(|| bad(weights, format!("its text tower lacks the matrix `{name}`")))
    };
    let blocks = (0..).take_while(|i| weights.contains(&format!("transformer.resblocks.{i}.ln_1.weight")));
    let spec = TextSpec {
        vocab: size("token_embedding.weight", 0)?,
        context: size("positional_embedding", 0)?,
        width: size("token_embedding.weight", 1)?,
        depth: blocks.count(),
        space: size("text_projection", 1)?,
        act,
    };
    if spec.vocab != VOCAB {
        return Err(bad(weights, format!("its vocabulary has {} tokens, CLIP's {VOCAB}", spec.vocab)));
    }
    if spec.width == 0 || !spec.width.is_multiple_of(64) || spec.context < 2 || spec.space == 0 {
        return Err(bad(weights, format!("a text tower of {} channels cannot be", spec.width)));
    }
    Ok(spec)
}

/// Turns texts into vectors `[texts, space]` of length one.
///
/// Texts of one length go through together; none is padded.
pub fn embed_texts(tower: &ClipText, texts: &[String]) -> Vec<f32> {
    let tokenizer = Tokenizer::get();
    let tokens: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.read(text, tower.spec().context)).collect();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&i| tokens[i].len());
    let space = tower.spec().space;
    let mut all = vec![0.0; texts.len() * space];
    for alike in order.chunk_by(|&a, &b| tokens[a].len() == tokens[b].len()) {
        for batch in alike.chunks(BATCH) {
            let rows: Vec<&[u32]> = batch.iter().map(|&i| &tokens[i][..]).collect();
            let vectors = values(&unit_length(tower.forward(&rows)));
            for (&i, vector) in batch.iter().zip(vectors.chunks_exact(space)) {
                all[i * space..(i + 1) * space].copy_from_slice(vector);
            }
        }
    }
    all
}

/// Turns class names into vectors `[classes, space]` of length one: each the mean of its sentences.
pub fn embed_classes(tower: &ClipText, classes: &[String], templates: &Templates) -> Vec<f32> {
    let texts: Vec<String> = classes.iter().flat_map(|class| templates.around(class)).collect();
    let (space, each) = (tower.spec().space, templates.texts().len());
    let sentences = embed_texts(tower, &texts);
    let class = |rows: &[f32]| {
        let sum: Vec<f64> =
            (0..space).map(|i| rows.iter().skip(i).step_by(space).map(|v| f64::from(*v)).sum()).collect();
        let length = sum.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        sum.into_iter().map(move |v| (v / length) as f32).collect::<Vec<f32>>()
    };
    sentences.chunks_exact(each * space).flat_map(class).collect()
}

/// Builds the zero-shot classifier of `classes`.
pub fn zero_shot(
    backbone: &Backbone,
    classes: &[String],
    templates: &Templates,
) -> Result<(Network, LoadReport)> {
    let tower = text_tower(backbone)?;
    let space = tower.spec().space;
    let network = backbone.random(classes.len(), HeadSpec::zero_shot(space), 0)?;
    let (network, mut report) = pretrained::load(network, &backbone.weights, HeadRule::Replace)?;
    let (classifier, width) = (network.classifier(), network.row().num_features);
    let scale = tower.scale();
    let texts: Vec<f32> = embed_classes(&tower, classes, templates).iter().map(|v| v * scale).collect();
    let image = &backbone.weights;
    let projection = [
        tensor(image, &format!("{classifier}.weight"), &[space, width])?.to_f32(),
        tensor(image, &format!("{classifier}.bias"), &[space])?.to_f32(),
    ];
    let network = network.assign(&mut |name, _| match name.strip_prefix(classifier)? {
        ".0.weight" => Some(projection[0].clone()),
        ".0.bias" => Some(projection[1].clone()),
        ".2.weight" => Some(texts.clone()),
        ".2.bias" => Some(vec![0.0; classes.len()]),
        _ => None,
    });
    // Nothing of the projection is lost, whatever `load` says of a head that is replaced.
    report.notes.retain(|note| !note.contains("is replaced by a new head"));
    let count = templates.texts().len();
    report.notes.push(format!(
        "the head starts as zero-shot classifier: {} classes in {count} sentence{} each (`{templates}`)",
        classes.len(),
        if count == 1 { "" } else { "s" }
    ));
    Ok((network, report))
}

/// Builds a pretrained network with the head a recipe plans.
pub fn with_head(
    backbone: &Backbone,
    classes: &[String],
    plan: HeadPlan,
    seed: u64,
) -> Result<(Network, LoadReport)> {
    match plan {
        HeadPlan::New(spec) => backbone.with_new_head(classes.len(), spec, seed),
        HeadPlan::ZeroShot(templates) => zero_shot(backbone, classes, &templates),
    }
}
