//! Scores of labels and numbers as tables.

use headstart::metrics::Interval;
use headstart::scored::{LabelScore, NumberScore, Scored};
use headstart_web::plot::text::number;

use super::table;

/// Prints what lies behind the headline of labels and numbers; of classes nothing.
pub fn print(scores: &Scored) {
    let share = |v: Option<f64>| v.map_or("–".into(), |v| format!("{v:.3}"));
    match scores {
        Scored::Classes(_) => {}
        Scored::Labels(s) => {
            println!(
                "F1 micro {:.4}, macro {:.4}; all labels right {:.4}; loss {:.4}",
                s.micro_f1, s.macro_f1, s.exact, s.loss
            );
            let row = |(name, e): (&String, &LabelScore)| {
                let c = &e.counts;
                let numbers = [e.ap, c.f1(), c.precision(), c.recall(), Some(e.threshold)].map(share);
                [vec![name.clone()], numbers.to_vec(), vec![(c.right + c.missed).to_string()]].concat()
            };
            let rows: Vec<_> = s.names.iter().zip(&s.each).take(50).map(row).collect();
            println!();
            let header = ["label", "AP", "F1", "precision", "recall", "threshold", "photos"];
            table::print(&header, &[false, true, true, true, true, true, true], &rows);
            if s.names.len() > rows.len() {
                println!("… and {} more labels", s.names.len() - rows.len());
            }
        }
        Scored::Numbers(s) => {
            let with = |(value, i): (f64, Interval)| {
                vec![number(value), format!("{}–{}", number(i.low), number(i.high))]
            };
            let row = |(name, e): (&String, &NumberScore)| {
                [vec![name.clone()], with(e.mae), with(e.rmse), with(e.r2)].concat()
            };
            let rows: Vec<_> = s.names.iter().zip(&s.each).map(row).collect();
            println!();
            let header = ["target", "MAE", "95 %", "RMSE", "95 %", "R²", "95 %"];
            table::print(&header, &[false, true, true, true, true, true, true], &rows);
        }
    }
}
