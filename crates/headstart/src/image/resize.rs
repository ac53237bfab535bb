//! Resizing 8-bit RGB as PIL does, and the size arithmetic of torchvision and timm around it.
//!
//! PIL filters rows first, rounds to 8 bits, then filters columns; the resizer used here would do
//! it the other way round, which differs by more than rounding where a bicubic overshoot is
//! clipped. So [`resize_region`] calls it once per direction. Only the pixels that the wanted
//! region needs are computed.

use std::cell::RefCell;

use ::image::{Rgb, RgbImage};
use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ImageView, ResizeAlg, ResizeOptions, Resizer};

/// Resampling filter; all but `Nearest` are antialiased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Interp {
    /// The pixel whose centre is nearest.
    Nearest,
    /// Mean of the pixels covered.
    Box,
    /// Triangle filter.
    #[default]
    Bilinear,
    /// Cubic filter with a = −0.5.
    Bicubic,
    /// Three-lobed windowed sinc.
    Lanczos,
}

impl Interp {
    /// Every filter with its name in recipes, as in timm and torchvision.
    pub const NAMES: [(&'static str, Interp); 5] = [
        ("nearest", Interp::Nearest),
        ("box", Interp::Box),
        ("bilinear", Interp::Bilinear),
        ("bicubic", Interp::Bicubic),
        ("lanczos", Interp::Lanczos),
    ];

    /// Names the filter as recipes do.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, i)| *i == self).expect("NAMES lists every filter").0
    }

    /// Returns the filter and its reach in source pixels at scale 1.
    fn filter(self) -> Option<(FilterType, f64)> {
        match self {
            Interp::Nearest => None,
            Interp::Box => Some((FilterType::Box, 0.5)),
            Interp::Bilinear => Some((FilterType::Bilinear, 1.0)),
            Interp::Bicubic => Some((FilterType::CatmullRom, 2.0)),
            Interp::Lanczos => Some((FilterType::Lanczos3, 3.0)),
        }
    }
}

/// Part of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

impl Rect {
    /// Returns the whole of a picture.
    pub fn whole(image: &RgbImage) -> Self {
        Rect { x: 0, y: 0, width: image.width(), height: image.height() }
    }
}

/// Resizes the whole picture to `width` × `height`.
pub fn resize(image: &RgbImage, width: u32, height: u32, interp: Interp) -> RgbImage {
    resize_region(image, Rect::whole(image), (width, height), Rect { x: 0, y: 0, width, height }, interp)
}

/// Cuts `source` out of the picture, resizes it to `full` = (width, height), and returns `region` of the result.
///
/// As in torchvision's `resized_crop`, pixels outside `source` do not bleed in.
///
/// Panics if `source` leaves the picture, `region` leaves `full`, or any side is 0.
pub fn resize_region(
    image: &RgbImage,
    source: Rect,
    full: (u32, u32),
    region: Rect,
    interp: Interp,
) -> RgbImage {
    assert!(
        region.x + region.width <= full.0 && region.y + region.height <= full.1,
        "{region:?} leaves {full:?}"
    );
    assert!(source.width > 0 && source.height > 0 && region.width > 0 && region.height > 0, "a side is 0");
    let Some((filter, reach)) = interp.filter() else {
        return nearest(image, source, full, region);
    };
    if interp == Interp::Box && region != (Rect { x: 0, y: 0, width: full.0, height: full.1 }) {
        // The box has a sharp edge: the last bit of a shifted centre decides about a whole pixel.
        return crop(
            &resize_region(image, source, full, Rect { x: 0, y: 0, width: full.0, height: full.1 }, interp),
            region,
        );
    }
    let pixels = TypedImageRef::<U8x3>::from_buffer(image.width(), image.height(), image.as_raw())
        .expect("the buffer of an RgbImage fits its size");
    let view = TypedCroppedImage::new(pixels, source.x, source.y, source.width, source.height)
        .expect("the source lies in the picture");
    let across = Span::new(source.width, full.0, region.x, region.width);
    let down = Span::new(source.height, full.1, region.y, region.height);

    // Rows the vertical filter will look at; one more at either side costs nothing and settles rounding.
    let margin = reach * (down.length / f64::from(down.out)).max(1.0) + 1.0;
    let first = (down.start - margin).floor().max(0.0);
    let last = (down.start + down.length + margin).ceil().min(f64::from(source.height));
    let rows = (last - first) as u32;

    let mut by_rows = TypedImage::<U8x3>::new(region.width, rows);
    convolve(&view, &mut by_rows, (across.start, first, across.length, f64::from(rows)), filter);
    let mut out = RgbImage::new(region.width, region.height);
    let mut pixels = TypedImage::<U8x3>::from_buffer(region.width, region.height, out.as_mut())
        .expect("the buffer of an RgbImage fits its size");
    let from = (0.0, down.start - first, f64::from(region.width), down.length);
    convolve(&by_rows, &mut pixels, from, filter);
    out
}

