//! Random numbers: SplitMix64 (Steele, Lea & Flood 2014), eight bytes of state, streams by key.
//!
//! Whatever draws makes its own generator from its key (seed, epoch, sample, operation), so results
//! depend neither on the order nor on the thread in which they are drawn, and a resumed run goes on
//! with the same numbers.

/// Yields random numbers that depend on the key alone.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Mixes all bits of `z` into all bits of the result.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Turns a name into a key (FNV-1a).
pub fn hash_str(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3))
}

impl Rng {
    /// Starts the stream that belongs to `key`; keys that differ anywhere give unrelated streams.
    pub fn keyed(key: &[u64]) -> Self {
        let state =
            key.iter().fold(GOLDEN, |h, part| mix(h ^ mix(part.wrapping_add(GOLDEN))).wrapping_add(h));
        Rng { state }
    }

    /// Returns 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Goes on as if `draws` numbers had been drawn.
    pub fn skip(&mut self, draws: usize) {
        self.state = self.state.wrapping_add(GOLDEN.wrapping_mul(draws as u64));
    }

    /// Returns a number in `[0, 1)`.
    #[inline]
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// Returns a number in `[low, high)`.
    #[inline]
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Returns a number in `[low, high)`, every factor as likely as any other; both positive.
    pub fn log_range(&mut self, low: f32, high: f32) -> f32 {
        self.range(low.ln(), high.ln()).exp()
    }

    /// Returns a whole number in `0..count`. Panics if `count` is 0.
    #[inline]
    pub fn below(&mut self, count: usize) -> usize {
        assert!(count > 0, "nothing to choose from");
        (((self.bits() >> 32) * count as u64) >> 32) as usize
    }

    /// Returns a whole number in `low..=high`.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// Returns true with probability `p`.
    #[inline]
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// Returns one of `choices`. Panics if there are none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Returns a number with mean 0 and deviation 1, within ±6 (a sum of twelve; good enough to draw).
    pub fn bell(&mut self) -> f32 {
        // Twelve 16-bit numbers out of three draws.
        let sum: u64 =
            (0..3).map(|_| self.bits()).map(|b| (0..4).map(|i| b >> (16 * i) & 0xFFFF).sum::<u64>()).sum();
        sum as f32 / 65536.0 - 6.0
    }

    /// Returns a normally distributed number (Box–Muller).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - f64::from(self.unit())).ln()).sqrt();
        (radius * (std::f64::consts::TAU * f64::from(self.unit())).cos()) as f32
    }

    /// Puts `items` in random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// Returns 1 or −1.
    pub fn sign(&mut self) -> f32 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_decides_the_stream() {
        let draw = |key: &[u64]| Rng::keyed(key).bits();
        assert_eq!(draw(&[1, 2]), draw(&[1, 2]));
        assert_ne!(draw(&[1, 2]), draw(&[2, 1]));
        assert_ne!(draw(&[0]), draw(&[0, 0]));
    }

    #[test]
    fn numbers_stay_in_range_and_fill_it() {
        let mut rng = Rng::keyed(&[3]);
        let mut seen = [0usize; 5];
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..10_000 {
            seen[rng.below(5)] += 1;
            let u = rng.range(2.0, 4.0);
            assert!((2.0..4.0).contains(&u));
            let b = rng.bell();
            sum += b;
            squares += b * b;
        }
        assert!(seen.iter().all(|&n| (1850..2150).contains(&n)), "{seen:?}");
        assert!((sum / 1e4).abs() < 0.03 && (squares / 1e4 - 1.0).abs() < 0.05);
    }
}
