//! The frozen prefix: groups before the first trainable one, run without autodiff and, where the
//! pictures allow it, only once.
//!
//! Its output is kept per picture and view, in memory up to a budget and in a file beyond, under a key
//! of everything it depends on: the prefix's weights, the pictures' contents, the pipeline, the seed and
//! the number of views. A later phase with the same key finds it again.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use burn::Tensor;
use burn::tensor::{Device, TensorData};
use sha2::{Digest, Sha256};

use super::observer::{Event, Observer};
use super::photos::{Batch, Photos};
use crate::error::{Error, Result};
use crate::fast::{Capture, Plan, Precision, capture};
use crate::machine::Memory;
use crate::models::layers::{Map, Tokens, is_cpu};
use crate::models::tap::Tap;
use crate::models::{Flow, Network, values};

/// How much may be kept, and where the overflow goes.
#[derive(Clone, Debug)]
pub struct CacheLimits {
    /// Bytes in memory for all features together.
    pub memory: u64,
    /// Bytes on disk.
    pub disk: u64,
    /// Folder of the overflow file.
    pub folder: PathBuf,
}

impl CacheLimits {
    /// The usual bounds: 4 GiB in memory, or half of what is free if that is less; 32 GiB in a file in `folder`.
    pub fn usual(folder: &Path) -> Self {
        let half = Memory::now().map_or(u64::MAX, |m| m.free / 2);
        Self { memory: half.min(4 << 30), disk: 32 << 30, folder: folder.into() }
    }
}

/// The features of a set of pictures, `views` for each.
#[derive(Debug)]
pub struct Features {
    shape: Vec<usize>,
    /// Of tokens, the grid.
    grid: [usize; 2],
    pictures: usize,
    store: Store,
    /// Label of each picture.
    pub labels: Vec<usize>,
}

#[derive(Debug)]
enum Store {
    Memory(Vec<f32>),
    Disk { file: File, path: PathBuf },
}

impl Features {
    fn len_each(&self) -> usize {
        self.shape.iter().product()
    }

    /// Assembles a batch of pictures, each in its view, on `device`.
    pub fn batch(&self, picks: &[(usize, usize)], device: &Device) -> Result<Flow> {
        let each = self.len_each();
        let mut rows = Vec::with_capacity(picks.len() * each);
        for (picture, view) in picks {
            let start = (view * self.pictures + picture) * each;
            match &self.store {
                Store::Memory(all) => rows.extend_from_slice(&all[start..start + each]),
                Store::Disk { file, path } => {
                    let mut bytes = vec![0; each * 4];
                    file.read_exact_at(&mut bytes, start as u64 * 4).map_err(Error::read(path))?;
                    rows.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
                }
            }
        }
        Ok(to_flow(rows, picks.len(), &self.shape, self.grid, device))
    }
}

fn to_flow(rows: Vec<f32>, n: usize, shape: &[usize], grid: [usize; 2], device: &Device) -> Flow {
    match shape {
        [c] => Flow::Flat(Tensor::from_data(TensorData::new(rows, [n, *c]), device)),
        [t, c] => {
            Flow::Tokens(Tokens::new(Tensor::from_data(TensorData::new(rows, [n, *t, *c]), device), grid))
        }
        [h, w, c] => {
            Flow::Map(Map::from_nhwc(Tensor::from_data(TensorData::new(rows, [n, *h, *w, *c]), device)))
        }
        other => panic!("features are [C], [T, C] or [H, W, C], not {other:?}"),
    }
}

/// Runs groups before `first` on pictures.
pub fn run(network: &Network, first: usize, pictures: Batch, device: &Device) -> Flow {
    network.run(0..first, Flow::Map(Map::from_nhwc(pictures.tensor(device))), &mut Tap::off())
}

/// The groups before the first trainable one, ready to run without autodiff.
#[derive(Debug)]
pub struct Prefix {
    network: Network,
    first: usize,
    precision: Precision,
    /// The narrow part and the number of groups in it; for the CPU.
    plan: Option<(Plan, usize)>,
    device: Device,
}

/// Pictures whose values set the ranges of 8-bit formats; bf16 has no ranges to set.
const CALIBRATION: usize = 64;

