//! Curves: loss and accuracy by epoch, loss by learning rate.

use headstart::synth::canvas::Point;
use headstart::synth::colour::{Colour, mix};
use image::RgbImage;

use super::axis::{Axis, Scale, grid};
use super::sheet::{Align, Area, GREY, INK, PAPER, SERIES, Sheet};
use super::text;

/// One line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// Places in order of x. A y that is not a number interrupts the line.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// Makes a series.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Series { name: name.into(), points }
    }
}

/// A value of x worth pointing out.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// What to call it.
    pub name: String,
    /// Where it is.
    pub x: f64,
}

/// One chart of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// What is shown.
    pub title: String,
    /// What x is.
    pub x_label: String,
    /// How x is spread.
    pub x: Scale,
    /// How y is spread.
    pub y: Scale,
    /// The highest y to show; larger ones leave the chart. `None` shows all.
    pub y_limit: Option<f64>,
    /// The lines.
    pub series: Vec<Series>,
    /// Upright lines.
    pub marks: Vec<Mark>,
}

impl Panel {
    /// Makes a panel with linear axes and no marks.
    pub fn new(title: impl Into<String>, x_label: impl Into<String>, series: Vec<Series>) -> Self {
        Panel {
            title: title.into(),
            x_label: x_label.into(),
            x: Scale::Linear,
            y: Scale::Linear,
            y_limit: None,
            series,
            marks: Vec::new(),
        }
    }

    /// Writes y as per cent of 1.
    pub fn percent(mut self) -> Self {
        self.y = Scale::Percent;
        self
    }
}

const WIDTH: f32 = 430.0;
const HEIGHT: f32 = 300.0;
const LEGEND_SIZE: f32 = 11.0;
/// A series with more points is one of single steps: drawn pale, with its running mean on top.
const NOISY: usize = 200;

/// Draws panels side by side.
pub fn curves(panels: &[Panel]) -> RgbImage {
    let mut sheet = Sheet::new(WIDTH * panels.len().max(1) as f32, HEIGHT);
    for (i, panel) in panels.iter().enumerate() {
        draw(&mut sheet, panel, i as f32 * WIDTH);
    }
    sheet.finish()
}

/// Draws loss by learning rate on a log scale, each suggestion marked.
///
/// The top is where the loss stands half as far above its start as its lowest is below: the
/// explosion that ends the search would flatten everything else.
pub fn lr_curve(points: &[(f64, f64)], suggestions: &[Mark]) -> RgbImage {
    let mut panel =
        Panel::new("Loss by learning rate", "learning rate", vec![Series::new("", points.to_vec())]);
    panel.x = Scale::Log;
    panel.marks = suggestions.to_vec();
    let finite = || points.iter().map(|p| p.1).filter(|y| y.is_finite());
    let lowest = finite().fold(f64::MAX, f64::min);
    panel.y_limit = finite().next().map(|start| start + 0.5 * (start - lowest).max(0.1));
    curves(&[panel])
}

fn draw(sheet: &mut Sheet, panel: &Panel, left: f32) {
    let title = text::fit(&panel.title, 14.0, WIDTH - 40.0);
    sheet.text(&title, [left + 20.0, 26.0], 14.0, INK, Align::Start);
    let below_legend = legend(sheet, panel, left);
    let shown = |y: &f64| panel.y_limit.is_none_or(|limit| *y <= limit);
    let points = || panel.series.iter().flat_map(|s| &s.points);
    let x = Axis::around(panel.x, points().filter(|p| shown(&p.1)).map(|p| p.0), 0.02);
    let mut y = Axis::around(panel.y, points().map(|p| p.1).filter(shown), 0.05);
    if let Some(limit) = panel.y_limit.filter(|_| points().any(|p| !shown(&p.1))) {
        y.high = limit.max(y.high);
    }
    let widest = y.ticks(6).iter().map(|(_, label)| text::width(label, 10.0)).fold(0.0, f32::max);
    let area = Area {
        left: left + 26.0 + widest,
        top: below_legend + if panel.marks.is_empty() { 8.0 } else { 18.0 },
        right: left + WIDTH - 20.0,
        bottom: HEIGHT - 42.0,
    };
    grid(sheet, area, &x, &y);
    sheet.text(&panel.x_label, [0.5 * (area.left + area.right), HEIGHT - 12.0], 11.0, GREY, Align::Middle);
    let (across, down) = (area.right - area.left, area.bottom - area.top);
    let place = |(px, py): (f64, f64)| -> Option<Point> {
        Some([area.left + x.place(px)? * across, area.bottom - y.place(py)? * down])
    };
    draw_marks(sheet, panel, area, &x);
    // A little more than the frame, or a line along the edge would be cut in half.
    sheet.clip(Some(Area { top: area.top - 2.0, bottom: area.bottom + 2.0, ..area }));
    let noisy = |series: &Series| series.points.len() > NOISY;
    for (i, series) in panel.series.iter().enumerate().filter(|(_, s)| noisy(s)) {
        line(sheet, thin(&series.points).into_iter().map(place), 0.8, mix(PAPER, colour(i), 0.3), false);
    }
    for (i, series) in panel.series.iter().enumerate() {
        let points = if noisy(series) { smooth(&series.points) } else { series.points.clone() };
        // Few points are results of whole epochs: show each.
        line(sheet, points.into_iter().map(place), 1.8, colour(i), series.points.len() <= 30);
    }
    sheet.clip(None);
}

