//! A bar per class with the interval its accuracy lies in.

use headstart::metrics::Interval;
use image::RgbImage;

use super::axis::{Axis, Scale};
use super::sheet::{Align, Area, GOOD, GREY, GRID, INK, Sheet};
use super::text;

/// More rows than this do not fit a page: the lowest are shown.
const ROWS: usize = 50;
const NAME_WIDTH: f32 = 150.0;
const SIZE: f32 = 11.0;

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// The class.
    pub name: String,
    /// Its accuracy, 0..1; NaN if it has no samples.
    pub value: f64,
    /// Where the true value may lie.
    pub interval: Option<Interval>,
    /// What to write at the end of the row, such as `27 of 30`.
    pub note: String,
}

/// Draws rows in the order given; of more than 50, the 50 lowest, lowest first.
pub fn bars(rows: &[Bar], title: &str) -> RgbImage {
    let mut shown: Vec<&Bar> = rows.iter().collect();
    let mut subtitle = String::new();
    if rows.len() > ROWS {
        // NaN sorts last: a class without samples is not a bad one.
        shown.sort_by(|a, b| a.value.total_cmp(&b.value));
        shown.truncate(ROWS);
        subtitle = format!("the {ROWS} lowest of {}", rows.len());
    }
    let marked = shown.iter().any(|b| b.interval.is_some());
    if marked {
        let whiskers = "lines show the interval the true value may lie in";
        subtitle = if subtitle.is_empty() { whiskers.into() } else { format!("{subtitle}; {whiskers}") };
    }
    let (row, width) = (22.0, 640.0);
    let names: Vec<String> = shown.iter().map(|b| text::fit(&b.name, SIZE, NAME_WIDTH)).collect();
    let values: Vec<String> = shown
        .iter()
        .map(|b| {
            if b.value.is_nan() {
                "no samples".into()
            } else {
                format!("{:.1} %  {}", b.value * 100.0, b.note)
            }
        })
        .collect();
    let widest = |texts: &[String]| texts.iter().map(|t| text::width(t, SIZE)).fold(0.0, f32::max);
    let area = Area {
        left: 28.0 + widest(&names),
        top: 56.0,
        right: width - 32.0 - widest(&values),
        bottom: 60.0 + row * shown.len() as f32,
    };
    let mut sheet = Sheet::new(width, area.bottom + 30.0);
    sheet.text(&text::fit(title, 14.0, width - 40.0), [20.0, 26.0], 14.0, INK, Align::Start);
    sheet.text(&subtitle, [20.0, 43.0], 10.0, GREY, Align::Start);

    let across = area.right - area.left;
    let x = |v: f64| area.left + v.clamp(0.0, 1.0) as f32 * across;
    for (value, label) in (Axis { scale: Scale::Percent, low: 0.0, high: 1.0 }).ticks(5) {
        sheet.line([x(value), area.top], [x(value), area.bottom], 0.7, GRID);
        sheet.text(&label, [x(value), area.bottom + 14.0], 10.0, GREY, Align::Middle);
    }
    for (i, bar) in shown.iter().enumerate() {
        let middle = area.top + 2.0 + (i as f32 + 0.5) * row;
        let base = middle + 0.36 * SIZE;
        sheet.text(&names[i], [area.left - 8.0, base], SIZE, INK, Align::End);
        sheet.text(&values[i], [area.right + 12.0, base], SIZE, INK, Align::Start);
        if bar.value.is_nan() {
            continue;
        }
        let body = Area { left: area.left, top: middle - 6.5, right: x(bar.value), bottom: middle + 6.5 };
        sheet.area(body, GOOD, 0.8);
        if let Some(Interval { low, high }) = bar.interval {
            sheet.line([x(low), middle], [x(high), middle], 1.3, INK);
            for end in [x(low), x(high)] {
                sheet.line([end, middle - 3.5], [end, middle + 3.5], 1.3, INK);
            }
        }
    }
    sheet.line([area.left, area.top], [area.left, area.bottom], 1.0, GREY);
    sheet.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_are_cut_to_a_page() {
        let row = |i: usize| Bar {
            name: format!("class {i}"),
            value: i as f64 / 500.0,
            interval: None,
            note: String::new(),
        };
        let few = bars(&(0..3).map(row).collect::<Vec<_>>(), "accuracy");
        let many = bars(&(0..500).map(row).collect::<Vec<_>>(), "accuracy");
        assert!(few.height() < 400 && many.height() < 2500);
        assert!(bars(&[], "accuracy").height() > 0);
    }
}
