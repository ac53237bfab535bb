//! `headstart audit`: what would spoil a training, before it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use headstart::audit::finding::Severity;
use headstart::audit::{Audit, fix};
use headstart::data::exclude::list_text;
use headstart::error::{Error, Result};
use headstart::sources::{Backbone, Wanted};
use headstart::task::TaskSpec;
use headstart::weights::write_atomically;
use headstart_web::audit_page;
use serde_json::json;

use super::Output;
use crate::args;
use crate::render::progress::Bars;

pub fn audit(a: &args::Audit, io: Output) -> Result<ExitCode> {
    let started = Instant::now();
    headstart::catch_stop_signals();
    if !a.data.exists() {
        return Err(Error::NotFound { path: a.data.clone() });
    }
    let in_out = |name: &str| a.out.as_ref().map(|out| out.join(name));
    let report = a.report.clone().or_else(|| in_out("audit.html"));
    let fix_list = a.fix_list.clone().or_else(|| in_out("leave-out.csv"));
    let mut bars = Bars::new(io.quiet);
    // A network that cannot be found shows before the photos are read.
    let backbone = match a.no_features {
        true => None,
        false => Some(Backbone::at_hand(&Wanted::from(&a.model), &mut bars)?),
    };
    let bar = Mutex::new(bars);
    let progress = |done: usize, all: usize| {
        if let Ok(mut bars) = bar.lock() {
            bars.counted("files", done, all);
        }
    };
    let mut audit = Audit::of(&a.data, &TaskSpec::from(&a.task), &progress)?;
    let mut bars = bar.into_inner().expect("a bar does not panic");
    if let Some(backbone) = &backbone {
        audit.add_features(backbone, a.similarity, &mut bars)?;
    }
    drop(bars);
    let mut document = audit.to_json();
    document["seconds"] = json!(started.elapsed().as_secs_f64());
    let rows = fix::fix_list(&audit, a.fix_suspects);
    save(fix_list.as_deref(), || list_text(&rows))?;
    save(report.as_deref(), || audit_page::page(&audit))?;
    save(in_out("audit.json").as_deref(), || format!("{document:#}\n"))?;
    io.show(|| document, || print(&audit, started, &[&report, &fix_list]));
    Ok(if audit.count(Severity::Serious) > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn save(path: Option<&Path>, text: impl FnOnce() -> String) -> Result<()> {
    path.map_or(Ok(()), |path| write_atomically(path, |out| out.write_all(text().as_bytes())))
}

/// Files named under a finding on the terminal.
const NAMED: usize = 5;
/// Suspects listed on the terminal.
const SUSPECTS: usize = 10;

fn print(audit: &Audit, started: Instant, written: &[&Option<PathBuf>]) {
    println!("{} photos {}", audit.photos.len(), audit.kinds());
    for finding in &audit.findings {
        let word = match finding.severity {
            Severity::Serious => "serious",
            Severity::Warning => "warning",
            Severity::Note => "note   ",
        };
        println!("{word}  {}", finding.what);
        // Suspects have their own lines below.
        let named = if finding.kind == "label_suspects" { 0 } else { NAMED };
        for file in finding.files.iter().take(named) {
            println!("         {file}");
        }
        if named > 0 && finding.files.len() > named {
            println!("         and {} more", finding.files.len() - named);
        }
    }
    if !audit.suspects.is_empty() {
        println!("labels to look at, the least believed first:");
    }
    for s in audit.suspects.iter().take(SUSPECTS) {
        let photo = &audit.photos[s.photo];
        println!(
            "  {}: {} → {} ({:.0} %)",
            photo.name,
            photo.marked.words,
            s.suggested,
            100.0 * s.confidence
        );
    }
    if audit.suspects.len() > SUSPECTS {
        println!("  and {} more", audit.suspects.len() - SUSPECTS);
    }
    let written: Vec<String> =
        written.iter().copied().flatten().map(|p| format!("`{}`", p.display())).collect();
    let written = if written.is_empty() { String::new() } else { format!("; wrote {}", written.join(", ")) };
    println!("{:.1} s{written}", started.elapsed().as_secs_f64());
}
