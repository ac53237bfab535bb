//! `headstart models --markdown`: the page docs/zoo.md.

use std::collections::BTreeSet;
use std::process::ExitCode;

use burn::tensor::Device;
use headstart::bench::Bench;
use headstart::error::Result;
use headstart::fast::Precision;
use headstart::machine::Machine;
use headstart::models::{self, spec::Row};

use crate::args::Models;
use crate::render::table;

const BATCH: usize = 8;
const RUNS: usize = 3;

pub fn markdown(a: &Models) -> Result<ExitCode> {
    let filter = a.filter.as_deref().unwrap_or("");
    let rows: Vec<_> = models::rows().into_iter().filter(|r| r.name.contains(filter)).collect();
    println!(
        "# The zoo\n\nMade by `headstart models --markdown`. Parameters with 1000 classes; GMACs are 10⁹ multiply-adds for"
    );
    println!("one picture of the given side; licences are those of the published weights.\n");
    if a.measure {
        let Machine { cpu, cores, .. } = Machine::here();
        println!(
            "Pictures per second: f32 inference in batches of {BATCH} on {cores} cores of {cpu}, the median of {RUNS} runs"
        );
        println!("after one that does not count.\n");
    }
    let (title, rule) = if a.measure { (" pictures/s |", "---:|") } else { ("", "") };
    println!(
        "| network | parameters | GMACs | side | licence | paper |{title}\n|---|---:|---:|---:|---|---|{rule}"
    );
    for row in rows {
        let licences: BTreeSet<&str> = row.weights.iter().map(|w| w.license).collect();
        let licences = Vec::from_iter(licences).join(", ");
        let gmacs = models::macs(row.name, row.input.size)? as f64 / 1e9;
        let rate = if a.measure { format!(" {:.1} |", rate(row)?) } else { String::new() };
        let (name, params, size, paper) = (row.name, table::count(row.params), row.input.size, row.paper);
        println!("| `{name}` | {params} | {gmacs:.3} | {size} | {licences} | <{paper}> |{rate}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Pictures a second.
fn rate(row: &Row) -> Result<f64> {
    let mut bench = Bench::forward(row.name, BATCH, row.input.size, false, Precision::F32, &Device::flex())?;
    bench.once()?;
    let mut times = (0..RUNS).map(|_| Ok(bench.once()?.0)).collect::<Result<Vec<_>>>()?;
    times.sort();
    Ok(BATCH as f64 / times[RUNS / 2].as_secs_f64())
}
