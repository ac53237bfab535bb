//! The files of a run a person looks at: the page of results and its charts as pictures.

use std::io::Write;

use headstart::error::Result;
use headstart::metrics::{calibration, interval};
use headstart::session::Report;
use headstart::weights::write_atomically;

use crate::plot::{self, Bar, Panel, Series};
use crate::trust;

/// Writes `report.html`, `curves.png`, `confusion.png`, `classes.png` and `reliability.png` into the run folder.
pub fn write(report: &Report, origin: &str) -> Result<()> {
    let out = &report.out;
    let save = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        write_atomically(&path, |out| out.write_all(bytes))
    };
    let by_epoch = |f: fn(&headstart::train::observer::EpochRecord) -> f64| {
        report.history.iter().map(|r| (r.epoch as f64 + 1.0, f(r))).collect::<Vec<_>>()
    };
    let loss = vec![
        Series::new("train", by_epoch(|r| r.train_loss)),
        Series::new("validation", by_epoch(|r| r.val_loss)),
    ];
    let top1 = vec![Series::new("validation", by_epoch(|r| r.top1))];
    let panels = [Panel::new("Loss", "epoch", loss), Panel::new("Top-1", "epoch", top1).percent()];
    save("curves.png", &plot::png(&plot::curves(&panels)))?;
    let scores = &report.scores;
    save(
        "confusion.png",
        &plot::png(&plot::confusion(&scores.confusion, &scores.classes, "Confusion (validation)")),
    )?;
    let bars: Vec<Bar> = (scores.classes.iter().zip(scores.confusion.class_scores()).enumerate())
        .map(|(class, (name, s))| {
            let (right, total) = (scores.confusion.count(class, class) as usize, s.support as usize);
            let interval = Some(interval::wilson(right, total, 0.95));
            let value = if total == 0 { 0.0 } else { right as f64 / total as f64 };
            Bar { name: name.clone(), value, interval, note: format!("{right}/{total}") }
        })
        .collect();
    save("classes.png", &plot::png(&plot::bars(&bars, "Right answers by class, 95 % intervals")))?;
    let bins =
        calibration::reliability(&scores.logits, scores.classes.len(), &scores.labels, scores.temperature);
    save("reliability.png", &plot::png(&plot::reliability(&bins, "Reliability after temperature scaling")))?;
    save("report.html", trust::page(report, scores, origin).as_bytes())
}
