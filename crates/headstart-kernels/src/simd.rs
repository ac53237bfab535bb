//! How the memory-bound kernels meet an instruction set: one body of plain loops, compiled once
//! per level. These loops wait for memory, so the vectoriser's code is as fast as intrinsics.

use crate::threads::{SharedMut, parallel_for};
use crate::{Act, Level};

/// Runs `body` compiled for `level`. `body` must be an `#[inline(always)]` closure, or it keeps
/// the baseline's instructions. It is told whether a fused multiply-add is one instruction.
#[inline(always)]
pub(crate) fn at<R>(level: Level, body: impl FnOnce(bool) -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2<R>(body: impl FnOnce(bool) -> R) -> R {
            body(true)
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
        fn avx512<R>(body: impl FnOnce(bool) -> R) -> R {
            body(true)
        }
        assert!(level.is_supported(), "this CPU has no {level}");
        match level {
            Level::Scalar => {}
            // SAFETY: the CPU has the level's instructions, asserted above.
            Level::Avx2 => return unsafe { avx2(body) },
            // SAFETY: the CPU has the level's instructions, asserted above.
            Level::Avx512 => return unsafe { avx512(body) },
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = level;
    body(false)
}

/// Asks for the cache line at `place`, which will be read or written soon; the pointer may lead anywhere, but one to no page costs time.
#[inline(always)]
pub(crate) fn fetch(place: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Partial sums and maxima of a row, folded in a fixed order at its end.
pub(crate) const LANES: usize = 32;

/// Folds lanes in halves, which takes five steps rather than one for each lane.
#[inline(always)]
pub(crate) fn fold<T: Copy>(mut lanes: [T; LANES], f: impl Fn(T, T) -> T) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Computes `a * b + c`, fused where that is one instruction (elsewhere it is a library call).
#[inline(always)]
pub(crate) fn mul_add(fma: bool, a: f32, b: f32, c: f32) -> f32 {
    if fma { a.mul_add(b, c) } else { a * b + c }
}

/// An activation as the interval it clamps to; NaN stands for no bound, since no comparison
/// with it holds. One branchless body then serves every [`Act`], and NaN activations survive.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Bounds {
    pub(crate) fn of(act: Act) -> Self {
        match act {
            Act::None => Self { low: f32::NAN, high: f32::NAN },
            Act::Relu => Self { low: 0.0, high: f32::NAN },
            Act::Relu6 => Self { low: 0.0, high: 6.0 },
        }
    }

    #[inline(always)]
    pub(crate) fn clamp(self, v: f32) -> f32 {
        let v = if self.low > v { self.low } else { v };
        if self.high < v { self.high } else { v }
    }

    /// Passes the gradient `dy` where the output (or the value before clamping) is inside.
    #[inline(always)]
    pub(crate) fn mask(self, out: f32, dy: f32) -> f32 {
        if (out <= self.low) | (out >= self.high) { 0.0 } else { dy }
    }
}

/// Splits `0..len` into chunks of `size`; returns how many there are. The partition depends on
/// the shape only, so sums over chunks have the same bits at any thread count.
pub(crate) fn chunks(len: usize, size: usize) -> usize {
    len.div_ceil(size)
}

/// Returns the start and length of chunk `index`.
pub(crate) fn chunk(len: usize, size: usize, index: usize) -> (usize, usize) {
    let from = index * size;
    (from, size.min(len - from))
}

/// Channels whose running results stay in registers while pixels or taps pass by.
pub(crate) const BLOCK: usize = 32;

/// Calls `body(first channel, block)` for each block of up to [`BLOCK`] channels of a pixel. `body` must be inlined always.
#[inline(always)]
pub(crate) fn blocks<T>(pixel: &mut [T], body: impl Fn(usize, &mut [T])) {
    for (block, part) in pixel.chunks_mut(BLOCK).enumerate() {
        // The same body twice: a constant length keeps the block in registers.
        match part.len() {
            BLOCK => body(block * BLOCK, &mut part[..BLOCK]),
            _ => body(block * BLOCK, part),
        }
    }
}

/// Values per task of a conversion: enough to hide the cost of handing a task over.
pub(crate) const CONVERTED: usize = 1 << 17;

/// Replaces each of `y` by `each` of the value of `x` in its place.
pub(crate) fn convert<A: Copy + Sync, B: Send>(
    level: Level,
    x: &[A],
    y: &mut [B],
    each: impl Fn(A) -> B + Sync,
) {
    assert_eq!(x.len(), y.len(), "the two formats differ in length");
    let len = y.len();
    let y = SharedMut::new(y);
    parallel_for(chunks(len, CONVERTED), |index| {
        let (from, len) = chunk(len, CONVERTED, index);
        // SAFETY: chunks are disjoint and each index runs once.
        let y = unsafe { y.part(from, len) };
        at(
            level,
            #[inline(always)]
            |_| y.iter_mut().zip(&x[from..][..len]).for_each(|(y, x)| *y = each(*x)),
        );
    });
}

#[cfg(test)]
pub(crate) mod testing {
    /// Returns `len` values, roughly uniform in -1..1, the same for the same seed.
    pub(crate) fn noise(seed: u64, len: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        };
        (0..16).for_each(|_| {
            next();
        });
        (0..len).map(|_| next()).collect()
    }

    /// Asserts that each `got` is within `tolerance * (1 + |want|)` of `want`.
    #[track_caller]
    pub(crate) fn assert_close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
        assert_eq!(got.len(), want.len(), "{what}: length");
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            let error = (f64::from(*g) - w).abs();
            assert!(error <= tolerance * (1.0 + w.abs()), "{what}[{i}]: got {g}, want {w}");
        }
    }
}
