//! The files of a run a person looks at: the page of results and its charts as pictures.

use std::io::Write;
use std::path::Path;

use headstart::error::Result;
use headstart::metrics::{calibration, interval};
use headstart::session::Report;
use headstart::train::observer::EpochRecord;
use headstart::weights::write_atomically;

use crate::plot::{self, Bar, Panel, Series};
use crate::tasks;
use crate::trust;

/// Writes `report.html` and its charts into the run folder: `curves.png` with `confusion.png`, `classes.png` and
/// `reliability.png` for classes, `labels.png` for labels, `scatter.png` for numbers.
pub fn write(report: &Report, origin: &str) -> Result<()> {
    let out = &report.out;
    let save = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        write_atomically(&path, |out| out.write_all(bytes))
    };
    if let Some(page) = tasks::page(report, origin, &save)? {
        return save("report.html", page.as_bytes());
    }
    let scores = report.scores.classes().expect("other tasks have their own page");
    let top1 = vec![Series::new("validation", by_epoch(report, |r| r.top1))];
    let panels = [loss_panel(report), Panel::new("Top-1", "epoch", top1).percent()];
    save("curves.png", &plot::png(&plot::curves(&panels)))?;
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

/// Writes a file of the run folder.
pub(crate) type Save<'a> = dyn Fn(&str, &[u8]) -> Result<()> + 'a;

fn by_epoch(report: &Report, f: fn(&EpochRecord) -> f64) -> Vec<(f64, f64)> {
    report.history.iter().map(|r| (r.epoch as f64 + 1.0, f(r))).collect()
}

/// The losses by epoch.
pub(crate) fn loss_panel(report: &Report) -> Panel {
    let series = vec![
        Series::new("train", by_epoch(report, |r| r.train_loss)),
        Series::new("validation", by_epoch(report, |r| r.val_loss)),
    ];
    Panel::new("Loss", "epoch", series)
}

/// Puts the parts that every page has around `body`; epochs show their `value` under `name`.
pub(crate) fn document(report: &Report, body: &str, name: &str, value: fn(&EpochRecord) -> String) -> String {
    let epochs: String = (report.history.iter().enumerate())
        .map(|(i, r)| {
            let mark = if i == report.best_epoch { " class=best" } else { "" };
            format!(
                "<tr{mark}><td>{}<td>{}<td>{:.4}<td>{:.4}<td>{}<td>{:.1}",
                r.epoch + 1,
                escape(&r.phase_name),
                r.train_loss,
                r.val_loss,
                value(r),
                r.seconds
            )
        })
        .collect();
    let name_of = |n: &std::ffi::OsStr| n.to_string_lossy().into_owned();
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Headstart: {title}</title><style>{STYLE}</style><main>\
         <h1>{title}</h1>{body}\
         <h2>Epochs</h2><table><tr><th>epoch<th>phase<th>train loss<th>val loss<th>{name}<th>seconds{epochs}</table>\
         <h2>Notes</h2><ul>{notes}</ul>\
         <h2>Recipe</h2><pre>{recipe}</pre></main></html>\n",
        title = escape(&Path::new(&report.out).file_name().map_or_else(|| "run".into(), name_of)),
        notes = list(&report.notes),
        recipe = escape(&report.recipe.to_toml()),
    )
}

fn list(items: &[String]) -> String {
    items.iter().map(|i| format!("<li>{}</li>", escape(i))).collect()
}

/// Shows a chart of the run folder.
pub(crate) fn picture(name: &str) -> String {
    format!("<img src=\"{name}\" alt=\"{}\">", name.trim_end_matches(".png"))
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;color:#222;background:#fff}\
main{max-width:60rem;margin:2rem auto;padding:0 1rem}h1{font-weight:600}.score{font-size:1.4rem}\
img{max-width:100%;display:block;margin:1rem 0}table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right}\
.best{background:#e8f4ea}pre{background:#f5f5f5;padding:1rem;overflow:auto}";

/// Makes text safe inside HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
