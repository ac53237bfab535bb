//! What training tells whoever watches: a progress bar, a log, a page. Watchers cannot change it.

/// One piece of news.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Pictures are being turned into features of the frozen prefix.
    Caching {
        /// Pictures done.
        done: usize,
        /// Pictures in all.
        total: usize,
        /// What the prefix ends before.
        before: &'a str,
    },
    /// A phase begins.
    PhaseStarted {
        /// Its place, from 0.
        index: usize,
        /// How many there are.
        count: usize,
        /// Its name.
        name: &'a str,
        /// Every group with its rate; `None` is frozen.
        groups: &'a [(String, Option<f64>)],
        /// Epochs planned.
        epochs: usize,
    },
    /// One optimizer step is done.
    Step {
        /// Epoch within the phase, from 0.
        epoch: usize,
        /// Step within the epoch, from 0.
        step: usize,
        /// Steps an epoch.
        steps: usize,
        /// Loss of the batch.
        loss: f64,
        /// Learning rate of the head in this step.
        lr: f64,
        /// Pictures in the batch.
        pictures: usize,
    },
    /// An epoch is validated and saved.
    EpochEnded(&'a EpochRecord),
    /// Something the user should read.
    Note(&'a str),
}

/// What one epoch achieved.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EpochRecord {
    /// Phase, from 0.
    pub phase: usize,
    /// Name of the phase.
    pub phase_name: String,
    /// Epoch over the whole run, from 0.
    pub epoch: usize,
    /// Mean training loss.
    pub train_loss: f64,
    /// Mean validation loss, without smoothing or weights.
    pub val_loss: f64,
    /// Share of validation pictures classified right.
    pub top1: f64,
    /// Learning rate of the head at the last step.
    pub lr: f64,
    /// Seconds the epoch took.
    pub seconds: f64,
}

/// Watches training.
pub trait Observer {
    /// Receives news.
    fn event(&mut self, event: Event<'_>);

    /// Tells whether training should save its state and end with [`Error::Interrupted`]; asked after each step.
    ///
    /// [`Error::Interrupted`]: crate::Error::Interrupted
    fn wants_to_stop(&self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: Event<'_>) {}
}
