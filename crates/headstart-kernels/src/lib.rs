//! CPU kernels: safe functions over slices, one instruction set chosen at run time.
//!
//! Activations are NHWC and contiguous, weights keep PyTorch's layouts (`OIHW`, `[out, in]`).
//! Reductions have a fixed order: the same bits at any thread count. All `unsafe` of Headstart
//! lives in this crate.

#![warn(missing_docs)]

pub mod conv;
pub mod gemm;
pub mod act;
pub mod norm;
pub mod pool;
pub mod depthwise;
pub mod loss;
pub mod optim;
pub mod level;
mod scratch;
mod simd;
pub mod threads;

pub use conv::Act;
pub use level::Level;
