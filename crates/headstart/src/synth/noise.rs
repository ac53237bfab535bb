//! Smooth random fields: value noise, its sum over octaves, and the nearest-point (Worley) field.
//!
//! Fields are functions of the place and a seed; nothing is stored.

/// Hashes a lattice point to 32 bits.
#[inline]
pub fn lattice(x: i32, y: i32, seed: u32) -> u32 {
    // Odd multipliers spread the coordinates; the two xor-shift rounds are lowbias32 (Wellons).
    let mut h = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77) ^ seed;
    h = (h ^ (h >> 16)).wrapping_mul(0x7FEB_352D);
    h = (h ^ (h >> 15)).wrapping_mul(0x846C_A68B);
    h ^ (h >> 16)
}

#[inline]
fn unit(bits: u32) -> f32 {
    (bits >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
}

/// Rounds down; unlike `f32::floor` no library call on plain x86-64, which would take half the time of a noise value.
#[inline]
fn floor(x: f32) -> i32 {
    let i = x as i32;
    i - i32::from(x < i as f32)
}

/// Returns smooth noise in `[0, 1)` whose bumps are about one unit wide.
#[inline]
pub fn value(x: f32, y: f32, seed: u32) -> f32 {
    let (ix, iy) = (floor(x), floor(y));
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (tx, ty) = (ease(x - ix as f32), ease(y - iy as f32));
    let at = |dx, dy| unit(lattice(ix.wrapping_add(dx), iy.wrapping_add(dy), seed));
    let top = at(0, 0) + (at(1, 0) - at(0, 0)) * tx;
    let bottom = at(0, 1) + (at(1, 1) - at(0, 1)) * tx;
    top + (bottom - top) * ty
}

/// Returns noise in `[0, 1)` summed over `octaves`, each twice as fine and half as strong.
pub fn fbm(x: f32, y: f32, octaves: u32, seed: u32) -> f32 {
    let (mut sum, mut weight, mut total, mut scale) = (0.0, 1.0, 0.0, 1.0);
    for octave in 0..octaves {
        // A seed of its own and an offset per octave, or the lattices would line up at the origin.
        let shift = octave as f32 * 17.31;
        sum += weight * value(x * scale + shift, y * scale - shift, seed.wrapping_add(octave * 0x51ED));
        total += weight;
        weight *= 0.5;
        scale *= 2.0;
    }
    sum / total
}

/// What [`worley`] finds at a place.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// Distance to the nearest point.
    pub near: f32,
    /// Distance to the second nearest; `second - near` is 0 on the walls between cells.
    pub second: f32,
    /// Random bits that belong to the nearest point.
    pub id: u32,
}

/// Finds the nearest of the points scattered one to a unit square.
///
/// `spread` 0 leaves the points on a square lattice, 1 scatters them over their whole squares.
pub fn worley(x: f32, y: f32, spread: f32, seed: u32) -> Cell {
    let (ix, iy) = (floor(x), floor(y));
    let mut cell = Cell { near: f32::MAX, second: f32::MAX, id: 0 };
    for dy in -1..=1 {
        for dx in -1..=1 {
            let (cx, cy) = (ix.wrapping_add(dx), iy.wrapping_add(dy));
            let id = lattice(cx, cy, seed);
            let jitter = |bits: u32| 0.5 + spread * ((bits & 0xFFFF) as f32 / 65536.0 - 0.5);
            let (px, py) = (cx as f32 + jitter(id), cy as f32 + jitter(id >> 16));
            let d = (px - x) * (px - x) + (py - y) * (py - y);
            if d < cell.near {
                cell = Cell { near: d, second: cell.near, id };
            } else if d < cell.second {
                cell.second = d;
            }
        }
    }
    Cell { near: cell.near.sqrt(), second: cell.second.sqrt(), id: cell.id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_continuous_and_in_range() {
        let mut last = fbm(-3.0, 0.7, 4, 9);
        for i in 1..6000 {
            let x = -3.0 + i as f32 * 1e-3;
            let v = fbm(x, 0.7, 4, 9);
            assert!((0.0..1.0).contains(&v));
            assert!((v - last).abs() < 0.02, "jump at {x}");
            last = v;
        }
        assert_ne!(value(0.5, 0.5, 1), value(0.5, 0.5, 2));
    }

    #[test]
    fn worley_on_a_plain_lattice_is_known() {
        let cell = worley(0.5, 0.5, 0.0, 7);
        assert_eq!(cell.near, 0.0);
        assert_eq!(cell.second, 1.0);
        let wall = worley(1.0, 0.5, 0.0, 7);
        assert_eq!(wall.near, wall.second);
    }
}
