//! Near pairs among 64-bit hashes without comparing all with all.
//!
//! Multi-index hashing (Norouzi, Punjani & Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", CVPR 2012):
//! of the eight bytes of two hashes within radius r at least one differs in at most ⌊r/8⌋ bits.

use rayon::prelude::*;

/// Returns the pairs `(i, j)`, `i < j`, of hashes that differ in at most `radius` bits, in order.
pub fn near_pairs(hashes: &[u64], radius: u32) -> Vec<(usize, usize)> {
    let byte = |hash: u64, place: usize| hash.to_le_bytes()[place];
    let tables: Vec<Vec<Vec<u32>>> = (0..8)
        .map(|place| {
            let mut table = vec![Vec::new(); 256];
            hashes.iter().enumerate().for_each(|(i, h)| table[usize::from(byte(*h, place))].push(i as u32));
            table
        })
        .collect();
    let slack = radius / 8;
    let masks: Vec<u8> = (0..=255_u8).filter(|m| m.count_ones() <= slack).collect();
    (0..hashes.len())
        .into_par_iter()
        .flat_map_iter(|i| {
            let mut found = Vec::new();
            for (place, table) in tables.iter().enumerate() {
                for mask in &masks {
                    for &j in &table[usize::from(byte(hashes[i], place) ^ mask)] {
                        let differ = hashes[i] ^ hashes[j as usize];
                        // A pair that meets in several bytes is taken in the first of them.
                        let met = (0..place).any(|p| byte(differ, p).count_ones() <= slack);
                        if j as usize > i && !met && differ.count_ones() <= radius {
                            found.push((i, j as usize));
                        }
                    }
                }
            }
            found.sort_unstable();
            found
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn finds_what_comparing_all_finds(seed: u64, n in 0_usize..80, radius in 0_u32..20) {
            let mut rng = Rng::keyed(&[seed]);
            let mut hashes: Vec<u64> = Vec::new();
            for i in 0..n {
                // Half of them a few bits away from an earlier one.
                let near = i > 0 && rng.chance(0.5);
                let mut hash = if near { hashes[rng.below(i)] } else { rng.bits() };
                for _ in 0..if near { rng.below(12) } else { 0 } {
                    hash ^= 1 << rng.below(64);
                }
                hashes.push(hash);
            }
            let all = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
            let plain: Vec<_> = all.filter(|(i, j)| (hashes[*i] ^ hashes[*j]).count_ones() <= radius).collect();
            prop_assert_eq!(near_pairs(&hashes, radius), plain);
        }
    }
}
