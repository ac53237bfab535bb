//! What the classifier was made of: epochs, data, frozen tensors, recipe, machine.

use headstart::session::Report;

use crate::charts::{by_epoch, headline};
use crate::findings;
use crate::html::{details, escape, list, prose, table, today};
use crate::plot::axis::Scale;
use crate::plot::text::number;
use crate::svg::{self, Chart, Line};

/// Loss and the number epochs are compared by, and the table of epochs.
pub fn curves(report: &Report) -> String {
    let line = |name: &str, f| Line { name: name.into(), points: by_epoch(report, f) };
    let draw = |title: &str, y: Scale, lines: Vec<Line>| {
        let (x_ticks, x_label) = (report.history.len().saturating_sub(1).clamp(1, 8), "epoch".to_string());
        svg::chart(&Chart {
            title: title.into(),
            x_label,
            x: Scale::Linear,
            y,
            x_ticks,
            lines,
            marks: vec![],
        })
    };
    let loss = vec![line("training", |r| r.train_loss), line("validation", |r| r.val_loss)];
    let best = vec![line("validation", |r| r.headline().1)];
    let (title, is_share) = headline(report);
    let name = report.history[report.best_epoch].headline().0;
    let rows: Vec<Vec<String>> = (report.history.iter().enumerate())
        .map(|(i, r)| {
            let mark = if i == report.best_epoch { " ★" } else { "" };
            let value = r.headline().1;
            vec![
                format!("{}{mark}", r.epoch + 1),
                escape(&r.phase_name),
                format!("{:.4}", r.train_loss),
                format!("{:.4}", r.val_loss),
                if is_share { format!("{:.2} %", 100.0 * value) } else { number(value) },
                format!("{:.1e}", r.lr),
                format!("{:.1}", r.seconds),
            ]
        })
        .collect();
    let header = ["epoch", "phase", "training loss", "validation loss", name, "rate", "seconds"];
    format!(
        "<div class=\"charts\">{}{}</div>\n{}",
        draw("Loss", Scale::Linear, loss),
        draw(
            &format!("{title} on validation photos"),
            if is_share { Scale::Percent } else { Scale::Linear },
            best
        ),
        details("Epoch by epoch", &table(&header, &[false, false, true, true, true, true, true], &rows)),
    )
}

/// The receipt of the data: counts, hash, what was left out, what the audit says.
pub fn data(report: &Report) -> String {
    let evidence = &report.evidence;
    let left_out: Vec<String> = (evidence.excluded.iter().map(|p| format!("{}: on the list", p.display())))
        .chain(report.unreadable.iter().map(|u| format!("{}: {}", u.path.display(), u.reason)))
        .collect();
    let left_out = match left_out.len() {
        0 => "<p>No file was left out.</p>".to_string(),
        n => details(&format!("{n} files left out"), &list(left_out, prose)),
    };
    format!(
        "{}{left_out}<p>SHA-256 of names, contents, parts and classes: <span class=\"hash\">{}</span></p>\n\
         <h3>Audit</h3>{}",
        findings::class_table(&evidence.audit.classes, evidence.audit.task),
        evidence.data_sha256,
        findings::list(&evidence.audit),
    )
}

/// The proof that frozen is frozen.
pub fn frozen(report: &Report) -> String {
    let kept = &report.evidence.kept;
    let rows: Vec<Vec<String>> = (kept.iter())
        .map(|k| {
            let words = match k.same {
                0 => "trained",
                same if same == k.tensors => "untouched",
                _ => "in part",
            };
            vec![escape(&k.group), format!("{} of {}", k.same, k.tensors), words.into()]
        })
        .collect();
    format!(
        "<p>After training, every tensor was compared with the one it started from, bit for bit. {} of {} are equal.</p>{}",
        kept.iter().map(|k| k.same).sum::<usize>(),
        kept.iter().map(|k| k.tensors).sum::<usize>(),
        table(&["group", "tensors equal to the source", ""], &[false, true, false], &rows)
    )
}

/// Network, machine, time, notes, recipe.
pub fn made(report: &Report, origin: &str) -> String {
    let machine = &report.evidence.machine;
    let memory =
        machine.memory.map_or(String::new(), |m| format!(", {:.0} GiB", m as f64 / (1_u64 << 30) as f64));
    let rows = vec![
        vec!["network".into(), escape(origin)],
        vec!["seed".into(), report.recipe.seed.to_string()],
        vec![
            "machine".into(),
            escape(&format!("{}, {} cores{memory}, {}", machine.cpu, machine.cores, machine.system)),
        ],
        vec!["time".into(), format!("{}, page written {}", super::time(report.seconds), today())],
        vec!["program".into(), format!("headstart {}", env!("CARGO_PKG_VERSION"))],
    ];
    let notes = if report.notes.is_empty() {
        String::new()
    } else {
        "<h3>Notes</h3>".to_string() + &list(&report.notes, prose)
    };
    format!(
        "{}{notes}<h3>Recipe</h3><p class=\"soft\">With every default written out; the same file, data and seed give the same \
         weights.</p><pre>{}</pre>",
        table(&["", ""], &[false, false], &rows),
        escape(&report.recipe.to_toml())
    )
}
