//! Text as outlines: any size, any angle, no font on the machine needed.
//!
//! The font is Ubuntu Light (Ubuntu Font Licence), embedded by `epaint_default_fonts`. It has Latin,
//! Greek and Cyrillic letters; others show as boxes.

use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, OutlineCurve, Point as FontPoint};
use headstart::synth::canvas::Point;

fn font() -> &'static FontRef<'static> {
    static FONT: OnceLock<FontRef<'static>> = OnceLock::new();
    FONT.get_or_init(|| {
        FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT).expect("the embedded font is sound")
    })
}

/// Returns how wide a line of text is at `size` (the height of an em).
pub fn width(text: &str, size: f32) -> f32 {
    let mut end = 0.0;
    walk(text, size, |_, _, after| end = after);
    end
}

/// Shortens text to at most `limit` wide, with an ellipsis where it was cut.
pub fn fit(text: &str, size: f32, limit: f32) -> String {
    if width(text, size) <= limit {
        return text.to_string();
    }
    let letters: Vec<char> = text.chars().collect();
    let cut = |keep: usize| letters[..keep].iter().collect::<String>().trim_end().to_string() + "…";
    (1..letters.len()).rev().map(cut).find(|short| width(short, size) <= limit).unwrap_or_else(|| "…".into())
}

/// Returns one outline per visible letter, baseline starting at the origin, y down.
pub fn outlines(text: &str, size: f32) -> Vec<Vec<Point>> {
    let scale = scale(size);
    let mut letters = Vec::new();
    walk(text, size, |letter, start, _| {
        if let Some(outline) = font().outline(font().glyph_id(letter)) {
            let place = |p: FontPoint| [start + p.x * scale, -p.y * scale];
            letters.push(join(&contours(&outline.curves, place)));
        }
    });
    letters
}

/// Writes a number with about four digits, whatever its size.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size > 0.0 && !(1e-3..1e6).contains(&size) => format!("{value:.3e}"),
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn scale(size: f32) -> f32 {
    size / font().units_per_em().unwrap_or(1000.0)
}

/// Calls `visit(letter, where it starts, where the next one starts)`.
fn walk(text: &str, size: f32, mut visit: impl FnMut(char, f32, f32)) {
    let (font, scale) = (font(), scale(size));
    let (mut x, mut last) = (0.0, None);
    for letter in text.chars() {
        let glyph = font.glyph_id(letter);
        x += last.map_or(0.0, |before| font.kern_unscaled(before, glyph)) * scale;
        let after = x + font.h_advance_unscaled(glyph) * scale;
        visit(letter, x, after);
        (x, last) = (after, Some(glyph));
    }
}

/// Flattens a letter's curves to closed polygons.
fn contours(curves: &[OutlineCurve], place: impl Fn(FontPoint) -> Point) -> Vec<Vec<Point>> {
    let mut all: Vec<Vec<Point>> = Vec::new();
    let mut end = None;
    for curve in curves {
        let (from, to) = match curve {
            OutlineCurve::Line(a, b) | OutlineCurve::Quad(a, _, b) | OutlineCurve::Cubic(a, _, _, b) => {
                (*a, *b)
            }
        };
        if end != Some(from) || all.is_empty() {
            all.push(vec![place(from)]);
        }
        end = Some(to);
        let steps = if matches!(curve, OutlineCurve::Line(..)) { 1 } else { 6 };
        for i in 1..=steps {
            let t = i as f32 / steps as f32;
            let s = 1.0 - t;
            let blend = |parts: &[(f32, FontPoint)]| FontPoint {
                x: parts.iter().map(|(w, p)| w * p.x).sum(),
                y: parts.iter().map(|(w, p)| w * p.y).sum(),
            };
            let p = match curve {
                OutlineCurve::Line(_, b) => *b,
                OutlineCurve::Quad(a, b, c) => blend(&[(s * s, *a), (2.0 * s * t, *b), (t * t, *c)]),
                OutlineCurve::Cubic(a, b, c, d) => {
                    blend(&[(s * s * s, *a), (3.0 * s * s * t, *b), (3.0 * s * t * t, *c), (t * t * t, *d)])
                }
            };
            if let Some(contour) = all.last_mut() {
                contour.push(place(p));
            }
        }
    }
    all
}

/// Joins polygons to one, by bridges to the first point that are walked both ways and so enclose
/// nothing. Holes run the other way round and take their area away.
fn join(contours: &[Vec<Point>]) -> Vec<Point> {
    let mut joined = Vec::new();
    for contour in contours {
        joined.extend(contour);
        joined.push(contour[0]);
        joined.push(contours[0][0]);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_to_fit() {
        assert_eq!(fit("tulip", 10.0, 100.0), "tulip");
        let short = fit("a rather long name of a class", 10.0, 60.0);
        assert!(short.ends_with('…') && width(&short, 10.0) <= 60.0 && short.len() > 8, "{short}");
        assert_eq!(fit("ww", 10.0, 1.0), "…");
    }

    #[test]
    fn numbers_have_four_digits() {
        let found = [0.0, 0.12345, -12.3456, 12345.6, 1.5e-5, 2.5e7].map(number);
        assert_eq!(found, ["0.0000", "0.1235", "-12.35", "12346", "1.500e-5", "2.500e7"]);
    }

    #[test]
    fn width_grows_with_size_and_length() {
        assert!((width("hello", 20.0) - 2.0 * width("hello", 10.0)).abs() < 1e-3);
        assert_eq!(width("", 10.0), 0.0);
        assert_eq!(outlines("a b", 10.0).len(), 2);
    }
}
