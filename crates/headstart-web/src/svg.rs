//! Charts as SVG inside a page: sharp at any size, in the page's colours, light or dark.

use std::fmt::Write;

use headstart::metrics::Reliability;

use crate::html::escape;
use crate::plot::axis::{Axis, Scale};

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 396.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 228.0;

/// More points than this hide each other: every so manieth is shown.
const POINTS: usize = 2000;

/// A line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What the legend says.
    pub name: String,
    /// Places in order of x; a y that is not a number interrupts the line.
    pub points: Vec<(f64, f64)>,
}

/// A chart of lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What is shown, for the caption and for screen readers.
    pub title: String,
    /// What x is.
    pub x_label: String,
    /// How x is spread.
    pub x: Scale,
    /// How y is spread.
    pub y: Scale,
    /// About how many labels along x.
    pub x_ticks: usize,
    /// The lines, at most three.
    pub lines: Vec<Line>,
    /// Points worth pointing out: place and words.
    pub marks: Vec<(f64, f64, String)>,
}

/// Draws lines.
pub fn chart(chart: &Chart) -> String {
    let all = || chart.lines.iter().flat_map(|l| l.points.iter().copied());
    let x = Axis::around(chart.x, all().map(|p| p.0), 0.0);
    let y = Axis::around(chart.y, all().map(|p| p.1), 0.06);
    let mut svg = frame(&x, &y, chart.x_ticks);
    let at = |p: (f64, f64)| Some((across(x.place(p.0)?), up(y.place(p.1)?)));
    for (i, line) in chart.lines.iter().enumerate() {
        let mut path = String::new();
        let mut pen_down = false;
        for point in &line.points {
            match at(*point) {
                Some((px, py)) => {
                    let _ = write!(path, "{}{px:.1} {py:.1}", if pen_down { "L" } else { "M" });
                    pen_down = true;
                }
                None => pen_down = false,
            }
        }
        let _ = write!(svg, "<path class=\"s{i}\" d=\"{path}\"/>");
        if line.points.len() < 30 && chart.marks.is_empty() {
            for (px, py) in line.points.iter().filter_map(|p| at(*p)) {
                let _ = write!(svg, "<circle class=\"f{i}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3\"/>");
            }
        }
    }
    for (mx, my, words) in &chart.marks {
        if let Some((px, py)) = at((*mx, *my)) {
            let _ = write!(svg, "<circle class=\"f1\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"4\"/>");
            let (anchor, shift) = if px > 260.0 { ("end", -8.0) } else { ("start", 8.0) };
            // Above the line near the lower edge, below it near the upper one.
            let height = if py > 0.5 * (TOP + BOTTOM) { py - 8.0 } else { py + 16.0 };
            let (px, words) = (px + shift, escape(words));
            let _ = write!(
                svg,
                "<text class=\"ink\" x=\"{px:.1}\" y=\"{height:.1}\" text-anchor=\"{anchor}\">{words}</text>"
            );
        }
    }
    if chart.lines.len() > 1 {
        let names: Vec<&str> = chart.lines.iter().map(|l| l.name.as_str()).collect();
        legend(&mut svg, &names);
    }
    figure(&chart.title, &chart.x_label, &svg, "")
}

/// Draws the accuracy of each bin of confidence beside the ideal.
pub fn reliability(measured: &Reliability, title: &str, caption: &str) -> String {
    let unit = Axis { scale: Scale::Percent, low: 0.0, high: 1.0 };
    let mut svg = frame(&unit, &unit, 5);
    let samples: usize = measured.bins.iter().map(|b| b.count).sum();
    for bin in measured.bins.iter().filter(|b| b.count > 0) {
        let place = |v: f64| unit.place(v).unwrap_or(0.0);
        let (left, right) = (across(place(bin.low)) + 1.0, across(place(bin.high)) - 1.0);
        let top = up(place(bin.accuracy));
        // Bins of few samples are pale: they say little.
        let share = (bin.count as f64 / samples as f64 * measured.bins.len() as f64).min(1.0);
        let _ = write!(
            svg,
            "<rect class=\"f0\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" opacity=\"{:.2}\">\
             <title>{} photos: {:.1} % sure, {:.1} % right</title></rect>",
            right - left,
            BOTTOM - top,
            0.35 + 0.65 * share,
            bin.count,
            100.0 * bin.confidence,
            100.0 * bin.accuracy,
        );
    }
    let _ = write!(svg, "<path class=\"dash\" d=\"M{LEFT} {BOTTOM}L{RIGHT} {TOP}\"/>");
    figure(title, "confidence", &svg, caption)
}

/// Predicted by true numbers of one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Scatter {
    /// The target.
    pub title: String,
    /// What to say beside it.
    pub caption: String,
    /// True and predicted number of each photo.
    pub points: Vec<(f64, f64)>,
}

