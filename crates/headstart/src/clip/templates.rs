//! Sentences around class names: a text tower learned from captions, not from single words.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Sets that have a name: OpenAI's eighty for ImageNet, and the seven it found to do as well.
const SETS: [(&str, &str); 2] = [
    ("openai80", include_str!("../../assets/clip/openai80.txt")),
    ("openai7", include_str!("../../assets/clip/openai7.txt")),
];

/// One sentence or several, with `{}` where the class's name goes; several are averaged.
#[derive(Clone, Debug, PartialEq)]
pub struct Templates(Vec<String>);

impl Default for Templates {
    fn default() -> Self {
        Self(vec!["a photo of a {}.".into()])
    }
}

impl Templates {
    /// Takes sentences and names of sets as they come.
    pub fn new<S: AsRef<str>>(texts: &[S]) -> Result<Self, Error> {
        let mut all = Vec::new();
        for text in texts.iter().map(|text| text.as_ref().trim()) {
            match SETS.iter().find(|(name, _)| *name == text) {
                Some((_, lines)) => all.extend(lines.lines().map(String::from)),
                None if text.contains("{}") => all.push(text.to_string()),
                None => {
                    return Err(Error::BadRecipe {
                        place: "template".into(),
                        what: format!("`{text}` has no place for the class's name"),
                        hint: "write `{}` where it goes, as in \"a photo of a {}.\", or name a set: `openai80`, `openai7`"
                            .into(),
                    });
                }
            }
        }
        if all.is_empty() { Ok(Self::default()) } else { Ok(Self(all)) }
    }

    /// Returns the sentences.
    pub fn texts(&self) -> &[String] {
        &self.0
    }

    /// Puts a class's name into every sentence; folders spell blanks as underscores.
    pub fn around(&self, class: &str) -> impl Iterator<Item = String> {
        let name = class.replace('_', " ");
        self.0.iter().map(move |template| template.replace("{}", &name))
    }
}

impl fmt::Display for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SETS.iter().find(|(_, lines)| lines.lines().eq(self.0.iter())) {
            Some((name, _)) => f.write_str(name),
            None => f.write_str(&self.0.join(" | ")),
        }
    }
}

impl FromStr for Templates {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(&text.split('|').collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_names_and_sentences_a_gap() {
        for (text, count) in [("openai80", 80), ("openai7", 7), ("a {}. | the {}", 2)] {
            let templates: Templates = text.parse().unwrap();
            assert_eq!((templates.texts().len(), templates.to_string().as_str()), (count, text));
        }
        let around: Vec<String> = Templates::default().around("sun_flower").collect();
        assert_eq!(around, ["a photo of a sun flower."]);
        assert!(Templates::new(&["a photo"]).is_err());
    }
}
