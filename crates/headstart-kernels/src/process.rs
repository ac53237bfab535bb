//! Settings of the whole process that speed or manners need and safe Rust cannot reach.

use std::sync::atomic::{AtomicI32, Ordering};

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

/// The first of SIGINT and SIGTERM that arrived since [`note_stop_signals`]; 0 is none.
static STOPPED_BY: AtomicI32 = AtomicI32::new(0);

/// Makes the first SIGINT or SIGTERM a request, read with [`stop_signal`], instead of the end; a second one ends the
/// process as usual. Does nothing on systems without these signals.
pub fn note_stop_signals() {
    #[cfg(unix)]
    {
        const SIGINT: i32 = 2;
        const SIGTERM: i32 = 15;
        const SIG_DFL: usize = 0;
        unsafe extern "C" {
            fn signal(number: i32, handler: usize) -> usize;
        }
        extern "C" fn note(number: i32) {
            STOPPED_BY.store(number, Ordering::Relaxed);
            for number in [SIGINT, SIGTERM] {
                // SAFETY: `signal` is one of the functions a handler may call (POSIX, async-signal-safe).
                unsafe { signal(number, SIG_DFL) };
            }
        }
        for number in [SIGINT, SIGTERM] {
            // SAFETY: `note` has the C signature of a handler, lives as long as the process, and only stores to an
            // atomic and calls async-signal-safe functions.
            unsafe { signal(number, note as *const () as usize) };
        }
    }
}

/// Returns the number of the signal that asked the process to stop, if one did.
pub fn stop_signal() -> Option<i32> {
    Some(STOPPED_BY.load(Ordering::Relaxed)).filter(|number| *number != 0)
}

/// Returns the bytes that the C library's allocator has handed out and not got back; `None` where it does not tell.
pub fn allocated_bytes() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::{c_char, c_void};
        /// glibc's `struct mallinfo2`.
        #[repr(C)]
        struct Info {
            before_mapped: [usize; 4],
            mapped: usize,
            between: [usize; 2],
            in_use: usize,
            after: [usize; 2],
        }
        unsafe extern "C" {
            fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
        }
        // SAFETY: a null handle is RTLD_DEFAULT, and the name ends in zero.
        let found = unsafe { dlsym(std::ptr::null_mut(), c"mallinfo2".as_ptr()) };
        // Looked up at run time: the C library has it since 2.33 only.
        if found.is_null() {
            return None;
        }
        // SAFETY: `mallinfo2` has had this signature since it came to be, takes no arguments, and is thread-safe.
        let info = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> Info>(found)() };
        Some((info.in_use + info.mapped) as u64)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_allocator_s_count_follows_a_large_buffer() {
        let Some(before) = super::allocated_bytes() else { return };
        let buffer = std::hint::black_box(vec![1_u8; 256 << 20]);
        let more = super::allocated_bytes().unwrap().saturating_sub(before);
        // Other tests run beside this one.
        assert!(more > 200 << 20, "{more}");
        drop(buffer);
    }
}
