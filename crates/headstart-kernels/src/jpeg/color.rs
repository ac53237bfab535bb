//! Luma and colour differences to red, green and blue: JFIF's equations (ITU-R BT.601, full range) with constants at 16 bits.

/// Pixels at once: the compiler turns whole groups into vectors.
const GROUP: usize = 32;

const fn fixed(v: f64) -> i32 {
    (v * 65536.0 + 0.5) as i32
}

const HALF: i32 = 1 << 15;

/// Writes a row of pixels; `blue` and `red` may be longer than `luma`.
#[inline(always)]
pub(super) fn rgb(luma: &[u8], blue: &[u8], red: &[u8], to: &mut [u8]) {
    let whole = luma.len() / GROUP * GROUP;
    for from in (0..whole).step_by(GROUP) {
        let part = |row: &[u8]| -> [u8; GROUP] { row[from..][..GROUP].try_into().expect("a whole group") };
        pixels(&part(luma), &part(blue), &part(red), &mut to[3 * from..][..3 * GROUP]);
    }
    let rest = luma.len() - whole;
    let padded = |row: &[u8]| {
        let mut group = [0; GROUP];
        group[..rest].copy_from_slice(&row[whole..][..rest]);
        group
    };
    let mut last = [0; 3 * GROUP];
    pixels(&padded(luma), &padded(blue), &padded(red), &mut last);
    to[3 * whole..].copy_from_slice(&last[..3 * rest]);
}

#[inline(always)]
fn pixels(luma: &[u8; GROUP], blue: &[u8; GROUP], red: &[u8; GROUP], to: &mut [u8]) {
    let (mut r, mut g, mut b) = ([0; GROUP], [0; GROUP], [0; GROUP]);
    for i in 0..GROUP {
        let (y, cb, cr) = (i32::from(luma[i]), i32::from(blue[i]) - 128, i32::from(red[i]) - 128);
        r[i] = (y + ((fixed(1.402) * cr + HALF) >> 16)).clamp(0, 255) as u8;
        g[i] = (y + ((-fixed(0.34414) * cb - fixed(0.71414) * cr + HALF) >> 16)).clamp(0, 255) as u8;
        b[i] = (y + ((fixed(1.772) * cb + HALF) >> 16)).clamp(0, 255) as u8;
    }
    for i in 0..GROUP {
        (to[3 * i], to[3 * i + 1], to[3 * i + 2]) = (r[i], g[i], b[i]);
    }
}

/// Writes a row of grey pixels.
#[inline(always)]
pub(super) fn grey(luma: &[u8], to: &mut [u8]) {
    for (to, &v) in to.chunks_exact_mut(3).zip(luma) {
        to.fill(v);
    }
}
