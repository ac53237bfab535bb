//! CPU kernels: safe functions over slices, one instruction set chosen at run time.
//!
//! Activations are NHWC and contiguous, weights keep PyTorch's layouts (`OIHW`, `[out, in]`).
//! Reductions have a fixed order: the same bits at any thread count. All `unsafe` of Headstart
//! lives in this crate.

#![warn(missing_docs)]
// Register tiles are indexed by row and vector on purpose: the index is the register.
#![allow(clippy::needless_range_loop)]

pub mod act;
mod alloc;
pub mod attention;
pub mod conv;
pub mod curve;
pub mod depthwise;
mod element;
mod end;
pub mod gate;
pub mod gemm;
pub mod half;
pub mod int8;
pub mod jpeg;
pub mod layer_norm;
pub mod level;
pub mod loss;
mod math;
mod narrow;
pub mod norm;
pub mod optim;
pub mod pool;
pub mod process;
#[cfg(target_arch = "x86_64")]
mod rows;
mod scratch;
mod simd;
pub mod threads;

pub use alloc::CacheLines;
pub use conv::Act;
pub use curve::Curve;
pub use element::Element;
pub use end::End;
pub use level::Level;
pub use scratch::buffer;
