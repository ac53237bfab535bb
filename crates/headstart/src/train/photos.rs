//! Pictures on their way into a network: decoded and transformed ahead by worker threads.
//!
//! Worker `w` makes batches `w`, `w + W`, …; the consumer takes them in turn, so the order never
//! depends on timing. Random operations are keyed by (seed, epoch, picture). A picture that cannot be
//! read is an error that names it, never a silent replacement.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::Result;
use crate::image::{Key, Pipeline};
use crate::task::Truth;

/// A set of labelled pictures with the pipeline that prepares them.
#[derive(Clone, Debug)]
pub struct Photos {
    inner: Arc<Inner>,
    truth: Truth,
}

#[derive(Debug)]
struct Inner {
    files: Vec<(PathBuf, usize)>,
    pipeline: Pipeline,
    size: (usize, usize),
    seed: u64,
    batch_size: usize,
    key: String,
}

/// A batch `[n, h, w, channels]`.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Values, channels last.
    pub x: Vec<f32>,
    /// Pictures.
    pub n: usize,
    /// Height.
    pub h: usize,
    /// Width.
    pub w: usize,
}

impl Batch {
    /// Puts it on a device.
    pub fn tensor(self, device: &Device) -> Tensor<4> {
        let Self { x, n, h, w } = self;
        let channels = x.len() / (n * h * w).max(1);
        Tensor::from_data(TensorData::new(x, [n, h, w, channels]), device)
    }
}

/// Batches made ahead: two a worker.
const AHEAD: usize = 2;

impl Photos {
    /// Prepares `files`, each with its label; `content` identifies the pictures for cache keys.
    ///
    /// # Panics
    /// If the pipeline does not give every picture the same size.
    pub fn new(
        files: Vec<(PathBuf, usize)>,
        pipeline: Pipeline,
        seed: u64,
        batch_size: usize,
        content: &str,
    ) -> Self {
        let size = pipeline.output_size().expect("a pipeline for training ends in a fixed size");
        let key = format!("{content} {pipeline} {seed}");
        let inner = Arc::new(Inner { files, pipeline, size, seed, batch_size, key });
        Self { inner, truth: Truth::default() }
    }

    /// Says what is true of the pictures, in their order, for tasks other than one class a picture.
    pub fn with_truth(self, truth: Truth) -> Self {
        assert!(truth.is_empty() || truth.len() == self.len(), "one row of truth a picture");
        Self { truth, ..self }
    }

    /// Returns what is true of the pictures; of one class a picture, [`Photos::labels`] does.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Counts the pictures.
    pub fn len(&self) -> usize {
        self.inner.files.len()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inner.files.is_empty()
    }

    /// Returns the label of each picture.
    pub fn labels(&self) -> Vec<usize> {
        self.inner.files.iter().map(|(_, label)| *label).collect()
    }

    /// Returns the files in order.
    pub fn files(&self) -> &[(PathBuf, usize)] {
        &self.inner.files
    }

    /// Identifies the pictures and what is done to them.
    pub fn key(&self) -> &str {
        &self.inner.key
    }

    /// Runs through all pictures in order, drawing augmentations for `view`.
    pub fn in_order(&self, view: u64) -> Batches {
        let all: Vec<usize> = (0..self.len()).collect();
        self.shuffled(&all, self.inner.batch_size, view)
    }

    /// Runs through the pictures of `order` in batches, drawing augmentations for `view`.
    pub fn shuffled(&self, order: &[usize], batch_size: usize, view: u64) -> Batches {
        let batches: Arc<Vec<Vec<usize>>> =
            Arc::new(order.chunks(batch_size).map(<[usize]>::to_vec).collect());
        let workers = thread::available_parallelism().map_or(1, usize::from).min(batches.len()).max(1);
        let lanes = (0..workers).map(|worker| {
            let (sender, receiver) = sync_channel(AHEAD);
            let (photos, batches) = (self.clone(), Arc::clone(&batches));
            thread::spawn(move || {
                for picks in batches.iter().skip(worker).step_by(workers) {
                    // The consumer hung up: nobody wants the rest.
                    if sender.send(photos.batch(picks, view)).is_err() {
                        return;
                    }
                }
            });
            receiver
        });
        Batches { lanes: lanes.collect(), next: 0, count: batches.len() }
    }

    fn batch(&self, picks: &[usize], view: u64) -> Result<Batch> {
        let Inner { files, pipeline, size: (h, w), seed, .. } = &*self.inner;
        let each = h * w * pipeline.channels();
        let mut x = vec![0.0; picks.len() * each];
        for (out, pick) in x.chunks_mut(each).zip(picks) {
            pipeline.read(&files[*pick].0, Key { seed: *seed, epoch: view, sample: *pick as u64 }, out)?;
        }
        Ok(Batch { x, n: picks.len(), h: *h, w: *w })
    }
}

/// The batches of one pass, in order.
#[derive(Debug)]
pub struct Batches {
    lanes: Vec<Receiver<Result<Batch>>>,
    next: usize,
    count: usize,
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.count {
            return None;
        }
        let lane = &self.lanes[self.next % self.lanes.len()];
        self.next += 1;
        Some(lane.recv().expect("a worker sends all its batches or the consumer is gone"))
    }
}
