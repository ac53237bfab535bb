//! The text form of a pipeline: `name(arg, key=arg) | name | …`, read with columns for messages.
//!
//! Arguments are numbers, ranges `a..b`, filter names and `#rrggbb` colours; each may be given by
//! position or by name. To add an operation: an arm in [`read_op`], one in `Display`, its name in
//! [`NAMES`].

use std::fmt;
use std::str::FromStr;

use super::augment::Jitter;
use super::resize::Interp;
use super::transform::{Op, Pipeline};
use crate::error::{Error, Result};

/// Every operation's name.
const NAMES: [&str; 16] = [
    "channels",
    "resize_short",
    "resize_long",
    "resize",
    "center_crop",
    "pad",
    "random_resized_crop",
    "random_crop",
    "flip_lr",
    "flip_ud",
    "rotate",
    "color_jitter",
    "rand_augment",
    "trivial_augment",
    "normalize",
    "erasing",
];

/// Named statistics for `normalize`.
const STATISTICS: [(&str, [f32; 3], [f32; 3]); 2] =
    [("imagenet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), ("inception", [0.5; 3], [0.5; 3])];

/// Sides beyond this are surely a slip of the keyboard.
const MAX_SIDE: f32 = 16_384.0;

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, op) in self.ops().iter().enumerate() {
            write!(f, "{}{op}", if at == 0 { "" } else { " | " })?;
        }
        Ok(())
    }
}

impl From<Pipeline> for String {
    fn from(pipeline: Pipeline) -> String {
        pipeline.to_string()
    }
}

impl TryFrom<String> for Pipeline {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Pipeline {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let ops = pieces(text, '|', 0).into_iter().map(|(column, piece)| read_op(column, piece));
        Pipeline::new(ops.collect::<Result<_>>()?)
    }
}

impl FromStr for Op {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let (column, text) = pieces(text, '|', 0)[0];
        read_op(column, text)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Op::Channels { n } => write!(f, "channels({n})"),
            Op::ResizeShort { size, interp, rounds } => {
                let side = if rounds { ", side=round" } else { "" };
                write!(f, "resize_short({size}, {}{side})", interp.name())
            }
            Op::ResizeLong { size, interp } => write!(f, "resize_long({size}, {})", interp.name()),
            Op::Resize { height, width, interp } => write!(f, "resize({height}, {width}, {})", interp.name()),
            Op::CenterCrop { size, fill, floors } => {
                let offset = if floors { ", offset=floor" } else { "" };
                write!(f, "center_crop({size}{}{offset})", Fill(fill))
            }
            Op::Pad { border, fill } => write!(f, "pad({border}{})", Fill(fill)),
            Op::RandomResizedCrop { size, scale: [a, b], ratio: [c, d], interp } => {
                write!(f, "random_resized_crop({size}, scale={a}..{b}, ratio={c}..{d}, {})", interp.name())
            }
            Op::RandomCrop { size } => write!(f, "random_crop({size})"),
            Op::FlipLr { p } => write!(f, "flip_lr({p})"),
            Op::FlipUd { p } => write!(f, "flip_ud({p})"),
            Op::Rotate { degrees, interp } => write!(f, "rotate({degrees}, {})", interp.name()),
            Op::ColorJitter(Jitter { brightness: b, contrast: c, saturation: s, hue: h }) => {
                write!(f, "color_jitter({b}, {c}, {s}, {h})")
            }
            Op::RandAugment { n, m } => write!(f, "rand_augment({n}, {m})"),
            Op::TrivialAugment => write!(f, "trivial_augment"),
            Op::Erasing { p } => write!(f, "erasing({p})"),
            Op::Normalize { mean, std } => match STATISTICS.iter().find(|s| (s.1, s.2) == (mean, std)) {
                Some((name, ..)) => write!(f, "normalize({name})"),
                None => {
                    let ([a, b, c], [x, y, z]) = (mean, std);
                    write!(f, "normalize({a}, {b}, {c}; {x}, {y}, {z})")
                }
            },
        }
    }
}

