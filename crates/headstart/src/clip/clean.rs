//! What CLIP does to a text before it cuts it into tokens: repair, HTML, white space, small letters.
//!
//! The repair is that of ftfy 6.3 (Speer 2019), which the reference calls, but for one step: it does not guess
//! which encoding a garbled text ("voilÃ ") was read in.

use std::borrow::Cow;
use std::sync::OnceLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::entities::{unescape, unescape_certain, windows_1252};

/// Ligatures and digraphs of Latin letters that are slips of copying rather than spelling.
const LIGATURES: [(char, &str); 22] = [
    ('Ĳ', "IJ"),
    ('ĳ', "ij"),
    ('ŉ', "ʼn"),
    ('Ǳ', "DZ"),
    ('ǲ', "Dz"),
    ('ǳ', "dz"),
    ('Ǆ', "DŽ"),
    ('ǅ', "Dž"),
    ('ǆ', "dž"),
    ('Ǉ', "LJ"),
    ('ǈ', "Lj"),
    ('ǉ', "lj"),
    ('Ǌ', "NJ"),
    ('ǋ', "Nj"),
    ('ǌ', "nj"),
    ('ﬀ', "ff"),
    ('ﬁ', "fi"),
    ('ﬂ', "fl"),
    ('ﬃ', "ffi"),
    ('ﬄ', "ffl"),
    ('ﬅ', "ſt"),
    ('ﬆ', "st"),
];

/// Prepares a text for the tokenizer.
pub(super) fn clean(text: &str) -> String {
    let text = unescape(&unescape(&repair(text)));
    // Python counts U+001C to U+001F as white space, Unicode does not.
    let blank = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    let words: Vec<&str> = text.split(blank).filter(|word| !word.is_empty()).collect();
    words.join(" ").to_lowercase()
}

/// Repairs line by line; the first `<` says that the rest is markup, whose references stand for themselves.
fn repair(text: &str) -> String {
    let mut markup = false;
    text.split_inclusive('\n')
        .map(|line| {
            markup |= line.contains('<');
            repair_line(line, !markup)
        })
        .collect()
}

/// Repairs until nothing changes: what one step brings to light may be another's business.
fn repair_line(line: &str, references: bool) -> String {
    static ESCAPES: OnceLock<Regex> = OnceLock::new();
    let escapes = ESCAPES.get_or_init(|| Regex::new(r"\x1b\[[\d;]*[a-zA-Z]").expect("a pattern"));
    let mut text = line.to_string();
    loop {
        let unescaped = if references { Cow::Owned(unescape_certain(&text)) } else { Cow::Borrowed(&*text) };
        let mut plain = String::with_capacity(unescaped.len());
        unescaped.chars().for_each(|c| straighten(c, &mut plain));
        let lines = plain.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n");
        let shown: String = escapes.replace_all(&lines, "").chars().filter(|c| !is_hidden(*c)).collect();
        let composed: String = shown.nfc().collect();
        if composed == text {
            return text;
        }
        text = composed;
    }
}

/// Writes what a single character was meant to be: C1 controls, ligatures, widths, quotes.
fn straighten(c: char, out: &mut String) {
    let c = windows_1252(c).unwrap_or(c);
    if let Some((_, letters)) = LIGATURES.iter().find(|(ligature, _)| *ligature == c) {
        out.push_str(letters);
        return;
    }
    match c {
        '\u{3000}' => out.push(' '),
        '\u{ff01}'..='\u{ffef}' => out.extend(std::iter::once(c).nfkc()),
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => out.push('\''),
        '\u{201c}'..='\u{201f}' => out.push('"'),
        _ => out.push(c),
    }
}

/// Tells control characters without white space from the rest.
fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{8}'
            | '\u{b}'
            | '\u{e}'..='\u{1f}'
            | '\u{7f}'
            | '\u{206a}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffc}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_repaired_as_in_the_reference() {
        for (text, expected) in [
            ("  A  Photo\n of ", "a photo of"),
            ("ＬＯＵＤ　ＮＯＩＳＥＳ", "loud noises"),
            ("Ｕﾀｰﾝ", "uターン"),
            ("‘ﬂuﬃeﬆ’ “it”", "'fluffiest' \"it\""),
            ("e\u{301}te\u{301}", "été"),
            ("\u{1b}[31mred\u{1b}[0m\u{7}", "red"),
            ("x\u{80}y\u{85}z", "x€y…z"),
            ("a&lt;b&amp;amp;", "a<b&"),
            // Markup keeps its references in the first step; the second takes them all the same.
            ("<b>&EACUTE;", "<b>&eacute;"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ] {
            assert_eq!(clean(text), expected, "{text}");
        }
    }
}
