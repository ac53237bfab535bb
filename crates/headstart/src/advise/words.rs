//! The reason for a choice, in one paragraph.

use super::decide::{Choice, Decision};
use super::measure::{Measured, Shape};

/// Says why, with the numbers.
pub fn paragraph(model: &str, shape: &Shape, m: &Measured, decision: &Decision) -> String {
    let percent = |x: f64| format!("{:.1} %", 100.0 * x);
    let mut parts = vec![format!(
        "{} training pictures in {} classes ({}) and a task that is {} what {model} learned before: its features \
         with a linear probe reach {} on pictures left out, the same network with random weights {}, so pretraining \
         removes {:.0} % of the errors (nearest neighbours included).",
        shape.train,
        shape.classes,
        if shape.smallest == shape.largest {
            format!("{} each", shape.smallest)
        } else {
            format!("{} to {} each", shape.smallest, shape.largest)
        },
        if decision.quadrant.similar { "similar to" } else { "different from" },
        percent(m.control_probe.0),
        percent(m.control_probe.1),
        100.0 * m.similarity,
    )];
    if let Some(share) = m.source_tells {
        parts.push(format!(
            "Its own classes tell {:.0} % of what there is to know about these.",
            100.0 * share.max(0.0)
        ));
    }
    parts.push(format!("That is the quadrant \"{}\".", decision.quadrant.words()));
    parts.push(reason(shape, m, decision));
    if let Some(z) = &m.zero_shot {
        parts.push(format!(
            "Its text tower names {} of these pictures right by the names of the classes alone, without any training; \
             `--head zero-shot` starts from there.",
            percent(z.top1)
        ));
    }
    if shape.largest > 3 * shape.smallest && decision.choice != Choice::CollectMore {
        let ratio = shape.largest as f64 / shape.smallest.max(1) as f64;
        parts.push(format!(
            "The largest class has {ratio:.1} times the pictures of the smallest, so rare classes weigh more."
        ));
    }
    if shape.unlabeled == 0 && shape.train < 30 * shape.classes && m.probe.top1 < 0.9 {
        parts.push("Are there more pictures without labels? `--unlabeled DIR` lets them take part.".into());
    }
    let growth = m.probe.top1 - m.probe_half.top1;
    if decision.choice != Choice::CollectMore && growth > 0.02 && m.probe.top1 < 0.95 {
        parts.push(format!(
            "Twice the pictures brought the probe {:.1} points so far: more of them would help too.",
            100.0 * growth
        ));
    }
    parts.join(" ")
}

fn reason(shape: &Shape, m: &Measured, decision: &Decision) -> String {
    let points = |x: f64| format!("{:.1}", 100.0 * x);
    let head = super::decide::head(shape, m);
    let gain = decision.outlook(Choice::Finetune).map_or(0.0, |o| o.top1 - head.top1);
    match decision.choice {
        Choice::Head if gain <= 0.0 => format!(
            "With so few pictures fine-tuning is not expected to beat a new head on frozen features ({} % expected), \
             and costs more: the simpler choice is as good.",
            points(head.top1)
        ),
        Choice::Head => format!(
            "Fine-tuning might add {} points to the {} % of a new head on frozen features, less than can be seen here: \
             the simpler choice is as good.",
            points(gain),
            points(head.top1)
        ),
        Choice::LastStages if m.probe_earlier.top1 > head.top1 => format!(
            "The features before the last stage do better than those after it ({} against {} %): that stage is too much \
             made for the old task and should be trained anew with the head, the rest can stay.",
            points(m.probe_earlier.top1),
            points(head.top1)
        ),
        Choice::LastStages => format!(
            "A new head alone leaves {} % errors; training the last stage with it is expected to be as good as training \
             everything, and its prefix is computed once.",
            points(1.0 - head.top1)
        ),
        Choice::Finetune => format!(
            "A new head alone leaves {} % errors, and {} pictures are enough to adapt the features: fine-tuning everything \
             is expected to gain {} points.",
            points(1.0 - head.top1),
            shape.train,
            points(gain)
        ),
        Choice::Semi => format!(
            "{} labels a class are few, and there are {} pictures without labels: learning from them too is expected to \
             gain {} points over a new head alone.",
            shape.train / shape.classes.max(1),
            shape.unlabeled,
            points(decision.outlook(Choice::Semi).map_or(0.0, |o| o.top1 - head.top1))
        ),
        Choice::Scratch => {
            "What the network learned before does not carry over, and there are pictures enough to do \
                            without: training from random weights is expected to be as good."
                .into()
        }
        Choice::CollectMore if shape.smallest < 5 || shape.train < 30 => format!(
            "The smallest class has {} pictures: too few to learn from or to measure on. Collect more first, 30 a class or \
             better 100.",
            shape.smallest
        ),
        Choice::CollectMore => format!(
            "The probe's {} % cannot be told from always naming the largest class ({} %): collect more pictures, look \
             at the labels, or try a larger `--size`.",
            points(head.top1),
            points(shape.guess())
        ),
    }
}
