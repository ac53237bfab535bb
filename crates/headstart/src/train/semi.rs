//! Learning from pictures without labels, beside those with: recipes' key `semi` of a phase.
//!
//! Two teachers. `pseudo` (Lee, "Pseudo-Label", 2013; the growing, class-balanced share is curriculum labelling, Cascante-Bonilla
//! et al., AAAI 2021) lets the head label pictures from cached features between epochs, the surest of each class first.
//! `fixmatch` (Sohn et al., "FixMatch", NeurIPS 2020) asks the network itself in every step: where it is sure of a gently
//! changed view of a picture, it has to say the same of a strongly changed one.
//!
//! An epoch is one pass over the pictures without labels, `ratio` of them for each with a label; the latter are repeated.

use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

use burn::Tensor;

use super::loss::targets;
use super::observer::Observer;
use super::photos::{Batch, Batches, Photos};
use super::prefix::{CacheLimits, FeatureCache, Features, Prefix};
use super::recipe::{Phase, Recipe};
use super::schedule::Call;
use super::step::{Lesson, outputs};
use crate::error::{Error, Result};
use crate::metrics::calibration::softmax;
use crate::models::{Flow, Network, frozen, values};
use crate::rng::Rng;

/// How a phase uses pictures without labels, as recipes write it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SemiSpec {
    /// Who labels them.
    pub teacher: Teacher,
    /// Factor of their loss.
    pub weight: f64,
    /// Pictures without a label in a step for each with one.
    pub ratio: usize,
}

/// Who labels pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Teacher {
    /// The head between epochs; the share of pictures it labels grows from none to all in as many rounds.
    Pseudo {
        /// Times the share grows.
        rounds: usize,
    },
    /// The network in each step.
    FixMatch {
        /// Probability from which on it counts as sure.
        threshold: f64,
    },
}

impl fmt::Display for SemiSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { teacher, weight, ratio } = self;
        match teacher {
            Teacher::Pseudo { rounds } => {
                write!(f, "pseudo(rounds={rounds}, weight={weight}, ratio={ratio})")
            }
            Teacher::FixMatch { threshold } => {
                write!(f, "fixmatch(threshold={threshold}, weight={weight}, ratio={ratio})")
            }
        }
    }
}

impl FromStr for SemiSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let call = Call::parse(text, "semi")?;
        let (teacher, own) = match call.name {
            "pseudo" => {
                (Teacher::Pseudo { rounds: call.number("rounds", 5.0, 1.0..=100.0)? as usize }, "rounds")
            }
            "fixmatch" => {
                (Teacher::FixMatch { threshold: call.number("threshold", 0.95, 0.0..=1.0)? }, "threshold")
            }
            other => return Err(call.unknown(other, &["pseudo", "fixmatch"])),
        };
        let found = Self {
            teacher,
            weight: call.number("weight", 1.0, 0.0..=100.0)?,
            ratio: call.number("ratio", 3.0, 1.0..=32.0)? as usize,
        };
        call.finish(&[own, "weight", "ratio"])?;
        Ok(found)
    }
}

/// Pictures without labels, prepared in two ways.
#[derive(Clone, Debug)]
pub struct Unlabeled {
    /// Changed as pictures with labels are.
    pub weak: Photos,
    /// Changed strongly.
    pub strong: Photos,
}

/// The pictures without labels of one phase.
pub(super) struct Semi {
    spec: SemiSpec,
    pictures: Unlabeled,
    first: usize,
    views: usize,
    classes: usize,
    /// What the frozen prefix makes of them, where there is one and it fits.
    weak: Option<Rc<Features>>,
    strong: Option<Rc<Features>>,
    seed: u64,
    /// The class of each picture, by the head, for the epoch that runs; none where it is not sure enough.
    labels: Vec<Option<usize>>,
}

