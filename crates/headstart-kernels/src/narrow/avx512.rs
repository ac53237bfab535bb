//! The sums of the AVX-512 micro-kernels of both formats: 14 pixels by 32 channels, 28 accumulators.
//!
//! A step loads two vectors of 16 weight words, broadcasts one word per pixel and issues two products for it: 28 products
//! for 16 loads, so the multipliers are the limit. What the next tile will read and write is asked for while this one
//! sums: large maps with few products a byte take half to two thirds of the time.

/// Words between the weights in use and those asked for from L2.
pub(crate) const AHEAD: usize = 16 * 32;

/// Words of a cache line.
pub(crate) const LINE: usize = 16;

/// Adds the products of tile `$t` to `$acc`, `[[_; V]; M]`; `$product` makes a new sum of a sum, a word of each pixel
/// in all lanes, and a vector of weight words. A macro, as closures do not inherit a caller's instruction set reliably.
///
/// The pointers of the tile must be valid as [`crate::narrow::Tile`] describes.
macro_rules! add_products {
    ($t:ident, $acc:ident, $m:ident, $v:ident, $product:ident) => {
        // The lines the end of the next tile will need, asked for now: a tile hides their way.
        each_row!($m, R, {
            let at = *$t.at.add(R) + $t.next;
            _mm_prefetch::<_MM_HINT_ET0>($t.y.wrapping_add(at).cast());
            if !$t.residual.is_null() {
                _mm_prefetch::<_MM_HINT_T0>($t.residual.wrapping_add(at).cast());
            }
        });
        let mut panel = $t.panel;
        for tap in 0..$t.taps {
            let mut rows = [std::ptr::null::<u32>(); $m];
            for r in 0..$m {
                rows[r] = *$t.rows.add(tap * ROWS + r);
            }
            let fetches = $t.column == 0 && tap + 1 == $t.taps;
            for from in (0..$t.depth).step_by(LINE) {
                // The last tap is on the row where the next tile meets new inputs.
                if fetches {
                    for r in 0..$m {
                        _mm_prefetch::<_MM_HINT_T0>(
                            rows[r].wrapping_add(from).wrapping_byte_add($t.next_input).cast(),
                        );
                    }
                }
                for k in from..$t.depth.min(from + LINE) {
                    let mut w = [_mm512_setzero_si512(); $v];
                    for v in 0..$v {
                        w[v] = _mm512_loadu_si512(panel.add(16 * v).cast());
                        _mm_prefetch::<_MM_HINT_T0>(panel.wrapping_add(16 * v + AHEAD).cast());
                    }
                    for r in 0..$m {
                        let x = _mm512_set1_epi32(rows[r].add(k).read_unaligned() as i32);
                        for v in 0..$v {
                            $acc[r][v] = $product!($acc[r][v], x, w[v]);
                        }
                    }
                    panel = panel.add(16 * $v);
                }
            }
        }
    };
}

pub(crate) use add_products;
