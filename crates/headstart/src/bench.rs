//! What the engine takes for its main pieces of work, on made-up pictures or on real files.

use std::time::{Duration, Instant};

use burn::Tensor;
use burn::module::Module;
use burn::tensor::{Device, TensorData};

use crate::device::{check_precision, wait_for};
use crate::error::{Error, Result};
use crate::fast::Precision;
use crate::models::layers::{Map, is_cpu};
use crate::models::tap::Tap;
use crate::models::{Flow, ModelOptions, Network, frozen, host_values};
use crate::rng::Rng;
use crate::train::groups::{self, BatchNormPolicy};
use crate::train::loss::targets;
use crate::train::optimizer::{Optimizer, OptimizerSpec};
use crate::train::photos::Photos;
use crate::train::prefix::Prefix;
use crate::train::step::{Lesson, step};

/// Classes of the networks measured.
const CLASSES: usize = 1000;

/// Something that runs again and again, the same each time.
pub struct Bench {
    run: Box<dyn FnMut() -> Result<Laps>>,
    pictures: usize,
}

/// The named parts of a run, in order; empty where only the whole is measured.
pub type Laps = Vec<(String, Duration)>;

impl Bench {
    /// Inference on `batch` pictures of `size × size`: to logits, or to what the head receives if `embed`.
    pub fn forward(
        model: &str,
        batch: usize,
        size: usize,
        embed: bool,
        precision: Precision,
        device: &Device,
    ) -> Result<Self> {
        check_precision(device, precision)?;
        let network = Network::new(model, &ModelOptions::new(CLASSES), &Device::flex())?.init(0);
        network.check_size(size, size)?;
        let network = frozen(&network).on(device);
        let groups = network.groups().len() - usize::from(embed);
        let x = noise(batch, size, device);
        if !is_cpu(device) {
            let run = move || {
                let input = Flow::Map(Map::from_nhwc(x.clone()));
                let input = if precision == Precision::Bf16 { input.half() } else { input };
                host_values(&network.run(0..groups, input, &mut Tap::off()).flat());
                Ok(Laps::new())
            };
            return Ok(Self { run: Box::new(run), pictures: batch });
        }
        if precision != Precision::F32 {
            let mut prefix = Prefix::narrow(&network, groups, precision);
            let pictures = host_values(&x);
            prefix.calibrate(std::iter::once((pictures.clone(), [batch, size, size])))?;
            let run = move || {
                host_values(&prefix.run((&pictures[..]).into(), [batch, size, size]).flat());
                Ok(Laps::new())
            };
            return Ok(Self { run: Box::new(run), pictures: batch });
        }
        let run = move || {
            let input = Flow::Map(Map::from_nhwc(x.clone()));
            host_values(&network.run(0..groups, input, &mut Tap::off()).flat());
            Ok(Laps::new())
        };
        Ok(Self { run: Box::new(run), pictures: batch })
    }

    /// Inference on the CPU in f32, layer by layer with all pictures at once.
    pub fn layers(model: &str, batch: usize, size: usize) -> Result<Self> {
        let device = Device::flex();
        let network = Network::new(model, &ModelOptions::new(CLASSES), &device)?.init(0);
        network.check_size(size, size)?;
        let network = frozen(&network);
        let x = noise(batch, size, &device);
        let run = move || {
            let mut tap = Tap::clock();
            host_values(&network.forward(Map::from_nhwc(x.clone()), &mut tap));
            Ok(tap.laps())
        };
        Ok(Self { run: Box::new(run), pictures: batch })
    }

    /// A step of SGD with momentum on the whole network, BatchNorm on batch statistics; in f32, or on bf16 maps.
    pub fn step(
        model: &str,
        batch: usize,
        size: usize,
        precision: Precision,
        device: &Device,
    ) -> Result<Self> {
        check_precision(device, precision)?;
        let network = Network::new(model, &ModelOptions::new(CLASSES), &Device::flex())?.init(0);
        network.check_size(size, size)?;
        let network = network.on(device);
        let half = precision == Precision::Bf16 && network.trains_half(0);
        if precision != Precision::F32 && !half {
            return Err(Error::BadRecipe {
                place: "--precision".into(),
                what: format!("{model} does not train in {}", precision.name()),
                hint: "networks of convolutions, BatchNorm and pooling train in bf16, all in f32".into(),
            });
        }
        let set = groups::resolve(&["all".to_string()], BatchNormPolicy::Train, &network)?;
        let mut network = Some(groups::apply(&set, network.train()));
        let mut optimizer = Optimizer::new(OptimizerSpec::Sgd { momentum: 0.9, weight_decay: 1e-4 });
        let x = noise(batch, size, &device.clone().autodiff());
        let device = device.clone();
        let labels: Vec<usize> = (0..batch).map(|i| i * 37 % CLASSES).collect();
        let run = move || {
            let lesson = Lesson {
                first: 0,
                input: Flow::Map(Map::from_nhwc(x.clone())),
                half,
                goal: targets(&labels, CLASSES, 0.0),
                weights: None,
                focal: None,
            };
            let before = network.take().expect("put back after each run");
            network = Some(step(before, lesson, &mut optimizer, &|_| 1e-3, None).0);
            wait_for(&device)?;
            Ok(Laps::new())
        };
        Ok(Self { run: Box::new(run), pictures: batch })
    }

    /// Files to batches of tensors, the whole set once.
    pub fn decode(photos: Photos) -> Self {
        let pictures = photos.len();
        let run = move || {
            for batch in photos.in_order(0) {
                batch?;
            }
            Ok(Laps::new())
        };
        Self { run: Box::new(run), pictures }
    }

    /// Pictures a run.
    pub fn pictures(&self) -> usize {
        self.pictures
    }

    /// Runs once; returns the time, and that of its parts.
    pub fn once(&mut self) -> Result<(Duration, Laps)> {
        let started = Instant::now();
        let laps = (self.run)()?;
        Ok((started.elapsed(), laps))
    }
}

/// Pictures of seeded noise.
fn noise(batch: usize, size: usize, device: &Device) -> Tensor<4> {
    let mut rng = Rng::keyed(&[0]);
    let values: Vec<f32> = (0..batch * size * size * 3).map(|_| rng.unit() * 2.0 - 1.0).collect();
    Tensor::from_data(TensorData::new(values, [batch, size, size, 3]), device)
}
