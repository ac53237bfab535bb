//! Training: recipes as data, phases, groups, rates, and the loop. Read `fit.rs` first.

pub mod checkpoint;
pub mod fit;
pub mod groups;
pub mod loss;
pub mod observer;
pub mod optimizer;
pub mod photos;
pub mod prefix;
pub mod pretrain;
pub mod recipe;
pub mod schedule;
pub mod step;
pub mod views;

pub use fit::{Job, Outcome, fit};
pub use photos::Photos;
pub use recipe::Recipe;