/// One direction of a resize: which stretch of the source makes which pixels.
struct Span {
    /// Where the stretch starts, in source pixels.
    start: f64,
    /// How long it is, in source pixels.
    length: f64,
    /// How many pixels it makes.
    out: u32,
}

impl Span {
    fn new(source: u32, full: u32, offset: u32, out: u32) -> Self {
        let scale = f64::from(source) / f64::from(full);
        Span { start: f64::from(offset) * scale, length: f64::from(out) * scale, out }
    }
}

/// Filters the box (x, y, width, height) of `view` into the whole of `out`.
fn convolve(
    view: &impl ImageView<Pixel = U8x3>,
    out: &mut TypedImage<'_, U8x3>,
    (x, y, width, height): (f64, f64, f64, f64),
    filter: FilterType,
) {
    thread_local!(static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new()));
    // The last bit of a product may leave the source; the filter must not.
    let width = width.min(f64::from(view.width()) - x);
    let height = height.min(f64::from(view.height()) - y);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(filter))
        .crop(x, y, width, height)
        .use_alpha(false);
    RESIZER.with_borrow_mut(|r| r.resize_typed(view, out, &options)).expect("the box lies in the source");
}

/// PIL's nearest: the source pixel under the centre of the destination pixel.
fn nearest(image: &RgbImage, source: Rect, full: (u32, u32), region: Rect) -> RgbImage {
    let pick = |at: u32, from: u32, to: u32| {
        let scale = f64::from(from) / f64::from(to);
        (((f64::from(at) + 0.5) * scale) as u32).min(from - 1)
    };
    let columns: Vec<u32> =
        (0..region.width).map(|x| source.x + pick(region.x + x, source.width, full.0)).collect();
    RgbImage::from_fn(region.width, region.height, |x, y| {
        let row = source.y + pick(region.y + y, source.height, full.1);
        *image.get_pixel(columns[x as usize], row)
    })
}

/// Returns (width, height) with the shorter side at `short`: the other side cut off to a whole number as by torchvision's
/// `Resize(short)`, or rounded (half to even) if `rounds`, as by timm's `ResizeKeepRatio(short)`.
pub fn short_side_size(width: u32, height: u32, short: u32, rounds: bool) -> (u32, u32) {
    let other = |long: u32, edge: u32| {
        let whole = u64::from(short) * u64::from(long) / u64::from(edge);
        let exact = f64::from(short) * f64::from(long) / f64::from(edge);
        (if rounds { round_half_even(exact) as u32 } else { whole as u32 }).max(1)
    };
    if width <= height { (short, other(height, width)) } else { (other(width, height), short) }
}

/// Returns (width, height) with the longer side at `long`, as timm's `ResizeKeepRatio(long, longest=1)`.
pub fn long_side_size(width: u32, height: u32, long: u32) -> (u32, u32) {
    let ratio = f64::from(width.max(height)) / f64::from(long);
    let side = |edge: u32| (round_half_even(f64::from(edge) / ratio)).max(1.0) as u32;
    (side(width), side(height))
}

/// Rounds as Python's `round`.
pub(crate) fn round_half_even(x: f64) -> f64 {
    x.round_ties_even()
}

/// Returns the offset of a centred crop: torchvision's `int(round((have - want) / 2.0))`, or `(have - want) // 2` if
/// `floors`.
pub fn center_offset(have: u32, want: u32, floors: bool) -> u32 {
    if floors { (have - want) / 2 } else { round_half_even(f64::from(have - want) / 2.0) as u32 }
}

