//! An allocator whose large blocks begin with a cache line.

use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes of a cache line, and of a block that is worth beginning with one.
const LINE: usize = 64;
const LARGE: usize = 4096;

/// The system's allocator, with large blocks at the start of a cache line.
///
/// A vector of AVX-512 is a cache line; of one that lies across two, both are read or written. `malloc` begins a block
/// 16 bytes after a line. A program that links the library makes it its own:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: headstart_kernels::CacheLines = headstart_kernels::CacheLines;
/// ```
pub struct CacheLines;

impl CacheLines {
    fn layout(layout: Layout) -> Layout {
        if layout.size() < LARGE { layout } else { layout.align_to(LINE).unwrap_or(layout) }
    }
}

// SAFETY: every call is one of the system's allocator, with the same layout for the same block: it depends on the
// block's own layout only. `realloc` is the trait's, which allocates, copies and frees.
unsafe impl GlobalAlloc for CacheLines {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise; a larger alignment keeps the size above zero.
        unsafe { System.alloc(Self::layout(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(Self::layout(layout)) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block was allocated with this layout.
        unsafe { System.dealloc(block, Self::layout(layout)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blocks_begin_with_a_line_and_survive_growing() {
        for (size, align) in [(1, 1), (LARGE - 1, 1), (LARGE, 4), (LARGE + 1, 128), (1 << 20, 16)] {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the size is not zero; each block is used within its size and freed with its layout.
            unsafe {
                let block = CacheLines.alloc_zeroed(layout);
                assert_eq!(block.add(size - 1).read(), 0);
                block.write(7);
                assert!(size < LARGE || block.addr().is_multiple_of(LINE), "{size} bytes at {block:?}");
                let grown = CacheLines.realloc(block, layout, size + LARGE);
                assert!(grown.addr().is_multiple_of(LINE), "{size} bytes grown at {grown:?}");
                assert_eq!(grown.read(), 7);
                CacheLines.dealloc(grown, Layout::from_size_align(size + LARGE, align).unwrap());
            }
        }
    }
}
