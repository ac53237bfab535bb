//! From what a user names to a network with weights: `--model`, `--weights`, and their defaults.

mod clip;
mod in_chans;

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use crate::bundle::pad_type;
use crate::error::{Error, Result};
use crate::models::spec::{Filter, InputSpec, Place, Row};
use crate::models::{self, HeadSpec, ModelOptions, Network, PadType};
use crate::pretrained::{self, HeadRule};
use crate::weights::{
    self, Cache, Env, HubRepo, LoadReport, Lookup, Progress, Source, StateDict, TimmConfig, looks_like,
    safetensors,
};

pub(crate) use clip::no_text;
pub use clip::{TextWeights, TextWish};

/// The backbone inside this program: `headstart_nano`, pretrained on formulas.
const EMBEDDED: &[u8] = include_bytes!("../assets/headstart_nano.safetensors");
/// Its name.
pub const EMBEDDED_MODEL: &str = "headstart_nano";

/// What the user asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// A network, with or without a tag.
    pub model: Option<String>,
    /// Weights: a file, a name, `hf-hub:…`, `local-dir:…`.
    pub weights: Option<String>,
    /// Overrides the padding.
    pub pad_type: Option<String>,
    /// Overrides BatchNorm's epsilon.
    pub bn_eps: Option<f64>,
    /// Overrides the input side.
    pub size: Option<usize>,
    /// Overrides the resampling filter: `bilinear` or `bicubic`.
    pub interpolation: Option<String>,
    /// Overrides the channels of the pictures; the first convolution is adapted.
    pub in_chans: Option<usize>,
    /// Whether CLIP's text tower is wanted too.
    pub text: TextWish,
}

/// A network's identity with its weights in memory.
#[derive(Debug)]
pub struct Backbone {
    /// The registry row.
    pub row: &'static Row,
    /// Preprocessing the weights want.
    pub input: InputSpec,
    /// The weights.
    pub weights: StateDict,
    /// Where they came from, in words.
    pub origin: String,
    /// CLIP's text tower, where the weights have one.
    pub text: Option<TextWeights>,
    pad_type: Option<PadType>,
    bn_eps: Option<f64>,
    device: Device,
}

