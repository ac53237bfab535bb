//! The files of a run a person looks at.

use std::io::Write;

use headstart::error::Result;
use headstart::session::Report;
use headstart::weights::write_atomically;

use crate::charts;
use crate::trust;

/// Writes `report.html`, where `origin` says what the network started from, and the run's charts as pictures.
pub fn write(report: &Report, origin: &str) -> Result<()> {
    let save =
        |name: &str, bytes: &[u8]| write_atomically(&report.out.join(name), |out| out.write_all(bytes));
    for (name, chart) in charts::of(report) {
        save(name, &crate::plot::png(&chart))?;
    }
    save("report.html", trust::page(report, origin).as_bytes())
}
