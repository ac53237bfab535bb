//! Pictures made from nothing: no photo, no licence, no network.
//!
//! Two uses. [`flowers`] draws a small labelled picture set for `headstart demo` and the tests.
//! [`formula`] draws endless labelled patterns to pretrain the small backbone that ships with
//! Headstart. Both are pure functions of (class, seed, size), so a data set is a seed.
//! [`canvas`], [`noise`] and [`colour`] are what they draw with.

pub mod canvas;
pub mod colour;
pub mod flowers;
pub mod formula;
pub mod noise;

pub use flowers::{Facts, SPECIES, flower, flower_with_facts, write_flower_tables, write_flowers};
pub use formula::{FORMULA_CLASSES, formula_picture};
