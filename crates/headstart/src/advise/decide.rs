//! From numbers to a choice. Pure, so that every branch has a test.
//!
//! What a head on frozen features will achieve is measured. What fine-tuning adds is not: it is the rule below, a
//! share of the head's errors that grows with the number of pictures, and its interval is wide because tasks differ.
//! The rule's ends are this project's own runs (245 photos of two insects: nothing gained; 480 of solar cells, which
//! ImageNet has none of: 8 %; 2 569 of five flowers: a third of the errors; 3 630 of drawn characters: half, and with
//! `recipes/bold.toml` seven tenths) and the ResNet-50 table of Kornblith et al. 2019 as printed with SimCLR (Chen et al.
//! 2020, table 8: twelve sets of 2 000 to 75 000 pictures, −20 to 76 % of the errors, the middle a third).

use serde::Serialize;

use super::measure::{Accuracy, Measured, Shape};
use super::plan::Care;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// Train a new head on frozen features.
    Head,
    /// Train the head and the last stage.
    LastStages,
    /// Train everything, gently.
    Finetune,
    /// Learn from pictures without labels, too.
    Semi,
    /// Train everything from random weights.
    Scratch,
    /// Get more pictures first.
    CollectMore,
}

impl Choice {
    /// The choice in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::Head => "a new head on frozen features (`head`)",
            Self::LastStages => "head and last stage",
            Self::Finetune => "fine-tuning the whole network (`finetune`)",
            Self::Semi => "semi-supervised learning (`semi`)",
            Self::Scratch => "training from random weights (`scratch`)",
            Self::CollectMore => "collecting more pictures",
        }
    }
}

/// The lesson's two questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quadrant {
    /// Whether the pictures are many: nearer to 100 000 than to 10 000.
    pub large: bool,
    /// Whether the source task is like this one: pretraining removes at least half of the errors, or the network's own
    /// classes tell a fifth of what there is to know about these.
    pub similar: bool,
}

impl Quadrant {
    /// Places so many training pictures on a task of such a similarity.
    ///
    /// Errors alone mislead where classes are many: on a few pictures each, good features name few of them right. With 50 of
    /// ImageNet's own classes (tinyimagenet50) pretraining removes 0.31 of the errors on four pictures each and 0.59 on 80,
    /// with drawn characters 0.21 and, on all, 0.45. What ResNet-18's own classes tell of those two is 0.43 and 0.09, of two insects
    /// 0.72, five flowers 0.33, solar cells 0.05; the line is drawn between.
    pub(super) fn of(train: usize, similarity: f64, source_tells: Option<f64>) -> Self {
        let similar = similarity >= 0.5 || source_tells.is_some_and(|share| share >= 0.2);
        Self { large: train as f64 >= 10f64.powf(4.5), similar }
    }

    /// The quadrant in words.
    pub fn words(self) -> String {
        let size = if self.large { "large" } else { "small" };
        format!("{size} and {}", if self.similar { "similar" } else { "different" })
    }
}

/// A choice with its cost.
#[derive(Clone, Copy, Debug)]
pub struct Priced {
    /// What.
    pub choice: Choice,
    /// Seconds on this machine.
    pub seconds: f64,
}

impl Measured {
    /// Places a data set.
    pub(super) fn quadrant(&self, shape: &Shape) -> Quadrant {
        Quadrant::of(shape.train, self.similarity, self.source_tells)
    }
}

/// What a choice is expected to give.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Outlook {
    /// What.
    pub choice: Choice,
    /// Expected accuracy.
    pub top1: f64,
    /// About 95 % of cases.
    pub interval95: (f64, f64),
    /// Seconds on this machine.
    pub seconds: f64,
    /// Whether its expected accuracy is within a point of the best.
    pub as_good: bool,
}

/// The choice and its alternatives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Where the data stand.
    pub quadrant: Quadrant,
    /// What to do.
    pub choice: Choice,
    /// Every recipe, cheapest idea first.
    pub outlooks: Vec<Outlook>,
}

impl Decision {
    /// Returns the outlook of a recipe.
    pub fn outlook(&self, choice: Choice) -> Option<&Outlook> {
        self.outlooks.iter().find(|o| o.choice == choice)
    }
}

