//! The bundle: a folder of plain files that is the trained classifier.
//!
//! `model.safetensors` and `config.json` are timm's `local-dir:` format; `bundle.json` holds what timm
//! has no word for (the head, the pipeline, calibration); `labels.txt`, `recipe.toml`, `metrics.json`
//! and `receipt.json` say what it knows, how it was made, how good it is and from what. A tensor that
//! equals its source is written with the source's own bytes, so frozen weights can be compared bit by bit.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::image::Pipeline;
use crate::models::lora::Adapter;
use crate::models::spec::InputSpec;
use crate::models::{Dialect, ModelOptions, Network, PadType};
use crate::pretrained::{self, HeadRule};
use crate::task::{Reading, Scale, Task};
use crate::weights::{self, Entry, StateDict, safetensors};

mod adapter;

const VERSION: u32 = 1;

/// A classifier ready for use.
#[derive(Debug)]
pub struct Bundle {
    /// Where it was read from.
    pub path: PathBuf,
    /// The network, for inference.
    pub network: Network,
    /// Names of classes, labels or targets, in the order of the outputs.
    pub classes: Vec<String>,
    /// What to do to a picture.
    pub pipeline: Pipeline,
    /// Divisor of the logits that makes probabilities honest.
    pub temperature: f64,
    /// How outputs become answers.
    pub reading: Reading,
}

/// What goes into a bundle.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The trained network.
    pub network: &'a Network,
    /// Class names, in the order of the logits.
    pub classes: &'a [String],
    /// The evaluation pipeline.
    pub pipeline: &'a Pipeline,
    /// Preprocessing, for timm's config.
    pub input: &'a InputSpec,
    /// Temperature fitted on validation.
    pub temperature: f64,
    /// How outputs become answers.
    pub reading: &'a Reading,
    /// Adapters to write beside the weights they are a part of.
    pub adapter: Option<&'a Adapter>,
    /// The resolved recipe.
    pub recipe: &'a str,
    /// Scores, as JSON.
    pub metrics: Value,
    /// Where data and weights came from, as JSON.
    pub receipt: Value,
    /// The weights training started from.
    pub source: Option<&'a StateDict>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Card {
    version: u32,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pad_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bn_eps: Option<f64>,
    head: String,
    classes: Vec<String>,
    pipeline: String,
    temperature: f64,
    #[serde(default, skip_serializing_if = "Task::is_classify")]
    task: Task,
    /// Of labels, the probabilities from which they are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    thresholds: Vec<f64>,
    /// Of targets, their means and deviations over the training pictures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scales: Vec<Scale>,
}

impl Card {
    /// Says how outputs become answers, or what contradicts itself.
    fn reading(&self) -> std::result::Result<Reading, String> {
        let (n, thresholds, scales) = (self.classes.len(), &self.thresholds, &self.scales);
        let wanted = match self.task {
            Task::Classify => (0, 0),
            Task::Multilabel => (n, 0),
            Task::Regress => (0, n),
        };
        if (thresholds.len(), scales.len()) != wanted {
            let found = format!("{} thresholds and {} scales", thresholds.len(), scales.len());
            return Err(format!("{found} for {n} outputs of {}", self.task.noun()));
        }
        if scales.iter().any(|s| !(s.mean.is_finite() && s.std.is_finite() && s.std > 0.0)) {
            return Err("a scale is not a finite mean with a positive deviation".into());
        }
        Ok(match self.task {
            Task::Classify => Reading::Class,
            Task::Multilabel => Reading::Labels { thresholds: thresholds.clone() },
            Task::Regress => Reading::Numbers { scales: scales.clone() },
        })
    }
}

/// Reads timm's word for a padding.
pub fn pad_type(word: &str) -> Result<Option<PadType>> {
    match word {
        "" => Ok(Some(PadType::Torch)),
        "same" => Ok(Some(PadType::Same)),
        other => Err(Error::BadModel {
            what: format!("`{other}` is not a padding"),
            hint: "pad_type is `same` or empty".into(),
        }),
    }
}

/// Collects a network's tensors under a dialect's names; what equals `source` keeps the source's bytes.
pub fn state_dict(network: &Network, dialect: Dialect, source: Option<&StateDict>) -> StateDict {
    let mut dict = StateDict::new("");
    for (name, shape, values) in network.state() {
        let foreign = network.foreign(dialect, &name);
        let shape = network.foreign_shape(dialect, &name, &shape);
        let same = source.and_then(|s| {
            let names = [Dialect::Own].iter().chain(network.dialects());
            let found = names.filter_map(|d| s.get(&network.foreign(*d, &name)));
            found.into_iter().find(|e| e.dtype.is_float() && e.to_f32() == values)
        });
        let entry = match same {
            Some(entry) => Entry { shape: shape.clone(), ..entry.clone() },
            None => Entry::from_f32(&shape, &values),
        };
        let counter = foreign.strip_suffix("running_var").map(|layer| format!("{layer}num_batches_tracked"));
        dict.insert(foreign, entry);
        if let Some(counter) = counter {
            // PyTorch's strict loading wants the counter; nothing here reads it.
            let old = source.and_then(|s| s.get(&counter)).cloned();
            dict.insert(counter, old.unwrap_or_else(|| Entry::from_i64(&[], &[0])));
        }
    }
    dict.metadata.insert("format".into(), "pt".into());
    dict
}

