//! What is odd about single files: colours, orientation, names, sizes.

use std::collections::BTreeMap;

use super::Photo;
use super::finding::{Finding, Severity, count};
use crate::image::Mode;

/// A side below this has less to show than the smallest networks take.
const SMALL: u32 = 32;
/// More pixels than this cost seconds to decode and are resized away.
const LARGE: u64 = 40_000_000;
/// A longer side of this many shorter ones loses most of the picture to a centre crop.
const LONG: f64 = 3.0;

/// Looks at each photo's header.
pub fn findings(photos: &[Photo]) -> Vec<Finding> {
    let files = |wanted: &dyn Fn(&Photo) -> bool| {
        photos.iter().filter(|p| wanted(p)).map(|p| p.name.clone()).collect::<Vec<String>>()
    };
    let mut all = Vec::new();
    let mut say = |kind, severity, one: &str, many: &str, files: Vec<String>| {
        if !files.is_empty() {
            all.push(Finding::new(kind, severity, count(files.len(), one, many), files));
        }
    };
    let mut modes: BTreeMap<Mode, usize> = BTreeMap::new();
    photos.iter().for_each(|p| *modes.entry(p.seen.header.mode).or_default() += 1);
    // All alike is how the data is; a mixture may tell the classes apart without a look at the scene.
    let severity = if modes.len() > 1 { Severity::Warning } else { Severity::Note };
    for mode in modes.keys().filter(|m| **m != Mode::Rgb) {
        let (kind, effect) = match mode {
            Mode::Alpha => ("alpha", ": transparency is dropped"),
            Mode::Deep => ("deep", ": the high byte is kept"),
            Mode::Cmyk => ("cmyk", ": converted, colours may be off"),
            Mode::Palette => ("palette", ""),
            Mode::Float => ("float", ""),
            Mode::Grey | Mode::Bilevel => ("grey", ""),
            Mode::Rgb => continue,
        };
        let words = mode.words();
        let texts =
            (format!("photo is stored as {words}{effect}"), format!("photos are stored as {words}{effect}"));
        say(kind, severity, &texts.0, &texts.1, files(&|p| p.seen.header.mode == *mode));
    }
    say(
        "turned",
        Severity::Note,
        "photo is turned by its EXIF orientation, which is applied here; many tools ignore it",
        "photos are turned by their EXIF orientation, which is applied here; many tools ignore it",
        files(&|p| p.seen.header.turned),
    );
    say(
        "misnamed",
        Severity::Warning,
        "photo has a name of another format than its content",
        "photos have names of other formats than their content",
        files(&|p| !p.seen.header.named_right),
    );
    let sides = |p: &Photo| (p.seen.header.width, p.seen.header.height);
    say(
        "small",
        Severity::Warning,
        &format!("photo has a side under {SMALL} pixels"),
        &format!("photos have a side under {SMALL} pixels"),
        files(&|p| sides(p).0.min(sides(p).1) < SMALL),
    );
    say(
        "large",
        Severity::Note,
        &format!("photo has more than {} million pixels and decodes slowly", LARGE / 1_000_000),
        &format!("photos have more than {} million pixels and decode slowly", LARGE / 1_000_000),
        files(&|p| u64::from(sides(p).0) * u64::from(sides(p).1) > LARGE),
    );
    say(
        "long",
        Severity::Warning,
        "photo is more than three times as long as wide: a centre crop shows less than a third of it",
        "photos are more than three times as long as wide: a centre crop shows less than a third of them",
        files(&|p| {
            let (w, h) = sides(p);
            f64::from(w.max(h)) > LONG * f64::from(w.min(h))
        }),
    );
    all
}
