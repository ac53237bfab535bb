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
    /// Share of validation pictures classified right; not a number for other tasks, and then not written.
    #[serde(default = "nan", skip_serializing_if = "is_nan")]
    pub top1: f64,
    /// Of multi-label classification, the mean over labels of their average precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<f64>,
    /// Of regression, the root of the mean squared error over all targets, in standard deviations of the training part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nrmse: Option<f64>,
    /// Of regression, the root of the mean squared error of each target, in its own unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rmse: Vec<f64>,
    /// Of regression, the mean over targets of the share of variance explained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r2: Option<f64>,
    /// Share of the pictures without labels that had one for a while, in a phase that learns from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labelled: Option<f64>,
    /// Learning rate of the head at the last step.
    pub lr: f64,
    /// Seconds the epoch took.
    pub seconds: f64,
}

fn nan() -> f64 {
    f64::NAN
}
fn is_nan(x: &f64) -> bool {
    x.is_nan()
}

impl EpochRecord {
    /// What epochs are compared by, the larger the better: top-1, mAP, or the negative error of numbers.
    pub fn merit(&self) -> f64 {
        let merit = self.map.or(self.nrmse.map(|e| -e)).unwrap_or(self.top1);
        // A network whose answers are no numbers is worse than any.
        if merit.is_nan() { f64::NEG_INFINITY } else { merit }
    }

    /// The number epochs are compared by, as people read it: its name, and its value.
    pub fn headline(&self) -> (&'static str, f64) {
        match (self.map, self.nrmse, &self.rmse[..]) {
            (Some(map), ..) => ("mAP", map),
            (_, Some(_), [one]) => ("RMSE", *one),
            // Several targets have no unit in common.
            (_, Some(nrmse), _) => ("RMSE in deviations", nrmse),
            _ => ("top-1", self.top1),
        }
    }
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