/// Recipes within this of the best expected accuracy count as equal: less is not seen on a few hundred pictures.
const EQUAL: f64 = 0.01;

/// Chooses: the simplest recipe that is as good as the best.
pub fn decide(shape: &Shape, measured: &Measured, care: Care, priced: &[Priced]) -> Decision {
    let quadrant = measured.quadrant(shape);
    let mut outlooks: Vec<Outlook> =
        priced.iter().map(|p| outlook(*p, shape, measured, quadrant, care)).collect();
    let best = outlooks.iter().map(|o| o.top1).fold(0.0, f64::max);
    outlooks.iter_mut().for_each(|o| o.as_good = o.top1 >= best - EQUAL);
    let simplest = outlooks.iter().find(|o| o.as_good).map_or(Choice::CollectMore, |o| o.choice);
    // Nothing can be learned from so few, or nothing was.
    let guessing = measured.probe.interval95.0 <= shape.guess() && shape.train < 1000;
    let choice =
        if shape.smallest < 5 || shape.train < 30 || guessing { Choice::CollectMore } else { simplest };
    Decision { quadrant, choice, outlooks }
}

/// Share of the head's errors that fine-tuning is expected to remove, and about 95 % of cases.
pub(super) fn removed(shape: &Shape, quadrant: Quadrant, care: Care) -> (f64, f64, f64) {
    // From nothing at 400 pictures to a third at 2 500, half at 100 000.
    let between = |low: f64, high: f64| ((shape.train as f64 / low).ln() / (high / low).ln()).clamp(0.0, 1.0);
    let (few, many) = (between(400.0, 2500.0), between(2500.0, 100_000.0));
    // Features that fit badly have more to gain, once there are pictures to learn better ones from.
    let different = if quadrant.similar { 0.0 } else { 0.05 * between(100.0, 400.0) + 0.05 * few };
    let bolder = if care == Care::Overwrite { 0.15 * few } else { 0.0 };
    let middle = 0.35 * few + 0.15 * many + different + bolder;
    (middle, middle - 0.15 - 0.2 * few, (middle + 0.15 + 0.2 * few).min(0.85))
}

/// Share of the errors of fine-tuning that pictures without labels are expected to remove, and about 95 % of cases.
///
/// The rule is this project's own runs (docs/semi-supervised.md): at ten labels a class a third, at three hundred nothing.
fn removed_by_unlabeled(shape: &Shape) -> (f64, f64, f64) {
    let each = shape.train as f64 / shape.classes.max(1) as f64;
    let few = 1.0 - ((each / 10.0).ln() / 30f64.ln()).clamp(0.0, 1.0);
    let enough = (shape.unlabeled as f64 / (5.0 * shape.train.max(1) as f64)).min(1.0);
    let middle = 0.3 * few * enough;
    (middle, middle - 0.2, (middle + 0.2).min(0.85))
}

/// The probe's accuracy; where only a part of the pictures was measured, with what more of them bring: the gain of the
/// last doubling, and less of it each time.
pub(super) fn head(shape: &Shape, measured: &Measured) -> Accuracy {
    let seen = measured.probe;
    let mut growth = (seen.top1 - measured.probe_half.top1).max(0.0);
    let (mut gain, mut doublings) = (0.0, (shape.train as f64 / measured.pictures.max(1) as f64).log2());
    while doublings > 0.0 {
        growth *= 0.6;
        gain += growth * doublings.min(1.0);
        doublings -= 1.0;
    }
    let (low, high) = seen.interval95;
    let capped = |x: f64| x.min(1.0);
    Accuracy { top1: capped(seen.top1 + gain), interval95: (low, capped(high + 2.0 * gain)) }
}