/// Prints a colour argument unless it is black, the default.
struct Fill([u8; 3]);

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [0, 0, 0] => Ok(()),
            [r, g, b] => write!(f, ", fill=#{r:02x}{g:02x}{b:02x}"),
        }
    }
}

fn bad(column: usize, what: String, hint: impl Into<String>) -> Error {
    Error::BadRecipe { place: format!("transform, column {}", column + 1), what, hint: hint.into() }
}

/// Splits and trims, telling the column (in characters) where each piece starts.
fn pieces(text: &str, separator: char, start: usize) -> Vec<(usize, &str)> {
    let mut column = start;
    let piece = |piece: &'_ str| {
        let lead = piece.chars().take_while(|c| c.is_whitespace()).count();
        let at = column + lead;
        column += piece.chars().count() + 1;
        at
    };
    let columns: Vec<usize> = text.split(separator).map(piece).collect();
    columns.into_iter().zip(text.split(separator).map(str::trim)).collect()
}

fn read_op(column: usize, text: &str) -> Result<Op> {
    let (name, inner) = match text.split_once('(') {
        None => (text, ""),
        Some((name, rest)) => match rest.trim_end().strip_suffix(')') {
            Some(inner) => (name.trim_end(), inner),
            None => {
                return Err(bad(column, format!("`{text}` has no closing `)`"), "write `name(arguments)`"));
            }
        },
    };
    if name.is_empty() {
        return Err(bad(column, "an operation is missing".into(), "write one between any two `|`"));
    }
    let start = text.find('(').map_or(column, |at| column + text[..=at].chars().count());
    if name == "normalize" {
        return read_normalize(start, inner);
    }
    let mut args = Args::new(start, inner);
    let op = match name {
        "channels" => Op::Channels { n: args.whole("n", None, 1.0, 64.0)? },
        "resize_short" => {
            let rounds = args.choice("side", ["cut", "round"])? == 1;
            let interp = args.interp(Interp::Bilinear)?;
            Op::ResizeShort { size: args.side("size")?, interp, rounds }
        }
        "resize_long" => {
            let interp = args.interp(Interp::Bilinear)?;
            Op::ResizeLong { size: args.side("size")?, interp }
        }
        "resize" => {
            let interp = args.interp(Interp::Bilinear)?;
            Op::Resize { height: args.side("height")?, width: args.side("width")?, interp }
        }
        "center_crop" => {
            let floors = args.choice("offset", ["round", "floor"])? == 1;
            Op::CenterCrop { size: args.side("size")?, fill: args.color("fill")?, floors }
        }
        "pad" => Op::Pad { border: args.side("border")?, fill: args.color("fill")? },
        "random_resized_crop" => {
            let interp = args.interp(Interp::Bilinear)?;
            let size = args.side("size")?;
            let scale = args.range("scale", [0.08, 1.0], 1.0)?;
            let ratio = args.range("ratio", [0.75, 4.0 / 3.0], 1000.0)?;
            Op::RandomResizedCrop { size, scale, ratio, interp }
        }
        "random_crop" => Op::RandomCrop { size: args.side("size")? },
        "flip_lr" => Op::FlipLr { p: args.number("p", Some(0.5), 0.0, 1.0)? },
        "flip_ud" => Op::FlipUd { p: args.number("p", Some(0.5), 0.0, 1.0)? },
        "rotate" => {
            let interp = args.interp(Interp::Nearest)?;
            Op::Rotate { degrees: args.number("degrees", None, 0.0, 360.0)?, interp }
        }
        "color_jitter" => Op::ColorJitter(Jitter {
            brightness: args.number("brightness", Some(0.0), 0.0, 100.0)?,
            contrast: args.number("contrast", Some(0.0), 0.0, 100.0)?,
            saturation: args.number("saturation", Some(0.0), 0.0, 100.0)?,
            hue: args.number("hue", Some(0.0), 0.0, 0.5)?,
        }),
        "rand_augment" => Op::RandAugment {
            n: args.whole("n", Some(2.0), 0.0, 100.0)?,
            m: args.whole("m", Some(9.0), 0.0, 30.0)?,
        },
        "trivial_augment" => Op::TrivialAugment,
        "erasing" => Op::Erasing { p: args.number("p", Some(0.25), 0.0, 1.0)? },
        other => {
            let hint = match nearest(other, NAMES) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("known: {}", NAMES.join(", ")),
            };
            return Err(bad(column, format!("no operation is called `{other}`"), hint));
        }
    };
    args.finish(name)?;
    Ok(op)
}

