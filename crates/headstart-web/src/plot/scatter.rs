//! Predicted by true numbers: a panel a target, on the diagonal where they agree.

use image::RgbImage;

use super::axis::{Axis, Scale, grid};
use super::sheet::{Align, Area, GREY, INK, SERIES, Sheet};
use super::text;

/// One target.
#[derive(Debug, Clone, PartialEq)]
pub struct Scatter {
    /// Its name.
    pub title: String,
    /// What to say below the name, such as `R² 0.91`.
    pub note: String,
    /// True and predicted number of each sample.
    pub points: Vec<(f64, f64)>,
}

const SIDE: f32 = 400.0;
const COLUMNS: usize = 3;
/// More panels than this do not fit a page: the first are shown.
const PANELS: usize = 24;
/// More points than this hide each other and take long to draw: every so manieth is shown.
const POINTS: usize = 4000;

/// Draws up to 24 panels, three a row.
pub fn scatter(targets: &[Scatter]) -> RgbImage {
    let shown = &targets[..targets.len().min(PANELS)];
    let columns = shown.len().clamp(1, COLUMNS);
    let mut sheet = Sheet::new(SIDE * columns as f32, SIDE * shown.len().div_ceil(columns).max(1) as f32);
    for (i, target) in shown.iter().enumerate() {
        draw(&mut sheet, target, (i % columns) as f32 * SIDE, (i / columns) as f32 * SIDE);
    }
    sheet.finish()
}

fn draw(sheet: &mut Sheet, target: &Scatter, left: f32, top: f32) {
    let step = target.points.len().div_ceil(POINTS).max(1);
    let points = || target.points.iter().step_by(step).filter(|(t, p)| t.is_finite() && p.is_finite());
    // One axis for both, or the diagonal would not be one.
    let axis = Axis::around(Scale::Linear, points().flat_map(|(t, p)| [*t, *p]), 0.05);
    let widest = axis.ticks(8).iter().map(|(_, label)| text::width(label, 10.0)).fold(0.0, f32::max);
    let area = Area {
        left: left + 40.0 + widest,
        top: top + 54.0,
        right: left + SIDE - 20.0,
        bottom: top + SIDE - 46.0,
    };
    sheet.text(
        &text::fit(&target.title, 14.0, SIDE - 40.0),
        [left + 20.0, top + 26.0],
        14.0,
        INK,
        Align::Start,
    );
    sheet.text(&target.note, [left + 20.0, top + 43.0], 10.0, GREY, Align::Start);
    grid(sheet, area, &axis, &axis);
    let x = |v: f64| area.left + axis.place(v).unwrap_or(0.0) * (area.right - area.left);
    let y = |v: f64| area.bottom - axis.place(v).unwrap_or(0.0) * (area.bottom - area.top);
    sheet.clip(Some(area));
    sheet.dashes([x(axis.low), y(axis.low)], [x(axis.high), y(axis.high)], 1.2, INK);
    for (t, p) in points() {
        sheet.faint_dot([x(*t), y(*p)], 2.4, SERIES[0], 0.55);
    }
    sheet.clip(None);
    sheet.text("true", [0.5 * (area.left + area.right), top + SIDE - 14.0], 11.0, GREY, Align::Middle);
    let middle = [left + 18.0, 0.5 * (area.top + area.bottom)];
    sheet.turned("predicted", middle, 11.0, GREY, Align::Middle, -std::f32::consts::FRAC_PI_2);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_targets_makes_a_chart() {
        let one = |points| Scatter { title: "size".into(), note: "R² 0.5".into(), points };
        assert_eq!(scatter(&[one(vec![])]).dimensions(), (800, 800));
        assert_eq!(scatter(&vec![one(vec![(1.0, f64::NAN), (2.0, 3.0)]); 4]).dimensions(), (2400, 1600));
        assert!(scatter(&[]).width() > 0);
    }

    #[test]
    fn what_is_predicted_right_lies_on_the_diagonal() {
        let points = (0..40).map(|i| (f64::from(i), f64::from(i))).collect();
        let chart = scatter(&[Scatter { title: String::new(), note: String::new(), points }]);
        let blue =
            |x: u32, y: u32| chart.get_pixel(x, y).0[2] as i32 - chart.get_pixel(x, y).0[0] as i32 > 60;
        let found: Vec<(u32, u32)> =
            (0..800).flat_map(|y| (0..800).map(move |x| (x, y))).filter(|(x, y)| blue(*x, *y)).collect();
        assert!(found.len() > 40 * 20, "{}", found.len());
        let (left, right) =
            (found.iter().map(|p| p.0).min().unwrap(), found.iter().map(|p| p.0).max().unwrap());
        let at = |x: u32| {
            found.iter().filter(|p| p.0 == x).map(|p| p.1).sum::<u32>()
                / found.iter().filter(|p| p.0 == x).count() as u32
        };
        assert!(at(left) > at(right) + 400, "the line must rise");
    }
}