impl Prefix {
    /// Prepares the groups before `first` in a format that [`Prefix::calibrate`] has yet to fit.
    pub fn narrow(network: &Network, first: usize, precision: Precision) -> Self {
        let device = network.device();
        Self { network: crate::models::frozen(network), first, precision, plan: None, device }
    }

    /// Prepares the groups before `first`; a narrow format is fitted to some of `photos`.
    pub fn calibrated(
        network: &Network,
        first: usize,
        precision: Precision,
        photos: &Photos,
    ) -> Result<Self> {
        let mut prefix = Self::narrow(network, first, precision);
        // Other devices have nothing to fit: they take bf16 as it is.
        if precision != Precision::F32 && first > 0 && !photos.is_empty() && is_cpu(&prefix.device) {
            let wanted = if precision == Precision::Int8 { CALIBRATION } else { 1 };
            // Spread over the set, which is in order of class.
            let picks: Vec<usize> = (0..photos.len()).step_by(photos.len().div_ceil(wanted)).collect();
            let batches = photos.shuffled(&picks, 16, 0).collect::<Result<Vec<_>>>()?;
            prefix.calibrate(batches.into_iter().map(|b| (b.x, [b.n, b.h, b.w])))?;
        }
        Ok(prefix)
    }

    /// Fits a narrow format to batches of pictures. The last groups that have none stay in f32: fully
    /// connected layers.
    pub fn calibrate(&mut self, batches: impl Iterator<Item = (Vec<f32>, [usize; 3])>) -> Result<()> {
        let mut best: Option<(Capture, usize)> = None;
        for (x, [n, h, w]) in batches {
            let x = Batch { x, n, h, w }.tensor(&Device::flex());
            let until = best.as_ref().map_or(self.first, |(_, groups)| *groups);
            match (self.capture(&x, until), &mut best) {
                (Some((more, _)), Some((all, _))) => all.widen(&more),
                (found, best) => *best = found,
            }
        }
        let name = self.network.row().name;
        let (capture, groups) = best.ok_or_else(|| Error::BadRecipe {
            place: "precision".into(),
            what: format!("the first layers of {name} run in f32 only"),
            hint: "drop `precision` or set it to \"f32\"".into(),
        })?;
        self.plan = Plan::new(&capture, self.precision).map(|plan| (plan, groups));
        Ok(())
    }

    /// Captures as many groups as are understood, at most `until`; returns how many those are.
    fn capture(&self, x: &Tensor<4>, until: usize) -> Option<(Capture, usize)> {
        (1..=until).rev().find_map(|groups| {
            let run = |x| self.network.run(0..groups, Flow::Map(Map::from_nhwc(x)), &mut Tap::off());
            let found = capture(x.clone(), |x| match run(x) {
                Flow::Map(map) => Some(map.into_nhwc()),
                Flow::Flat(x) => {
                    let [n, c] = x.dims();
                    Some(x.reshape([n, 1, 1, c]))
                }
                Flow::Tokens(_) => None,
            });
            found.map(|capture| (capture, groups))
        })
    }

    /// Runs pictures `[n, h, w, channels]`.
    pub fn run(&mut self, x: Cow<'_, [f32]>, [n, h, w]: [usize; 3]) -> Flow {
        let device = &self.device;
        let Some((plan, groups)) = &mut self.plan else {
            let batch = Batch { x: x.into_owned(), n, h, w };
            if self.precision == Precision::Bf16 && !is_cpu(device) {
                let input = run(&self.network, 0, batch, device).half();
                return self.network.run(0..self.first, input, &mut Tap::off()).wide();
            }
            return run(&self.network, self.first, batch, device);
        };
        let (values, [rows, columns, c]) = plan.run(&x);
        let flat = *groups == self.network.groups().len() - 1;
        let flow = if flat {
            Flow::Flat(Tensor::from_data(TensorData::new(values, [n, c]), device))
        } else {
            let map = Tensor::from_data(TensorData::new(values, [n, rows, columns, c]), device);
            Flow::Map(Map::from_nhwc(map))
        };
        self.network.run(*groups..self.first, flow, &mut Tap::off())
    }
}

