//! The photos the network got most wrong, and those it is surest of, as it saw them.

use headstart::evidence::{Evidence, Shown};
use headstart::image::{Key, decode};
use headstart::metrics::calibration::softmax;
use headstart::scored::{LabelScores, NumberScores, Scored};
use headstart::session::Scores;

use crate::html::{escape, file_name};
use crate::plot::text::number;
use crate::thumb;

/// Longer side of a thumbnail in pixels.
const SIDE: u32 = 200;
/// More numbers of one photo than this are not written below it.
const NUMBERS: usize = 3;

/// Both galleries.
pub fn section(evidence: &Evidence, scored: &Scored) -> String {
    let (worst, best, what) = match scored {
        Scored::Classes(_) => {
            ("Highest loss", "Right and surest", "the score of the class it was taken for comes from")
        }
        Scored::Labels(_) => {
            ("Highest loss", "All right and surest", "the score of the label in the last line comes from")
        }
        Scored::Numbers(_) => ("Farthest off", "Nearest", "a higher number comes from"),
    };
    let mapped = evidence.gallery.worst.iter().chain(&evidence.gallery.best).any(|s| s.map.is_some());
    let maps = if mapped {
        format!(" Orange is where {what} (class activation map); a photo without has no such place.")
    } else {
        String::new()
    };
    format!(
        "<p class=\"soft\">Cut as the network sees them.{maps}</p><h3>{worst}</h3>{}<h3>{best}</h3>{}",
        gallery(evidence, scored, &evidence.gallery.worst),
        gallery(evidence, scored, &evidence.gallery.best)
    )
}

fn gallery(evidence: &Evidence, scored: &Scored, shown: &[Shown]) -> String {
    if shown.is_empty() {
        return "<p>None.</p>".into();
    }
    let figures: String = shown.iter().filter_map(|s| figure(evidence, scored, s)).collect();
    let maps = if shown.iter().any(|s| s.map.is_some()) { " maps" } else { "" };
    format!("<div class=\"photos{maps}\">{figures}</div>\n")
}

/// `None` for a photo that has gone since.
fn figure(evidence: &Evidence, scored: &Scored, shown: &Shown) -> Option<String> {
    let file = &evidence.files[shown.picture];
    let whole = decode(file).ok()?;
    let seen = evidence.pipeline.pixels(&whole, Key::default());
    let place = escape(&file_name(file));
    let Caption { truth, said, remark } = match scored {
        Scored::Classes(scores) => of_class(scores, shown),
        Scored::Labels(scores) => of_labels(scores, shown),
        Scored::Numbers(scores) => of_numbers(scores, shown),
    };
    let alt = format!("{place}, {truth}");
    let image = format!("<img src=\"{}\" alt=\"{alt}\" loading=\"lazy\">", thumb::small(&seen, SIDE));
    let pictures = match &shown.map {
        Some(map) => format!(
            "<div class=\"pair\">{image}<img src=\"{}\" alt=\"where it looked\" loading=\"lazy\"></div>",
            thumb::heat(&seen, map, SIDE)
        ),
        None => image,
    };
    Some(format!(
        "<figure>{pictures}<figcaption>{said}<small>{place}</small><small>{remark}</small></figcaption></figure>\n"
    ))
}

/// What is written with a photo, as HTML: what it is, what the network said, and how far that is off.
struct Caption {
    truth: String,
    said: String,
    remark: String,
}

fn of_class(scores: &Scores, shown: &Shown) -> Caption {
    let classes = scores.classes.len();
    let name = |class: usize| escape(&scores.classes[class]);
    let (truth, said) = (scores.labels[shown.picture], shown.output);
    let row = &scores.logits[shown.picture * classes..][..classes];
    let sure = softmax(row, scores.temperature)[said];
    Caption {
        truth: format!("labelled {}", name(truth)),
        said: match truth == said {
            true => format!("<b>{}</b>", name(truth)),
            false => format!("<b>{}</b> taken for <b>{}</b>", name(truth), name(said)),
        },
        remark: format!("{:.1} % sure, loss {:.2}", 100.0 * sure, shown.loss),
    }
}

fn of_labels(scores: &LabelScores, shown: &Shown) -> Caption {
    let width = scores.names.len();
    let named = |label: usize| scores.is_named(shown.picture, label);
    let there = |label: usize| scores.is_there(shown.picture, label);
    let list = |keep: &dyn Fn(usize) -> bool| {
        let names = (0..width).filter(|i| keep(*i)).map(|i| format!("<b>{}</b>", escape(&scores.names[i])));
        names.collect::<Vec<_>>().join(", ")
    };
    let groups = [
        ("", list(&|i| there(i) && named(i))),
        ("missed ", list(&|i| there(i) && !named(i))),
        ("wrongly ", list(&|i| !there(i) && named(i))),
    ];
    let said: Vec<String> = groups
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(word, names)| format!("{word}{names}"))
        .collect();
    let truth: Vec<String> = (0..width).filter(|i| there(*i)).map(|i| escape(&scores.names[i])).collect();
    Caption {
        truth: if truth.is_empty() { "no label".into() } else { format!("labelled {}", truth.join(", ")) },
        said: if said.is_empty() { "no label, rightly".into() } else { said.join("; ") },
        remark: format!(
            "{}: {:.1} % sure; loss {:.2}",
            escape(&scores.names[shown.output]),
            100.0 * scores.probability(shown.picture, shown.output),
            shown.loss
        ),
    }
}

fn of_numbers(scores: &NumberScores, shown: &Shown) -> Caption {
    let width = scores.names.len();
    let of = |list: &[f64], i: usize| number(list[shown.picture * width + i]);
    let lines: Vec<String> = (0..width)
        .filter(|i| width <= NUMBERS || *i == shown.output)
        .map(|i| {
            let name = if width == 1 { String::new() } else { format!("{}: ", escape(&scores.names[i])) };
            format!("{name}<b>{}</b>, truly <b>{}</b>", of(&scores.predicted, i), of(&scores.truth, i))
        })
        .collect();
    let name = escape(&scores.names[shown.output]);
    Caption {
        truth: format!("{name} {}", of(&scores.truth, shown.output)),
        said: lines.join("<br>"),
        remark: format!("off by {:.2} deviations", shown.loss.sqrt()),
    }
}
