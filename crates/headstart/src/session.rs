//! The main job end to end: photos and a backbone in, a run folder with a bundle out.

mod phases;
mod receipt;
mod selection;
mod unlabeled;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bundle::Contents;
use crate::clip::{HeadPlan, with_head};
use crate::data::{Sample, Split, Unreadable};
use crate::device;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, kept_bits};
use crate::fast::Precision;
use crate::image::Pipeline;
use crate::metrics::{accuracy, calibration, confusion::Confusion, interval};
use crate::models::Network;
use crate::scored::{Scored, scored};
use crate::sources::Backbone;
use crate::train::fit::logits;
use crate::train::objective::suit;
use crate::train::observer::{EpochRecord, Event, Observer};
use crate::train::prefix::{CacheLimits, hex};
use crate::train::reinit::reinit;
use crate::train::tensorboard::Board;
use crate::train::views::Views;
use crate::train::{Job, Photos, Recipe, fit, memory};
use phases::{check_channels, check_phases, check_semi, freeze};
use receipt::{weights_hash, write_log};
pub use selection::{Opened, Selection};
pub use unlabeled::Unlabeled;

/// What to do.
#[derive(Debug)]
pub struct Request {
    /// Which photos.
    pub photos: Selection,
    /// The same where they are open already.
    pub opened: Option<Opened>,
    /// The plan, not resolved yet.
    pub recipe: Recipe,
    /// Groups or patterns frozen in every phase.
    pub freeze: Vec<String>,
    /// Run folder.
    pub out: PathBuf,
    /// Whether to go on from the run folder's checkpoint.
    pub resume: bool,
    /// How often to save within an epoch; `None` saves after each epoch only.
    pub checkpoint_every: Option<Duration>,
    /// Why the recipe was chosen, for the receipt, where a measurement chose it.
    pub advice: Option<Value>,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Run folder.
    pub out: PathBuf,
    /// The resolved recipe.
    pub recipe: Recipe,
    /// Every epoch.
    pub history: Vec<EpochRecord>,
    /// Index of the epoch whose weights were kept.
    pub best_epoch: usize,
    /// Scores of those weights on the validation photos.
    pub scores: Scored,
    /// Photos left out, with reasons.
    pub unreadable: Vec<Unreadable>,
    /// What the user should know about the data and the weights.
    pub notes: Vec<String>,
    /// Photos to train on and to validate on.
    pub pictures: (usize, usize),
    /// Checkpoint names that kept every bit.
    pub frozen: usize,
    /// Seconds in all.
    pub seconds: f64,
    /// What the page shows besides scores.
    pub evidence: Evidence,
    /// Why training ended before its plan, if it did; scores and bundle are those of the best epoch until then.
    pub failure: Option<Error>,
}

/// How good a classifier is on labelled photos.
#[derive(Clone, Debug)]
pub struct Scores {
    /// Class names.
    pub classes: Vec<String>,
    /// Right answers at first place, as a share.
    pub top1: f64,
    /// Right answers among the first five.
    pub top5: f64,
    /// 95 % Wilson interval of `top1`.
    pub interval: (f64, f64),
    /// Mean negative log-likelihood.
    pub loss: f64,
    /// Expected calibration error over 15 bins.
    pub ece: f64,
    /// Temperature that minimises the loss; 1 if the data do not fix one.
    pub temperature: f64,
    /// True class by predicted class.
    pub confusion: Confusion,
    /// Logits of every photo, in order.
    pub logits: Vec<f32>,
    /// True labels, in order.
    pub labels: Vec<usize>,
}

/// Scores a network on labelled photos.
pub fn score(network: &Network, photos: &Photos, classes: &[String]) -> Result<Scores> {
    let (all, labels, n) = (logits(network, photos)?, photos.labels(), classes.len());
    let hits = accuracy::hits(&all, n, &labels, 1);
    let right = hits.iter().filter(|h| **h).count();
    let predictions: Vec<usize> = all.chunks(n).map(accuracy::argmax).collect();
    let interval = interval::wilson(right, labels.len(), 0.95);
    Ok(Scores {
        classes: classes.to_vec(),
        top1: right as f64 / labels.len() as f64,
        top5: accuracy::top_k(&all, n, &labels, 5.min(n)),
        interval: (interval.low, interval.high),
        loss: calibration::nll(&all, n, &labels, 1.0),
        ece: calibration::reliability(&all, n, &labels, 1.0).ece(),
        temperature: calibration::fit_temperature(&all, n, &labels).unwrap_or(1.0),
        confusion: Confusion::new(&predictions, &labels, n),
        logits: all,
        labels,
    })
}

