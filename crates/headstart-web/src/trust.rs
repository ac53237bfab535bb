//! The page of a run: how good, where not, whether its probabilities can be believed, and what it was made of.
//!
//! One static file that works offline. What the page says of the scores is a module a task: [`classes`], [`labels`],
//! [`numbers`]. All tasks share [`belief`] (calibration and abstention), [`photos`] (the best and the worst) and
//! [`receipt`] (epochs, data, frozen tensors, recipe and machine).

mod belief;
mod classes;
mod labels;
mod numbers;
mod photos;
mod receipt;

use headstart::audit::finding::Severity;
use headstart::scored::Scored;
use headstart::session::Report;

use crate::html::{details, document, escape, prose, section, table, tile};

/// Longer tables open on demand.
const ROWS: usize = 25;

/// Anchor, heading and body of a part of the page.
type Part = (&'static str, &'static str, String);

/// What the page says of a task's scores, as HTML.
struct Answers {
    /// The one number that matters most, in words.
    lead: String,
    /// How far it can be trusted.
    doubt: String,
    /// The numbers that come next.
    tiles: Vec<String>,
    /// All the others.
    parts: Vec<Part>,
}

/// Writes the page; `origin` says where the network started from.
pub fn page(report: &Report, origin: &str) -> String {
    let name = report.out.file_name().map_or_else(|| "run".into(), |n| n.to_string_lossy().into_owned());
    let answers = match &report.scores {
        Scored::Classes(scores) => classes::answers(scores),
        Scored::Labels(scores) => labels::answers(scores),
        Scored::Numbers(scores) => numbers::answers(scores),
    };
    let mut parts = vec![("curves", "How it learned", receipt::curves(report))];
    parts.extend(answers.parts);
    parts.extend([
        ("photos", "The worst and the best photos", photos::section(&report.evidence, &report.scores)),
        ("data", "Data", receipt::data(report)),
        ("frozen", "What was frozen", receipt::frozen(report)),
        ("made", "How it was made", receipt::made(report, origin)),
    ]);
    let links: String =
        parts.iter().map(|(id, heading, _)| format!("<a href=\"#{id}\">{}</a> ", escape(heading))).collect();
    let body: String = parts.iter().map(|(id, heading, body)| section(id, heading, body)).collect();
    let failure = report.failure.as_ref().map_or(String::new(), |error| {
        format!("<p class=\"alarm\"><b>Not the whole plan.</b> {}</p>", prose(&error.to_string()))
    });
    let body = format!(
        "<header><h1>{}</h1>\n<p class=\"lead\">{}</p>\n\
         <p class=\"soft\">{}The epoch was chosen on the same photos, so this is slightly optimistic. Started from {}.</p>\
         {failure}\n<dl class=\"tiles\">{}{}</dl>\n<nav aria-label=\"Parts of this page\">{links}</nav></header>\n\
         <main>{body}</main>\n<footer>Headstart {}</footer>",
        escape(&name),
        answers.lead,
        answers.doubt,
        escape(origin),
        answers.tiles.concat(),
        tiles(report),
        env!("CARGO_PKG_VERSION"),
    );
    document(&name, &body)
}

/// The numbers every task has.
fn tiles(report: &Report) -> String {
    let kept: usize = report.evidence.kept.iter().map(|k| k.same).sum();
    let tensors: usize = report.evidence.kept.iter().map(|k| k.tensors).sum();
    let best = &report.history[report.best_epoch];
    let serious = match report.evidence.audit.count(Severity::Serious) {
        0 => "audit: nothing serious".to_string(),
        n => format!("audit: {n} serious"),
    };
    let chosen = format!(
        "epoch {} of {} kept, phase {}",
        report.best_epoch + 1,
        report.history.len(),
        best.phase_name
    );
    [
        tile(&report.pictures.0.to_string(), "training photos", &serious),
        tile(&format!("{kept} of {tensors}"), "tensors untouched", "bit for bit those of the source"),
        tile(&time(report.seconds), "in all", &chosen),
    ]
    .concat()
}

/// A table of a name and numbers a row. Long ones are sorted by the number beside each row, lowest first, and all but
/// the first rows open on demand.
fn worst_first(header: &[&str], mut rows: Vec<(f64, Vec<String>)>, many: &str) -> String {
    let numbers: Vec<bool> = (0..header.len()).map(|column| column > 0).collect();
    let n = rows.len();
    if n > ROWS {
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, cells)| cells).collect();
    let draw = |rows: &[Vec<String>]| table(header, &numbers, rows);
    match n > ROWS {
        false => draw(&rows),
        true => draw(&rows[..ROWS]) + &details(&format!("all {n} {many}"), &draw(&rows)),
    }
}

/// Seconds as a person says them.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