impl Backbone {
    /// Puts the networks made of it on a device; the CPU if nothing is said.
    pub fn on(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    /// Returns the device its networks are on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Resolves, downloads if need be, and reads.
    pub fn open(wanted: &Wanted, progress: &mut dyn Progress) -> Result<Self> {
        let cache = Cache::new(Env::from_process());
        let text = wanted.text;
        let mut found = match (&wanted.weights, &wanted.model) {
            (None, None) => Self::registered(EMBEDDED_MODEL, text, &cache, progress)?,
            (None, Some(name)) => Self::named(name, None, text, &cache, progress)?,
            (Some(weights), model) => Self::named(weights, model.as_deref(), text, &cache, progress)?,
        };
        found.check_text(text)?;
        found.adjust(wanted)?;
        Ok(found)
    }

    /// Opens what the user named; if nothing, a network that reads photos well without downloading it: ResNet-18 where
    /// it is cached already, else the built-in one.
    pub fn at_hand(wanted: &Wanted, progress: &mut dyn Progress) -> Result<Self> {
        if wanted.model.is_some() || wanted.weights.is_some() {
            return Self::open(wanted, progress);
        }
        let mut env = Env::from_process();
        env.offline = Some("HF_HUB_OFFLINE".into());
        let mut found = match Self::registered("resnet18", TextWish::None, &Cache::new(env), progress) {
            Ok(cached) => cached,
            Err(_) => return Self::open(wanted, progress),
        };
        found.adjust(wanted)?;
        Ok(found)
    }

    /// Resolves a network to be trained from random weights: nothing is downloaded or read.
    pub fn blank(wanted: &Wanted) -> Result<Self> {
        if let Some(weights) = &wanted.weights {
            return Err(Error::BadModel {
                what: format!("the recipe starts from random weights, not from `{weights}`"),
                hint: "drop `--weights`, or choose a recipe with `pretrained = true`".into(),
            });
        }
        let (row, weights) = models::find(wanted.model.as_deref().unwrap_or(EMBEDDED_MODEL))?;
        let mut found = Self::of(row, StateDict::default(), &format!("{}, random weights", row.name));
        found.input = weights.map_or(row.input, |w| w.input);
        found.adjust(wanted)?;
        Ok(found)
    }

    /// A network of the zoo with these weights and its own preprocessing.
    pub(crate) fn of(row: &'static Row, weights: StateDict, origin: &str) -> Self {
        Self {
            row,
            input: row.input,
            weights,
            origin: origin.to_string(),
            text: None,
            pad_type: None,
            bn_eps: None,
            device: Device::flex(),
        }
    }

    /// Applies what the user overrides.
    fn adjust(&mut self, wanted: &Wanted) -> Result<()> {
        if let Some(word) = &wanted.pad_type {
            self.pad_type = pad_type(word)?;
        }
        self.bn_eps = wanted.bn_eps.or(self.bn_eps);
        self.input.filter = match wanted.interpolation.as_deref() {
            None => self.input.filter,
            Some("bilinear") => Filter::Bilinear,
            Some("bicubic") => Filter::Bicubic,
            Some(other) => {
                return Err(Error::BadModel {
                    what: format!("`{other}` is not a resampling filter"),
                    hint: "use `bilinear` or `bicubic`".into(),
                });
            }
        };
        if let Some(size) = wanted.size {
            self.input = self.input.sized(size);
        }
        self.input.channels = wanted.in_chans.unwrap_or(self.input.channels);
        let options = self.options(1, HeadSpec::linear());
        if let Some(note) = in_chans::adapt(&mut self.weights, self.row, &options)? {
            self.weights.notes.push(note);
        }
        Ok(())
    }

    fn named(
        name: &str,
        model: Option<&str>,
        text: TextWish,
        cache: &Cache,
        progress: &mut dyn Progress,
    ) -> Result<Self> {
        let source = Source::parse(name)?;
        if let Source::Registry(name) = &source {
            let found = Self::registered(name, text, cache, progress)?;
            return match model.map(models::find).transpose()? {
                Some((row, _)) if row.name != found.row.name => Err(Error::BadModel {
                    what: format!("`--model {}` and `--weights {name}` name different networks", row.name),
                    hint: "drop one of the two".into(),
                }),
                _ => Ok(found),
            };
        }
        let path = match clip::whole_file(&source, text, cache, progress)? {
            Some(path) => path,
            None => cache.fetch(&source, Lookup::CacheFirst, progress)?,
        };
        match weights::clip::split(weights::read(&path)?)? {
            Ok(towers) => clip::backbone(towers, model, &clip::config(&source, cache, progress)?, name),
            Err(weights) => {
                let config = match &source {
                    Source::LocalDir(folder) => read_config(&folder.join("config.json"))?,
                    Source::File(path) => read_config(&path.with_file_name("config.json"))?,
                    Source::Hub(repo) => cache.hub_config(repo, Lookup::CacheFirst, progress)?,
                    _ => None,
                };
                Self::described(weights, model, config, name)
            }
        }
    }

    /// Puts weights in memory and a network's name together.
    pub fn from_weights(weights: StateDict, model: &str) -> Result<Self> {
        match weights::clip::split(weights)? {
            Ok(towers) => clip::backbone(towers, Some(model), &clip::ClipConfig::default(), model),
            Err(weights) => Self::described(weights, Some(model), None, model),
        }
    }

    /// Puts weights, an explicit model name and timm's description together.
    fn described(
        weights: StateDict,
        model: Option<&str>,
        config: Option<TimmConfig>,
        origin: &str,
    ) -> Result<Self> {
        let name = match (model, &config) {
            (Some(name), _) => name.to_string(),
            (None, Some(config)) => config.architecture.clone(),
            (None, None) => return Err(unnamed(&weights)),
        };
        let (row, _) = models::find(&name)?;
        let mut found = Self::of(row, weights, origin);
        if let Some(config) = config {
            found.take_config(&config)?;
        }
        Ok(found)
    }

    fn take_config(&mut self, config: &TimmConfig) -> Result<()> {
        let cfg = &config.pretrained_cfg;
        let three = |v: &Option<Vec<f64>>| match v.as_deref()? {
            [one] => Some([*one; 3]),
            [a, b, c, ..] => Some([*a, *b, *c]),
            _ => None,
        };
        self.input.size = cfg.input_size.map_or(self.input.size, |[_, h, _]| h);
        self.input.channels = cfg.input_size.map_or(3, |[channels, ..]| channels);
        self.input.crop_pct = cfg.crop_pct.map_or(self.input.crop_pct, |c| c as f32);
        self.input.mean = three(&cfg.mean).map_or(self.input.mean, |m| m.map(|x| x as f32));
        self.input.std = three(&cfg.std).map_or(self.input.std, |s| s.map(|x| x as f32));
        self.input.filter = match cfg.interpolation.as_deref() {
            Some("bilinear") => Filter::Bilinear,
            Some("bicubic") => Filter::Bicubic,
            _ => self.input.filter,
        };
        let args = config.model_args.clone().unwrap_or_default();
        if let Some(word) = args.get("pad_type").and_then(|v| v.as_str()) {
            self.pad_type = pad_type(word)?;
        }
        self.bn_eps = args.get("bn_eps").and_then(serde_json::Value::as_f64);
        Ok(())
    }

    fn registered(name: &str, text: TextWish, cache: &Cache, progress: &mut dyn Progress) -> Result<Self> {
        let (row, weights) = models::find(name)?;
        let entry = weights.ok_or_else(|| Error::BadModel {
            what: format!("no published weights are known for {}", row.name),
            hint: "give a file with `--weights FILE`, or train it with `--recipe scratch`".into(),
        })?;
        let whole = match entry.place {
            Place::Hub(repo) => clip::whole_file(&clip::hub_source(repo)?, text, cache, progress)?,
            _ => None,
        };
        let dict = match (whole, entry.place) {
            (Some(path), _) => weights::read(&path)?,
            (_, Place::Embedded) => safetensors::read_bytes(EMBEDDED, Path::new("the built-in backbone"))?,
            (_, place) => weights::read(&fetch(place, cache, Lookup::CacheFirst, progress)?)?,
        };
        let origin = format!("{}.{}", row.name, entry.tag);
        let (weights, text) = match weights::clip::split(dict)? {
            Ok(towers) => (towers.image, towers.text),
            Err(weights) => (weights, None),
        };
        let mut found = Self { input: entry.input, ..Self::of(row, weights, &origin) };
        found.take_text(text, None);
        Ok(found)
    }

    /// Returns the options of a network with this backbone.
    pub fn options(&self, num_classes: usize, head: HeadSpec) -> ModelOptions {
        ModelOptions {
            num_classes,
            head,
            pad_type: self.pad_type,
            bn_eps: self.bn_eps,
            in_chans: self.input.channels,
        }
    }

    /// Builds the network with a new head drawn from `seed`.
    pub fn with_new_head(
        &self,
        num_classes: usize,
        head: HeadSpec,
        seed: u64,
    ) -> Result<(Network, LoadReport)> {
        let (network, report) = self.load(self.zeroed(num_classes, head)?, HeadRule::Replace)?;
        let own = network.groups().last().expect("a head").clone();
        Ok((network.init_where(seed, &|name| own.owns(name)), report))
    }

    /// Builds the network with all weights drawn from `seed`.
    pub fn random(&self, num_classes: usize, head: HeadSpec, seed: u64) -> Result<Network> {
        Ok(self.zeroed(num_classes, head)?.init(seed).on(&self.device))
    }

    /// Builds the network on the CPU, whatever the device, with all weights zero.
    fn zeroed(&self, num_classes: usize, head: HeadSpec) -> Result<Network> {
        let network = Network::new(self.row.name, &self.options(num_classes, head), &Device::flex())?;
        network.check_size(self.input.size, self.input.size)?;
        Ok(network)
    }

    /// Builds the network with the weights' own classifier.
    pub fn whole(&self) -> Result<(Network, LoadReport)> {
        let network = Network::new(self.row.name, &self.options(1, HeadSpec::linear()), &Device::flex())?;
        let classifier = network.classifier();
        let names = models::all_dialects(&network)
            .into_iter()
            .map(|d| network.foreign(d, &format!("{classifier}.weight")));
        let mut names = names.into_iter();
        let found = names.find_map(|n| self.weights.get(&n)).ok_or_else(|| Error::BadWeights {
            path: self.weights.source.clone(),
            reason: format!("it has no classifier (`{classifier}.weight`)"),
            hint: match &pretrained::fitting(&self.weights)[..] {
                [first, ..] if *first != self.row.name => {
                    format!("it has as many parameters as {first}: `--model {first}`")
                }
                _ => "train one with `headstart fit`".into(),
            },
        })?;
        self.load(self.zeroed(found.shape[0], HeadSpec::linear())?, HeadRule::Keep)
    }

    fn load(&self, network: Network, rule: HeadRule) -> Result<(Network, LoadReport)> {
        let (network, report) = pretrained::load(network, &self.weights, rule)?;
        Ok((network.on(&self.device), report))
    }
}

/// Downloads and verifies weights by name; returns the file.
pub fn pull(name: &str, progress: &mut dyn Progress) -> Result<PathBuf> {
    let cache = Cache::new(Env::from_process());
    match Source::parse(name)? {
        Source::Registry(name) => {
            let (row, weights) = models::find(&name)?;
            let entry = weights.ok_or_else(|| Error::BadModel {
                what: format!("no published weights are known for {}", row.name),
                hint: "name a repository: `hf-hub:org/name`".into(),
            })?;
            if entry.place == Place::Embedded {
                return Ok(PathBuf::from("(inside this program)"));
            }
            fetch(entry.place, &cache, Lookup::Revalidate, progress)
        }
        source => cache.fetch(&source, Lookup::Revalidate, progress),
    }
}

fn fetch(place: Place, cache: &Cache, lookup: Lookup, progress: &mut dyn Progress) -> Result<PathBuf> {
    match place {
        Place::Torchvision(file) => cache.torchvision_file(file, lookup, progress),
        Place::Hub(repo) => cache.hub_weights(&HubRepo::parse(repo)?, lookup, progress),
        Place::Embedded => unreachable!("the embedded weights are not fetched"),
    }
}

fn read_config(path: &Path) -> Result<Option<TimmConfig>> {
    if path.is_file() { TimmConfig::read(path).map(Some) } else { Ok(None) }
}

fn unnamed(weights: &StateDict) -> Error {
    Error::BadModel {
        what: format!("`{}` does not say which network it belongs to", weights.source.display()),
        hint: match (&pretrained::fitting(weights)[..], looks_like(weights)) {
            ([first, ..], _) => {
                format!("it has as many parameters as {first}: add `--model {first}`")
            }
            ([], Some(family)) => {
                format!("the names look like {family}: add `--model NAME`; `headstart models` lists them")
            }
            ([], None) => "add `--model NAME`; `headstart models` lists them".into(),
        },
    }
}
