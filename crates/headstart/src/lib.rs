//! Transfer learning for images.
//!
//! A folder of photos and a pretrained network in, a classifier with its proof out. See `ARCHITECTURE.md`
//! for the map.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod advise;
pub mod audit;
pub mod bench;
pub mod bundle;
pub mod clip;
pub mod data;
pub mod device;
pub mod error;
pub mod evidence;
pub mod fast;
pub mod image;
pub mod machine;
pub mod metrics;
pub mod models;
pub mod npy;
pub mod pretrained;
pub mod rng;
pub mod scored;
pub mod session;
pub mod sources;
pub mod study;
pub mod sweep;
pub mod synth;
pub mod task;
pub mod train;
pub mod transfer;
pub mod weights;

pub use error::{Error, Result};
pub use fast::CacheLines;

/// Compiles the code of the page.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/adding-a-model.md")]
struct AddingAModel;

/// Sets the process up for large tensors and for pipes; command-line programs call it first.
pub fn prepare_process() {
    headstart_kernels::process::keep_large_buffers();
    headstart_kernels::process::end_on_closed_pipe();
}

/// Makes the first SIGINT or SIGTERM a wish that [`stop_requested`] tells; a second one ends the process at once.
pub fn catch_stop_signals() {
    headstart_kernels::process::note_stop_signals();
}

/// Tells whether a signal asked the process to stop.
pub fn stop_requested() -> bool {
    headstart_kernels::process::stop_signal().is_some()
}

/// Returns the bytes the allocator has handed out; `None` where it does not tell.
pub(crate) fn allocated_bytes() -> Option<u64> {
    headstart_kernels::process::allocated_bytes()
}
