//! The page of an audit: findings, pictures that are one, labels to look at, all with thumbnails.

use std::path::Path;

use headstart::audit::duplicates::{Group, Same};
use headstart::audit::finding::Severity;
use headstart::audit::labels::Suspect;
use headstart::audit::{Audit, Photo};
use headstart::image::decode;
use headstart::task::Task;

use crate::findings;
use crate::html::{document, escape, file_name, list, percent, prose, section, tile};
use crate::thumb;

/// Longer side of a thumbnail in pixels.
const SIDE: u32 = 200;
/// Groups and suspects shown; more would make a page nobody can load.
const SHOWN: usize = 200;
/// Pictures shown of one group.
const OF_GROUP: usize = 12;

/// Writes the page.
pub fn page(audit: &Audit) -> String {
    let title = format!("Audit of {}", audit.data.display());
    let (serious, warnings) = (audit.count(Severity::Serious), audit.count(Severity::Warning));
    let tiles = [
        tile(&audit.photos.len().to_string(), "photos", &audit.kinds()),
        tile(&serious.to_string(), "serious", "results would be wrong or photos are lost"),
        tile(&warnings.to_string(), "warnings", "worth a look"),
        tile(
            &audit.groups.iter().filter(|g| g.same != Same::Features).count().to_string(),
            "pictures there twice",
            "or more often",
        ),
        tile(
            &audit.suspects.len().to_string(),
            "labels to look at",
            &audit
                .probed
                .as_ref()
                .map_or("no features read".into(), |p| format!("by {}", file_name(Path::new(&p.weights)))),
        ),
    ];
    let mut body = section("findings", "Findings", &findings::list(audit));
    for (id, heading, wanted) in [
        ("across", "In several parts of the data", Kind::Across),
        ("labels", "One picture, labelled in two ways", Kind::TwoLabels),
        ("copies", "Copies within a part", Kind::Copies),
        ("alike", "Alike to the network", Kind::Alike),
    ] {
        let groups: Vec<&Group> = audit.groups.iter().filter(|g| Kind::of(g) == wanted).collect();
        if !groups.is_empty() {
            body += &section(id, heading, &groups_of(audit, &groups));
        }
    }
    if !audit.suspects.is_empty() {
        body += &section("suspects", "Labels to look at", &suspects(audit));
    }
    if !audit.unreadable.is_empty() {
        let lines = audit.unreadable.iter().map(|(name, reason)| format!("{name}: {reason}"));
        body += &section("unreadable", "Files that cannot be read", &list(lines, prose));
    }
    if !audit.classes.is_empty() {
        let heading = if audit.task == Task::Classify { "Classes" } else { "Labels" };
        body += &section("classes", heading, &findings::class_table(&audit.classes, audit.task));
    }
    let body = format!(
        "<header><h1>{}</h1>\n<p class=\"soft\">To leave out what cannot be read and all but one of each copy: \
         <code>headstart audit DATA --fix-list leave-out.csv</code>, then <code>headstart fit DATA --exclude leave-out.csv</code>.\
         </p><dl class=\"tiles\">{}</dl></header>\n<main>{body}</main>\n<footer>Headstart {}</footer>",
        escape(&title),
        tiles.concat(),
        env!("CARGO_PKG_VERSION"),
    );
    document(&title, &body)
}

/// Where a group is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Across,
    TwoLabels,
    Copies,
    Alike,
}

impl Kind {
    fn of(group: &Group) -> Self {
        match group {
            Group { same: Same::Features, .. } => Kind::Alike,
            Group { across: true, .. } => Kind::Across,
            Group { labels_differ: true, .. } => Kind::TwoLabels,
            _ => Kind::Copies,
        }
    }
}

fn groups_of(audit: &Audit, groups: &[&Group]) -> String {
    let mut sorted = groups.to_vec();
    // What crosses parts or labels first, then the most alike.
    sorted.sort_by(|a, b| {
        let key = |g: &Group| (!g.across, !g.labels_differ);
        key(a).cmp(&key(b)).then(b.similarity.unwrap_or(1.0).total_cmp(&a.similarity.unwrap_or(1.0)))
    });
    let one = |group: &&Group| {
        let photos: String = group.photos.iter().take(OF_GROUP).map(|i| shown(&audit.photos[*i])).collect();
        let more = match group.photos.len().saturating_sub(OF_GROUP) {
            0 => String::new(),
            n => format!("<p class=\"soft\">and {n} more</p>"),
        };
        let cosine = group.similarity.map_or(String::new(), |s| format!(", cosine {s:.3}"));
        format!(
            "<div class=\"group\"><b>{}</b>{cosine}<div class=\"photos\">{photos}</div>{more}</div>\n",
            group.same.words()
        )
    };
    let all: String = sorted.iter().take(SHOWN).map(one).collect();
    all + &rest(sorted.len())
}

fn shown(photo: &Photo) -> String {
    let part = photo.split.map_or("", |s| s.name());
    figure(photo, &format!("<b>{}</b> {part}", escape(&photo.marked.words)))
}

fn figure(photo: &Photo, words: &str) -> String {
    let source = decode(&photo.path).map(|p| thumb::small(&p, SIDE)).unwrap_or_default();
    let name = escape(&photo.name);
    format!(
        "<figure><img src=\"{source}\" alt=\"{name}\" loading=\"lazy\"><figcaption>{words}<small>{name}</small></figcaption></figure>\n"
    )
}

fn suspects(audit: &Audit) -> String {
    let one = |s: &Suspect| {
        let photo = &audit.photos[s.photo];
        let words = format!(
            "<b>{}</b> → <b>{}</b><small>believed {}, given label {}</small>",
            escape(&photo.marked.words),
            escape(&s.suggested),
            percent(Some(s.confidence)),
            percent(Some(s.given_probability))
        );
        figure(photo, &words)
    };
    let probe = audit.probed.as_ref().map_or(String::new(), |p| {
        let share = match audit.task {
            Task::Classify => "of photos it did not see as they are labelled",
            _ => "of the labels right on photos it did not see, present and absent ones weighed alike",
        };
        format!(
            "<p class=\"soft\">Given label → the one a probe on {} believes, the least believed label first. The probe names {} \
             {share}; by confident learning {} of the labels are wrong. A hard photo is a \
             suspect too: look before you relabel.</p>",
            escape(&p.weights),
            percent(Some(p.top1)),
            percent(Some(p.noise))
        )
    });
    let figures: String = audit.suspects.iter().take(SHOWN).map(one).collect();
    format!("{probe}<div class=\"photos\">{figures}</div>{}", rest(audit.suspects.len()))
}

fn rest(all: usize) -> String {
    match all.saturating_sub(SHOWN) {
        0 => String::new(),
        n => format!("<p>and {n} more; <code>--json</code> lists them all</p>"),
    }
}
