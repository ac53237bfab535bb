//! From a folder or a manifest to batches: classes, splits, checks, loading.
//!
//! [`Dataset::open`] finds pictures and labels ([`folder`], [`manifest`], [`split`]);
//! [`check_files`] names what cannot be decoded before training starts; `train::Photos` decodes and
//! transforms ahead of the network, in an order that depends on (seed, epoch) alone; [`digest`]
//! says whether two lists of files are the same. What a picture becomes is decided in `image`.

pub mod audit;
pub mod classes;
pub mod dataset;
#[cfg(test)]
mod dataset_tests;
pub mod digest;
pub mod exclude;
pub mod few;
pub mod folder;
pub mod inspect;
mod labelled;
pub mod listing;
pub mod manifest;
pub mod split;
mod table;
#[cfg(test)]
mod table_tests;

pub use audit::{OnUnreadable, Unreadable, check_files, inspect_files};
pub use classes::Classes;
pub use dataset::{Dataset, Sample};
pub use digest::{digest_files, file_sha256};
pub use exclude::read_list;
pub use few::Few;
pub use inspect::{Inspected, inspect};
pub use listing::{Listing, Marked, listing};
pub use manifest::Manifest;
pub use split::{Split, SplitConfig};
