//! Which classes are found, and which are taken for which.

use headstart::metrics::accuracy::argmax;
use headstart::metrics::{Interval, class_intervals};
use headstart::session::Scores;

use crate::html::{details, escape, percent, table};
use crate::{plot, thumb};

/// More classes than this do not fit a matrix of numbers.
const MATRIX: usize = 16;
/// More classes than this are shown on demand.
const ROWS: usize = 25;

/// The confusion matrix and the most confused pairs.
pub fn mistakes(scores: &Scores) -> String {
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
pub fn classes(scores: &Scores) -> String {
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
    let mut rows: Vec<(f64, Vec<String>)> =
        (scores.classes.iter().zip(scores.confusion.class_scores()).zip(&intervals))
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
    let worst_first = n > ROWS;
    if worst_first {
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, cells)| cells).collect();
    let draw = |rows: &[Vec<String>]| {
        table(&["class", "precision", "recall", "F1", "photos"], &[false, true, true, true, true], rows)
    };
    let note = "<p class=\"soft\">Small numbers are 95 % intervals: Wilson's for precision and recall, a bootstrap's for F1.</p>";
    match worst_first {
        false => note.to_string() + &draw(&rows),
        true => note.to_string() + &draw(&rows[..ROWS]) + &details(&format!("all {n} classes"), &draw(&rows)),
    }
}
