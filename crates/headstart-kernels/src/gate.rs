//! Gates: every pixel of a picture times one factor a channel, as squeeze-and-excitation weighs maps.

use crate::Level;
use crate::simd::{at, chunk, chunks, mul_add};
use crate::threads::{SharedMut, parallel_for};

/// Floats per task, roughly.
const CHUNK: usize = 1 << 15;

/// Computes `y[n, p, c] = x[n, p, c] * gate[n, c]` for `c` channels and as many pixels as fit.
pub fn forward(x: &[f32], gate: &[f32], c: usize, y: &mut [f32]) {
    forward_at(Level::current(), x, gate, c, y);
}

/// Computes the gradient of the gate, summed over the pixels of each picture in order. That of `x` is
/// [`forward`] of the output's.
pub fn backward_gate(x: &[f32], dy: &[f32], c: usize, dgate: &mut [f32]) {
    backward_gate_at(Level::current(), x, dy, c, dgate);
}

/// Returns floats of a picture.
fn picture(x: &[f32], gate: &[f32], c: usize) -> usize {
    assert!(c > 0 && gate.len().is_multiple_of(c), "{} factors for {c} channels", gate.len());
    let pictures = (gate.len() / c).max(1);
    assert!(x.len().is_multiple_of(pictures * c), "{} values do not make {pictures} pictures", x.len());
    x.len() / pictures
}

fn forward_at(level: Level, x: &[f32], gate: &[f32], c: usize, y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "input and output differ in length");
    let picture = picture(x, gate, c);
    if picture == 0 {
        return;
    }
    let size = (CHUNK / c).max(1) * c;
    let per_picture = chunks(picture, size);
    let y = SharedMut::new(y);
    parallel_for(x.len() / picture * per_picture, |index| {
        let n = index / per_picture;
        let (from, len) = chunk(picture, size, index % per_picture);
        let from = n * picture + from;
        // SAFETY: each task has its own rows.
        let y = unsafe { y.part(from, len) };
        let gate = &gate[n * c..][..c];
        at(
            level,
            #[inline(always)]
            |_| {
                for (y, x) in y.chunks_exact_mut(c).zip(x[from..].chunks_exact(c)) {
                    for ((y, x), g) in y.iter_mut().zip(x).zip(gate) {
                        *y = *x * *g;
                    }
                }
            },
        );
    });
}

fn backward_gate_at(level: Level, x: &[f32], dy: &[f32], c: usize, dgate: &mut [f32]) {
    assert_eq!(x.len(), dy.len(), "input and gradient differ in length");
    let picture = picture(x, dgate, c);
    let pictures = dgate.len() / c;
    let dgate = SharedMut::new(dgate);
    parallel_for(pictures, |n| {
        // SAFETY: each picture belongs to one task.
        let dgate = unsafe { dgate.part(n * c, c) };
        let mut totals = vec![0.0_f64; c];
        let (x, dy) = (&x[n * picture..][..picture], &dy[n * picture..][..picture]);
        // In f32 over 64 pixels, in f64 from there on.
        for (x, dy) in x.chunks(64 * c).zip(dy.chunks(64 * c)) {
            dgate.fill(0.0);
            at(
                level,
                #[inline(always)]
                |fma| {
                    for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
                        for ((s, x), d) in dgate.iter_mut().zip(x).zip(dy) {
                            *s = mul_add(fma, *x, *d, *s);
                        }
                    }
                },
            );
            totals.iter_mut().zip(&*dgate).for_each(|(t, s)| *t += f64::from(*s));
        }
        dgate.iter_mut().zip(totals).for_each(|(s, t)| *s = t as f32);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::{assert_close, noise};

    #[test]
    fn match_the_definition_at_every_level() {
        for level in Level::available() {
            for (n, pixels, c) in [(1, 1, 1), (3, 5, 7), (2, 300, 33), (2, 0, 4), (1, 2000, 40)] {
                let (x, gate, dy) = (noise(1, n * pixels * c), noise(2, n * c), noise(3, n * pixels * c));
                let at = |i: usize| i / (pixels * c) * c + i % c;
                let want: Vec<f64> = (0..x.len()).map(|i| f64::from(x[i]) * f64::from(gate[at(i)])).collect();
                let mut y = vec![9.0; x.len()];
                forward_at(level, &x, &gate, c, &mut y);
                assert_close(&y, &want, 1e-6, level.name());
                let mut sums = vec![0.0; n * c];
                (0..x.len()).for_each(|i| sums[at(i)] += f64::from(x[i]) * f64::from(dy[i]));
                let mut got = vec![9.0; n * c];
                backward_gate_at(level, &x, &dy, c, &mut got);
                // Signed terms cancel: errors are relative to the sum of their sizes.
                assert_close(&got, &sums, 1e-5, level.name());
            }
        }
    }
}