/// One epoch's way through them.
pub(super) struct Pass {
    order: Vec<usize>,
    each: usize,
    global: u64,
    weak: Option<Batches>,
    strong: Option<Batches>,
    /// Pictures asked for, and pictures whose answer counted.
    asked: usize,
    counted: usize,
}

/// The stream of random numbers that orders the pictures without labels.
const ORDER: u64 = 0x5E41;

impl Semi {
    /// Computes what the frozen prefix makes of the pictures.
    #[expect(clippy::too_many_arguments, reason = "all that a phase has at hand")]
    pub(super) fn prepare(
        spec: SemiSpec,
        pictures: &Unlabeled,
        seed: u64,
        views: usize,
        network: &Network,
        (prefix, first): (&mut Prefix, usize),
        (cache, limits): (&mut FeatureCache, &CacheLimits),
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let mut features = |photos: &Photos| match views {
            0 => Ok(None),
            _ => cache.features(prefix, photos, views, limits, observer),
        };
        let weak = features(&pictures.weak)?;
        let strong = match spec.teacher {
            Teacher::FixMatch { .. } if weak.is_some() => features(&pictures.strong)?,
            _ => None,
        };
        // Both from features or both from pictures: one that did not fit would be run anew for each step all the same.
        let weak = weak.filter(|_| strong.is_some() || spec.is_pseudo());
        let (labels, classes) = (vec![None; pictures.weak.len()], network.options().num_classes);
        Ok(Self { spec, pictures: pictures.clone(), first, views, classes, weak, strong, seed, labels })
    }

    /// Tells whether the epoch's labels were made at its start, so that it cannot be entered in the middle.
    pub(super) fn is_fixed(&self) -> bool {
        self.spec.is_pseudo()
    }

    /// Returns the pictures with labels of an epoch: all in random order, again and again until the others are through.
    pub(super) fn labelled(&self, labels: usize, batch_size: usize, global: u64) -> Vec<usize> {
        let steps = self.pictures.weak.len().div_ceil(batch_size * self.spec.ratio);
        let wanted = steps.max(labels.div_ceil(batch_size)) * batch_size;
        let mut order = Vec::with_capacity(wanted + labels);
        for round in 0.. {
            if order.len() >= wanted {
                break;
            }
            let mut all: Vec<usize> = (0..labels).collect();
            Rng::keyed(&[self.seed, ORDER, global, 1, round]).shuffle(&mut all);
            order.extend(all);
        }
        order.truncate(wanted);
        order
    }

    /// Labels pictures if that is done now; `progress` is the part of the phase that is over.
    pub(super) fn begin(
        &mut self,
        network: &Network,
        prefix: &mut Prefix,
        progress: f64,
        global: u64,
    ) -> Result<()> {
        let Teacher::Pseudo { rounds } = self.spec.teacher else { return Ok(()) };
        let share = (progress * (rounds + 1) as f64 + 1e-9).floor() / rounds as f64;
        if share <= 0.0 {
            self.labels.fill(None);
            return Ok(());
        }
        let all: Vec<usize> = (0..self.pictures.weak.len()).collect();
        let network = frozen(network);
        let mut logits = Vec::with_capacity(all.len() * self.classes);
        let mut live = self.weak.is_none().then(|| self.pictures.weak.shuffled(&all, 64, global));
        for picks in all.chunks(64) {
            let input = match (&self.weak, &mut live) {
                (Some(features), _) => features.batch(&self.viewed(picks, global), &network.device())?,
                (None, live) => run(prefix, next(live)?),
            };
            logits.extend(values(&outputs(self.first, input, false, &network)));
        }
        self.labels = surest(&logits, self.classes, share);
        Ok(())
    }

    fn viewed(&self, picks: &[usize], global: u64) -> Vec<(usize, usize)> {
        picks.iter().map(|i| (*i, (global as usize + i) % self.views)).collect()
    }

