//! The page of results for labels and numbers.

use std::fmt::Write;

use headstart::error::Result;
use headstart::metrics::Interval;
use headstart::scored::{LabelScore, LabelScores, NumberScore, NumberScores, Scored};
use headstart::session::Report;
use headstart::train::observer::EpochRecord;

use crate::page::{Save, document, escape, loss_panel, picture};
use crate::plot::text::number;
use crate::plot::{self, Bar, Panel, Scatter, Series};

/// Writes the charts of labels or numbers and returns the page; `None` for classes.
pub(crate) fn page(report: &Report, origin: &str, save: &Save) -> Result<Option<String>> {
    let (words, charts, table) = match &report.scores {
        Scored::Classes(_) => return Ok(None),
        Scored::Labels(scores) => {
            curves(report, "mAP", |r| r.map.unwrap_or(f64::NAN), save)?;
            let title = "Average precision by label, 95 % intervals";
            save("labels.png", &plot::png(&plot::bars(&bars(scores), title)))?;
            (label_words(scores), "labels.png", label_table(scores))
        }
        Scored::Numbers(scores) => {
            let name = if scores.names.len() == 1 { "RMSE" } else { "RMSE in standard deviations" };
            curves(report, name, |r| r.headline().1, save)?;
            save("scatter.png", &plot::png(&plot::scatter(&scatters(scores))))?;
            (number_words(scores), "scatter.png", number_table(scores))
        }
    };
    let (name, _) = report.history[report.best_epoch].headline();
    let body = format!(
        "<p class=score>{words}</p>\
         <p>Started from {}; {} training photos; {:.0} s. {} tensors are, bit for bit, those of the source.</p>{}{}{table}",
        escape(origin),
        report.pictures.0,
        report.seconds,
        report.frozen,
        picture("curves.png"),
        picture(charts),
    );
    Ok(Some(document(report, &body, name, |r| format!("{:.4}", r.headline().1))))
}

fn curves(report: &Report, name: &str, value: fn(&EpochRecord) -> f64, save: &Save) -> Result<()> {
    let points = report.history.iter().map(|r| (r.epoch as f64 + 1.0, value(r))).collect();
    let panel = Panel::new(name, "epoch", vec![Series::new("validation", points)]);
    let panel = if name == "mAP" { panel.percent() } else { panel };
    save("curves.png", &plot::png(&plot::curves(&[loss_panel(report), panel])))
}

fn bars(scores: &LabelScores) -> Vec<Bar> {
    let row = |(name, e): (&String, &LabelScore)| Bar {
        name: name.clone(),
        value: e.ap.unwrap_or(f64::NAN),
        interval: e.ap.map(|_| e.interval),
        note: format!("{} photos", e.counts.right + e.counts.missed),
    };
    scores.names.iter().zip(&scores.each).map(row).collect()
}

fn scatters(scores: &NumberScores) -> Vec<Scatter> {
    let width = scores.names.len();
    let panel = |(i, name): (usize, &String)| {
        let pairs = scores.truth.iter().zip(&scores.predicted).skip(i).step_by(width);
        let e = &scores.each[i];
        Scatter {
            title: name.clone(),
            note: format!("RMSE {}, R² {:.3}, {} photos", number(e.rmse.0), e.r2.0, scores.pictures),
            points: pairs.map(|(t, p)| (*t, *p)).collect(),
        }
    };
    scores.names.iter().enumerate().map(panel).collect()
}

fn label_words(s: &LabelScores) -> String {
    format!(
        "mAP <b>{:.1} %</b> on {} validation photos (95 % interval {:.1}–{:.1} %)</p>\
         <p>F1 of all labels together {:.3}, mean of the labels {:.3}; all labels of a photo right: {:.1} %. Thresholds are \
         those with the highest F1 on the same photos, so these three are slightly optimistic; a <code>test</code> part has the final word.",
        100.0 * s.map,
        s.pictures,
        100.0 * s.interval.low,
        100.0 * s.interval.high,
        s.micro_f1,
        s.macro_f1,
        100.0 * s.exact
    )
}

fn number_words(s: &NumberScores) -> String {
    match (&s.names[..], &s.each[..]) {
        ([name], [e]) => format!(
            "{}: RMSE <b>{}</b> on {} validation photos (95 % interval {}–{})",
            escape(name),
            number(e.rmse.0),
            s.pictures,
            number(e.rmse.1.low),
            number(e.rmse.1.high)
        ),
        _ => format!(
            "RMSE <b>{:.3}</b> standard deviations over {} targets on {} validation photos",
            s.nrmse,
            s.names.len(),
            s.pictures
        ),
    }
}

fn label_table(s: &LabelScores) -> String {
    let share = |v: Option<f64>| v.map_or("–".into(), |v| format!("{v:.3}"));
    let mut rows = String::new();
    for (name, e) in s.names.iter().zip(&s.each) {
        let c = &e.counts;
        let cells = [e.ap, c.f1(), c.precision(), c.recall(), Some(e.threshold)].map(share).join("<td>");
        // Writing into a string cannot fail.
        let _ = write!(rows, "<tr><td>{}<td>{cells}<td>{}", escape(name), c.right + c.missed);
    }
    format!(
        "<h2>Labels</h2><table><tr><th>label<th>AP<th>F1<th>precision<th>recall<th>threshold<th>photos{rows}</table>"
    )
}

fn number_table(s: &NumberScores) -> String {
    let mut rows = String::new();
    for (name, e) in s.names.iter().zip(&s.each) {
        let NumberScore { mae, rmse, r2 } = *e;
        let cell = |(v, i): (f64, Interval)| format!("{} ({}–{})", number(v), number(i.low), number(i.high));
        let _ = write!(rows, "<tr><td>{}<td>{}<td>{}<td>{}", escape(name), cell(mae), cell(rmse), cell(r2));
    }
    format!("<h2>Targets</h2><table><tr><th>target<th>MAE (95 % interval)<th>RMSE<th>R²{rows}</table>")
}
