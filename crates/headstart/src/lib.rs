//! Transfer learning for images.
//!
//! A folder of photos and a pretrained network in, a classifier with its proof out. See `ARCHITECTURE.md`
//! for the map.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod error;
pub mod fast;
pub mod models;
pub mod rng;
pub mod train;

pub use error::{Error, Result};