/// Returns the dialect other tools expect of a network's files.
pub fn exchange_dialect(network: &Network) -> Dialect {
    if network.dialects().contains(&Dialect::Timm) { Dialect::Timm } else { Dialect::Own }
}

impl Contents<'_> {
    /// Writes the bundle as `folder`, whole or not at all; an older bundle there is replaced.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let fresh = folder.with_extension(format!("new-{}", std::process::id()));
        let written = self.write_into(&fresh).and_then(|()| replace(&fresh, folder));
        if written.is_err() {
            // What is left of the attempt is useless; the error already says what matters.
            let _ = fs::remove_dir_all(&fresh);
        }
        written
    }

    fn write_into(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).map_err(Error::write(folder))?;
        let options = self.network.options();
        let card = Card {
            version: VERSION,
            model: self.network.row().name.into(),
            pad_type: options
                .pad_type
                .map(|p| if p == PadType::Same { "same".into() } else { String::new() }),
            bn_eps: options.bn_eps,
            head: options.head.to_string(),
            classes: self.classes.to_vec(),
            pipeline: self.pipeline.to_string(),
            temperature: self.temperature,
            task: self.reading.task(),
            thresholds: match self.reading {
                Reading::Labels { thresholds } => thresholds.clone(),
                _ => Vec::new(),
            },
            scales: match self.reading {
                Reading::Numbers { scales } => scales.clone(),
                _ => Vec::new(),
            },
        };
        let pretty =
            |value: &Value| serde_json::to_string_pretty(value).expect("JSON from plain data") + "\n";
        let files = [
            ("bundle.json", pretty(&json!(card))),
            ("config.json", pretty(&timm_config(self.network, self.classes, self.input))),
            ("labels.txt", self.classes.join("\n") + "\n"),
            ("recipe.toml", self.recipe.to_string()),
            ("metrics.json", pretty(&self.metrics)),
            ("receipt.json", pretty(&self.receipt)),
        ];
        let dict = state_dict(self.network, exchange_dialect(self.network), self.source);
        safetensors::write(&folder.join("model.safetensors"), &dict)?;
        if let Some(adapter) = self.adapter {
            adapter::write(&folder.join("adapter"), adapter, self.network)?;
        }
        for (name, text) in files {
            let path = folder.join(name);
            fs::write(&path, text).map_err(Error::write(&path))?;
        }
        Ok(())
    }
}

/// Puts a finished folder in its place.
fn replace(fresh: &Path, folder: &Path) -> Result<()> {
    let old = folder.with_extension(format!("old-{}", std::process::id()));
    let had_one = folder.exists();
    if had_one {
        fs::rename(folder, &old).map_err(Error::write(folder))?;
    }
    if let Err(e) = fs::rename(fresh, folder) {
        if had_one {
            // Back to where it was; if even that fails, it is still whole under its other name.
            let _ = fs::rename(&old, folder);
        }
        return Err(Error::write(folder)(e));
    }
    sweep(folder)
}

/// Removes what this and earlier, killed, attempts left beside the finished folder.
fn sweep(folder: &Path) -> Result<()> {
    let (Some(parent), Some(stem)) = (folder.parent(), folder.file_stem()) else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    for entry in fs::read_dir(parent).map_err(Error::read(parent))? {
        let path = entry.map_err(Error::read(parent))?.path();
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        let attempt = ["old-", "new-"].iter().any(|prefix| {
            let id = extension.strip_prefix(prefix).unwrap_or_default();
            !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())
        });
        if attempt && path.file_stem() == Some(stem) {
            fs::remove_dir_all(&path).map_err(Error::write(&path))?;
        }
    }
    Ok(())
}

