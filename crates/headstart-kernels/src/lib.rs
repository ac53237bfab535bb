//! CPU kernels: safe functions over slices, one instruction set chosen at run time.
//!
//! Activations are NHWC and contiguous, weights keep PyTorch's layouts (`OIHW`, `[out, in]`).
//! Reductions have a fixed order: the same bits at any thread count. All `unsafe` of Headstart
//! lives in this crate.

#![warn(missing_docs)]
// Register tiles are indexed by row and vector on purpose: the index is the register.
#![allow(clippy::needless_range_loop)]

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

/// Tells the system's allocator to keep large buffers instead of returning them at once.
///
/// glibc maps every block over 128 KiB afresh by default, and the page faults cost a network of large
/// activations a third of its speed (`docs/performance.md`). Call once, before the first large
/// allocation. Does nothing on other C libraries.
pub fn keep_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // glibc's malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD.
        const SETTINGS: [(i32, i32); 3] = [(-1, i32::MAX), (-2, 64 << 20), (-3, 1 << 30)];
        unsafe extern "C" {
            fn mallopt(param: i32, value: i32) -> i32;
        }
        for (param, value) in SETTINGS {
            // SAFETY: `mallopt` takes two integers by value and is thread-safe.
            unsafe { mallopt(param, value) };
        }
    }
}
