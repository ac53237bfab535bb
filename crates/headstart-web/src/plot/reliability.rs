//! Reliability: how often the network is right when it says it is so sure.

use headstart::metrics::Reliability;
use headstart::synth::colour::Colour;
use image::RgbImage;

use super::axis::{Axis, Scale, grid};
use super::sheet::{Align, Area, BAD, GOOD, GREY, INK, SERIES, Sheet};
use super::text;

const WIDTH: f32 = 400.0;
const HEIGHT: f32 = 460.0;

/// A bar from accuracy up to confidence.
const TOO_SURE: Colour = BAD;
/// A bar from confidence up to accuracy.
const TOO_SHY: Colour = SERIES[5];

/// Draws accuracy by confidence, the gap to the ideal diagonal, and how many samples each bin has.
pub fn reliability(measured: &Reliability, title: &str) -> RgbImage {
    let mut sheet = Sheet::new(WIDTH, HEIGHT);
    let samples: usize = measured.bins.iter().map(|b| b.count).sum();
    sheet.text(&text::fit(title, 14.0, WIDTH - 40.0), [20.0, 26.0], 14.0, INK, Align::Start);
    let summary = match samples {
        0 => "no samples".to_string(),
        _ => format!("expected calibration error {:.1} %, {samples} samples", measured.ece() * 100.0),
    };
    sheet.text(&summary, [20.0, 43.0], 10.0, GREY, Align::Start);
    let area = Area { left: 62.0, top: 76.0, right: WIDTH - 22.0, bottom: HEIGHT - 132.0 };
    key(&mut sheet, 20.0);

    let whole = Axis { scale: Scale::Percent, low: 0.0, high: 1.0 };
    grid(&mut sheet, area, &whole, &whole);
    let (across, down) = (area.right - area.left, area.bottom - area.top);
    let x = |v: f64| area.left + v as f32 * across;
    let y = |v: f64| area.bottom - v as f32 * down;
    for bin in measured.bins.iter().filter(|b| b.count > 0) {
        let (left, right) = (x(bin.low) + 0.8, x(bin.high) - 0.8);
        let (low, high) = (bin.accuracy.min(bin.confidence), bin.accuracy.max(bin.confidence));
        let gap = if bin.confidence > bin.accuracy { TOO_SURE } else { TOO_SHY };
        sheet.area(Area { left, top: y(low), right, bottom: area.bottom }, GOOD, 0.85);
        sheet.area(Area { left, top: y(high), right, bottom: y(low) }, gap, 0.55);
    }
    sheet.dashes([x(0.0), y(0.0)], [x(1.0), y(1.0)], 1.2, INK);

    let most = measured.bins.iter().map(|b| b.count).max().unwrap_or(0).max(1);
    let low = Area { top: area.bottom + 34.0, bottom: HEIGHT - 40.0, ..area };
    for bin in &measured.bins {
        let height = (low.bottom - low.top) * bin.count as f32 / most as f32;
        let (left, right) = (x(bin.low) + 0.8, x(bin.high) - 0.8);
        sheet.area(Area { left, top: low.bottom - height, right, bottom: low.bottom }, GREY, 0.55);
    }
    sheet.line([low.left, low.bottom], [low.right, low.bottom], 1.0, GREY);
    sheet.text(&most.to_string(), [low.left - 6.0, low.top + 7.0], 10.0, GREY, Align::End);
    sheet.text("0", [low.left - 6.0, low.bottom + 3.5], 10.0, GREY, Align::End);
    let middle = 0.5 * (area.left + area.right);
    sheet.text("confidence", [middle, HEIGHT - 18.0], 11.0, GREY, Align::Middle);
    let upright = -std::f32::consts::FRAC_PI_2;
    let (above, below) = (0.5 * (area.top + area.bottom), 0.5 * (low.top + low.bottom));
    sheet.turned("accuracy", [18.0, above], 11.0, GREY, Align::Middle, upright);
    sheet.turned("samples", [18.0, below], 11.0, GREY, Align::Middle, upright);
    sheet.finish()
}

fn key(sheet: &mut Sheet, left: f32) {
    let mut x = left;
    let keys = [
        ("accuracy", GOOD, 0.85),
        ("surer than right", TOO_SURE, 0.55),
        ("more right than sure", TOO_SHY, 0.55),
    ];
    for (name, colour, opacity) in keys {
        sheet.area(Area { left: x, top: 55.5, right: x + 10.0, bottom: 65.5 }, colour, opacity);
        sheet.text(name, [x + 15.0, 64.0], 10.0, INK, Align::Start);
        x += 25.0 + text::width(name, 10.0);
    }
    sheet.dashes([x, 60.5], [x + 18.0, 60.5], 1.2, INK);
    sheet.text("ideal", [x + 23.0, 64.0], 10.0, INK, Align::Start);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_without_samples_says_so() {
        let empty = headstart::metrics::reliability(&[], 2, &[], 1.0);
        assert_eq!(reliability(&empty, "before").dimensions(), (800, 920));
    }
}
