//! What Headstart shows a person beyond the terminal: charts and static pages.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod page;
pub mod plot;
mod tasks;
