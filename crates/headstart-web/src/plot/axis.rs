//! Scales: from values to places, with round numbers to label and the grid they stand on.

use super::sheet::{Align, Area, GREY, GRID, Sheet};

/// How values map to places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// Evenly by factors; values that are not positive have no place.
    Log,
    /// Evenly, written as per cent of 1.
    Percent,
}

/// A scale and the values it spans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    /// How values map to places.
    pub scale: Scale,
    /// Value at the start.
    pub low: f64,
    /// Value at the end.
    pub high: f64,
}

impl Axis {
    /// Makes an axis that holds all of `values`, with `air` (a fraction of the span) at both ends.
    /// Values that have no place are left out; without any the axis runs from 0 to 1.
    pub fn around(scale: Scale, values: impl IntoIterator<Item = f64>, air: f64) -> Self {
        let usable = values.into_iter().filter(|v| v.is_finite() && (scale != Scale::Log || *v > 0.0));
        let bent = usable.map(|v| if scale == Scale::Log { v.log10() } else { v });
        let (mut low, mut high) = bent.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            (low, high) = if scale == Scale::Log { (-1.0, 0.0) } else { (0.0, 1.0) };
        }
        let span = high - low;
        // One value alone, or equal ones, still need room.
        let pad = if span > 0.0 { span * air } else { 0.5 * low.abs().max(0.1) };
        (low, high) = (low - pad, high + pad);
        match scale {
            Scale::Log => Axis { scale, low: 10f64.powf(low), high: 10f64.powf(high) },
            Scale::Linear => Axis { scale, low, high },
            // A fraction is never below 0 or above 1; the axis has a little more for the line's width.
            Scale::Percent => Axis { scale, low: low.max(-0.005), high: high.min(1.005) },
        }
    }

    /// Where a value lies, 0 at `low` and 1 at `high`; `None` if it has no place.
    pub fn place(&self, value: f64) -> Option<f32> {
        let t = match self.scale {
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
            _ => (value - self.low) / (self.high - self.low),
        };
        // Far outside is as good as just outside, and keeps the pen's arithmetic exact.
        t.is_finite().then(|| t.clamp(-5.0, 6.0) as f32)
    }

    /// Round values along the axis and their labels; about `count`, or the decades of a log scale.
    pub fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Log => self.decades(count),
            _ => self.round_numbers(count),
        }
    }

    fn round_numbers(&self, count: usize) -> Vec<(f64, String)> {
        let raw = (self.high - self.low) / count.max(1) as f64;
        let power = 10f64.powf(raw.log10().floor());
        let step =
            power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= raw * 0.999).unwrap_or(10.0);
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        let label = |value: f64| {
            let (value, step, unit) = match self.scale {
                Scale::Percent => (value * 100.0, step * 100.0, " %"),
                _ => (value, step, ""),
            };
            let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
            if value.abs() >= 1e5 || (value != 0.0 && step < 1e-4) {
                format!("{value:e}{unit}")
            } else {
                format!("{value:.decimals$}{unit}")
            }
        };
        (first..=last).map(|i| i as f64 * step).map(|v| (v, label(v))).collect()
    }

    fn decades(&self, count: usize) -> Vec<(f64, String)> {
        let (low, high) = (self.low.log10(), self.high.log10());
        let decades = (high - low).max(0.1);
        let every = (decades / count.max(1) as f64).ceil().max(1.0) as i32;
        // Less than two decades may hold no power of ten at all: 2 and 5 help out.
        let steps: &[f64] = if decades < 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let powers = (low.floor() as i32..=high.ceil() as i32).filter(|p| p.rem_euclid(every) == 0);
        powers
            .flat_map(|p| steps.iter().map(move |m| (m * 10f64.powi(p), format!("{m}e{p}"))))
            .filter(|(v, _)| *v >= self.low * 0.999 && *v <= self.high * 1.001)
            .map(|(v, label)| {
                (v, if (1e-2..1e4).contains(&v) { format!("{}", (v * 1e6).round() / 1e6) } else { label })
            })
            .collect()
    }
}

/// Draws the grid and its labels around `area`; `x` runs right and `y` up.
pub fn grid(sheet: &mut Sheet, area: Area, x: &Axis, y: &Axis) {
    const SIZE: f32 = 10.0;
    let (across, down) = (area.right - area.left, area.bottom - area.top);
    for (value, label) in x.ticks((across / 48.0) as usize) {
        let Some(t) = x.place(value) else { continue };
        let at = area.left + t * across;
        sheet.line([at, area.top], [at, area.bottom], 0.7, GRID);
        sheet.text(&label, [at, area.bottom + 14.0], SIZE, GREY, Align::Middle);
    }
    for (value, label) in y.ticks((down / 34.0) as usize) {
        let Some(t) = y.place(value) else { continue };
        let at = area.bottom - t * down;
        sheet.line([area.left, at], [area.right, at], 0.7, GRID);
        sheet.text(&label, [area.left - 6.0, at + 3.5], SIZE, GREY, Align::End);
    }
    sheet.line([area.left, area.bottom], [area.right, area.bottom], 1.0, GREY);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, low: f64, high: f64, count: usize) -> Vec<String> {
        Axis { scale, low, high }.ticks(count).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(Scale::Linear, 0.13, 2.1, 4), ["0.5", "1.0", "1.5", "2.0"]);
        assert_eq!(labels(Scale::Linear, -3.0, 31.0, 4), ["0", "10", "20", "30"]);
        assert_eq!(labels(Scale::Percent, 0.0, 1.0, 5), ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]);
        assert_eq!(labels(Scale::Percent, 0.93, 0.96, 3), ["93 %", "94 %", "95 %", "96 %"]);
        assert_eq!(labels(Scale::Log, 1e-6, 1.0, 4), ["1e-6", "1e-4", "0.01", "1"]);
        assert_eq!(labels(Scale::Log, 0.015, 0.3, 4), ["0.02", "0.05", "0.1", "0.2"]);
    }

    #[test]
    fn places_run_from_nought_to_one() {
        let log = Axis { scale: Scale::Log, low: 1e-4, high: 1e-2 };
        assert!((log.place(1e-3).unwrap() - 0.5).abs() < 1e-6);
        assert_eq!(log.place(0.0), None);
        assert_eq!(log.place(-1.0), None);
        let one = Axis::around(Scale::Linear, [2.0, f64::NAN], 0.05);
        assert_eq!((one.low, one.high), (1.0, 3.0));
        let none = Axis::around(Scale::Linear, [], 0.0);
        assert!(none.place(0.5).is_some() && !none.ticks(5).is_empty());
    }
}
