//! Which classes are found, and which are taken for which.

use headstart::metrics::accuracy::argmax;
use headstart::metrics::{Interval, class_intervals, coverage};
use headstart::session::Scores;

use super::{Answers, belief, worst_first};
use crate::html::{escape, percent, table, tile};
use crate::{plot, thumb};

/// More classes than this do not fit a matrix of numbers.
const MATRIX: usize = 16;

/// What the page says of a classifier.
pub fn answers(scores: &Scores) -> Answers {
    let (low, high) = scores.interval;
    Answers {
        lead: format!(
            "<b>{}</b> of {} validation photos named right",
            percent(Some(scores.top1)),
            scores.labels.len()
        ),
        doubt: format!("95 % interval {:.1}–{:.1} %. ", 100.0 * low, 100.0 * high),
        tiles: tiles(scores),
        parts: vec![
            ("mistakes", "Where it errs", mistakes(scores)),
            ("classes", "Class by class", classes(scores)),
            ("belief", "Whether its probabilities can be believed", belief::classes(scores)),
        ],
    }
}

fn tiles(scores: &Scores) -> Vec<String> {
    let trade = coverage(&scores.logits, scores.classes.len(), &scores.labels, scores.temperature);
    let (share, remark) = match trade.at_accuracy(0.99) {
        Some(step) => (Some(trade.share(&step)), "the others are left to a person"),
        None => (None, "no threshold reaches it"),
    };
    vec![
        tile(
            &format!("{:.3}", scores.confusion.macro_f1()),
            "macro F1",
            &format!("{} classes", scores.classes.len()),
        ),
        tile(&percent(share), "answered at 99 % right", remark),
        tile(
            &format!("{:.3}", belief::ece(scores, scores.temperature)),
            "calibration error",
            &format!("{:.3} before temperature", scores.ece),
        ),
    ]
}

/// The confusion matrix and the most confused pairs.
fn mistakes(scores: &Scores) -> String {
    let pairs = scores.confusion.mistakes(8);
    let rows: Vec<Vec<String>> = (pairs.iter())
        .map(|p| {
            let all: u64 = scores.confusion.row(p.target).iter().sum();
            let share = p.count as f64 / all as f64;
            let name = |class: usize| escape(&scores.classes[class]);
            vec![name(p.target), name(p.predicted), p.count.to_string(), percent(Some(share))]
        })
        .collect();
    let pairs = match rows.is_empty() {
        true => "<p>No mistakes on these photos.</p>".to_string(),
        false => {
            "<h3>Most confused</h3>".to_string()
                + &table(
                    &["is", "was taken for", "photos", "of its class"],
                    &[false, false, true, true],
                    &rows,
                )
        }
    };
    matrix(scores) + &pairs
}

fn matrix(scores: &Scores) -> String {
    let classes = scores.classes.len();
    if classes > MATRIX {
        let chart = plot::confusion(&scores.confusion, &scores.classes, "Confusion (validation)");
        let source = thumb::data_uri("image/png", &plot::png(&chart));
        return format!(
            "<figure><img src=\"{source}\" alt=\"Confusion matrix\" style=\"max-width:100%\"></figure>"
        );
    }
    let head: String =
        scores.classes.iter().map(|c| format!("<th scope=\"col\">{}</th>", escape(c))).collect();
    let row = |target: usize| {
        let counts = scores.confusion.row(target);
        let all: u64 = counts.iter().sum::<u64>().max(1);
        let cell = |(predicted, count): (usize, &u64)| {
            let share = *count as f64 / all as f64;
            let colour = if predicted == target { "0 114 178" } else { "213 94 0" };
            let ink = if share > 0.45 { ";color:#fff" } else { "" };
            let soft = if *count == 0 { " class=\"soft\"" } else { "" };
            format!("<td{soft} style=\"background:rgb({colour} / {:.0}%){ink}\">{count}</td>", 90.0 * share)
        };
        let cells: String = counts.iter().enumerate().map(cell).collect();
        format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escape(&scores.classes[target]))
    };
    let body: String = (0..classes).map(row).collect();
    format!(
        "<p class=\"soft\">Rows are what the photos are, columns what they were taken for.</p>\
         <div class=\"wide\"><table class=\"matrix\"><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )
}

/// Precision, recall and F1 of each class with intervals.
fn classes(scores: &Scores) -> String {
    let n = scores.classes.len();
    let predictions: Vec<usize> = scores.logits.chunks_exact(n).map(argmax).collect();
    let intervals = class_intervals(&predictions, &scores.labels, n, 0.95, 1000, 0);
    let with = |value: Option<f64>, i: Interval| {
        let range = match value {
            // A bootstrap of nothing but misses does not spread, which says nothing.
            Some(_) if i.high > i.low => {
                format!("<small>{:.1}–{:.1}</small>", 100.0 * i.low, 100.0 * i.high)
            }
            _ => String::new(),
        };
        percent(value) + &range
    };
    let rows = (scores.classes.iter().zip(scores.confusion.class_scores()).zip(&intervals))
        .map(|((name, s), i)| {
            let cells = vec![
                escape(name),
                with(s.precision, i.precision),
                with(s.recall, i.recall),
                with(s.f1, i.f1),
                s.support.to_string(),
            ];
            (s.f1.unwrap_or(f64::INFINITY), cells)
        })
        .collect();
    let header = ["class", "precision", "recall", "F1", "photos"];
    let note = "<p class=\"soft\">Small numbers are 95 % intervals: Wilson's for precision and recall, a bootstrap's for F1.</p>";
    note.to_string() + &worst_first(&header, rows, "classes")
}
