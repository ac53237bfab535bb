//! What Headstart shows a person beyond the terminal: charts and static pages.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod audit_page;
mod charts;
mod findings;
pub mod html;
pub mod page;
pub mod plot;
pub mod svg;
pub mod thumb;
pub mod trust;
