//! Everything the command shows a person.

pub mod error;
pub mod progress;
pub mod scores;
pub mod table;
