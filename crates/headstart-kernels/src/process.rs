//! Settings of the whole process that speed or manners need and safe Rust cannot reach.

/// Tells the system's allocator to keep large buffers instead of returning them at once.
///
/// glibc maps large blocks afresh by default, and every first touch of a page is a fault. Call once, before the first large
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

/// Lets a closed pipe end the process quietly, as other command-line tools do, instead of by a panic.
pub fn end_on_closed_pipe() {
    #[cfg(target_os = "linux")]
    {
        const SIGPIPE: i32 = 13;
        const SIG_DFL: usize = 0;
        unsafe extern "C" {
            fn signal(number: i32, handler: usize) -> usize;
        }
        // SAFETY: `SIG_DFL` installs no code of ours, and the call takes two integers by value.
        unsafe { signal(SIGPIPE, SIG_DFL) };
    }
}
