//! Calibration before and after temperature scaling, and what abstaining buys.

use headstart::metrics::{Coverage, Reliability, coverage, reliability, wilson};
use headstart::scored::LabelScores;
use headstart::session::Scores;
use headstart::task::logistic;

use crate::html::{percent, table};
use crate::plot::axis::Scale;
use crate::svg::{self, Chart, Line};

/// Accuracies a user may want to promise.
const WANTED: [f64; 4] = [0.9, 0.95, 0.99, 0.999];

/// The expected calibration error at a temperature.
pub fn ece(scores: &Scores, temperature: f64) -> f64 {
    reliability(&scores.logits, scores.classes.len(), &scores.labels, temperature).ece()
}

/// Both questions, answered for classes.
pub fn classes(scores: &Scores) -> String {
    let bins = |t: f64| reliability(&scores.logits, scores.classes.len(), &scores.labels, t);
    let (before, after) = (bins(1.0), bins(scores.temperature));
    let words = match scores.temperature {
        t if (t - 1.0).abs() < 1e-9 => "The data do not fix a temperature; it is left at 1.".to_string(),
        t if (t - 1.0).abs() < 0.05 => {
            format!("The probabilities are nearly right as they are: temperature {t:.3}.")
        }
        t if t > 1.0 => format!("The network was too sure of itself: its logits are divided by {t:.3}."),
        t => format!("The network was too shy: its logits are divided by {t:.3}."),
    };
    let trade = coverage(&scores.logits, scores.classes.len(), &scores.labels, scores.temperature);
    format!(
        "<p>{words} The temperature is fitted on the validation photos and stored in the bundle; <code>predict</code> \
         uses it. The error after it is measured on the photos it was fitted to.</p>\n<div class=\"charts\">{}{}{}</div>\n{}",
        svg::reliability(&before, "Before", &format!("calibration error {:.3}", before.ece())),
        svg::reliability(
            &after,
            "After temperature scaling",
            &format!("calibration error {:.3}", after.ece())
        ),
        curve(&trade),
        thresholds(&trade),
    )
}

/// The first question, answered for labels: each label of each photo is a statement.
pub fn labels(scores: &LabelScores) -> String {
    let statements = scores.logits.iter().map(|z| logistic(f64::from(*z))).zip(scores.truth.iter().copied());
    let measured = Reliability::of(statements);
    format!(
        "<p>Every label of every photo is a statement made with a probability. Where the bars follow the line, of those \
         made with 70 % seven in ten are true.</p>\n<div class=\"charts\">{}</div>\n",
        svg::reliability(
            &measured,
            "How often a label is there",
            &format!("calibration error {:.3}", measured.ece())
        )
    )
}

/// Accuracy of the answers by the share of photos answered, the surest first.
fn curve(trade: &Coverage) -> String {
    let points: Vec<(f64, f64)> = trade.steps.iter().map(|s| (trade.share(s), s.accuracy())).collect();
    // A point a pixel is enough.
    let every = points.len().div_ceil(400).max(1);
    let last = points.last().copied();
    let mut thinned: Vec<(f64, f64)> = points.into_iter().step_by(every).collect();
    thinned.extend(last);
    let mark = trade.at_accuracy(0.99).map(|s| (trade.share(&s), s.accuracy(), "99 % right".to_string()));
    svg::chart(&Chart {
        title: "Answering only when sure".into(),
        x_label: "photos answered, the surest first".into(),
        x: Scale::Percent,
        y: Scale::Percent,
        x_ticks: 5,
        lines: vec![Line { name: "right answers".into(), points: thinned }],
        marks: mark.into_iter().collect(),
    })
}

fn thresholds(trade: &Coverage) -> String {
    let rows: Vec<Vec<String>> = (WANTED.iter())
        .map(|wanted| {
            let name = format!("{} %", 100.0 * wanted);
            let Some(step) = trade.at_accuracy(*wanted) else {
                return vec![name, "none".into(), "–".into(), "–".into(), "–".into()];
            };
            let i = wilson(step.right, step.answered, 0.95);
            vec![
                name,
                // Rounded down: a threshold must let through what it was measured on.
                format!("{:.4}", (step.threshold * 1e4).floor() / 1e4),
                percent(Some(trade.share(&step))),
                format!("{} of {}", step.right, step.answered),
                format!("{:.1}–{:.1} %", 100.0 * i.low, 100.0 * i.high),
            ]
        })
        .collect();
    format!(
        "<h3>Thresholds</h3>{}<p class=\"soft\">Chosen on the photos they are measured on; the interval of the accuracy \
         says how far that can be trusted. Area under the risk–coverage curve: {:.4}.</p>",
        table(
            &[
                "right answers wanted",
                "answer if at least this sure",
                "photos answered",
                "right",
                "95 % interval"
            ],
            &[false, true, true, true, true],
            &rows
        ),
        trade.area()
    )
}
