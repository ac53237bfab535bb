//! CLIP's byte-pair encoding: texts to the numbers its text tower reads.
//!
//! Sennrich, Haddow & Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL 2016, on bytes, with the
//! merges that OpenAI published with CLIP. Equal to `SimpleTokenizer` of open_clip with ftfy, as `tests/clip.rs` checks.

use std::collections::HashMap;
use std::sync::OnceLock;

use regex::Regex;

use super::clean::clean;

/// The merges, in the order in which they were learned.
const MERGES: &str = include_str!("../../assets/clip/bpe_merges.txt");

/// Words of single bytes: alone, and at the end of a word.
const BYTES: u32 = 256;
/// Opens a text.
pub const START: u32 = 49_406;
/// Closes a text; where it stands, the text tower's answer is read.
pub const END: u32 = 49_407;

/// Cuts texts into tokens.
#[derive(Debug)]
pub struct Tokenizer {
    pattern: Regex,
    /// The token of each byte.
    bytes: [u32; 256],
    /// Of two tokens side by side: when they were learned to be one, and its number.
    merges: HashMap<(u32, u32), (u32, u32)>,
}

impl Tokenizer {
    /// Returns the one tokenizer, made at the first call.
    pub fn get() -> &'static Self {
        static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
        TOKENIZER.get_or_init(Self::new)
    }

    fn new() -> Self {
        let letters = byte_letters();
        let mut names: HashMap<String, u32> = HashMap::new();
        let mut bytes = [0; 256];
        for (number, (byte, letter)) in (0..).zip(letters) {
            bytes[usize::from(byte)] = number;
            names.insert(letter.to_string(), number);
            names.insert(format!("{letter}</w>"), BYTES + number);
        }
        let pairs: Vec<(&str, &str)> = MERGES.lines().filter_map(|line| line.split_once(' ')).collect();
        // Two pairs may spell the same; the later number is the one in use.
        for (number, (first, second)) in (2 * BYTES..).zip(&pairs) {
            names.insert(format!("{first}{second}"), number);
        }
        let merge = |(rank, (first, second)): (u32, &(&str, &str))| {
            ((names[*first], names[*second]), (rank, names[&format!("{first}{second}")]))
        };
        // U+0345 is a mark whose capital is a letter; the reference, which ignores case, takes it for neither.
        let pattern = r"(?i:<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+";
        Self {
            pattern: Regex::new(pattern).expect("a pattern"),
            bytes,
            merges: (0..).zip(&pairs).map(merge).collect(),
        }
    }

    /// Returns the tokens of a text, as long as it is, without start and end.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let text = clean(text);
        let mut tokens = Vec::new();
        for word in self.pattern.find_iter(&text) {
            match word.as_str() {
                "<start_of_text>" => tokens.push(START),
                "<end_of_text>" => tokens.push(END),
                word => tokens.extend(self.word(word)),
            }
        }
        tokens
    }

    /// Returns a text between start and end, cut to `length` tokens.
    pub fn read(&self, text: &str, length: usize) -> Vec<u32> {
        let mut tokens = vec![START];
        tokens.extend(self.encode(text));
        tokens.truncate(length - 1);
        tokens.push(END);
        tokens
    }

    /// Joins the bytes of a word, the earliest learned pair first.
    fn word(&self, word: &str) -> Vec<u32> {
        let mut tokens: Vec<u32> = word.bytes().map(|b| self.bytes[usize::from(b)]).collect();
        if let Some(last) = tokens.last_mut() {
            *last += BYTES;
        }
        loop {
            let pairs = tokens.windows(2).filter_map(|pair| {
                let (rank, joined) = self.merges.get(&(pair[0], pair[1]))?;
                Some((*rank, *joined, (pair[0], pair[1])))
            });
            let Some((_, joined, pair)) = pairs.min() else { return tokens };
            let mut next = Vec::with_capacity(tokens.len());
            let mut at = 0;
            while at < tokens.len() {
                let here = tokens.get(at + 1).is_some_and(|second| (tokens[at], *second) == pair);
                next.push(if here { joined } else { tokens[at] });
                at += if here { 2 } else { 1 };
            }
            tokens = next;
        }
    }
}

/// Lists the bytes in the order of their tokens, each with the letter that stands for it among the merges: itself where
/// it is one in Latin-1, the next beyond Latin-1 where it is blank or a control.
fn byte_letters() -> Vec<(u8, char)> {
    let shown = |b: &u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let own = (0..=u8::MAX).filter(shown).map(|b| (b, char::from(b)));
    let hidden = (0..=u8::MAX).filter(|b| !shown(b));
    let beyond = hidden.zip('\u{100}'..).collect::<Vec<_>>();
    own.chain(beyond).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts_have_known_tokens() {
        // From the reference.
        let tokenizer = Tokenizer::get();
        assert_eq!(tokenizer.encode("a diagram"), [320, 22697]);
        assert_eq!(tokenizer.encode("Hello world!"), [3306, 1002, 256]);
        assert_eq!(tokenizer.merges.len(), 48_894);
    }

    #[test]
    fn a_long_text_is_cut_and_closed() {
        let tokens = Tokenizer::get().read(&"dog ".repeat(100), 77);
        assert_eq!((tokens.len(), tokens[0], tokens[76]), (77, START, END));
        assert_eq!(Tokenizer::get().read("", 77), [START, END]);
    }
}
