//! The frozen prefix: groups before the first trainable one, run without autodiff and, where the
//! pictures allow it, only once.
//!
//! Its output is kept per picture and view, in memory up to a budget and in a file beyond, under a key
//! of everything it depends on: the prefix's weights, the pictures' contents, the pipeline, the seed and
//! the number of views. A later phase with the same key finds it again.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::rc::Rc;

use burn::Tensor;
use burn::tensor::{Device, TensorData};
use sha2::{Digest, Sha256};

use super::observer::{Event, Observer};
use super::photos::Photos;
use crate::error::{Error, Result};
use crate::models::layers::Map;
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

/// The features of a set of pictures, `views` for each.
#[derive(Debug)]
pub struct Features {
    shape: Vec<usize>,
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

impl Drop for Features {
    fn drop(&mut self) {
        if let Store::Disk { path, .. } = &self.store {
            // A leftover cache file costs space, not correctness.
            let _ = std::fs::remove_file(path);
        }
    }
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
        Ok(to_flow(rows, picks.len(), &self.shape, device))
    }
}

fn to_flow(rows: Vec<f32>, n: usize, shape: &[usize], device: &Device) -> Flow {
    match shape {
        [c] => Flow::Flat(Tensor::from_data(TensorData::new(rows, [n, *c]), device)),
        [h, w, c] => {
            Flow::Map(Map::from_nhwc(Tensor::from_data(TensorData::new(rows, [n, *h, *w, *c]), device)))
        }
        other => panic!("features are [C] or [H, W, C], not {other:?}"),
    }
}

/// Runs groups before `first` on pictures `[n, h, w, 3]`, without autodiff.
pub fn run(network: &Network, first: usize, x: Vec<f32>, [n, h, w]: [usize; 3], device: &Device) -> Flow {
    let x = Tensor::from_data(TensorData::new(x, [n, h, w, 3]), device);
    network.run(0..first, Flow::Map(Map::from_nhwc(x)), &mut Tap::off())
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
        network: &Network,
        first: usize,
        photos: &Photos,
        views: usize,
        limits: &CacheLimits,
        observer: &mut dyn Observer,
    ) -> Result<Option<Rc<Features>>> {
        let key = key(network, first, photos, views);
        if let Some(found) = self.known.get(&key) {
            return Ok(Some(Rc::clone(found)));
        }
        let network = crate::models::frozen(network);
        let device = Device::flex();
        let before = network.groups()[first].name.clone();
        let pictures = photos.len();
        let mut shape = Vec::new();
        let mut sink: Option<Sink> = None;
        let mut done = 0;
        for view in 0..views {
            for batch in photos.in_order(view as u64) {
                let batch = batch?;
                let flow = run(&network, first, batch.x, [batch.n, batch.h, batch.w], &device);
                let rows = match flow {
                    Flow::Flat(x) => {
                        shape = vec![x.dims()[1]];
                        values(&x)
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
                        sink = Some(Sink::Disk(open.map_err(Error::write(&path))?, path));
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
        let features = Rc::new(Features { shape, pictures, store, labels: photos.labels() });
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
fn key(network: &Network, first: usize, photos: &Photos, views: usize) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(network.row().name);
    hash.update(format!("{:?} {first} {views} {}", network.options(), photos.key()));
    for (name, _, values) in network.state() {
        if network.group_of(&name) < first {
            hash.update(name);
            values.iter().for_each(|v| hash.update(v.to_le_bytes()));
        }
    }
    hash.finalize().into()
}

/// Writes bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
