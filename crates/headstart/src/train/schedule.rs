//! Learning-rate schedules: pure functions of progress in [0, 1].
//!
//! The text form, `one_cycle(pct_start=0.3, div=25)`, is what recipes hold.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// How the rate moves through a phase, as a factor of the phase's own rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// Always 1.
    Constant,
    /// Cosine up from `1/div` to 1 until `pct_start`, cosine down to `1/div_final` (Smith & Topin 2018,
    /// in fastai's form).
    OneCycle {
        /// Share of the phase spent rising.
        pct_start: f64,
        /// The start is the peak divided by this.
        div: f64,
        /// The end is the peak divided by this.
        div_final: f64,
        /// Momentum (AdamW's `beta1`) at both ends and at the peak; `None` leaves the optimizer's own.
        momentum: Option<(f64, f64)>,
    },
    /// From 1 to `ratio`, every step by the same factor.
    Exponential {
        /// Factor at the end.
        ratio: f64,
    },
    /// Linear warm-up over a share of the phase, then half a cosine to 0.
    Cosine {
        /// Share of the phase spent warming up.
        warmup: f64,
    },
    /// Multiplied by `gamma` after every `every`-th share of the phase.
    Step {
        /// Share of the phase between drops.
        every: f64,
        /// Factor of a drop.
        gamma: f64,
    },
}

impl Schedule {
    /// Returns the factor at `progress`, 0 at the first step and 1 after the last.
    pub fn factor(self, progress: f64) -> f64 {
        let p = progress.clamp(0.0, 1.0);
        match self {
            Schedule::Constant => 1.0,
            Schedule::OneCycle { pct_start, div, div_final, .. } => {
                cycle(p, pct_start, [1.0 / div, 1.0, 1.0 / div_final])
            }
            Schedule::Exponential { ratio } => ratio.powf(p),
            // A warm-up starts one small step above zero, so that the first batch is not wasted.
            Schedule::Cosine { warmup } if p < warmup => (p / warmup).max(0.01),
            Schedule::Cosine { warmup } => cosine(1.0, 0.0, (p - warmup) / (1.0 - warmup).max(1e-9)),
            Schedule::Step { every, gamma } => gamma.powi((p / every).floor() as i32),
        }
    }

    /// Returns the momentum at `progress`, where the schedule moves it: down while the rate rises.
    pub fn momentum(self, progress: f64) -> Option<f64> {
        match self {
            Schedule::OneCycle { pct_start, momentum: Some((high, low)), .. } => {
                Some(cycle(progress.clamp(0.0, 1.0), pct_start, [high, low, high]))
            }
            _ => None,
        }
    }
}

fn cosine(from: f64, to: f64, t: f64) -> f64 {
    to + (from - to) * (1.0 + (std::f64::consts::PI * t).cos()) / 2.0
}

/// Half a cosine from the first value to the second until `turn`, another to the third.
fn cycle(p: f64, turn: f64, [start, middle, end]: [f64; 3]) -> f64 {
    if p < turn {
        cosine(start, middle, p / turn)
    } else {
        cosine(middle, end, (p - turn) / (1.0 - turn).max(1e-9))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::Constant => f.write_str("constant"),
            Schedule::OneCycle { pct_start, div, div_final, momentum } => {
                write!(f, "one_cycle(pct_start={pct_start}, div={div}, div_final={div_final}")?;
                match momentum {
                    Some((high, low)) => write!(f, ", mom_high={high}, mom_low={low})"),
                    None => f.write_str(")"),
                }
            }
            Schedule::Exponential { ratio } => write!(f, "exponential(ratio={ratio})"),
            Schedule::Cosine { warmup } => write!(f, "cosine(warmup={warmup})"),
            Schedule::Step { every, gamma } => write!(f, "step(every={every}, gamma={gamma})"),
        }
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let call = Call::parse(text, "schedule")?;
        let (found, keys): (Schedule, &[&str]) = match call.name {
            "constant" => (Schedule::Constant, &[]),
            "one_cycle" => {
                let pct_start = call.number("pct_start", 0.25, 0.0..=1.0)?;
                let div = call.number("div", 25.0, 1.0..=1e9)?;
                let div_final = call.number("div_final", 1e5, 1.0..=1e12)?;
                let momentum = if call.has("mom_high") || call.has("mom_low") {
                    let end = |key, default| call.number(key, default, 0.0..=0.9999);
                    Some((end("mom_high", 0.95)?, end("mom_low", 0.85)?))
                } else {
                    None
                };
                let keys = &["pct_start", "div", "div_final", "mom_high", "mom_low"];
                (Schedule::OneCycle { pct_start, div, div_final, momentum }, keys)
            }
            "exponential" => {
                (Schedule::Exponential { ratio: call.number("ratio", 0.01, 1e-12..=1e12)? }, &["ratio"])
            }
            "cosine" => (Schedule::Cosine { warmup: call.number("warmup", 0.0, 0.0..=0.9)? }, &["warmup"]),
            "step" => {
                let every = call.number("every", 1.0 / 3.0, 1e-6..=1.0)?;
                (Schedule::Step { every, gamma: call.number("gamma", 0.1, 0.0..=1.0)? }, &["every", "gamma"])
            }
            other => {
                return Err(call.unknown(other, &["constant", "one_cycle", "cosine", "step", "exponential"]));
            }
        };
        call.finish(keys)?;
        Ok(found)
    }
}