/// Keeps computed features for later phases.
#[derive(Debug, Default)]
pub struct FeatureCache {
    known: HashMap<[u8; 32], Rc<Features>>,
    in_memory: u64,
    on_disk: u64,
}

impl FeatureCache {
    /// Returns the features before group `first`, computing them at most once; `None` when they
    /// would not fit, so that the caller runs the prefix batch by batch.
    pub fn features(
        &mut self,
        prefix: &mut Prefix,
        photos: &Photos,
        views: usize,
        limits: &CacheLimits,
        observer: &mut dyn Observer,
    ) -> Result<Option<Rc<Features>>> {
        let key = key(prefix, photos, views);
        if let Some(found) = self.known.get(&key) {
            return Ok(Some(Rc::clone(found)));
        }
        let before = prefix.network.groups()[prefix.first].name.clone();
        let pictures = photos.len();
        let (mut shape, mut grid) = (Vec::new(), [0; 2]);
        let mut sink: Option<Sink> = None;
        let mut done = 0;
        for view in 0..views {
            for batch in photos.in_order(view as u64) {
                let batch = batch?;
                let flow = prefix.run(batch.x.into(), [batch.n, batch.h, batch.w]);
                let rows = match flow {
                    Flow::Flat(x) => {
                        shape = vec![x.dims()[1]];
                        values(&x)
                    }
                    Flow::Tokens(x) => {
                        grid = x.grid();
                        let [_, t, c] = x.dims();
                        shape = vec![t, c];
                        values(&x.into_tensor())
                    }
                    Flow::Map(map) => {
                        let [_, c, h, w] = map.dims();
                        shape = vec![h, w, c];
                        values(&map.into_nhwc())
                    }
                };
                if sink.is_none() {
                    let bytes = (shape.iter().product::<usize>() * 4 * pictures * views) as u64;
                    if self.in_memory + bytes <= limits.memory {
                        self.in_memory += bytes;
                        sink = Some(Sink::Memory(Vec::with_capacity(bytes as usize / 4)));
                    } else if self.on_disk + bytes <= limits.disk {
                        self.on_disk += bytes;
                        let path = limits.folder.join(format!("features-{}.f32", hex(&key[..6])));
                        let open =
                            File::options().read(true).write(true).create(true).truncate(true).open(&path);
                        let file = open.map_err(Error::write(&path))?;
                        // An open file needs no name, and without one a killed run leaves nothing behind.
                        std::fs::remove_file(&path).map_err(Error::write(&path))?;
                        sink = Some(Sink::Disk(file, path));
                    } else {
                        return Ok(None);
                    }
                }
                sink.as_mut().expect("opened above").push(rows)?;
                done += batch.n;
                observer.event(Event::Caching { done, total: pictures * views, before: &before });
                if observer.wants_to_stop() {
                    return Err(Error::Interrupted { checkpoint: None });
                }
            }
        }
        let store = match sink {
            None => Store::Memory(Vec::new()),
            Some(Sink::Memory(all)) => Store::Memory(all),
            Some(Sink::Disk(file, path)) => Store::Disk { file, path },
        };
        let features = Rc::new(Features { shape, grid, pictures, store, labels: photos.labels() });
        self.known.insert(key, Rc::clone(&features));
        Ok(Some(features))
    }
}

enum Sink {
    Memory(Vec<f32>),
    Disk(File, PathBuf),
}

impl Sink {
    fn push(&mut self, rows: Vec<f32>) -> Result<()> {
        match self {
            Sink::Memory(all) => all.extend(rows),
            Sink::Disk(file, path) => {
                let bytes: Vec<u8> = rows.iter().flat_map(|v| v.to_le_bytes()).collect();
                file.write_all(&bytes).map_err(Error::write(path))?;
            }
        }
        Ok(())
    }
}

/// Hashes everything the features depend on.
fn key(prefix: &Prefix, photos: &Photos, views: usize) -> [u8; 32] {
    let Prefix { network, first, precision, .. } = prefix;
    let mut hash = Sha256::new();
    hash.update(network.row().name);
    hash.update(format!("{:?} {first} {precision:?} {views} {}", network.options(), photos.key()));
    network.hash_into(&mut hash, |name| network.group_of(name) < *first);
    hash.finalize().into()
}

/// Writes bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
