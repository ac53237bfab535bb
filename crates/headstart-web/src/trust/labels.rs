//! Which labels are found, and from which probability on they are named.

use headstart::scored::{LabelScore, LabelScores};

use super::{Answers, belief, worst_first};
use crate::html::{escape, percent, tile};

/// What the page says of a network that names any number of labels.
pub fn answers(scores: &LabelScores) -> Answers {
    Answers {
        lead: format!("mAP <b>{}</b> on {} validation photos", percent(Some(scores.map)), scores.pictures),
        doubt: format!(
            "95 % interval {:.1}–{:.1} %. ",
            100.0 * scores.interval.low,
            100.0 * scores.interval.high
        ),
        tiles: vec![
            tile(&format!("{:.3}", scores.micro_f1), "F1 of all labels", "hits and misses together"),
            tile(
                &format!("{:.3}", scores.macro_f1),
                "macro F1",
                &format!("mean of {} labels", scores.names.len()),
            ),
            tile(&percent(Some(scores.exact)), "photos all right", "each label named, and no other"),
        ],
        parts: vec![
            ("labels", "Label by label", labels(scores)),
            ("belief", "Whether its probabilities can be believed", belief::labels(scores)),
        ],
    }
}

fn labels(scores: &LabelScores) -> String {
    let row = |(name, e): (&String, &LabelScore)| {
        let c = &e.counts;
        let range = match e.ap {
            Some(_) => format!("<small>{:.1}–{:.1}</small>", 100.0 * e.interval.low, 100.0 * e.interval.high),
            None => String::new(),
        };
        vec![
            escape(name),
            percent(e.ap) + &range,
            percent(c.f1()),
            percent(c.precision()),
            percent(c.recall()),
            format!("{:.3}", e.threshold),
            (c.right + c.missed).to_string(),
        ]
    };
    let rows = (scores.names.iter().zip(&scores.each))
        .map(|pair| (pair.1.ap.unwrap_or(f64::INFINITY), row(pair)))
        .collect();
    let header = ["label", "average precision", "F1", "precision", "recall", "named from", "photos"];
    let note = "<p class=\"soft\">Small numbers are 95 % intervals by bootstrap. A label is named from the probability that \
                gives it the highest F1 on these same photos, so F1, precision and recall are slightly optimistic; a \
                <code>test</code> part has the final word.</p>";
    note.to_string() + &worst_first(&header, rows, "labels")
}