/// A parsed `name(key=number, …)`, the small language of schedules and optimizers.
pub(super) struct Call<'a> {
    pub name: &'a str,
    what: &'static str,
    arguments: Vec<(&'a str, f64)>,
}

impl<'a> Call<'a> {
    pub fn parse(text: &'a str, what: &'static str) -> Result<Self, Error> {
        let text = text.trim();
        let bad = |problem: String| Error::BadRecipe {
            place: what.into(),
            what: problem,
            hint: format!(
                "write it like `{text_}(key=number, …)`",
                text_ = text.split('(').next().unwrap_or("name")
            ),
        };
        let Some((name, rest)) = text.split_once('(') else {
            return Ok(Self { name: text, what, arguments: Vec::new() });
        };
        let inner =
            rest.strip_suffix(')').ok_or_else(|| bad(format!("`{text}` lacks its closing parenthesis")))?;
        let mut arguments = Vec::new();
        for part in inner.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (key, value) =
                part.split_once('=').ok_or_else(|| bad(format!("`{part}` is not `key=number`")))?;
            let number =
                value.trim().parse().map_err(|_| bad(format!("`{}` is not a number", value.trim())))?;
            arguments.push((key.trim(), number));
        }
        Ok(Self { name: name.trim(), what, arguments })
    }

    pub fn number(
        &self,
        key: &str,
        default: f64,
        range: std::ops::RangeInclusive<f64>,
    ) -> Result<f64, Error> {
        let value = self.arguments.iter().find(|(k, _)| *k == key).map_or(default, |(_, v)| *v);
        if range.contains(&value) {
            return Ok(value);
        }
        Err(Error::BadRecipe {
            place: self.what.into(),
            what: format!("`{key}={value}` is out of range"),
            hint: format!("{key} must lie in {}..={}", range.start(), range.end()),
        })
    }

    pub fn has(&self, key: &str) -> bool {
        self.arguments.iter().any(|(k, _)| *k == key)
    }

    pub fn finish(&self, known: &[&str]) -> Result<(), Error> {
        match self.arguments.iter().find(|(key, _)| !known.contains(key)) {
            Some((key, _)) => Err(self.unknown(key, known)),
            None => Ok(()),
        }
    }

    pub fn unknown(&self, word: &str, known: &[&str]) -> Error {
        let near = crate::models::nearest(word, known.iter().copied());
        let hint = match near.first() {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known: {}", known.join(", ")),
        };
        Error::BadRecipe { place: self.what.into(), what: format!("unknown word `{word}`"), hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn momentum_moves_against_the_rate_as_in_fastai() {
        let text = "one_cycle(pct_start=0.25, div=5, div_final=100000, mom_high=0.95, mom_low=0.85)";
        let one: Schedule = text.parse().unwrap();
        assert_eq!(one.to_string(), text);
        // combined_cos(0.25, 0.95, 0.85, 0.95) of fastai 2.8.12 at these places.
        for (progress, expected) in [(0.0, 0.95), (0.125, 0.9), (0.25, 0.85), (0.625, 0.9), (1.0, 0.95)] {
            assert!((one.momentum(progress).unwrap() - expected).abs() < 1e-12, "{progress}");
        }
        assert_eq!("one_cycle".parse::<Schedule>().unwrap().momentum(0.5), None);
        assert!("one_cycle(mom_high=1.5)".parse::<Schedule>().is_err());
    }

    #[test]
    fn factors_follow_the_definitions() {
        let one: Schedule = "one_cycle(pct_start=0.5, div=10, div_final=100)".parse().unwrap();
        let cosine: Schedule = "cosine(warmup=0.2)".parse().unwrap();
        let step: Schedule = "step(every=0.25, gamma=0.5)".parse().unwrap();
        for (schedule, progress, expected) in [
            (one, 0.0, 0.1),
            (one, 0.25, 0.55),
            (one, 0.5, 1.0),
            (one, 0.75, 0.505),
            (one, 1.0, 0.01),
            (cosine, 0.1, 0.5),
            (cosine, 0.2, 1.0),
            (cosine, 0.6, 0.5),
            (cosine, 1.0, 0.0),
            (step, 0.24, 1.0),
            (step, 0.5, 0.25),
            (Schedule::Constant, 0.7, 1.0),
        ] {
            assert!((schedule.factor(progress) - expected).abs() < 1e-12, "{schedule} at {progress}");
        }
    }

    #[test]
    fn text_round_trips_and_typos_are_caught() {
        for text in ["constant", "one_cycle(pct_start=0.3, div=5, div_final=100000)", "cosine(warmup=0.1)"] {
            assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
        }
        for bad in [
            "onecycle",
            "cosine(warmpu=0.1)",
            "step(every=0)",
            "step(every=x)",
            "cosine(warmup=0.1",
            "cosine(gamma=0.5)",
        ] {
            assert!(bad.parse::<Schedule>().is_err(), "`{bad}` was taken");
        }
    }
}