/// Reads `imagenet`, `inception` or `mean, mean, mean; std, std, std`.
fn read_normalize(column: usize, inner: &str) -> Result<Op> {
    let word = inner.trim();
    if let Some(&(_, mean, std)) = STATISTICS.iter().find(|s| s.0 == word) {
        return Ok(Op::Normalize { mean, std });
    }
    let hint =
        "write `normalize(imagenet)`, `normalize(inception)` or `normalize(0.5, 0.5, 0.5; 0.5, 0.5, 0.5)`";
    let parts = pieces(inner, ';', column);
    let [mean, std] = parts.as_slice() else {
        return Err(bad(column, format!("`{word}` is no mean and standard deviation"), hint));
    };
    let three = |&(column, list): &(usize, &str)| -> Result<[f32; 3]> {
        let numbers: Option<Vec<f32>> = list.split(',').map(|n| n.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[a, b, c]) if [a, b, c].iter().all(|v| v.is_finite()) => Ok([a, b, c]),
            Some(&[a]) if a.is_finite() => Ok([a; 3]),
            _ => Err(bad(column, format!("`{list}` is not three numbers"), hint)),
        }
    };
    let (mean, deviations) = (three(mean)?, three(std)?);
    if deviations.iter().any(|&s| s <= 0.0) {
        return Err(bad(std.0, "a standard deviation must be above 0".into(), hint));
    }
    Ok(Op::Normalize { mean, std: deviations })
}

/// The arguments of one operation, taken one by one.
struct Args<'a> {
    column: usize,
    /// Column, name if given, value.
    left: Vec<(usize, Option<&'a str>, &'a str)>,
}

impl<'a> Args<'a> {
    fn new(column: usize, inner: &'a str) -> Self {
        let read = |(column, piece): (usize, &'a str)| match piece.split_once('=') {
            Some((name, value)) => (column, Some(name.trim()), value.trim()),
            None => (column, None, piece),
        };
        let left = match inner.trim() {
            "" => vec![],
            _ => pieces(inner, ',', column).into_iter().map(read).collect(),
        };
        Args { column, left }
    }

    /// Takes the argument called `name`, or the first without a name.
    fn take(&mut self, name: &str) -> Option<(usize, &'a str)> {
        let named = self.left.iter().position(|a| a.1 == Some(name));
        let at = named.or_else(|| self.left.iter().position(|a| a.1.is_none()))?;
        let (column, _, value) = self.left.remove(at);
        Some((column, value))
    }

    fn number(&mut self, name: &str, default: Option<f32>, low: f32, high: f32) -> Result<f32> {
        let Some((column, text)) = self.take(name) else {
            return default
                .ok_or_else(|| bad(self.column, format!("`{name}` is missing"), "give it as a number"));
        };
        match text.parse::<f32>() {
            Ok(v) if (low..=high).contains(&v) => Ok(v),
            _ => Err(bad(
                column,
                format!("`{name}` cannot be `{text}`"),
                format!("give a number from {low} to {high}"),
            )),
        }
    }

    fn whole(&mut self, name: &str, default: Option<f32>, low: f32, high: f32) -> Result<u32> {
        let column = self.left.first().map_or(self.column, |a| a.0);
        let value = self.number(name, default, low, high)?;
        if value.fract() != 0.0 {
            return Err(bad(column, format!("`{name}` cannot be `{value}`"), "give a whole number"));
        }
        Ok(value as u32)
    }

