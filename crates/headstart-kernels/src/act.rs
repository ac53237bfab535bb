//! Activations and sums of whole tensors, in place where the network allows it.

use crate::simd::{Bounds, at, chunk, chunks};
use crate::threads::{SharedMut, parallel_for};
use crate::{Act, Element, Level};

/// Floats per task: 256 KiB, enough to hide the cost of handing a task over.
const CHUNK: usize = 1 << 16;

/// Applies `act` to `x` in place.
pub fn forward<T: Element>(act: Act, x: &mut [T]) {
    forward_at(Level::current(), act, x);
}

/// Replaces the gradient `dy` of the output `y = act(x)` by the gradient of `x`.
pub fn backward<T: Element>(act: Act, y: &[T], dy: &mut [T]) {
    backward_at(Level::current(), act, y, dy);
}

/// Replaces `x` by `act(x + other)`: a residual join in place.
pub fn add_forward<T: Element>(act: Act, x: &mut [T], other: &[T]) {
    add_forward_at(Level::current(), act, x, other);
}

/// Adds `other` to `x`.
pub fn add_assign<T: Element>(x: &mut [T], other: &[T]) {
    add_forward_at(Level::current(), Act::None, x, other);
}

fn forward_at<T: Element>(level: Level, act: Act, x: &mut [T]) {
    let bounds = Bounds::of(act);
    if act == Act::None {
        return;
    }
    each_chunk(x, |x, _| {
        at(
            level,
            #[inline(always)]
            |_| x.iter_mut().for_each(|v| *v = T::put(bounds.clamp(v.get()))),
        );
    });
}

fn backward_at<T: Element>(level: Level, act: Act, y: &[T], dy: &mut [T]) {
    assert_eq!(y.len(), dy.len(), "output and gradient differ in length");
    let bounds = Bounds::of(act);
    if act == Act::None {
        return;
    }
    each_chunk(dy, |dy, from| {
        let y = &y[from..][..dy.len()];
        at(
            level,
            #[inline(always)]
            |_| dy.iter_mut().zip(y).for_each(|(d, y)| *d = T::put(bounds.mask(y.get(), d.get()))),
        );
    });
}

fn add_forward_at<T: Element>(level: Level, act: Act, x: &mut [T], other: &[T]) {
    assert_eq!(x.len(), other.len(), "the terms differ in length");
    let bounds = Bounds::of(act);
    each_chunk(x, |x, from| {
        let other = &other[from..][..x.len()];
        at(
            level,
            #[inline(always)]
            |_| x.iter_mut().zip(other).for_each(|(x, o)| *x = T::put(bounds.clamp(x.get() + o.get()))),
        );
    });
}

/// Calls `task(part, start)` for each chunk of `x`.
fn each_chunk<T: Element>(x: &mut [T], task: impl Fn(&mut [T], usize) + Sync) {
    let len = x.len();
    let x = SharedMut::new(x);
    parallel_for(chunks(len, CHUNK), |index| {
        let (from, len) = chunk(len, CHUNK, index);
        // SAFETY: chunks are disjoint and each index runs once.
        task(unsafe { x.part(from, len) }, from);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::noise;

    #[test]
    fn match_the_definition_at_every_level_and_length() {
        for level in Level::available() {
            for len in [0, 1, 17, 100, CHUNK + 3] {
                let x: Vec<f32> = noise(1, len).iter().map(|v| v * 9.0).collect();
                let other = noise(2, len);
                for (act, low, high) in
                    [(Act::None, f32::MIN, f32::MAX), (Act::Relu, 0.0, f32::MAX), (Act::Relu6, 0.0, 6.0)]
                {
                    let mut y = x.clone();
                    forward_at(level, act, &mut y);
                    assert!(y.iter().zip(&x).all(|(y, x)| *y == x.clamp(low, high)), "{level} {act:?}");

                    let mut dx = other.clone();
                    backward_at(level, act, &y, &mut dx);
                    for i in 0..len {
                        let want = if y[i] > low && y[i] < high { other[i] } else { 0.0 };
                        assert_eq!(dx[i], want, "{level} {act:?} at {i}");
                    }

                    let mut sum = x.clone();
                    add_forward_at(level, act, &mut sum, &other);
                    for i in 0..len {
                        assert_eq!(sum[i], (x[i] + other[i]).clamp(low, high), "{level} {act:?} at {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn nan_is_not_hidden() {
        for level in Level::available() {
            let mut x = vec![f32::NAN; 40];
            forward_at(level, Act::Relu6, &mut x);
            assert!(x.iter().all(|v| v.is_nan()), "{level}");
        }
    }
}
