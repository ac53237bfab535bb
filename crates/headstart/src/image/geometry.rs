//! Affine moves of 8-bit RGB with PIL's sampling: the destination pixel's centre decides.
//!
//! Matrices map destination to source, `(x, y) ↦ (a·x + b·y + c, d·x + e·y + f)`, as PIL's do.

use ::image::{Rgb, RgbImage, imageops};

use super::resize::Interp;

/// Destination-to-source matrix `[a, b, c, d, e, f]`.
pub type Matrix = [f64; 6];

/// Mirrors left and right.
pub fn flip_lr(image: &mut RgbImage) {
    imageops::flip_horizontal_in_place(image);
}

/// Mirrors top and bottom.
pub fn flip_ud(image: &mut RgbImage) {
    imageops::flip_vertical_in_place(image);
}

/// Returns the matrix that turns the picture counter-clockwise around its centre.
pub fn rotation(width: u32, height: u32, degrees: f64) -> Matrix {
    let (cx, cy) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
    let angle = -degrees.to_radians();
    // PIL rounds to 15 digits, so that quarter turns hit pixel centres.
    let digits = |x: f64| (x * 1e15).round() / 1e15;
    let (cos, sin) = (digits(angle.cos()), digits(angle.sin()));
    [cos, sin, cx - cos * cx - sin * cy, -sin, cos, cy + sin * cx - cos * cy]
}

/// Returns the matrix that shears rows by `level` of their height, around the corner (0, 0).
pub fn shear_x(level: f64) -> Matrix {
    [1.0, level, 0.0, 0.0, 1.0, 0.0]
}

/// Returns the matrix that shears columns by `level` of their width, around the corner (0, 0).
pub fn shear_y(level: f64) -> Matrix {
    [1.0, 0.0, 0.0, level, 1.0, 0.0]
}

/// Returns the matrix that moves the picture right and down by whole pixels.
pub fn translation(right: i32, down: i32) -> Matrix {
    [1.0, 0.0, -f64::from(right), 0.0, 1.0, -f64::from(down)]
}

/// Moves the picture; what comes from outside is painted with `fill`.
///
/// Bicubic, box and lanczos have no point-sampled form here and count as bilinear.
pub fn affine(image: &RgbImage, m: Matrix, interp: Interp, fill: [u8; 3]) -> RgbImage {
    let (width, height) = image.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
        let (sx, sy) = (m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]);
        if sx < 0.0 || sy < 0.0 || sx >= f64::from(width) || sy >= f64::from(height) {
            return Rgb(fill);
        }
        match interp {
            Interp::Nearest => *image.get_pixel(sx as u32, sy as u32),
            _ => bilinear(image, sx - 0.5, sy - 0.5),
        }
    })
}

/// Samples between four pixels; beyond the edge the edge goes on.
fn bilinear(image: &RgbImage, x: f64, y: f64) -> Rgb<u8> {
    let (x0, y0) = (x.floor(), y.floor());
    let (dx, dy) = (x - x0, y - y0);
    let at = |x: f64, y: f64, c: usize| {
        let x = x.clamp(0.0, f64::from(image.width() - 1)) as u32;
        let y = y.clamp(0.0, f64::from(image.height() - 1)) as u32;
        f64::from(image.get_pixel(x, y)[c])
    };
    Rgb(std::array::from_fn(|c| {
        let top = at(x0, y0, c) + (at(x0 + 1.0, y0, c) - at(x0, y0, c)) * dx;
        let bottom = at(x0, y0 + 1.0, c) + (at(x0 + 1.0, y0 + 1.0, c) - at(x0, y0 + 1.0, c)) * dx;
        (top + (bottom - top) * dy) as u8
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> RgbImage {
        RgbImage::from_fn(6, 6, |x, y| Rgb([(x * 40) as u8, (y * 40) as u8, 9]))
    }

    #[test]
    fn quarter_turns_are_exact() {
        for interp in [Interp::Nearest, Interp::Bilinear] {
            let turned = affine(&picture(), rotation(6, 6, 90.0), interp, [0; 3]);
            assert_eq!(turned, imageops::rotate270(&picture()), "{interp:?}");
            assert_eq!(affine(&picture(), rotation(6, 6, 0.0), interp, [0; 3]), picture());
        }
    }

    #[test]
    fn a_translation_leaves_fill_behind() {
        let moved = affine(&picture(), translation(2, 0), Interp::Nearest, [1, 2, 3]);
        assert_eq!(moved.get_pixel(1, 3), &Rgb([1, 2, 3]));
        assert_eq!(moved.get_pixel(2, 3), picture().get_pixel(0, 3));
    }
}
