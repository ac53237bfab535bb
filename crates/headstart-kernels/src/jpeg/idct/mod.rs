//! The inverse cosine transform of 8 × 8 coefficients, with the roundings of libjpeg's accurate integer method (`islow`): the
//! factorisation of Loeffler, Ligtenberg and Moschytz, "Practical fast 1-D DCT algorithms with 11 multiplications" (ICASSP 1989),
//! constants at 13 bits, two bits more than the samples kept between the passes.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

use super::coefficients::Block;
use crate::Level;

/// Binary digits of the constants.
const BITS: u32 = 13;
/// Binary digits that the columns keep for the rows.
const KEPT: u32 = 2;

/// Eight 32-bit numbers, one for each column (or row) of a block. They wrap: a damaged file may ask for anything.
trait Lanes: Copy {
    fn dequantized(coefficients: &[i16; 8], quantizers: &[i32; 8]) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, factor: i32) -> Self;
    fn shl<const DIGITS: i32>(self) -> Self;
    /// Divides by two to the `DIGITS`, rounding halves up.
    fn rounded<const DIGITS: i32>(self) -> Self;
    fn transposed(rows: [Self; 8]) -> [Self; 8];
    /// Adds 128, since samples lie about zero in the transform, and clamps to bytes.
    fn samples(rows: [Self; 8]) -> [[u8; 8]; 8];
}

/// Transforms a row of blocks back and writes its samples, eight lines of `stride` bytes.
pub(super) fn inverse(level: Level, blocks: &[Block], quantizers: &[u16; 64], to: &mut [u8], stride: usize) {
    assert!(blocks.len() * 8 <= stride && to.len() >= 8 * stride, "no room for {} blocks", blocks.len());
    let quantizers = quantizers.map(i32::from);
    #[cfg(target_arch = "x86_64")]
    if level >= Level::Avx2 {
        assert!(level.is_supported(), "this CPU has no {level}");
        // SAFETY: the CPU has AVX2, asserted above.
        return unsafe { avx2::inverse(blocks, &quantizers, to, stride) };
    }
    let _ = level;
    all::<portable::Eight>(blocks, &quantizers, to, stride);
}

#[inline(always)]
fn all<L: Lanes>(blocks: &[Block], quantizers: &[i32; 64], to: &mut [u8], stride: usize) {
    for (x, block) in blocks.iter().enumerate() {
        let samples = match only_value(block) {
            Some(dc) => flat(dc.wrapping_mul(quantizers[0])),
            None => one::<L>(block, quantizers),
        };
        for y in 0..8 {
            to[y * stride + 8 * x..][..8].copy_from_slice(&samples[y]);
        }
    }
}

/// Returns the first coefficient if all others are zero, as in most blocks of sky and of colour.
#[inline(always)]
fn only_value(block: &Block) -> Option<i32> {
    let mut others = *block;
    others[0] = 0;
    let mut any = 0;
    for v in others {
        any |= v;
    }
    (any == 0).then_some(i32::from(block[0]))
}

/// What [`one`] makes of a block that has its first value alone.
#[inline(always)]
fn flat(dc: i32) -> [[u8; 8]; 8] {
    let value = dc.wrapping_shl(KEPT).wrapping_add(1 << (KEPT + 2)) >> (KEPT + 3);
    [[value.wrapping_add(128).clamp(0, 255) as u8; 8]; 8]
}

#[inline(always)]
fn one<L: Lanes>(block: &Block, quantizers: &[i32; 64]) -> [[u8; 8]; 8] {
    let row = |y: usize| {
        let coefficients = block[8 * y..].first_chunk().expect("eight rows of eight");
        L::dequantized(coefficients, quantizers[8 * y..].first_chunk().expect("eight rows of eight"))
    };
    let rows = [row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)];
    let columns = one_dimension::<L, { (BITS - KEPT) as i32 }>(rows);
    let rows = one_dimension::<L, { (BITS + KEPT + 3) as i32 }>(L::transposed(columns));
    L::samples(L::transposed(rows))
}

