//! Every network of the registry against PyTorch: logits, two intermediates, three gradients.
//!
//! ```sh
//! just golden --all                                                         # both halves
//! cargo run --release -p headstart --example parity -- resnet18 vgg11       # some networks
//! ```
//!
//! Reads what `tools/golden/sweep.py` left in target/parity (or $HEADSTART_PARITY), prints a line for each network
//! and, with `--all`, writes docs/parity.md. One network is in memory at a time.

#[path = "../tests/support/formula.rs"]
mod formula;
#[path = "../tests/support/parity.rs"]
mod parity;

use std::collections::BTreeSet;
use std::process::ExitCode;

use formula::Path;
use headstart::models::rows;
use parity::{Agreement, Subject};
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Of the range of logits and intermediates.
const FORWARD: f32 = 1e-4;
/// Of the largest gradient of a tensor.
const BACKWARD: f32 = 1e-3;

/// The largest differences of one network.
struct Line {
    name: &'static str,
    keys: String,
    logits: f32,
    taps: f32,
    grads: f32,
}

fn worst(all: &[Agreement], of: impl Fn(&Agreement) -> &Vec<(String, f32)>) -> f32 {
    all.iter().flat_map(of).fold(0.0, |m, (_, e)| m.max(*e))
}

fn check(name: &'static str, case: &Value) -> Line {
    let subject = Subject::new(name, case);
    let mut all = Vec::new();
    for path in [Path::Fast, Path::Reference] {
        all.push(subject.inference(path));
        all.push(subject.training(path));
    }
    let logits = all.iter().fold(0.0_f32, |m, a| m.max(a.logits));
    let (taps, grads) = (worst(&all, |a| &a.taps), worst(&all, |a| &a.grads));
    let keys = case["grads"].as_object().expect("gradients").keys().cloned().collect::<Vec<_>>().join("`, `");
    Line { name, keys, logits, taps, grads }
}

/// Says in a list what the files say under `key`.
fn said(cases: &[Value], key: &dyn Fn(&Value) -> &Value) -> String {
    let found: BTreeSet<&str> = cases.iter().filter_map(|c| key(c).as_str()).collect();
    Vec::from_iter(found).join(", ")
}

fn page(lines: &[Line], cases: &[Value], missing: &[&str]) -> String {
    let version = |tool: &str| said(cases, &|c| &c["versions"][tool]);
    let mut text = format!(
        "# Parity with PyTorch\n\nMade by `just golden --all`; expected values of {}: torch {}, torchvision {}, timm {}.\n\n\
         Random weights by formula, the same on both sides, 10 classes, f32. Each number is the largest difference over the largest\n\
         expected value, the worst of four runs: kernels and Burn's own operations, at inference and on autodiff. Logits are compared\n\
         whole, two intermediates and the gradients of three weights at up to 4096 values spread over each. The loss is half the\n\
         mean square of the logits, with BatchNorm on running statistics and no dropout; the picture is one that keeps units off the\n\
         kinks of their activations, where a rounding error decides between two right gradients. Limits: {FORWARD:.0e} forward, {BACKWARD:.0e} gradients.\n\n\
         | network | logits | intermediates | gradients | of |\n|---|---:|---:|---:|---|\n",
        said(cases, &|c| &c["date"]),
        version("torch"),
        version("torchvision"),
        version("timm"),
    );
    for l in lines {
        text += &format!(
            "| `{}` | {:.1e} | {:.1e} | {:.1e} | `{}` |\n",
            l.name, l.logits, l.taps, l.grads, l.keys
        );
    }
    if !missing.is_empty() {
        text += &format!("\nNot compared: {}.\n", missing.join(", "));
    }
    text
}

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let all = asked == ["--all"];
    if asked.is_empty() || (!all && asked.iter().any(|n| n.starts_with('-'))) {
        eprintln!("usage: parity --all | NAME...");
        return ExitCode::from(2);
    }
    let folder = std::env::var("HEADSTART_PARITY").unwrap_or_else(|_| format!("{ROOT}/target/parity"));
    let (mut lines, mut cases, mut missing, mut failed) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for row in rows().into_iter().filter(|r| all || asked.iter().any(|n| n == r.name)) {
        let path = format!("{folder}/{}.json", row.name);
        let Ok(text) = std::fs::read_to_string(&path) else {
            println!("{:40} no {path}; tools/golden/sweep.py makes it", row.name);
            missing.push(row.name);
            continue;
        };
        let case: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let line = check(row.name, &case);
        let good = line.logits <= FORWARD && line.taps <= FORWARD && line.grads <= BACKWARD;
        failed += usize::from(!good);
        let verdict = if good { "" } else { "  BEYOND THE LIMIT" };
        println!(
            "{:40} logits {:.1e}  intermediates {:.1e}  gradients {:.1e}{verdict}",
            line.name, line.logits, line.taps, line.grads
        );
        lines.push(line);
        cases.push(case);
    }
    if all {
        let path = format!("{ROOT}/docs/parity.md");
        std::fs::write(&path, page(&lines, &cases, &missing)).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
    println!("{} compared, {failed} beyond a limit, {} without expected values", lines.len(), missing.len());
    ExitCode::from(u8::from(failed > 0 || !missing.is_empty() || lines.is_empty()))
}
