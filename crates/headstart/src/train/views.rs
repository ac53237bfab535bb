//! How many augmented views of each picture a cached prefix keeps.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Augmented views of a picture, or as many as a fixed number of prefix passes affords.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub enum Views {
    /// This many; 0 caches none and draws anew each epoch.
    Count(usize),
    /// One on thousands of pictures, which vary enough by themselves, up to four on hundreds.
    Auto,
}

/// Pictures through the prefix that [`Views::Auto`] fills with views, and the most views it takes.
const PASSES: usize = 2000;
const MOST: usize = 4;

impl Default for Views {
    fn default() -> Self {
        Views::Count(1)
    }
}

impl Views {
    /// Returns the views of each of `pictures` pictures.
    pub fn count(self, pictures: usize) -> usize {
        match self {
            Views::Count(count) => count,
            Views::Auto => (PASSES / pictures.max(1)).clamp(1, MOST),
        }
    }
}

impl FromStr for Views {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Views::Auto);
        }
        text.parse().map(Views::Count).map_err(|_| format!("`{text}` is neither a number nor \"auto\""))
    }
}

/// The two ways of writing it in TOML.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of views or \"auto\"")]
enum Written {
    Count(usize),
    Word(String),
}

impl From<Views> for Written {
    fn from(views: Views) -> Self {
        match views {
            Views::Count(count) => Written::Count(count),
            Views::Auto => Written::Word("auto".into()),
        }
    }
}

impl TryFrom<Written> for Views {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Count(count) => Ok(Views::Count(count)),
            Written::Word(word) => word.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pictures_get_more_views() {
        assert_eq!([100, 900, 5000].map(|n| Views::Auto.count(n)), [4, 2, 1]);
        assert_eq!(Views::Count(0).count(100), 0);
        assert!("some".parse::<Views>().is_err());
    }
}