/// Cuts out the centre, `width` × `height`; what is missing is painted with `fill`, half at either side.
///
/// torchvision pads with `⌊d/2⌋` at the left and top and `⌊(d+1)/2⌋` at the right and bottom.
pub fn center_crop(image: &RgbImage, width: u32, height: u32, fill: [u8; 3], floors: bool) -> RgbImage {
    let before = |have: u32, want: u32| want.saturating_sub(have) / 2;
    let left = before(image.width(), width);
    let top = before(image.height(), height);
    let padded = (image.width().max(width), image.height().max(height));
    let x0 = center_offset(padded.0, width, floors);
    let y0 = center_offset(padded.1, height, floors);
    if padded == image.dimensions() {
        return crop(image, Rect { x: x0, y: y0, width, height });
    }
    let mut out = RgbImage::from_pixel(width, height, Rgb(fill));
    // One of the two is 0 in each direction: either there is something to cut or something to add.
    ::image::imageops::replace(
        &mut out,
        image,
        i64::from(left) - i64::from(x0),
        i64::from(top) - i64::from(y0),
    );
    out
}

/// Cuts out `rect`.
///
/// Panics if it leaves the picture.
pub fn crop(image: &RgbImage, rect: Rect) -> RgbImage {
    assert!(
        rect.x + rect.width <= image.width() && rect.y + rect.height <= image.height(),
        "{rect:?} leaves the picture"
    );
    let (row, from, len) = (image.width() as usize * 3, rect.x as usize * 3, rect.width as usize * 3);
    let bytes = image.as_raw();
    let mut out = Vec::with_capacity(len * rect.height as usize);
    for y in rect.y as usize..(rect.y + rect.height) as usize {
        out.extend_from_slice(&bytes[y * row + from..y * row + from + len]);
    }
    RgbImage::from_raw(rect.width, rect.height, out).expect("the sizes agree")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([(x * 37 % 256) as u8, (y * 91 % 256) as u8, (x ^ y) as u8])
        })
    }

    #[test]
    fn sizes_follow_torchvision_and_timm() {
        assert_eq!(short_side_size(500, 375, 256, false), (341, 256));
        assert_eq!(short_side_size(375, 500, 256, false), (256, 341));
        assert_eq!(short_side_size(3, 1000, 256, false), (256, 85333));
        assert_eq!(long_side_size(500, 375, 224), (224, 168));
        assert_eq!(long_side_size(1000, 1, 224), (224, 1));
        // Ties go to the even number, as in Python.
        assert_eq!(short_side_size(500, 374, 256, true), (342, 256));
        assert_eq!(center_offset(7, 4, true), 1);
        assert_eq!(center_offset(5, 4, false), 0);
        assert_eq!(center_offset(7, 4, false), 2);
        assert_eq!(center_offset(256, 224, false), 16);
    }

    #[test]
    fn a_region_equals_the_same_part_of_the_whole() {
        let image = picture(97, 61);
        let whole = Rect::whole(&image);
        for interp in Interp::NAMES.map(|(_, i)| i) {
            for full in [(40, 25), (97, 25), (200, 130), (97, 61), (31, 61)] {
                let all = resize_region(
                    &image,
                    whole,
                    full,
                    Rect { x: 0, y: 0, width: full.0, height: full.1 },
                    interp,
                );
                let region = Rect { x: full.0 / 5, y: full.1 / 7, width: full.0 / 2, height: full.1 / 2 };
                let part = resize_region(&image, whole, full, region, interp);
                let worst = crop(&all, region).iter().zip(part.iter()).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(worst <= Some(1), "{interp:?} {full:?}: {worst:?}");
            }
        }
    }

    #[test]
    fn outside_the_source_nothing_bleeds_in() {
        let image = RgbImage::from_fn(40, 40, |x, _| if x < 20 { Rgb([0; 3]) } else { Rgb([255; 3]) });
        let left = Rect { x: 0, y: 0, width: 20, height: 40 };
        let out =
            resize_region(&image, left, (7, 7), Rect { x: 0, y: 0, width: 7, height: 7 }, Interp::Bicubic);
        assert!(out.iter().all(|&v| v == 0));
    }

    #[test]
    fn a_crop_larger_than_the_picture_is_padded() {
        let out = center_crop(&picture(3, 9), 6, 4, [9, 8, 7], false);
        assert_eq!(out.dimensions(), (6, 4));
        assert_eq!(out.get_pixel(0, 0), &Rgb([9, 8, 7]));
        // left pad (6 - 3) / 2 = 1; top offset round(2.5) = 2
        assert_eq!(out.get_pixel(1, 0), picture(3, 9).get_pixel(0, 2));
    }
}
