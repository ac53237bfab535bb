//! HTML's character references, in two strengths: what browsers make of them, and only those beyond doubt.

use std::collections::HashMap;
use std::sync::OnceLock;

use regex::{Captures, Regex};

/// Names and code points, from the HTML standard.
const TABLE: &str = include_str!("../../assets/clip/html_entities.txt");

/// What bytes 0x80 to 0x9f mean in Windows-1252; those without a meaning stand for themselves.
const WINDOWS_1252: [u32; 32] = [
    0x20ac, 0x81, 0x201a, 0x192, 0x201e, 0x2026, 0x2020, 0x2021, 0x2c6, 0x2030, 0x160, 0x2039, 0x152, 0x8d,
    0x17d, 0x8f, 0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x2dc, 0x2122, 0x161, 0x203a,
    0x153, 0x9d, 0x17e, 0x178,
];

/// Returns what was meant by a control character of Latin-1, U+0080 to U+009F.
pub(super) fn windows_1252(c: char) -> Option<char> {
    let index = (c as u32).checked_sub(0x80)? as usize;
    WINDOWS_1252.get(index).and_then(|&point| char::from_u32(point))
}

fn html5() -> &'static HashMap<&'static str, String> {
    static NAMES: OnceLock<HashMap<&'static str, String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let line = |line: &'static str| {
            let (name, points) = line.split_once(' ').expect("a name and its points");
            let point = |p: &str| char::from_u32(u32::from_str_radix(p, 16).expect("hexadecimal"));
            (name, points.split(',').map(|p| point(p).expect("a character")).collect())
        };
        TABLE.lines().map(line).collect()
    })
}

/// Names ending in `;`, and those of small letters in capitals too where that is no other name.
fn certain() -> &'static HashMap<String, String> {
    static NAMES: OnceLock<HashMap<String, String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut names = HashMap::new();
        for (name, text) in html5().iter().filter(|(name, _)| name.ends_with(';')) {
            names.insert((*name).to_string(), text.clone());
            let capitals = name.to_uppercase();
            if *name == name.to_lowercase() && unescape(&format!("&{capitals}")) == format!("&{capitals}") {
                names.insert(capitals, text.to_uppercase());
            }
        }
        names
    })
}

/// Replaces every reference as browsers do, those without their semicolon included: Python's `html.unescape`.
pub(super) fn unescape(text: &str) -> String {
    static PATTERN: OnceLock<Regex> = OnceLock::new();
    let pattern = PATTERN.get_or_init(|| {
        Regex::new(r"&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\x0c <&#;]{1,32};?)").expect("a pattern")
    });
    pattern.replace_all(text, |found: &Captures<'_>| reference(&found[1])).into_owned()
}

/// Replaces numbers and names that end in a semicolon: "this&not that" stays as it is.
pub(super) fn unescape_certain(text: &str) -> String {
    static PATTERN: OnceLock<Regex> = OnceLock::new();
    let pattern = PATTERN.get_or_init(|| Regex::new("&#?[0-9A-Za-z]{1,24};").expect("a pattern"));
    let replace = |found: &Captures<'_>| {
        let whole = &found[0];
        match certain().get(&whole[1..]) {
            Some(text) => text.clone(),
            None if whole.starts_with("&#") => match unescape(whole) {
                // Only a part of it was a reference.
                text if text.contains(';') => whole.to_string(),
                text => text,
            },
            None => whole.to_string(),
        }
    };
    pattern.replace_all(text, replace).into_owned()
}

/// Resolves what stands after the `&`.
fn reference(name: &str) -> String {
    if let Some(digits) = name.strip_prefix('#') {
        let digits = digits.trim_end_matches(';');
        let number = match digits.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        // A number too long for 32 bits is no character either.
        return number.map_or("\u{fffd}".into(), point);
    }
    if let Some(text) = html5().get(name) {
        return text.clone();
    }
    // The longest beginning that is a name, of two characters or more.
    let cuts: Vec<usize> = name.char_indices().map(|(at, _)| at).skip(2).collect();
    let known = cuts.into_iter().rev().find_map(|at| Some((html5().get(&name[..at])?, at)));
    match known {
        Some((text, at)) => format!("{text}{}", &name[at..]),
        None => format!("&{name}"),
    }
}

/// Turns a number into text: bytes of Windows-1252 are taken as such, what is no character is dropped.
fn point(number: u32) -> String {
    match number {
        0 => "\u{fffd}".into(),
        0x0d => "\r".into(),
        0x80..=0x9f => windows_1252(char::from_u32(number).expect("below U+00A0")).into_iter().collect(),
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => String::new(),
        _ if number & 0xfffe == 0xfffe && number <= 0x10_ffff => String::new(),
        _ => char::from_u32(number).map_or("\u{fffd}".into(), String::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_forgive_more_than_is_certain() {
        // The right column is what Python's `html.unescape` and ftfy's `unescape_html` give.
        for (text, all, certain) in [
            ("&eacute;t&eacute", "été", "ét&eacute"),
            ("this&not that", "this¬ that", "this&not that"),
            ("&notit;", "¬it;", "&notit;"),
            ("P&EACUTE;REZ", "P&EACUTE;REZ", "PÉREZ"),
            ("&SZLIG;", "&SZLIG;", "SS"),
            ("&#128;&#x1F600;&#0;", "€😀\u{fffd}", "€😀\u{fffd}"),
            ("&#1;&#xffff;&#x110000;&#99999999999;", "\u{fffd}\u{fffd}", "\u{fffd}\u{fffd}"),
            ("&acE;&NewLine;", "∾̳\n", "∾̳\n"),
            ("&;&&unknown;", "&;&&unknown;", "&;&&unknown;"),
        ] {
            assert_eq!(unescape(text), all, "{text}");
            assert_eq!(unescape_certain(text), certain, "{text}");
        }
    }
}
