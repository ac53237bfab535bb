//! How far predicted numbers are from the true ones.

use headstart::metrics::Interval;
use headstart::scored::{NumberScore, NumberScores};

use super::Answers;
use crate::html::{escape, table, tile};
use crate::plot::text::number;
use crate::svg::{self, Scatter};

/// More targets than this have no chart of their own.
const CHARTS: usize = 12;

/// What the page says of a network that predicts numbers.
pub fn answers(scores: &NumberScores) -> Answers {
    let (lead, doubt) = match (&scores.names[..], &scores.each[..]) {
        ([name], [e]) => (
            format!(
                "{}: RMSE <b>{}</b> on {} validation photos",
                escape(name),
                number(e.rmse.0),
                scores.pictures
            ),
            format!("95 % interval {}. ", range(e.rmse.1)),
        ),
        (names, _) => (
            format!(
                "RMSE <b>{:.3}</b> standard deviations over {} targets on {} validation photos",
                scores.nrmse,
                names.len(),
                scores.pictures
            ),
            String::new(),
        ),
    };
    let explained = scores.each.iter().map(|e| e.r2.0).sum::<f64>() / scores.each.len() as f64;
    let remark = "0 for always saying the mean";
    let mut tiles = vec![tile(&format!("{explained:.3}"), "variance explained (R²)", remark)];
    if let ([_], [e]) = (&scores.names[..], &scores.each[..]) {
        let half = number(quantile(&distances(scores, 0), 0.5));
        tiles.push(tile(&number(e.mae.0), "mean distance", "from the true number"));
        tiles.push(tile(&half, "half are within", "of the true number"));
    }
    Answers {
        lead,
        doubt,
        tiles,
        parts: vec![
            ("agreement", "Predicted and true", charts(scores)),
            ("targets", "How far off", targets(scores)),
        ],
    }
}

fn charts(scores: &NumberScores) -> String {
    let draw = |(i, name): (usize, &String)| {
        svg::scatter(&Scatter {
            title: name.clone(),
            caption: format!("R² {:.3}", scores.each[i].r2.0),
            points: scores.pairs(i).collect(),
        })
    };
    let charts: String = scores.names.iter().enumerate().take(CHARTS).map(draw).collect();
    let rest = match scores.names.len().saturating_sub(CHARTS) {
        0 => String::new(),
        n => format!("<p class=\"soft\">{n} more targets are in <code>scatter.png</code>.</p>"),
    };
    format!(
        "<p class=\"soft\">A point a photo; on the line where the prediction is right.</p>\
         <div class=\"charts\">{charts}</div>\n{rest}"
    )
}

fn targets(scores: &NumberScores) -> String {
    let with = |(value, i): (f64, Interval)| format!("{}<small>{}</small>", number(value), range(i));
    let row = |(i, (name, e)): (usize, (&String, &NumberScore))| {
        let off = distances(scores, i);
        let within = [0.5, 0.9, 1.0].map(|share| number(quantile(&off, share)));
        let mut cells = vec![escape(name), with(e.mae), with(e.rmse), with(e.r2)];
        cells.extend(within);
        cells
    };
    let rows: Vec<Vec<String>> = scores.names.iter().zip(&scores.each).enumerate().map(row).collect();
    let header = [
        "target",
        "mean distance (MAE)",
        "RMSE",
        "R²",
        "half are within",
        "90 % are within",
        "the farthest is",
    ];
    format!(
        "<p class=\"soft\">Small numbers are 95 % intervals by bootstrap.</p>{}",
        table(&header, &[false, true, true, true, true, true, true], &rows)
    )
}

fn range(i: Interval) -> String {
    format!("{}–{}", number(i.low), number(i.high))
}

/// Distances of one target's predictions from the truth, nearest first.
fn distances(scores: &NumberScores, target: usize) -> Vec<f64> {
    let mut off: Vec<f64> = scores.pairs(target).map(|(t, p)| (t - p).abs()).collect();
    off.sort_by(f64::total_cmp);
    off
}

/// The smallest of the ascending numbers that at least `share` of them do not exceed; NaN of none. Not interpolated: the
/// page says that so many are within.
fn quantile(ascending: &[f64], share: f64) -> f64 {
    let place = (share * ascending.len() as f64).ceil() as usize;
    ascending.get(place.max(1) - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_hold_at_least_their_share() {
        let numbers = [1.0, 2.0, 3.0, 4.0, 10.0];
        let at = |share| quantile(&numbers, share);
        assert_eq!([at(0.0), at(0.5), at(0.8), at(0.9), at(1.0)], [1.0, 3.0, 4.0, 10.0, 10.0]);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
