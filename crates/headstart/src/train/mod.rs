//! Training: recipes as data, phases, groups, rates, and the loop. Read `fit.rs` first.

pub mod accumulate;
pub mod average;
pub mod checkpoint;
pub mod ema;
pub mod fit;
pub mod focal;
pub mod groups;
mod half;
mod keep;
mod learner;
pub mod light;
pub mod loss;
pub mod lr_find;
pub mod lr_suggest;
pub mod memory;
pub mod objective;
pub mod observer;
pub mod optimizer;
pub mod photos;
mod place;
pub mod prefix;
pub mod pretrain;
pub mod recipe;
#[cfg(test)]
mod recipe_tests;
pub mod reinit;
pub mod sampler;
pub mod schedule;
pub mod semi;
pub mod step;
pub mod tensorboard;
pub mod unfreeze;
pub mod validate;
pub mod views;

pub use fit::{Job, Outcome, fit};
pub use photos::Photos;
pub use recipe::Recipe;