/// Draws a line that has gaps where there is no place.
fn line(
    sheet: &mut Sheet,
    places: impl Iterator<Item = Option<Point>>,
    width: f32,
    colour: Colour,
    dots: bool,
) {
    let places: Vec<Option<Point>> = places.collect();
    for run in places.split(|p| p.is_none()) {
        let run: Vec<Point> = run.iter().flatten().copied().collect();
        sheet.curve(&run, width, colour);
        // A lone point has no line at all.
        if dots || run.len() == 1 {
            run.iter().for_each(|&p| sheet.dot(p, 2.6, colour));
        }
    }
}

/// Averages over stretches, a hundredth of the whole each.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean = |stretch: &[(f64, f64)]| {
        let n = stretch.len() as f64;
        (stretch.iter().map(|p| p.0).sum::<f64>() / n, stretch.iter().map(|p| p.1).sum::<f64>() / n)
    };
    points.chunks(points.len().div_ceil(100).max(1)).map(mean).collect()
}

fn colour(series: usize) -> Colour {
    SERIES[series % SERIES.len()]
}

/// Writes the legend in as many rows as it needs, none for one nameless series; returns where the last ends.
fn legend(sheet: &mut Sheet, panel: &Panel, left: f32) -> f32 {
    let (start, end) = (left + 20.0, left + WIDTH - 20.0);
    if let [only] = &panel.series[..]
        && only.name.is_empty()
    {
        return 32.0;
    }
    let (mut x, mut y) = (start, 44.0);
    for (i, series) in panel.series.iter().enumerate() {
        let name = text::fit(&series.name, LEGEND_SIZE, end - start - 22.0);
        let width = 22.0 + text::width(&name, LEGEND_SIZE);
        if x > start && x + width > end {
            (x, y) = (start, y + 15.0);
        }
        sheet.line([x, y - 3.5], [x + 16.0, y - 3.5], 2.6, colour(i));
        sheet.text(&name, [x + 22.0, y], LEGEND_SIZE, INK, Align::Start);
        x += width + 16.0;
    }
    y
}

/// Draws marks with their names above the chart, those too close to the one before a step lower.
fn draw_marks(sheet: &mut Sheet, panel: &Panel, area: Area, x: &Axis) {
    const SIZE: f32 = 10.0;
    let mut placed: Vec<(f32, &Mark)> = panel
        .marks
        .iter()
        .filter_map(|mark| Some((area.left + x.place(mark.x)? * (area.right - area.left), mark)))
        .filter(|(at, _)| (area.left..=area.right).contains(at))
        .collect();
    placed.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Where the text of each row ends so far.
    let mut ends: Vec<f32> = Vec::new();
    let mut labels = Vec::new();
    for (at, mark) in placed {
        let half = 0.5 * text::width(&mark.name, SIZE);
        let middle = at.clamp(area.left + half, (area.right - half).max(area.left + half));
        let row = ends.iter().position(|end| *end + 6.0 < middle - half).unwrap_or(ends.len());
        if row == ends.len() {
            ends.push(0.0);
        }
        ends[row] = middle + half;
        let base = area.top - 5.0 + 13.0 * row as f32;
        sheet.dashes([at, base + 3.0], [at, area.bottom], 1.1, GREY);
        labels.push((&mark.name, [middle, base], half));
    }
    // After all lines, each on a patch of its own: no line may cross the letters.
    for (name, [middle, base], half) in labels {
        let back = Area {
            left: middle - half - 2.0,
            top: base - 9.0,
            right: middle + half + 2.0,
            bottom: base + 2.5,
        };
        sheet.area(back, PAPER, 0.9);
        sheet.text(name, [middle, base], SIZE, INK, Align::Middle);
    }
}

/// Keeps the lowest and the highest of each of 400 stretches: what a line of that many pixels can show.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    const STRETCHES: usize = 400;
    if points.len() <= 3 * STRETCHES {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(2 * STRETCHES);
    for stretch in points.chunks(points.len().div_ceil(STRETCHES)) {
        let extreme = |sign: f64| {
            (0..stretch.len()).min_by(|&a, &b| (sign * stretch[a].1).total_cmp(&(sign * stretch[b].1)))
        };
        let (low, high) = (extreme(1.0).unwrap_or(0), extreme(-1.0).unwrap_or(0));
        kept.push(stretch[low.min(high)]);
        if low != high {
            kept.push(stretch[low.max(high)]);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_extremes_and_order() {
        let mut points: Vec<(f64, f64)> = (0..50_000).map(|i| (i as f64, (i as f64 * 0.01).sin())).collect();
        points[31_234].1 = 9.0;
        let kept = thin(&points);
        assert!(kept.len() <= 800 && kept.contains(&(31_234.0, 9.0)));
        assert!(kept.windows(2).all(|w| w[0].0 < w[1].0));
    }

    #[test]
    fn hopeless_data_still_make_a_chart() {
        let broken = vec![(0.0, f64::NAN), (1.0, f64::INFINITY), (f64::NAN, 0.0)];
        let panel = Panel::new("loss", "epoch", vec![Series::new("a", broken), Series::new("b", vec![])]);
        assert!(curves(&[panel]).width() > 0);
        assert!(lr_curve(&[], &[Mark { name: "valley".into(), x: 1e-3 }]).width() > 0);
        assert!(curves(&[]).width() > 0);
    }
}