/// Describes a network in timm's `config.json` schema.
pub fn timm_config(network: &Network, classes: &[String], input: &InputSpec) -> Value {
    let row = network.row();
    let timm = row.timm.unwrap_or(crate::models::spec::TimmName { architecture: row.name, model_args: None });
    let options = network.options();
    let mut args: serde_json::Map<String, Value> = timm
        .model_args
        .map_or_else(Default::default, |a| serde_json::from_str(a).expect("rows hold JSON objects"));
    if let Some(pad) = options.pad_type {
        args.insert("pad_type".into(), json!(if pad == PadType::Same { "same" } else { "" }));
    }
    if let Some(eps) = options.bn_eps {
        args.insert("bn_eps".into(), json!(eps));
    }
    if options.in_chans != 3 {
        args.insert("in_chans".into(), json!(options.in_chans));
    }
    let dialect = exchange_dialect(network);
    // timm would adapt it, as it does weights for three channels.
    let first_conv = (options.in_chans == 3).then(|| network.foreign(dialect, &network.first_conv()));
    let [mean, std] = input.statistics();
    let mut config = json!({
        "architecture": timm.architecture,
        "num_classes": classes.len(),
        "num_features": row.num_features,
        "label_names": classes,
        "pretrained_cfg": {
            "tag": "headstart",
            "custom_load": false,
            "input_size": [options.in_chans, input.size, input.size],
            "fixed_input_size": network.fixed_size(),
            "interpolation": input.filter.name(),
            "crop_pct": input.crop_pct,
            "crop_mode": "center",
            "mean": mean,
            "std": std,
            "num_classes": classes.len(),
            "pool_size": null,
            "first_conv": first_conv,
            "classifier": network.foreign(dialect, network.classifier()),
        },
    });
    if !args.is_empty() {
        config["model_args"] = Value::Object(args);
    }
    config
}

impl Bundle {
    /// Returns the network with a last layer that answers in the targets' own units, for tools that know nothing of
    /// scales; for other tasks the network as it is.
    pub fn in_units(&self) -> Network {
        let Reading::Numbers { scales } = &self.reading else { return self.network.clone() };
        let (network, head) = (self.network.clone(), self.network.groups().last().expect("a head"));
        let params = network.params();
        let last = params
            .iter()
            .rfind(|p| head.owns(&p.name) && p.shape.len() == 2)
            .expect("a head ends in a layer");
        let layer = last.name.trim_end_matches("weight").to_string();
        let mut old: std::collections::HashMap<String, Vec<f32>> =
            network.state_of(&|name| name.starts_with(&layer)).into_iter().map(|(n, _, v)| (n, v)).collect();
        network.assign(&mut |name, shape| {
            let mut values = old.remove(name)?;
            let each = values.len() / shape[0];
            for (row, scale) in values.chunks_mut(each).zip(scales) {
                let shift = if shape.len() == 1 { scale.mean } else { 0.0 };
                row.iter_mut().for_each(|v| *v = (shift + scale.std * f64::from(*v)) as f32);
            }
            Some(values)
        })
    }

    /// Reads a bundle.
    pub fn open(path: &Path) -> Result<Self> {
        let bad = |reason: String| Error::BadBundle { path: path.to_path_buf(), reason };
        if !path.exists() {
            return Err(Error::NotFound { path: path.to_path_buf() });
        }
        // A run folder holds its bundle one level down.
        let nested = path.join("bundle");
        let path = if !path.join("bundle.json").exists() && nested.is_dir() { &nested } else { path };
        let card = path.join("bundle.json");
        if !card.exists() {
            return Err(bad("it has no `bundle.json`".into()));
        }
        let text = fs::read_to_string(&card).map_err(Error::read(&card))?;
        let card: Card = serde_json::from_str(&text).map_err(|e| bad(format!("`bundle.json`: {e}")))?;
        if card.version != VERSION {
            return Err(bad(format!("it has version {}, this program reads {VERSION}", card.version)));
        }
        let garbled = |e: Error| bad(format!("`bundle.json`: {e}"));
        if card.classes.is_empty() {
            return Err(bad("`bundle.json`: it names no class".into()));
        }
        if !(card.temperature > 0.0 && card.temperature.is_finite()) {
            return Err(bad(format!("`bundle.json`: the temperature {} is not positive", card.temperature)));
        }
        let reading = card.reading().map_err(|e| bad(format!("`bundle.json`: {e}")))?;
        let pipeline: Pipeline = card.pipeline.parse().map_err(garbled)?;
        let Some((height, width)) = pipeline.output_size() else {
            return Err(bad(format!("`bundle.json`: `{pipeline}` leaves pictures in different sizes")));
        };
        let options = ModelOptions {
            num_classes: card.classes.len(),
            head: card.head.parse().map_err(garbled)?,
            pad_type: card.pad_type.as_deref().map_or(Ok(None), pad_type).map_err(garbled)?,
            bn_eps: card.bn_eps,
            in_chans: pipeline.channels(),
        };
        let network = Network::new(&card.model, &options, &Device::flex()).map_err(garbled)?;
        network.check_size(height, width).map_err(garbled)?;
        let dict = weights::read(&path.join("model.safetensors"))?;
        let (network, _) = pretrained::load(network, &dict, HeadRule::Keep)?;
        Ok(Self {
            path: path.to_path_buf(),
            network: crate::models::frozen(&network),
            classes: card.classes,
            pipeline,
            temperature: card.temperature,
            reading,
        })
    }
}