fn outlook(p: Priced, shape: &Shape, measured: &Measured, quadrant: Quadrant, care: Care) -> Outlook {
    let head = head(shape, measured);
    let care = if p.choice == Choice::Finetune { care } else { Care::Keep };
    let (middle, low, high) = removed(shape, quadrant, care);
    // The probe's own uncertainty, with a share of the errors removed from each of its values.
    let after = |part: f64| {
        let at = |error: f64, share: f64| (1.0 - error * (1.0 - part * share)).clamp(0.0, 1.0);
        let (pessimist, optimist) = (1.0 - head.interval95.0, 1.0 - head.interval95.1);
        (at(1.0 - head.top1, middle), (at(pessimist, low), at(optimist, high)))
    };
    let (top1, interval95) = match p.choice {
        Choice::Head | Choice::CollectMore => (head.top1, head.interval95),
        // Between the two; better where the stage before the last already reads the pictures better.
        Choice::LastStages => {
            let (top1, interval) = after(0.6);
            let earlier = measured.probe_earlier;
            match earlier.top1 > top1 {
                true => (earlier.top1, (earlier.interval95.0, earlier.interval95.1.max(interval.1))),
                false => (top1, interval),
            }
        }
        Choice::Finetune => {
            let (top1, interval) = after(1.0);
            // Fine-tuning contains training the last stage.
            (top1.max(measured.probe_earlier.top1), interval)
        }
        Choice::Semi => {
            let fine = outlook(Priced { choice: Choice::Finetune, ..p }, shape, measured, quadrant, care);
            let (middle, low, high) = removed_by_unlabeled(shape);
            let at = |top1: f64, share: f64| (1.0 - (1.0 - top1) * (1.0 - share)).clamp(0.0, 1.0);
            (at(fine.top1, middle), (at(fine.interval95.0, low), at(fine.interval95.1, high)))
        }
        Choice::Scratch => {
            // Random features are what training from scratch starts from; it makes of them what pictures allow.
            let error = 1.0 - measured.control_probe.1;
            let at = |share: f64| (1.0 - error * (1.0 - share)).clamp(0.0, 1.0);
            (at(middle), (at(low), at(high + 0.1)))
        }
    };
    Outlook { choice: p.choice, top1, interval95, seconds: p.seconds, as_good: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(train: usize, classes: usize) -> Shape {
        let each = train / classes;
        Shape { train, val: train / 4, classes, smallest: each, largest: each, unlabeled: 0 }
    }

    fn measured(probe: f64, random: f64, n: usize) -> Measured {
        let accuracy = |top1: f64| {
            let reach = 1.96 * (top1 * (1.0 - top1) / n as f64).sqrt();
            Accuracy { top1, interval95: (top1 - reach, (top1 + reach).min(1.0)) }
        };
        Measured {
            pictures: n,
            probe: accuracy(probe),
            probe_earlier: accuracy(probe - 0.05),
            probe_half: accuracy(probe - 0.02),
            knn: probe - 0.03,
            control_pictures: n,
            control_probe: (probe, random),
            control_knn: (probe - 0.03, random),
            similarity: 1.0 - (1.0 - probe) / (1.0 - random),
            logme: 0.5,
            h_score: 1.0,
            leep: None,
            source_tells: None,
            zero_shot: None,
            pictures_per_second: 100.0,
        }
    }

    fn choose(shape: &Shape, measured: &Measured) -> Decision {
        let all = [
            (Choice::Head, 20.0),
            (Choice::LastStages, 40.0),
            (Choice::Finetune, 90.0),
            (Choice::Scratch, 300.0),
        ];
        decide(shape, measured, Care::Keep, &all.map(|(choice, seconds)| Priced { choice, seconds }))
    }

    #[test]
    fn a_few_hundred_similar_pictures_need_no_more_than_a_head() {
        let decision = choose(&shape(245, 2), &measured(0.93, 0.61, 245));
        assert_eq!(
            (decision.choice, decision.quadrant.words().as_str()),
            (Choice::Head, "small and similar")
        );
        assert!(decision.outlook(Choice::Finetune).unwrap().as_good);
        assert!(!decision.outlook(Choice::Scratch).unwrap().as_good);
    }

    #[test]
    fn some_thousand_pictures_with_errors_left_are_worth_fine_tuning() {
        let decision = choose(&shape(2569, 5), &measured(0.88, 0.48, 2569));
        assert_eq!(decision.choice, Choice::Finetune);
        assert!(!decision.outlook(Choice::Head).unwrap().as_good);
    }

    #[test]
    fn overwriting_is_expected_to_remove_seven_tenths_not_half_and_helps_fine_tuning_alone() {
        let (shape, seen) = (shape(3630, 242), measured(0.625, 0.3, 3630));
        let priced = [Choice::LastStages, Choice::Finetune, Choice::Scratch]
            .map(|choice| Priced { choice, seconds: 1.0 });
        let of = |care| decide(&shape, &seen, care, &priced);
        let (kept, overwritten) = (of(Care::Keep), of(Care::Overwrite));
        let removed = |d: &Decision| (d.outlook(Choice::Finetune).unwrap().top1 - 0.625) / 0.375;
        assert!((0.4..0.7).contains(&removed(&kept)), "{}", removed(&kept));
        assert!((removed(&overwritten) - removed(&kept) - 0.15).abs() < 1e-9);
        for choice in [Choice::LastStages, Choice::Scratch] {
            assert_eq!(kept.outlook(choice).unwrap().top1, overwritten.outlook(choice).unwrap().top1);
        }
    }

    #[test]
    fn few_labels_and_many_pictures_without_are_worth_learning_from_both() {
        let mut shape = shape(50, 5);
        let seen = measured(0.6, 0.3, 50);
        let with = |shape: &Shape| {
            let all = [(Choice::Head, 6.0), (Choice::Finetune, 10.0), (Choice::Semi, 90.0)];
            decide(shape, &seen, Care::Keep, &all.map(|(choice, seconds)| Priced { choice, seconds }))
        };
        shape.unlabeled = 2000;
        let decision = with(&shape);
        assert_eq!(decision.choice, Choice::Semi);
        assert!(decision.outlook(Choice::Semi).unwrap().top1 > 0.7);
        // A handful of them, or labels enough, change nothing.
        shape.unlabeled = 5;
        assert_eq!(with(&shape).choice, Choice::Head);
        shape = Shape { train: 2500, smallest: 500, largest: 500, unlabeled: 20_000, ..shape };
        assert_eq!(with(&shape).choice, Choice::Finetune);
    }

    #[test]
    fn a_part_of_the_pictures_speaks_for_all() {
        let seen = measured(0.8, 0.3, 1000);
        let whole = head(&shape(1000, 10), &seen);
        assert_eq!(whole, seen.probe);
        let more = head(&shape(4000, 10), &seen);
        assert!((more.top1 - (0.8 + 0.02 * (0.6 + 0.36))).abs() < 1e-9, "{more:?}");
        assert_eq!(more.interval95.0, seen.probe.interval95.0);
    }

    #[test]
    fn many_classes_that_the_network_knows_are_similar_however_few_errors_it_removes() {
        let mut seen = measured(0.34, 0.035, 1500);
        assert!(seen.similarity < 0.5 && !choose(&shape(7500, 50), &seen).quadrant.similar);
        seen.source_tells = Some(0.43);
        assert!(choose(&shape(7500, 50), &seen).quadrant.similar);
        seen.source_tells = Some(0.09);
        assert!(!choose(&shape(7500, 50), &seen).quadrant.similar);
    }

    #[test]
    fn nothing_left_to_gain_is_left_alone() {
        assert_eq!(choose(&shape(5000, 10), &measured(0.99, 0.5, 4000)).choice, Choice::Head);
    }

    #[test]
    fn better_earlier_features_speak_for_the_last_stage() {
        let mut seen = measured(0.75, 0.65, 400);
        seen.probe_earlier.top1 = 0.82;
        let decision = choose(&shape(400, 2), &seen);
        assert_eq!(decision.choice, Choice::LastStages);
        assert_eq!(decision.quadrant.words(), "small and different");
    }

    #[test]
    fn pretraining_that_carries_nothing_over_loses_to_scratch_on_many_pictures() {
        let decision = choose(&shape(200_000, 10), &measured(0.4, 0.5, 4000));
        assert_eq!((decision.choice, decision.quadrant.large), (Choice::Scratch, true));
    }

    #[test]
    fn guessing_or_too_few_means_more_pictures() {
        assert_eq!(choose(&shape(200, 2), &measured(0.52, 0.5, 200)).choice, Choice::CollectMore);
        assert_eq!(choose(&shape(20, 5), &measured(0.9, 0.4, 20)).choice, Choice::CollectMore);
    }
}
