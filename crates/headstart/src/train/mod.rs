//! Training: recipes as data, phases, groups, rates, and the loop.

pub mod groups;
pub mod optimizer;
pub mod schedule;