/// Draws a point a photo, and the line on which predictions are right.
pub fn scatter(scatter: &Scatter) -> String {
    let every = scatter.points.len().div_ceil(POINTS).max(1);
    let points = || scatter.points.iter().step_by(every);
    // One axis for both, or the line of right predictions would not be the diagonal.
    let axis = Axis::around(Scale::Linear, points().flat_map(|(t, p)| [*t, *p]), 0.05);
    let mut svg = frame(&axis, &axis, 5);
    let _ = write!(svg, "<path class=\"dash\" d=\"M{LEFT} {BOTTOM}L{RIGHT} {TOP}\"/>");
    for (truth, said) in points() {
        let (Some(x), Some(y)) = (axis.place(*truth), axis.place(*said)) else { continue };
        let (x, y) = (across(x), up(y));
        let _ = write!(svg, "<circle class=\"f0\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" opacity=\".55\"/>");
    }
    figure(&scatter.title, "true number; upwards the predicted one", &svg, &scatter.caption)
}

fn across(t: f32) -> f64 {
    LEFT + f64::from(t) * (RIGHT - LEFT)
}

fn up(t: f32) -> f64 {
    BOTTOM - f64::from(t) * (BOTTOM - TOP)
}

/// The grid with its labels.
fn frame(x: &Axis, y: &Axis, x_ticks: usize) -> String {
    let mut svg = String::new();
    for (value, label) in y.ticks(5) {
        let Some(at) = y.place(value).map(up) else { continue };
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (value, label) in x.ticks(x_ticks) {
        let Some(at) = x.place(value).map(across) else { continue };
        let _ = write!(
            svg,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            BOTTOM + 17.0
        );
    }
    let _ =
        write!(svg, "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>");
    svg
}

fn legend(svg: &mut String, names: &[&str]) {
    let mut x = LEFT;
    for (i, name) in names.iter().enumerate() {
        let _ = write!(
            svg,
            "<rect class=\"f{i}\" x=\"{x:.1}\" y=\"9\" width=\"11\" height=\"11\" rx=\"2\"/>\
             <text class=\"ink\" x=\"{:.1}\" y=\"19\">{}</text>",
            x + 16.0,
            escape(name)
        );
        x += 32.0 + 7.0 * name.chars().count() as f64;
    }
}

fn figure(title: &str, x_label: &str, svg: &str, caption: &str) -> String {
    let (title, x_label) = (escape(title), escape(x_label));
    let middle = 0.5 * (LEFT + RIGHT);
    let caption =
        if caption.is_empty() { String::new() } else { format!("<small>{}</small>", escape(caption)) };
    format!(
        "<figure><figcaption><b>{title}</b> {caption}</figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">{svg}\
         <text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">{x_label}</text></svg></figure>\n",
        HEIGHT - 8.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_interrupts_the_line_and_names_are_escaped() {
        let line =
            Line { name: "<a>".into(), points: vec![(1.0, 1.0), (2.0, f64::NAN), (3.0, 2.0), (4.0, 1.0)] };
        let other = Line { name: "b".into(), points: vec![] };
        let drawn = chart(&Chart {
            title: "t".into(),
            x_label: "x".into(),
            x: Scale::Linear,
            y: Scale::Linear,
            x_ticks: 4,
            lines: vec![line, other],
            marks: vec![],
        });
        assert_eq!(drawn.matches('M').count(), 2);
        assert!(drawn.contains("&lt;a&gt;") && !drawn.contains("NaN"));
    }

    #[test]
    fn right_predictions_lie_on_the_line_and_others_do_not() {
        let points = vec![(0.0, 0.0), (1.0, 1.0), (1.0, f64::NAN), (0.0, 1.0)];
        let drawn = scatter(&Scatter { title: "t".into(), caption: "c".into(), points });
        let places: Vec<(f64, f64)> = drawn
            .split("<circle")
            .skip(1)
            .map(|c| {
                let number = |name: &str| -> f64 {
                    c.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
                };
                (number("cx"), number("cy"))
            })
            .collect();
        assert_eq!(places.len(), 3);
        let above = |(x, y): (f64, f64)| BOTTOM - y - (x - LEFT) / (RIGHT - LEFT) * (BOTTOM - TOP);
        assert!(above(places[0]).abs() < 0.2 && above(places[1]).abs() < 0.2 && above(places[2]) > 100.0);
    }

    #[test]
    fn empty_bins_draw_nothing() {
        let drawn = reliability(&headstart::metrics::reliability(&[3.0, 0.0], 2, &[0], 1.0), "r", "c");
        assert_eq!(drawn.matches("<rect").count(), 1);
    }
}
