//! Reusable, cache-line aligned buffers of a thread: no allocation per call in steady state.

use std::cell::RefCell;

use crate::Element;

/// One cache line, so that a `Vec` of them is aligned to it.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; 16]);

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
    static FREE_ROWS: RefCell<Vec<Vec<usize>>> = const { RefCell::new(Vec::new()) };
}

/// Lends `len` floats, aligned to 64 bytes, of unspecified (stale but initialised) content.
pub(crate) fn with<R>(len: usize, use_it: impl FnOnce(&mut [f32]) -> R) -> R {
    // Nested users take turns in a fixed order, so popping the last one finds a fitting buffer.
    let mut lines = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    grow(&mut lines, len);
    let result = use_it(floats(&mut lines, len));
    FREE.with_borrow_mut(|free| free.push(lines));
    result
}

/// Types of which any bits are a value, no larger than a float.
///
/// # Safety
/// No padding, no invalid bits, at most 4 bytes and as much alignment.
pub unsafe trait Plain: Copy + Default + Send + Sync + 'static {}
// SAFETY: a plain number.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}

/// Lends `len` values of a plain type, as [`with`] does floats.
pub(crate) fn with_plain<T: Plain, R>(len: usize, use_it: impl FnOnce(&mut [T]) -> R) -> R {
    with((len * size_of::<T>()).div_ceil(4), |floats| {
        // SAFETY: the floats hold at least `len` values, and any bits are valid for either type.
        use_it(unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), len) })
    })
}

/// Cuts a buffer into parts `step` floats apart, of which `len` are wanted.
pub(crate) fn cut<const N: usize>(mut all: &mut [f32], step: usize, len: usize) -> [&mut [f32]; N] {
    std::array::from_fn(|_| {
        let whole = std::mem::take(&mut all);
        let (part, rest) = whole.split_at_mut(step.min(whole.len()));
        all = rest;
        &mut part[..len]
    })
}

/// Lends `len` integers of unspecified content, as [`with`] does floats.
pub(crate) fn with_usize<R>(len: usize, use_it: impl FnOnce(&mut [usize]) -> R) -> R {
    let mut buffer = FREE_ROWS.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    let result = use_it(&mut buffer[..len]);
    FREE_ROWS.with_borrow_mut(|free| free.push(buffer));
    result
}

/// Makes `len` numbers of unspecified value, for a kernel to overwrite.
///
/// Zeroing every output costs as much memory traffic as writing it. Builds with debug assertions fill it
/// with NaN, so that tests show a kernel that leaves a gap.
pub fn buffer<T: Element>(len: usize) -> Vec<T> {
    let mut values: Vec<T> = Vec::with_capacity(len);
    let start = values.as_mut_ptr();
    if cfg!(debug_assertions) {
        values.resize(len, T::NAN);
        return values;
    }
    // SAFETY: the capacity is `len`. To the compiler the assembly may have written anything to the memory
    // behind `start`, and any bits are a value, so it is initialised; it is ordinary memory of the allocator, which holds some value.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) start, options(nostack, preserves_flags));
        values.set_len(len);
    }
    values
}

/// An owned aligned buffer, for weights packed once.
pub(crate) struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut lines = Vec::new();
        grow(&mut lines, len);
        Self { lines, len }
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: `grow` made at least `len` initialised floats; `Line` is a plain array of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    /// The floats as 32-bit words.
    pub(crate) fn as_words(&self) -> &[u32] {
        // SAFETY: as in `as_slice`; any bits are a valid word.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    /// The floats as 32-bit words.
    pub(crate) fn as_mut_words(&mut self) -> &mut [u32] {
        // SAFETY: as in `as_slice`; any bits are valid for either type.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        floats(&mut self.lines, self.len)
    }
}

fn grow(lines: &mut Vec<Line>, len: usize) {
    let count = len.div_ceil(16);
    if lines.len() < count {
        lines.resize(count, Line([0.0; 16]));
    }
}

fn floats(lines: &mut [Line], len: usize) -> &mut [f32] {
    assert!(len <= lines.len() * 16);
    // SAFETY: in bounds by the assertion; `Line` is a plain array of floats.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), len) }
}
