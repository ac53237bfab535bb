//! The photos the network got most wrong, and those it is surest of, as it saw them.

use headstart::evidence::{Evidence, Shown};
use headstart::image::{Key, decode};
use headstart::session::Scores;

use crate::html::escape;
use crate::thumb;

/// Longer side of a thumbnail in pixels.
const SIDE: u32 = 200;

/// Both galleries.
pub fn section(evidence: &Evidence, scores: &Scores) -> String {
    let mapped = evidence.gallery.worst.iter().chain(&evidence.gallery.best).any(|s| s.map.is_some());
    let maps = if mapped {
        " Orange is where the score of the class it was taken for comes from (class activation map)."
    } else {
        ""
    };
    format!(
        "<p class=\"soft\">Cut as the network sees them.{maps}</p><h3>Highest loss</h3>{}<h3>Right and surest</h3>{}",
        gallery(evidence, scores, &evidence.gallery.worst),
        gallery(evidence, scores, &evidence.gallery.best)
    )
}

fn gallery(evidence: &Evidence, scores: &Scores, shown: &[Shown]) -> String {
    if shown.is_empty() {
        return "<p>None.</p>".into();
    }
    let figures: String = shown.iter().filter_map(|s| figure(evidence, scores, s)).collect();
    let maps = if shown.iter().any(|s| s.map.is_some()) { " maps" } else { "" };
    format!("<div class=\"photos{maps}\">{figures}</div>\n")
}

/// `None` for a photo that has gone since.
fn figure(evidence: &Evidence, scores: &Scores, shown: &Shown) -> Option<String> {
    let file = &evidence.files[shown.picture];
    let whole = decode(file).ok()?;
    let seen = evidence.pipeline.pixels(&whole, Key::default());
    let name = |class: usize| escape(&scores.classes[class]);
    let truth = scores.labels[shown.picture];
    let said = match truth == shown.predicted {
        true => format!("<b>{}</b>", name(truth)),
        false => format!("<b>{}</b> taken for <b>{}</b>", name(truth), name(shown.predicted)),
    };
    let place = escape(&file.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()));
    let alt = format!("{}, labelled {}", place, name(truth));
    let image = format!("<img src=\"{}\" alt=\"{alt}\" loading=\"lazy\">", thumb::small(&seen, SIDE));
    let pictures = match &shown.map {
        Some(map) => format!(
            "<div class=\"pair\">{image}<img src=\"{}\" alt=\"where it looked\" loading=\"lazy\"></div>",
            thumb::heat(&seen, map, SIDE)
        ),
        None => image,
    };
    Some(format!(
        "<figure>{pictures}<figcaption>{said}<small>{:.1} % sure, loss {:.2}</small><small>{place}</small></figcaption></figure>\n",
        100.0 * shown.confidence,
        shown.loss
    ))
}
