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

/// Bytes a large block has more: room for the way to its line, and for that way before it.
const ROOM: usize = LINE + size_of::<usize>() * 2;

impl CacheLines {
    /// The layout of the system's block, if it is not the asked one: of one size for one size, so that it serves again. Blocks of the
    /// C library with an alignment do not, which costs a third more memory in training.
    fn wider(layout: Layout) -> Option<Layout> {
        if layout.size() < LARGE || layout.align() > LINE {
            return None;
        }
        Layout::from_size_align(layout.size().checked_add(ROOM)?, layout.align().max(16)).ok()
    }

    /// Where the block of the caller begins in that of the system.
    ///
    /// # Safety
    /// `start` is a block of [`CacheLines::wider`], or null.
    unsafe fn place(start: *mut u8) -> *mut u8 {
        if start.is_null() {
            return start;
        }
        let word = size_of::<usize>();
        let way = (start.addr() + word).next_multiple_of(LINE) - start.addr();
        // SAFETY: `word <= way < LINE + word`, so both places are inside; the way is a multiple of the block's 16 bytes, so
        // the word before it is aligned.
        unsafe {
            let block = start.add(way);
            block.cast::<usize>().sub(1).write(way);
            block
        }
    }
}

// SAFETY: a block of `wider` has the asked size behind its place, at a multiple of 64; the others are the system's. Which of the
// two a block is, depends on its layout only. `realloc` moves a large block as the trait's own does.
unsafe impl GlobalAlloc for CacheLines {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise; a wider layout has a size, too.
        match Self::wider(layout) {
            Some(wider) => unsafe { Self::place(System.alloc(wider)) },
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        match Self::wider(layout) {
            Some(wider) => unsafe { Self::place(System.alloc_zeroed(wider)) },
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block was allocated with this layout, and `place` wrote the way before it.
        match Self::wider(layout) {
            Some(wider) => unsafe { System.dealloc(block.sub(block.cast::<usize>().sub(1).read()), wider) },
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: by the caller's promise, the size rounded up to the alignment is no overflow.
        let grown = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if Self::wider(layout).is_none() && Self::wider(grown).is_none() {
            // SAFETY: both before and after, the block is the system's.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the new block is another one, with room for as much as is copied; the old one has this layout.
        unsafe {
            let to = self.alloc(grown);
            if !to.is_null() {
                to.copy_from_nonoverlapping(block, size.min(layout.size()));
                self.dealloc(block, layout);
            }
            to
        }
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
                let block = CacheLines.realloc(block, layout, size + 1);
                let layout = Layout::from_size_align(size + 1, align).unwrap();
                assert_eq!(block.read(), 7);
                let grown = CacheLines.realloc(block, layout, size + LARGE);
                assert!(grown.addr().is_multiple_of(LINE), "{size} bytes grown at {grown:?}");
                assert_eq!(grown.read(), 7);
                CacheLines.dealloc(grown, Layout::from_size_align(size + LARGE, align).unwrap());
            }
        }
    }
}
