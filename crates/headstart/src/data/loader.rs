//! Batches, decoded and transformed ahead of the network by threads of their own.
//!
//! Which pictures make batch `b` of an epoch, and what augmentation they get, depends on (seed,
//! epoch, sample) alone: any number of threads, and a start in mid-epoch, give the same bits. A
//! picture that fails ends the epoch with an error that names it; nothing takes its place.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use rayon::prelude::*;

use super::dataset::Sample;
use crate::error::{Error, Result};
use crate::image::{self, Key, Pipeline};
use crate::rng::Rng;

/// Order of the pictures in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Order {
    /// As listed.
    #[default]
    Listed,
    /// Shuffled anew for each epoch.
    Shuffled,
}

/// What becomes of an incomplete last batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LastBatch {
    /// It is smaller.
    #[default]
    Keep,
    /// It is left out, unless it is the only one.
    Drop,
}

/// How to make batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Pictures in a batch.
    pub batch_size: usize,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// Order of the pictures.
    pub order: Order,
    /// What becomes of an incomplete last batch.
    pub last: LastBatch,
    /// Threads; 0 means one per core.
    pub workers: usize,
    /// Batches under way at the same time; at least 1.
    pub ahead: usize,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        LoaderConfig {
            batch_size: 32,
            seed: 0,
            order: Order::Listed,
            last: LastBatch::Keep,
            workers: 0,
            ahead: 3,
        }
    }
}

/// Pictures ready for the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Normalised pixels, `[n][height][width][3]`.
    pub x: Vec<f32>,
    /// How many pictures.
    pub n: usize,
    /// Their height.
    pub height: usize,
    /// Their width.
    pub width: usize,
    /// Their labels.
    pub labels: Vec<usize>,
    /// Their positions in the loader's list.
    pub indices: Vec<usize>,
}

/// Makes batches from a list of samples, any epoch at any time.
#[derive(Clone)]
pub struct Loader {
    shared: Arc<Shared>,
    pool: Arc<rayon::ThreadPool>,
}

struct Shared {
    samples: Vec<Sample>,
    pipeline: Pipeline,
    size: (usize, usize),
    config: LoaderConfig,
}

impl Loader {
    /// Starts the threads.
    ///
    /// Fails if the pipeline does not give all pictures the same size.
    pub fn new(samples: Vec<Sample>, pipeline: Pipeline, config: LoaderConfig) -> Result<Self> {
        let size = pipeline.output_size().ok_or_else(|| Error::BadRecipe {
            place: "transform".into(),
            what: format!("`{pipeline}` leaves pictures in different sizes"),
            hint: "end the resizing with `center_crop(…)` or `random_resized_crop(…)`".into(),
        })?;
        if config.batch_size == 0 {
            return Err(Error::BadRecipe {
                place: "batch_size".into(),
                what: "a batch of 0 pictures".into(),
                hint: "use 1 or more".into(),
            });
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.workers)
            .thread_name(|i| format!("loader-{i}"))
            .build()
            .map_err(|e| Error::Training {
                reason: format!("cannot start the loader's threads: {e}"),
                hint: "use fewer threads".into(),
            })?;
        Ok(Loader { shared: Arc::new(Shared { samples, pipeline, size, config }), pool: Arc::new(pool) })
    }

    /// Returns the number of batches in an epoch.
    pub fn batches(&self) -> usize {
        let (n, size) = (self.shared.samples.len(), self.shared.config.batch_size);
        match self.shared.config.last {
            LastBatch::Drop if n >= size => n / size,
            _ => n.div_ceil(size),
        }
    }

    /// Returns the list of samples, which [`Batch::indices`] count in.
    pub fn samples(&self) -> &[Sample] {
        &self.shared.samples
    }

    /// Returns (height, width) of the pictures.
    pub fn size(&self) -> (usize, usize) {
        self.shared.size
    }

    /// Iterates over the batches of an epoch, or of a cached view of that number.
    pub fn epoch(&self, epoch: u64) -> Batches {
        self.epoch_from(epoch, 0)
    }

    /// Iterates over the batches of an epoch from batch `start` on, to resume in the middle.
    pub fn epoch_from(&self, epoch: u64, start: usize) -> Batches {
        Batches {
            order: Arc::new(order(self.shared.samples.len(), epoch, &self.shared.config)),
            loader: self.clone(),
            epoch,
            next: start,
            under_way: VecDeque::new(),
            cancelled: Arc::default(),
        }
    }
}

/// Names the stream of the shuffle, apart from those of pictures.
const SHUFFLE: u64 = 0x5348_5546;

/// Returns the order of `n` pictures in an epoch.
fn order(n: usize, epoch: u64, config: &LoaderConfig) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    if config.order == Order::Shuffled {
        Rng::keyed(&[SHUFFLE, config.seed, epoch]).shuffle(&mut order);
    }
    order
}

/// The batches of one epoch, in order.
pub struct Batches {
    loader: Loader,
    order: Arc<Vec<usize>>,
    epoch: u64,
    /// Number of the next batch to start.
    next: usize,
    under_way: VecDeque<mpsc::Receiver<Result<Batch>>>,
    cancelled: Arc<AtomicBool>,
}