/// Transforms along the first index, eight columns at once, and drops `DIGITS` of what the constants added.
#[inline(always)]
fn one_dimension<L: Lanes, const DIGITS: i32>(v: [L; 8]) -> [L; 8] {
    const fn fixed(constant: f64) -> i32 {
        let scaled = constant * (1 << BITS) as f64;
        (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
    }

    // Even frequencies: a rotation of 2 and 6, a butterfly of 0 and 4.
    let turned = v[2].add(v[6]).mul(const { fixed(0.541_196_100) });
    let low = turned.add(v[2].mul(const { fixed(0.765_366_865) }));
    let high = turned.add(v[6].mul(const { fixed(-1.847_759_065) }));
    let sum = v[0].add(v[4]).shl::<{ BITS as i32 }>();
    let difference = v[0].sub(v[4]).shl::<{ BITS as i32 }>();
    let even = [sum.add(low), difference.add(high), difference.sub(high), sum.sub(low)];

    // Odd frequencies: all of them turned together, then by pairs.
    let [a, b, c, d] = [v[7], v[5], v[3], v[1]];
    let (ac, bd) = (a.add(c), b.add(d));
    let all = ac.add(bd).mul(const { fixed(1.175_875_602) });
    let ac = ac.mul(const { fixed(-1.961_570_560) }).add(all);
    let bd = bd.mul(const { fixed(-0.390_180_644) }).add(all);
    let ad = a.add(d).mul(const { fixed(-0.899_976_223) });
    let bc = b.add(c).mul(const { fixed(-2.562_915_447) });
    let odd = [
        d.mul(const { fixed(1.501_321_110) }).add(ad.add(bd)),
        c.mul(const { fixed(3.072_711_026) }).add(bc.add(ac)),
        b.mul(const { fixed(2.053_119_869) }).add(bc.add(bd)),
        a.mul(const { fixed(0.298_631_336) }).add(ad.add(ac)),
    ];

    [
        even[0].add(odd[0]).rounded::<DIGITS>(),
        even[1].add(odd[1]).rounded::<DIGITS>(),
        even[2].add(odd[2]).rounded::<DIGITS>(),
        even[3].add(odd[3]).rounded::<DIGITS>(),
        even[3].sub(odd[3]).rounded::<DIGITS>(),
        even[2].sub(odd[2]).rounded::<DIGITS>(),
        even[1].sub(odd[1]).rounded::<DIGITS>(),
        even[0].sub(odd[0]).rounded::<DIGITS>(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in f64.
    fn cosines(block: &[f64; 64]) -> [f64; 64] {
        let basis = |x: usize, k: usize| {
            let scale = if k == 0 { 0.5_f64.sqrt() } else { 1.0 };
            scale * ((2 * x + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos() / 2.0
        };
        std::array::from_fn(|at| {
            (0..64).map(|k| block[k] * basis(at / 8, k / 8) * basis(at % 8, k % 8)).sum::<f64>() + 128.0
        })
    }

    /// At every level, with the same bytes.
    fn inverted(block: &Block, quantizers: &[u16; 64]) -> [u8; 64] {
        let at = |level| {
            let mut to = [0; 64];
            inverse(level, &[*block], quantizers, &mut to, 8);
            to
        };
        let found = at(Level::Scalar);
        Level::available().into_iter().for_each(|level| assert_eq!(at(level), found, "{level}: {block:?}"));
        found
    }

    #[test]
    fn samples_are_the_definition_s_to_one_level() {
        let mut state = 1_u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as i32
        };
        for round in 0..200 {
            let quantizers: [u16; 64] = std::array::from_fn(|k| (1 + random() % (4 + k as i32)) as u16);
            // Few coefficients to many, as photos have them: small where the frequency is high.
            let block: Block = std::array::from_fn(|k| {
                if random() % 200 < round { (random() % 41 - 20) as i16 / (1 + k as i16 / 8) } else { 0 }
            });
            let want = cosines(&std::array::from_fn(|k| f64::from(block[k]) * f64::from(quantizers[k])));
            for (found, want) in inverted(&block, &quantizers).into_iter().zip(want) {
                assert!((f64::from(found) - want.clamp(0.0, 255.0)).abs() < 1.0, "{round}: {found} {want}");
            }
        }
    }

    #[test]
    fn a_block_of_one_value_takes_the_short_way_to_the_same_samples() {
        for dc in -1100..1100 {
            let mut block = [0; 64];
            block[0] = dc;
            let short = inverted(&block, &[1; 64]);
            // A last coefficient that counts nothing forces the long way.
            block[63] = 1;
            let mut quantizers = [1; 64];
            quantizers[63] = 0;
            assert_eq!(short, inverted(&block, &quantizers), "{dc}");
        }
    }

    #[test]
    fn a_damaged_block_does_not_panic() {
        inverted(&[i16::MIN; 64], &[u16::MAX; 64]);
        inverted(&[i16::MAX; 64], &[u16::MAX; 64]);
    }
}