    /// Starts an epoch at a step.
    pub(super) fn pass(&self, batch_size: usize, global: u64, step: usize) -> Pass {
        let mut order: Vec<usize> = (0..self.pictures.weak.len()).collect();
        Rng::keyed(&[self.seed, ORDER, global]).shuffle(&mut order);
        let each = (batch_size * self.spec.ratio).min(order.len().max(1));
        let from = (step * each).min(order.len());
        let batches = |photos: &Photos| photos.shuffled(&order[from..], each, global);
        let weak = self.weak.is_none().then(|| batches(&self.pictures.weak));
        let live = self.strong.is_none() && !self.spec.is_pseudo();
        let strong = live.then(|| batches(&self.pictures.strong));
        Pass { order, each, global, weak, strong, asked: 0, counted: 0 }
    }

    /// Returns the loss of a step's pictures without labels, weighted; none if no answer counts.
    pub(super) fn loss(
        &self,
        pass: &mut Pass,
        step: usize,
        network: &Network,
        prefix: &mut Prefix,
        half: bool,
    ) -> Result<Option<Tensor<1>>> {
        let from = (step * pass.each).min(pass.order.len());
        let picks = pass.order[from..(from + pass.each).min(pass.order.len())].to_vec();
        if picks.is_empty() {
            return Ok(None);
        }
        let plain = network.device();
        let views = self.viewed_or_none(&picks, pass.global);
        let weak = match &self.weak {
            Some(features) => features.batch(&views, &plain)?,
            None => run(prefix, next(&mut pass.weak)?),
        };
        let (labels, sure_input) = match self.spec.teacher {
            Teacher::Pseudo { .. } => (picks.iter().map(|i| self.labels[*i]).collect::<Vec<_>>(), Some(weak)),
            Teacher::FixMatch { threshold } => {
                let logits = values(&outputs(self.first, weak, false, &frozen(network)));
                (logits.chunks(self.classes).map(|row| sure(row, threshold)).collect(), None)
            }
        };
        let chosen: Vec<usize> = (0..picks.len()).filter(|i| labels[*i].is_some()).collect();
        pass.asked += picks.len();
        pass.counted += chosen.len();
        // Taken from the worker in any case, or the next step would get this one's.
        let strong = match &mut pass.strong {
            Some(batches) => Some(batches.next().expect("as many batches as steps")?),
            None => None,
        };
        // A batch of one has no statistics.
        if chosen.len() < 2 {
            return Ok(None);
        }
        let input = match (sure_input, &self.strong, strong) {
            (Some(weak), ..) => weak.select(&chosen),
            (None, Some(features), _) => {
                features.batch(&chosen.iter().map(|i| views[*i]).collect::<Vec<_>>(), &plain)?
            }
            (None, None, batch) => run(prefix, some_of(batch.expect("live"), &chosen)),
        };
        let labels: Vec<usize> = chosen.iter().map(|i| labels[*i].expect("chosen")).collect();
        let (first, goal) = (self.first, targets(&labels, self.classes, 0.0));
        let input = input.to_device(&plain.autodiff());
        let loss = Lesson { first, input, half, goal, weights: None, focal: None }.loss(network);
        // The mean over all that were asked.
        Ok(Some(loss * (self.spec.weight * chosen.len() as f64 / picks.len() as f64)))
    }

    fn viewed_or_none(&self, picks: &[usize], global: u64) -> Vec<(usize, usize)> {
        if self.views == 0 { Vec::new() } else { self.viewed(picks, global) }
    }
}

impl Pass {
    /// The share of pictures whose label counted.
    pub(super) fn share(&self) -> f64 {
        self.counted as f64 / self.asked.max(1) as f64
    }
}

