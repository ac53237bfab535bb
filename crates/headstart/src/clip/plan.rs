//! How a head begins: drawn anew, or as the zero-shot classifier of the text tower.

use std::fmt;
use std::str::FromStr;

use super::Templates;
use crate::error::{Error, Result};
use crate::models::HeadSpec;

/// The text of a recipe's `head`: a chain of layers, `zero-shot`, or `zero-shot(TEMPLATES)`.
#[derive(Clone, Debug, PartialEq)]
pub enum HeadPlan {
    /// Layers with random values.
    New(HeadSpec),
    /// CLIP's projection and the texts of the classes.
    ZeroShot(Templates),
}

impl HeadPlan {
    /// Returns the layers to draw anew; a zero-shot head needs the weights of a CLIP.
    pub fn layers(self) -> Result<HeadSpec> {
        match self {
            Self::New(spec) => Ok(spec),
            Self::ZeroShot(_) => Err(Error::BadRecipe {
                place: "head".into(),
                what: "a zero-shot head cannot start from random weights".into(),
                hint: "choose a recipe with `pretrained = true`".into(),
            }),
        }
    }

    /// Tells whether a recipe's text means a zero-shot head.
    pub fn is_zero_shot(text: &str) -> bool {
        matches!(text.parse(), Ok(Self::ZeroShot(_)))
    }
}

impl fmt::Display for HeadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New(spec) => spec.fmt(f),
            Self::ZeroShot(templates) if *templates == Templates::default() => f.write_str("zero-shot"),
            Self::ZeroShot(templates) => write!(f, "zero-shot({templates})"),
        }
    }
}

impl FromStr for HeadPlan {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if text == "zero-shot" {
            return Ok(Self::ZeroShot(Templates::default()));
        }
        match text.strip_prefix("zero-shot(").and_then(|rest| rest.strip_suffix(')')) {
            Some(templates) => templates.parse().map(Self::ZeroShot).map_err(|e: Error| e.within("head")),
            None => text.parse().map(Self::New),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_plan_are_the_same() {
        for text in ["linear", "zero-shot", "zero-shot(openai7)", "zero-shot(a {} (indoors). | the {})"] {
            let plan: HeadPlan = text.parse().unwrap();
            assert_eq!(plan.to_string(), text);
            assert_eq!(HeadPlan::is_zero_shot(text), text != "linear");
        }
        assert!("zero-shot(no gap)".parse::<HeadPlan>().is_err() && "zero".parse::<HeadPlan>().is_err());
        assert!("zero-shot".parse::<HeadPlan>().unwrap().layers().is_err());
    }
}