impl Scores {
    /// Returns the scores as JSON, without the logits.
    pub fn to_json(&self) -> Value {
        let per_class: Vec<Value> = (self.classes.iter().zip(self.confusion.class_scores()))
            .map(|(name, s)| json!({"class": name, "precision": s.precision, "recall": s.recall, "f1": s.f1, "support": s.support}))
            .collect();
        let rows: Vec<&[u64]> = (0..self.classes.len()).map(|c| self.confusion.row(c)).collect();
        let mut all = json!({
            "top1": self.top1,
            "top5": self.top5,
            "top1_interval95": [self.interval.0, self.interval.1],
            "loss": self.loss,
            "ece": self.ece,
            "temperature": self.temperature,
            "macro_f1": self.confusion.macro_f1(),
            "pictures": self.labels.len(),
            "per_class": per_class,
        });
        // A thousand classes make a matrix nobody reads.
        if self.classes.len() <= 100 {
            all["confusion"] = json!(rows);
        }
        all
    }
}

/// Turns one part of a data set into photos.
pub fn photos(
    samples: &[Sample],
    pipeline: &str,
    seed: u64,
    batch_size: usize,
    content: &str,
) -> Result<Photos> {
    let pipeline: Pipeline = pipeline.parse()?;
    if pipeline.output_size().is_none() {
        return Err(Error::BadRecipe {
            place: "pipeline".into(),
            what: format!("`{pipeline}` leaves pictures in different sizes"),
            hint: "end the resizing with `center_crop(…)` or `random_resized_crop(…)`".into(),
        });
    }
    let files = samples.iter().map(|s| (s.path.clone(), s.label)).collect();
    Ok(Photos::new(files, pipeline, seed, batch_size, content))
}

