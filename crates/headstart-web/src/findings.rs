//! An audit as parts of a page: its findings, and its classes.

use headstart::audit::Audit;
use headstart::audit::classes::ClassCount;
use headstart::audit::finding::{Finding, Severity};
use headstart::task::Task;

use crate::html::{self, details, escape, prose, table};

/// Files named under a finding; the rest is counted.
const NAMED: usize = 100;

/// All findings, the worst first, each with its files on demand.
pub fn list(audit: &Audit) -> String {
    if audit.findings.is_empty() {
        return format!("<p>{} photos, nothing to remark.</p>", audit.photos.len());
    }
    let items: String = audit.findings.iter().map(item).collect();
    format!("<ul class=\"findings\">{items}</ul>\n")
}

fn item(finding: &Finding) -> String {
    let word = match finding.severity {
        Severity::Serious => "serious",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let files = match finding.files.len() {
        0 => String::new(),
        n => {
            let mut named = html::list(finding.files.iter().take(NAMED), escape);
            if n > NAMED {
                named += &format!("<p>and {} more</p>", n - NAMED);
            }
            details("which", &named)
        }
    };
    format!("<li><span class=\"badge {word}\">{word}</span>{}{files}</li>\n", prose(&finding.what))
}

/// Photos by class or label and part, columns that are empty left out; nothing where photos have numbers.
pub fn class_table(classes: &[ClassCount], task: Task) -> String {
    if classes.is_empty() {
        return String::new();
    }
    let (one, many) = task.kinds();
    type Part = (&'static str, fn(&ClassCount) -> usize);
    let parts: [Part; 4] =
        [("train", |c| c.train), ("val", |c| c.val), ("test", |c| c.test), ("undivided", |c| c.undivided)];
    let parts: Vec<Part> =
        parts.into_iter().filter(|(_, part)| classes.iter().any(|c| part(c) > 0)).collect();
    let header: Vec<&str> = [one].into_iter().chain(parts.iter().map(|(name, _)| *name)).collect();
    let numbers: Vec<bool> = header.iter().map(|h| *h != one).collect();
    let row = |name: String, count: &dyn Fn(fn(&ClassCount) -> usize) -> usize| {
        let counts = parts.iter().map(|(_, part)| count(*part).to_string());
        [name].into_iter().chain(counts).collect::<Vec<String>>()
    };
    let mut rows: Vec<Vec<String>> = classes.iter().map(|c| row(escape(&c.class), &|part| part(c))).collect();
    // A picture with several labels would count several times.
    if task == Task::Classify {
        rows.push(row("<b>all</b>".into(), &|part| classes.iter().map(part).sum()));
    }
    match rows.len() > 30 {
        true => details(&format!("{} {many}", classes.len()), &table(&header, &numbers, &rows)),
        false => table(&header, &numbers, &rows),
    }
}