impl Batches {
    /// Hands the next batch to the threads.
    fn start_one(&mut self) {
        let (sender, receiver) = mpsc::sync_channel(1);
        let (shared, order) = (self.loader.shared.clone(), self.order.clone());
        let (epoch, batch, cancelled) = (self.epoch, self.next, self.cancelled.clone());
        self.loader.pool.spawn_fifo(move || {
            let from = batch * shared.config.batch_size;
            let to = (from + shared.config.batch_size).min(order.len());
            if let Some(result) = make_batch(&shared, &order[from..to], epoch, &cancelled) {
                // Nobody listens any more if the iterator was dropped.
                let _ = sender.send(result);
            }
        });
        self.under_way.push_back(receiver);
        self.next += 1;
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        let all = self.loader.batches();
        while self.next < all && self.under_way.len() < self.loader.shared.config.ahead.max(1) {
            self.start_one();
        }
        let batch = self.under_way.pop_front()?.recv().unwrap_or_else(|_| {
            // The thread went down: a panic in a decoder, say. Its message is on stderr.
            Err(Error::Training {
                reason: format!("a loader thread failed in epoch {}", self.epoch),
                hint: "`headstart audit` finds the picture".into(),
            })
        });
        if batch.is_err() {
            self.next = all;
            self.under_way.clear();
            self.cancelled.store(true, Ordering::Relaxed);
        } else if self.next < all {
            self.start_one();
        }
        Some(batch)
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

/// Decodes and transforms the pictures at `indices`; `None` if cancelled.
fn make_batch(
    shared: &Shared,
    indices: &[usize],
    epoch: u64,
    cancelled: &AtomicBool,
) -> Option<Result<Batch>> {
    let (height, width) = shared.size;
    let mut x = vec![0.0; indices.len() * height * width * 3];
    let results: Vec<Option<Result<()>>> = x
        .par_chunks_mut(height * width * 3)
        .zip(indices)
        .map(|(out, &at)| {
            if cancelled.load(Ordering::Relaxed) {
                return None;
            }
            let key = Key { seed: shared.config.seed, epoch, sample: at as u64 };
            Some(
                image::decode(&shared.samples[at].path)
                    .map(|picture| shared.pipeline.apply(&picture, key, out)),
            )
        })
        .collect();
    // The first failure in the batch's order, whichever thread met one first.
    for result in results {
        if let Err(error) = result? {
            return Some(Err(error));
        }
    }
    let labels = indices.iter().map(|&at| shared.samples[at].label).collect();
    Some(Ok(Batch { x, n: indices.len(), height, width, labels, indices: indices.to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::RgbImage;
    use ::image::Rgb;

    fn pictures(n: usize) -> (Vec<Sample>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let make = |i: usize| {
            let path = dir.path().join(format!("{i}.png"));
            RgbImage::from_fn(20, 16, |x, y| Rgb([i as u8, x as u8 * 9, y as u8 * 11])).save(&path).unwrap();
            Sample { path, label: i % 3 }
        };
        ((0..n).map(make).collect(), dir)
    }

    fn loader(samples: &[Sample], workers: usize, last: LastBatch) -> Loader {
        let pipeline = "random_resized_crop(8) | flip_lr | normalize(imagenet)".parse().unwrap();
        let config = LoaderConfig { batch_size: 4, seed: 9, order: Order::Shuffled, last, workers, ahead: 2 };
        Loader::new(samples.to_vec(), pipeline, config).unwrap()
    }

    fn all(batches: Batches) -> Vec<Batch> {
        batches.collect::<Result<_>>().unwrap()
    }

    #[test]
    fn threads_do_not_change_a_bit_and_epochs_do() {
        let (samples, _dir) = pictures(10);
        let one = all(loader(&samples, 1, LastBatch::Keep).epoch(0));
        let three = loader(&samples, 3, LastBatch::Keep);
        assert_eq!(one, all(three.epoch(0)));
        assert_eq!(one.iter().map(|b| b.n).collect::<Vec<_>>(), [4, 4, 2]);
        let mut seen: Vec<usize> = one.iter().flat_map(|b| b.indices.clone()).collect();
        assert_ne!(seen, (0..10).collect::<Vec<_>>());
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
        assert!(one.iter().all(|b| b.labels.iter().zip(&b.indices).all(|(l, i)| *l == i % 3)));
        assert_ne!(one, all(three.epoch(1)));
    }

    #[test]
    fn an_epoch_resumes_in_the_middle() {
        let (samples, _dir) = pictures(10);
        let loader = loader(&samples, 2, LastBatch::Keep);
        let whole = all(loader.epoch(4));
        assert_eq!(all(loader.epoch_from(4, 1)), whole[1..]);
        assert!(all(loader.epoch_from(4, 3)).is_empty());
    }

    #[test]
    fn an_incomplete_batch_can_be_dropped() {
        let (samples, _dir) = pictures(10);
        let l = loader(&samples, 2, LastBatch::Drop);
        assert_eq!((l.batches(), all(l.epoch(0)).len()), (2, 2));
        assert_eq!(loader(&samples[..3], 1, LastBatch::Drop).batches(), 1);
    }

    #[test]
    fn a_damaged_picture_ends_the_epoch_with_its_name() {
        let (samples, _dir) = pictures(10);
        std::fs::write(&samples[6].path, b"").unwrap();
        let mut batches = loader(&samples, 2, LastBatch::Keep).epoch(0);
        let error = batches.by_ref().find_map(|b| b.err()).unwrap();
        assert!(error.to_string().contains("6.png"), "{error}");
        assert!(batches.next().is_none());
    }

    #[test]
    fn dropping_in_mid_epoch_leaves_no_work_behind() {
        let (samples, dir) = pictures(40);
        let loader = loader(&samples, 2, LastBatch::Keep);
        let mut batches = loader.epoch(0);
        batches.next().unwrap().unwrap();
        drop(batches);
        drop(dir);
        // The threads are free for the next epoch.
        assert!(loader.epoch(1).next().unwrap().is_err());
    }

    #[test]
    fn pictures_of_different_sizes_are_refused() {
        let pipeline = "resize_short(8) | normalize(imagenet)".parse().unwrap();
        let error = Loader::new(vec![], pipeline, LoaderConfig::default()).err().unwrap();
        assert!(error.to_string().contains("different sizes"), "{error}");
    }
}