impl SemiSpec {
    /// Says what of a recipe contradicts it.
    pub(super) fn check(&self, recipe: &Recipe, phase: &Phase) -> Result<()> {
        let bad = |what: &str, hint: &str| {
            Err(Error::BadRecipe {
                place: format!("phase `{}`", phase.name),
                what: what.into(),
                hint: hint.into(),
            })
        };
        if !self.is_pseudo() && recipe.strong.is_none() {
            return bad(
                "`semi = \"fixmatch\"` compares with strongly changed views, and the recipe has none",
                "add a pipeline `strong = \"… | rand_augment(2, 10) | …\"`; `headstart fit --recipe semi --explain` shows one",
            );
        }
        if recipe.mixup > 0.0 || recipe.cutmix > 0.0 {
            return bad("`semi` and `mixup` or `cutmix` contradict each other", "drop one of them");
        }
        if !recipe.sampler.is_shuffle() {
            return bad("`semi` repeats the pictures with labels in an order of its own", "drop `sampler`");
        }
        Ok(())
    }

    fn is_pseudo(&self) -> bool {
        matches!(self.teacher, Teacher::Pseudo { .. })
    }
}

fn next(batches: &mut Option<Batches>) -> Result<Batch> {
    batches.as_mut().expect("pictures where there are no features").next().expect("as many batches as steps")
}

/// Brings pictures to where the trained part begins.
fn run(prefix: &mut Prefix, batch: Batch) -> Flow {
    prefix.run(batch.x.into(), [batch.n, batch.h, batch.w])
}

fn some_of(batch: Batch, chosen: &[usize]) -> Batch {
    let each = batch.x.len() / batch.n;
    let x = chosen.iter().flat_map(|i| batch.x[i * each..(i + 1) * each].iter().copied()).collect();
    Batch { x, n: chosen.len(), ..batch }
}

/// The most probable class if it is probable enough.
fn sure(logits: &[f32], threshold: f64) -> Option<usize> {
    let probabilities = softmax(logits, 1.0);
    let best = crate::metrics::accuracy::argmax(logits);
    (probabilities[best] >= threshold).then_some(best)
}

/// Labels the surest pictures: of those taken for a class the given share, at least one.
fn surest(logits: &[f32], classes: usize, share: f64) -> Vec<Option<usize>> {
    let mut by_class = vec![Vec::new(); classes];
    for (i, row) in logits.chunks(classes).enumerate() {
        let best = crate::metrics::accuracy::argmax(row);
        by_class[best].push((softmax(row, 1.0)[best], i));
    }
    let mut labels = vec![None; logits.len() / classes];
    for (class, found) in by_class.iter_mut().enumerate() {
        // Of equals the first picture.
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let keep = (found.len() as f64 * share.min(1.0)).ceil() as usize;
        found[..keep].iter().for_each(|(_, i)| labels[*i] = Some(class));
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_typos_are_caught() {
        for text in ["pseudo(rounds=5, weight=1, ratio=3)", "fixmatch(threshold=0.9, weight=0.5, ratio=7)"] {
            assert_eq!(text.parse::<SemiSpec>().unwrap().to_string(), text);
        }
        for bad in ["fixmtach", "fixmatch(treshold=0.9)", "pseudo(threshold=0.9)", "fixmatch(threshold=2)"] {
            assert!(bad.parse::<SemiSpec>().is_err(), "`{bad}` was taken");
        }
    }

    #[test]
    fn the_surest_of_each_class_come_first() {
        // Pictures 0, 1 and 3 look like class 0, the last surest of them; 2 like class 1.
        let logits = [2.0, 0.0, 1.0, 0.0, 0.0, 0.5, 3.0, 0.0];
        assert_eq!(surest(&logits, 2, 0.3), [None, None, Some(1), Some(0)]);
        assert_eq!(surest(&logits, 2, 0.6), [Some(0), None, Some(1), Some(0)]);
        assert_eq!(surest(&logits, 2, 1.0), [Some(0), Some(0), Some(1), Some(0)]);
    }

    #[test]
    fn only_sure_answers_count() {
        assert_eq!(sure(&[4.0, 0.0], 0.95), Some(0));
        assert_eq!(sure(&[1.0, 0.0], 0.95), None);
        assert_eq!(sure(&[0.0, 0.0], 0.5), Some(0));
    }
}
