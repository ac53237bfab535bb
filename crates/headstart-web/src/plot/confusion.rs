//! The confusion matrix as a heat map.

use headstart::metrics::Confusion;
use headstart::synth::colour::mix;
use image::RgbImage;

use super::sheet::{Align, Area, BAD, GOOD, GREY, GRID, INK, PAPER, Sheet};
use super::text;

/// More classes than this are drawn without numbers.
const NUMBERED: usize = 30;
/// Names longer than this are cut.
const NAME_WIDTH: f32 = 130.0;

/// Draws what each class was taken for: a row per true class, a column per prediction.
///
/// Colour is the fraction of the row, blue where right and orange where wrong. Up to 30 classes
/// have counts in the cells, up to 80 have names. Panics if there is not one name per class.
pub fn confusion(matrix: &Confusion, names: &[String], title: &str) -> RgbImage {
    let classes = matrix.classes();
    assert_eq!(names.len(), classes, "one name per class");
    let cell = cell_size(classes);
    let size = (0.5 * cell).clamp(6.0, 11.0);
    let named = cell >= 7.0;
    let names: Vec<String> =
        names.iter().map(|n| if named { text::fit(n, size, NAME_WIDTH) } else { String::new() }).collect();
    let widest = names.iter().map(|n| text::width(n, size)).fold(0.0, f32::max);
    let side = cell * classes as f32;
    let area = {
        let (left, top) = (42.0 + widest, 58.0);
        Area { left, top, right: left + side, bottom: top + side }
    };
    // Names under the columns run down to the left at 45°.
    let slant = widest * std::f32::consts::FRAC_1_SQRT_2 + size;
    let subtitle = "a row per true class, colour by the fraction of the row";
    let width = (area.right + 24.0).max(48.0 + text::width(title, 14.0).max(text::width(subtitle, 10.0)));
    let mut sheet = Sheet::new(width, area.bottom + slant + 34.0);
    sheet.text(title, [20.0, 26.0], 14.0, INK, Align::Start);
    sheet.text(subtitle, [20.0, 43.0], 10.0, GREY, Align::Start);

    for target in 0..classes {
        let row = matrix.row(target);
        let total = row.iter().sum::<u64>().max(1) as f32;
        for (predicted, &count) in row.iter().enumerate().filter(|(_, c)| **c > 0) {
            let right = target == predicted;
            // A root lifts rare mistakes out of the white; right answers need no help.
            let fraction = count as f32 / total;
            let depth = if right { 0.1 + 0.9 * fraction } else { 0.08 + 0.92 * fraction.sqrt() };
            let (x, y) = (area.left + predicted as f32 * cell, area.top + target as f32 * cell);
            let square = Area { left: x, top: y, right: x + cell, bottom: y + cell };
            sheet.area(square, mix(PAPER, if right { GOOD } else { BAD }, depth), 1.0);
            if classes <= NUMBERED {
                let number = count.to_string();
                let size = (0.42 * cell).min(12.0).min(0.86 * cell * 10.0 / text::width(&number, 10.0));
                let ink = if depth > 0.6 { PAPER } else { INK };
                let place = [x + 0.5 * cell, y + 0.5 * cell + 0.36 * size];
                sheet.text(&number, place, size, ink, Align::Middle);
            }
        }
    }
    lines(&mut sheet, area, cell, classes);
    for (i, name) in names.iter().enumerate() {
        let along = (i as f32 + 0.5) * cell;
        sheet.text(name, [area.left - 6.0, area.top + along + 0.36 * size], size, INK, Align::End);
        let foot = [area.left + along + 0.3 * size, area.bottom + 5.0 + 0.6 * size];
        sheet.turned(name, foot, size, INK, Align::End, -std::f32::consts::FRAC_PI_4);
    }
    let middle = [0.5 * (area.left + area.right), 0.5 * (area.top + area.bottom)];
    sheet.turned("true class", [18.0, middle[1]], 11.0, GREY, Align::Middle, -std::f32::consts::FRAC_PI_2);
    sheet.text("predicted class", [middle[0], area.bottom + slant + 22.0], 11.0, GREY, Align::Middle);
    sheet.finish()
}

fn cell_size(classes: usize) -> f32 {
    match classes {
        0..=10 => 46.0,
        11..=NUMBERED => (620.0 / classes as f32).max(24.0),
        // Whole pixels where possible: a sheet has two to the point.
        _ => (2.0 * 720.0 / classes as f32).floor().max(1.0) * 0.5,
    }
}

/// Draws a frame, and a grid where cells are large enough to bear one.
fn lines(sheet: &mut Sheet, area: Area, cell: f32, classes: usize) {
    let inner = if cell >= 7.0 { 1 } else { classes.max(1) };
    for i in (0..=classes).step_by(inner) {
        let at = i as f32 * cell;
        let colour = if i == 0 || i == classes { GREY } else { GRID };
        sheet.line([area.left + at, area.top], [area.left + at, area.bottom], 0.7, colour);
        sheet.line([area.left, area.top + at], [area.right, area.top + at], 0.7, colour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_classes_makes_a_chart_of_bearable_size() {
        for classes in [1, 2, 31, 200, 1000] {
            let targets: Vec<usize> = (0..classes).collect();
            let matrix = Confusion::new(&targets, &targets, classes);
            let names: Vec<String> = targets.iter().map(|i| format!("class {i}")).collect();
            let chart = confusion(&matrix, &names, "confusion");
            assert!(chart.width() < 2400 && chart.height() < 2400, "{classes}: {:?}", chart.dimensions());
        }
    }
}
