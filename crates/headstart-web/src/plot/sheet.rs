//! The pen: lines, boxes, dots and text on a white sheet, all in points from the upper left.

use headstart::synth::canvas::{Canvas, Point};
use headstart::synth::colour::Colour;
use image::RgbImage;

use super::text;

/// Pixels to a point.
const DENSITY: f32 = 2.0;

/// Text and lines.
pub const INK: Colour = [0.13, 0.13, 0.15];
/// Less important text.
pub const GREY: Colour = [0.42, 0.42, 0.45];
/// Grid lines.
pub const GRID: Colour = [0.89, 0.89, 0.9];
/// The background.
pub const PAPER: Colour = [1.0; 3];
/// What is as it should be.
pub const GOOD: Colour = SERIES[0];
/// What is not.
pub const BAD: Colour = SERIES[1];

/// Colours of series, told apart by colour-blind people too (Okabe & Ito 2008; its yellow is too
/// pale for lines).
pub const SERIES: [Colour; 7] = [
    [0.0, 0.447, 0.698],
    [0.835, 0.369, 0.0],
    [0.0, 0.62, 0.451],
    [0.8, 0.475, 0.655],
    [0.902, 0.624, 0.0],
    [0.337, 0.706, 0.914],
    [0.25, 0.25, 0.25],
];

/// A rectangle in points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// Left edge.
    pub left: f32,
    /// Upper edge.
    pub top: f32,
    /// Right edge.
    pub right: f32,
    /// Lower edge.
    pub bottom: f32,
}

/// Which part of a line of text its place means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// The place is where the text starts.
    Start,
    /// The place is the middle.
    Middle,
    /// The place is where the text ends.
    End,
}

/// A sheet being drawn on.
pub struct Sheet {
    canvas: Canvas,
    clip: Option<Area>,
}

impl Sheet {
    /// Takes a white sheet.
    pub fn new(width: f32, height: f32) -> Self {
        let px = |points: f32| (points * DENSITY).ceil().max(1.0) as usize;
        Sheet { canvas: Canvas::new(px(width), px(height), PAPER), clip: None }
    }

    /// Draws nothing outside `area` until called with `None`.
    pub fn clip(&mut self, area: Option<Area>) {
        self.clip = area;
    }

    /// Fills a closed polygon.
    pub fn fill(&mut self, outline: &[Point], colour: Colour, opacity: f32) {
        let px: Vec<Point> = outline.iter().map(|p| p.map(|v| v * DENSITY)).collect();
        let clip = self.clip;
        self.canvas.fill(&px, |x, y| {
            let (x, y) = (x / DENSITY, y / DENSITY);
            let inside = clip.is_none_or(|a| x >= a.left && x <= a.right && y >= a.top && y <= a.bottom);
            (colour, if inside { opacity } else { 0.0 })
        });
    }

    /// Fills a rectangle.
    pub fn area(&mut self, area: Area, colour: Colour, opacity: f32) {
        let Area { left, top, right, bottom } = area;
        self.fill(&[[left, top], [right, top], [right, bottom], [left, bottom]], colour, opacity);
    }

    /// Draws a straight line with square ends.
    pub fn line(&mut self, from: Point, to: Point, width: f32, colour: Colour) {
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        let long = dx.hypot(dy);
        if long < 1e-6 {
            return;
        }
        let (ux, uy) = (0.5 * width * dx / long, 0.5 * width * dy / long);
        let corners = [
            [from[0] - uy, from[1] + ux],
            [to[0] - uy, to[1] + ux],
            [to[0] + uy, to[1] - ux],
            [from[0] + uy, from[1] - ux],
        ];
        self.fill(&corners, colour, 1.0);
    }

    /// Draws a dashed line.
    pub fn dashes(&mut self, from: Point, to: Point, width: f32, colour: Colour) {
        let long = (to[0] - from[0]).hypot(to[1] - from[1]);
        let (dash, step) = (4.0, 7.0);
        let at = |d: f32| [0, 1].map(|i| from[i] + (to[i] - from[i]) * (d / long).min(1.0));
        for i in 0..(long / step).ceil() as usize {
            let start = i as f32 * step;
            self.line(at(start), at(start + dash), width, colour);
        }
    }

    /// Draws connected lines with rounded joints.
    pub fn curve(&mut self, points: &[Point], width: f32, colour: Colour) {
        for pair in points.windows(2) {
            self.line(pair[0], pair[1], width, colour);
        }
        for &p in points {
            self.dot(p, 0.5 * width, colour);
        }
    }

    /// Draws a disc.
    pub fn dot(&mut self, centre: Point, radius: f32, colour: Colour) {
        self.faint_dot(centre, radius, colour, 1.0);
    }

    /// Draws a disc that what lies below shines through.
    pub fn faint_dot(&mut self, centre: Point, radius: f32, colour: Colour, opacity: f32) {
        let corner = |i: usize| {
            let (sin, cos) = (i as f32 / 20.0 * std::f32::consts::TAU).sin_cos();
            [centre[0] + radius * cos, centre[1] + radius * sin]
        };
        self.fill(&(0..20).map(corner).collect::<Vec<_>>(), colour, opacity);
    }

    /// Writes a line of text; `place` is on the baseline. Clipping does not apply.
    pub fn text(&mut self, text: &str, place: Point, size: f32, colour: Colour, align: Align) {
        self.turned(text, place, size, colour, align, 0.0);
    }

    /// Writes a line of text turned by `turn` radians, clockwise, about `place`.
    pub fn turned(&mut self, text: &str, place: Point, size: f32, colour: Colour, align: Align, turn: f32) {
        let width = text::width(text, size);
        let shift = match align {
            Align::Start => 0.0,
            Align::Middle => -0.5 * width,
            Align::End => -width,
        };
        let (sin, cos) = turn.sin_cos();
        for letter in text::outlines(text, size) {
            let moved: Vec<Point> = letter
                .iter()
                .map(|[x, y]| {
                    let x = x + shift;
                    [place[0] + x * cos - y * sin, place[1] + x * sin + y * cos].map(|v| v * DENSITY)
                })
                .collect();
            self.canvas.fill(&moved, |_, _| (colour, 1.0));
            // The embedded face is a light one; half a pixel to the right makes it a regular.
            let bold: Vec<Point> = moved.iter().map(|p| [p[0] + 0.5 * cos, p[1] + 0.5 * sin]).collect();
            self.canvas.fill(&bold, |_, _| (colour, 1.0));
        }
    }

    /// Hands the picture over.
    pub fn finish(self) -> RgbImage {
        self.canvas.to_rgb()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_drawn_outside_the_clip() {
        let mut sheet = Sheet::new(20.0, 10.0);
        sheet.clip(Some(Area { left: 5.0, top: 0.0, right: 10.0, bottom: 10.0 }));
        sheet.line([0.0, 5.0], [20.0, 5.0], 2.0, INK);
        let picture = sheet.finish();
        let dark = (0..40).filter(|&x| picture.get_pixel(x, 10).0[0] < 128).count();
        assert_eq!(dark, 10);
    }
}