/// Runs the job.
pub fn run(request: Request, backbone: &Backbone, observer: &mut dyn Observer) -> Result<Report> {
    let started = Instant::now();
    let out = request.out.clone();
    let checkpoint = out.join("checkpoint.safetensors");
    if request.resume && !checkpoint.exists() {
        return Err(Error::BadData {
            place: out.display().to_string(),
            what: "no checkpoint to resume from".into(),
            hint: "drop `--resume` to start anew, or name the run folder with `--out`".into(),
        });
    }
    // A place that cannot be written to shows before the work.
    fs::create_dir_all(&out).map_err(Error::write(&out))?;
    let opened = match request.opened {
        Some(opened) => opened,
        None => request.photos.open()?,
    };
    let Opened { data, unreadable, excluded, unlabeled, audit, notes: found } = opened;
    let why = request.advice.as_ref().and_then(|a| a["why"].as_str().map(String::from));
    let mut notes: Vec<String> = why.into_iter().chain(found).collect();
    let classes = data.classes.names().to_vec();

    let mut recipe = request.recipe;
    recipe.resolve(&backbone.input);
    device::check_precision(backbone.device(), recipe.precision)?;
    suit(&mut recipe, data.task)?;
    let head: HeadPlan = recipe.head.parse()?;
    let network = if recipe.pretrained {
        let (network, report) = with_head(backbone, &classes, head, recipe.seed)?;
        notes.extend(report.notes);
        network
    } else {
        backbone.random(classes.len(), head.layers()?, recipe.seed)?
    };
    let network = reinit(network, &recipe.reinit, recipe.seed)?;
    recipe.expand(&network)?;
    freeze(&mut recipe, &request.freeze, &network)?;
    check_phases(&recipe, &network)?;
    check_semi(&recipe, !unlabeled.is_empty())?;
    check_channels(&recipe, &network)?;
    for note in &notes {
        observer.event(Event::Note(note));
    }
    let (digest, scales) = (data.digest()?, data.scales());
    let part = |split: Split, pipeline: &str| {
        let content = format!("{digest} {}", split.name());
        let set = photos(data.part(split), pipeline, recipe.seed, recipe.batch_size, &content)?;
        Ok::<_, Error>(set.with_truth(data.truth(split, &scales)))
    };
    let (train, val) = (part(Split::Train, &recipe.train)?, part(Split::Val, &recipe.eval)?);
    let without = unlabeled::photos(&unlabeled, &data.root, &recipe)?;
    let digest = without.as_ref().map_or(digest.clone(), |set| format!("{digest} {}", set.weak.key()));
    let trainable = recipe.phases.iter().map(|phase| phase.trainable_parameters(&network));
    let trainable = trainable.collect::<Result<Vec<_>>>()?;
    recipe.views = Views::Count(recipe.views.count(train.len()));
    if let Some(tight) = memory::check(&recipe, &network, &train)? {
        observer.event(Event::Note(&tight));
        notes.push(tight);
    }
    let job = Job {
        recipe: &recipe,
        train: &train,
        val: &val,
        unlabeled: without.as_ref(),
        key: key(&recipe, &digest, &network),
        checkpoint: Some(checkpoint.clone()),
        resume: request.resume,
        every: request.checkpoint_every,
        limits: CacheLimits::usual(&out),
    };
    let mut board = Board::new(&out, request.resume, observer);
    let outcome = fit(&job, network, &mut board)?;
    if let Some(error) = board.failure() {
        notes.push(format!("the TensorBoard events are not complete: {error}"));
    }
    for note in &outcome.notes {
        observer.event(Event::Note(note));
    }
    notes.extend(outcome.notes);
    // What the bundle's recipe says must be what happened.
    for (phase, lr) in &outcome.found {
        recipe.phases[*phase].set_rate(*lr);
        recipe.phases[*phase].lr_find = false;
    }

    let scores = scored(&outcome.network, &val, &classes, None)?;
    let best = &outcome.history[outcome.best_epoch];
    let phase = &recipe.phases[best.phase];
    if recipe.precision != Precision::F32 && phase.set(&outcome.network)?.first_group > 0 {
        let (name, narrow) = best.headline();
        let text = format!(
            "validation {name} {narrow:.4} with the frozen part in {}, {:.4} in f32, which is what the bundle runs",
            recipe.precision.name(),
            scores.headline().1
        );
        observer.event(Event::Note(&text));
        notes.push(text);
    }
    let source = recipe.pretrained.then_some(&backbone.weights);
    let kept = kept_bits(&outcome.network, source);
    let frozen = kept.iter().map(|k| k.same).sum();
    let seconds = started.elapsed().as_secs_f64();
    let receipt = json!({
        "headstart": env!("CARGO_PKG_VERSION"),
        "model": backbone.row.name,
        "weights": if recipe.pretrained { backbone.origin.as_str() } else { "random" },
        "data_sha256": digest,
        "pictures": {"train": train.len(), "val": val.len(), "unreadable": unreadable.len(), "excluded": excluded.len(), "unlabeled": unlabeled.len()},
        "classes": audit.classes,
        "tensors_equal_to_source": frozen,
        "trainable_parameters": trainable,
        "seed": recipe.seed,
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "device": device::describe(backbone.device()),
        "advice": request.advice,
        "weights_sha256": weights_hash(backbone, recipe.pretrained)?,
        "seconds": seconds,
    });
    let pipeline: Pipeline = recipe.eval.parse()?;
    let contents = Contents {
        network: &outcome.network,
        classes: &classes,
        pipeline: &pipeline,
        input: &backbone.input,
        temperature: scores.temperature(),
        reading: &scores.reading(),
        adapter: outcome.adapter.as_ref(),
        recipe: &recipe.to_toml(),
        metrics: scores.to_json(),
        receipt,
        source,
    };
    contents.save(&out.join("bundle"))?;
    write_log(&out, &outcome.history)?;
    let shown = (&outcome.network, &val, &scores);
    let evidence = Evidence::new(audit, digest, excluded, kept, shown, pipeline.clone())?;
    Ok(Report {
        evidence,
        failure: outcome.failure,
        out,
        pictures: (train.len(), val.len()),
        history: outcome.history,
        best_epoch: outcome.best_epoch,
        scores,
        unreadable,
        notes,
        frozen,
        seconds,
        recipe,
    })
}

/// Scales the rates of the last phase so that its highest becomes `lr`.
pub fn set_rate(recipe: &mut Recipe, lr: f64) {
    if let Some(phase) = recipe.phases.last_mut() {
        phase.set_rate(lr);
    }
}

/// Identifies a run: recipe, pictures and starting weights.
fn key(recipe: &Recipe, digest: &str, network: &Network) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    hash.update(recipe.to_toml());
    hash.update(digest);
    network.hash_into(&mut hash, |_| true);
    hex(&hash.finalize())
}
