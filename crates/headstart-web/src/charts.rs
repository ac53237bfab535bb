//! The charts of a run as pictures, for those who put them into a text: `curves.png` with `confusion.png`, `classes.png`
//! and `reliability.png` for classes, `labels.png` for labels, `scatter.png` for numbers.

use headstart::metrics::{calibration, interval};
use headstart::scored::{LabelScore, LabelScores, NumberScores, Scored};
use headstart::session::{Report, Scores};
use headstart::train::observer::EpochRecord;
use image::RgbImage;

use crate::plot::text::number;
use crate::plot::{self, Bar, Panel, Scatter, Series};

/// Draws all charts; each with the name of its file.
pub fn of(report: &Report) -> Vec<(&'static str, RgbImage)> {
    let mut charts = vec![("curves.png", curves(report))];
    match &report.scores {
        Scored::Classes(scores) => charts.extend([
            ("confusion.png", plot::confusion(&scores.confusion, &scores.classes, "Confusion (validation)")),
            ("classes.png", plot::bars(&class_bars(scores), "Right answers by class, 95 % intervals")),
            ("reliability.png", reliability(scores)),
        ]),
        Scored::Labels(scores) => {
            let title = "Average precision by label, 95 % intervals";
            charts.push(("labels.png", plot::bars(&label_bars(scores), title)));
        }
        Scored::Numbers(scores) => charts.push(("scatter.png", plot::scatter(&scatters(scores)))),
    }
    charts
}

/// A number of each epoch, as points over the epochs.
pub(crate) fn by_epoch(report: &Report, f: fn(&EpochRecord) -> f64) -> Vec<(f64, f64)> {
    report.history.iter().map(|r| (r.epoch as f64 + 1.0, f(r))).collect()
}

/// The number epochs are compared by: its name as a title, and whether it is a share of 1.
pub(crate) fn headline(report: &Report) -> (&'static str, bool) {
    let (name, _) = report.history[report.best_epoch].headline();
    (if name == "top-1" { "Top-1" } else { name }, !matches!(report.scores, Scored::Numbers(_)))
}

fn curves(report: &Report) -> RgbImage {
    let line = |name: &str, f| Series::new(name, by_epoch(report, f));
    let losses = vec![line("train", |r| r.train_loss), line("validation", |r| r.val_loss)];
    let (title, is_share) = headline(report);
    let best = Panel::new(title, "epoch", vec![line("validation", |r| r.headline().1)]);
    let best = if is_share { best.percent() } else { best };
    plot::curves(&[Panel::new("Loss", "epoch", losses), best])
}

fn class_bars(scores: &Scores) -> Vec<Bar> {
    let classes = scores.classes.iter().zip(scores.confusion.class_scores()).enumerate();
    classes
        .map(|(class, (name, s))| {
            let (right, total) = (scores.confusion.count(class, class) as usize, s.support as usize);
            let interval = Some(interval::wilson(right, total, 0.95));
            let value = if total == 0 { 0.0 } else { right as f64 / total as f64 };
            Bar { name: name.clone(), value, interval, note: format!("{right}/{total}") }
        })
        .collect()
}

fn reliability(scores: &Scores) -> RgbImage {
    let bins =
        calibration::reliability(&scores.logits, scores.classes.len(), &scores.labels, scores.temperature);
    plot::reliability(&bins, "Reliability after temperature scaling")
}

fn label_bars(scores: &LabelScores) -> Vec<Bar> {
    let row = |(name, e): (&String, &LabelScore)| Bar {
        name: name.clone(),
        value: e.ap.unwrap_or(f64::NAN),
        interval: e.ap.map(|_| e.interval),
        note: format!("{} photos", e.counts.right + e.counts.missed),
    };
    scores.names.iter().zip(&scores.each).map(row).collect()
}

fn scatters(scores: &NumberScores) -> Vec<Scatter> {
    let panel = |(i, name): (usize, &String)| {
        let e = &scores.each[i];
        Scatter {
            title: name.clone(),
            note: format!("RMSE {}, R² {:.3}, {} photos", number(e.rmse.0), e.r2.0, scores.pictures),
            points: scores.pairs(i).collect(),
        }
    };
    scores.names.iter().enumerate().map(panel).collect()
}
