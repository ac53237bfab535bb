//! The page of a run: how good, where not, whether its probabilities can be believed, and what it was made of.
//!
//! One static file that works offline. [`answers`] shows scores and mistakes, [`belief`] calibration and abstention,
//! [`photos`] the best and the worst, [`receipt`] data, frozen tensors, recipe and machine.

mod answers;
mod belief;
mod photos;
mod receipt;

use headstart::metrics::coverage;
use headstart::session::{Report, Scores};

use crate::html::{document, escape, percent, section, tile};

/// Writes the page of a classifier; `origin` says where it started from.
pub fn page(report: &Report, scores: &Scores, origin: &str) -> String {
    let name = report.out.file_name().map_or_else(|| "run".into(), |n| n.to_string_lossy().into_owned());
    let parts = [
        ("curves", "How it learned", receipt::curves(report)),
        ("mistakes", "Where it errs", answers::mistakes(scores)),
        ("classes", "Class by class", answers::classes(scores)),
        ("belief", "Whether its probabilities can be believed", belief::section(scores)),
        ("photos", "The worst and the best photos", photos::section(&report.evidence, scores)),
        ("data", "Data", receipt::data(report)),
        ("frozen", "What was frozen", receipt::frozen(report)),
        ("made", "How it was made", receipt::made(report, origin)),
    ];
    let links: String =
        parts.iter().map(|(id, heading, _)| format!("<a href=\"#{id}\">{}</a> ", escape(heading))).collect();
    let body: String = parts.iter().map(|(id, heading, body)| section(id, heading, body)).collect();
    let failure = report.failure.as_ref().map_or(String::new(), |error| {
        format!("<p class=\"alarm\"><b>Not the whole plan.</b> {}</p>", escape(&error.to_string()))
    });
    let (low, high) = scores.interval;
    let body = format!(
        "<header><h1>{}</h1>\n<p class=\"lead\"><b>{}</b> of {} validation photos named right</p>\n\
         <p class=\"soft\">95 % interval {:.1}–{:.1} %. The epoch was chosen on the same photos, so this is slightly \
         optimistic. Started from {}.</p>{failure}\n<dl class=\"tiles\">{}</dl>\n<nav aria-label=\"Parts of this page\">{links}</nav>\
         </header>\n<main>{body}</main>\n<footer>Headstart {}</footer>",
        escape(&name),
        percent(Some(scores.top1)),
        scores.labels.len(),
        100.0 * low,
        100.0 * high,
        escape(origin),
        tiles(report, scores),
        env!("CARGO_PKG_VERSION"),
    );
    document(&name, &body)
}

fn tiles(report: &Report, scores: &Scores) -> String {
    let trade = coverage(&scores.logits, scores.classes.len(), &scores.labels, scores.temperature);
    let abstain = match trade.at_accuracy(0.99) {
        Some(step) => tile(
            &percent(Some(trade.share(&step))),
            "answered at 99 % right",
            "the others are left to a person",
        ),
        None => tile("–", "answered at 99 % right", "no threshold reaches it"),
    };
    let kept: usize = report.evidence.kept.iter().map(|k| k.same).sum();
    let tensors: usize = report.evidence.kept.iter().map(|k| k.tensors).sum();
    let best = &report.history[report.best_epoch];
    let serious = report.evidence.audit.count(headstart::audit::finding::Severity::Serious);
    [
        tile(
            &format!("{:.3}", scores.confusion.macro_f1()),
            "macro F1",
            &format!("{} classes", scores.classes.len()),
        ),
        abstain,
        tile(
            &format!("{:.3}", belief::ece(scores, scores.temperature)),
            "calibration error",
            &format!("{:.3} before temperature", scores.ece),
        ),
        tile(
            &report.pictures.0.to_string(),
            "training photos",
            &match serious {
                0 => "audit: nothing serious".to_string(),
                n => format!("audit: {n} serious"),
            },
        ),
        tile(&format!("{kept} of {tensors}"), "tensors untouched", "bit for bit those of the source"),
        tile(
            &time(report.seconds),
            "in all",
            &format!(
                "epoch {} of {} kept, phase {}",
                report.best_epoch + 1,
                report.history.len(),
                best.phase_name
            ),
        ),
    ]
    .concat()
}

/// Seconds as a person says them.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
