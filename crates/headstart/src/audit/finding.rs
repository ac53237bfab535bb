//! What an audit has to say: a sentence, how bad it is, and the files it is about.

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Results would be wrong, or pictures are lost.
    Serious,
    /// Worth a look.
    Warning,
    /// Good to know.
    Note,
}

/// One thing noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable word for machines: `unreadable`, `across_parts`, …
    pub kind: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// A sentence.
    pub what: String,
    /// The files it is about, relative to the data.
    pub files: Vec<String>,
}

impl Finding {
    /// Makes a finding.
    pub fn new(kind: &'static str, severity: Severity, what: impl Into<String>, files: Vec<String>) -> Self {
        Self { kind, severity, what: what.into(), files }
    }
}

/// Writes a count with its noun: `1 photo is`, `3 photos are`.
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}