    fn side(&mut self, name: &str) -> Result<u32> {
        self.whole(name, None, 1.0, MAX_SIDE)
    }

    /// Takes a range `a..b` with `0 < a ≤ b ≤ most`.
    fn range(&mut self, name: &str, default: [f32; 2], most: f32) -> Result<[f32; 2]> {
        let Some((column, text)) = self.take(name) else { return Ok(default) };
        let ends =
            text.split_once("..").and_then(|(a, b)| Some([a.trim().parse().ok()?, b.trim().parse().ok()?]));
        match ends {
            Some([a, b]) if a > 0.0 && a <= b && b <= most => Ok([a, b]),
            _ => Err(bad(
                column,
                format!("`{name}` cannot be `{text}`"),
                format!(
                    "give a range such as `{name}={}..{}`, above 0 and at most {most}",
                    default[0], default[1]
                ),
            )),
        }
    }

    /// Takes the filter: by name, or whichever positional argument starts with a letter.
    fn interp(&mut self, default: Interp) -> Result<Interp> {
        let is_word = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
        let at = self.left.iter().position(|a| a.1 == Some("interp") || (a.1.is_none() && is_word(a.2)));
        let Some(at) = at else { return Ok(default) };
        let (column, _, text) = self.left.remove(at);
        Interp::NAMES.iter().find(|(name, _)| *name == text).map(|&(_, interp)| interp).ok_or_else(|| {
            let names = Interp::NAMES.map(|(name, _)| name);
            let hint = match nearest(text, names) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("known: {}", names.join(", ")),
            };
            bad(column, format!("no filter is called `{text}`"), hint)
        })
    }

    /// Takes a word, by name only, the first being the default.
    fn choice(&mut self, name: &str, words: [&str; 2]) -> Result<usize> {
        let Some(at) = self.left.iter().position(|a| a.1 == Some(name)) else { return Ok(0) };
        let (column, _, text) = self.left.remove(at);
        let found = words.iter().position(|word| *word == text);
        let hint = || format!("`{name}` is `{}` or `{}`", words[0], words[1]);
        found.ok_or_else(|| bad(column, format!("`{name}` cannot be `{text}`"), hint()))
    }

    fn color(&mut self, name: &str) -> Result<[u8; 3]> {
        let Some((column, text)) = self.take(name) else { return Ok([0; 3]) };
        let hex =
            text.strip_prefix('#').filter(|h| h.len() == 6).and_then(|h| u32::from_str_radix(h, 16).ok());
        hex.map(|v| [(v >> 16) as u8, (v >> 8) as u8, v as u8])
            .ok_or_else(|| bad(column, format!("`{text}` is no colour"), "write it as `#rrggbb`"))
    }

    /// Complains about what was not taken.
    fn finish(self, op: &str) -> Result<()> {
        match self.left.first() {
            None => Ok(()),
            Some(&(column, Some(name), _)) => {
                Err(bad(column, format!("`{op}` has no argument `{name}`"), "leave it out"))
            }
            Some(&(column, None, value)) => {
                Err(bad(column, format!("`{op}` takes no further argument `{value}`"), "leave it out"))
            }
        }
    }
}

/// Returns the name closest to `word`, if it is close enough to be a slip.
pub(crate) fn nearest<const N: usize>(word: &str, names: [&'static str; N]) -> Option<&'static str> {
    let distance = |name: &str| {
        let name: Vec<char> = name.chars().collect();
        let mut row: Vec<usize> = (0..=name.len()).collect();
        for (i, a) in word.chars().enumerate() {
            let mut corner = i;
            row[0] = i + 1;
            for (j, &b) in name.iter().enumerate() {
                let swap = corner + usize::from(a != b);
                corner = row[j + 1];
                row[j + 1] = swap.min(row[j] + 1).min(corner + 1);
            }
        }
        row[name.len()]
    };
    let best = names.into_iter().map(|name| (distance(name), name)).min()?;
    (best.0 <= best.1.len() / 3 + 1).then_some(best.1)
}
