//! Names of repositories, and which words may become paths and addresses.

use crate::error::{Error, Result};

/// Names a repository of a model on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubRepo {
    /// `org/name`.
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl HubRepo {
    /// Reads `org/name` or `org/name@revision`.
    pub fn parse(text: &str) -> Result<HubRepo> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let legal = |part: &str| {
            !part.is_empty()
                && !part.starts_with(['.', '-'])
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                && !part.contains("--")
                && !part.contains("..")
        };
        if name.split('/').count() != 2 || !name.split('/').all(legal) || !is_inside(revision) {
            return Err(Error::BadModel {
                what: format!("`hf-hub:{text}` does not name a repository"),
                hint: "write `hf-hub:org/name` or `hf-hub:org/name@revision`".into(),
            });
        }
        Ok(HubRepo { name: name.into(), revision: revision.into() })
    }

    pub(super) fn folder(&self) -> String {
        format!("models--{}", self.name.replace('/', "--"))
    }
}

impl std::fmt::Display for HubRepo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.revision.as_str() {
            "main" => write!(f, "hf-hub:{}", self.name),
            revision => write!(f, "hf-hub:{}@{revision}", self.name),
        }
    }
}

/// Tells a commit from a branch or tag.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Tells whether a server's word may be a file name.
pub(super) fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Tells whether a relative path stays where it starts.
pub(super) fn is_inside(path: &str) -> bool {
    !path.contains(['\\', ':', '\0'])
        && !path.is_empty()
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Escapes what would end a segment of an address.
pub(super) fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_server_cannot_leave_the_cache() {
        for text in ["", "..", ".hidden", "a/b", "a\\b", "c:d", "é"] {
            assert!(!is_name(text), "{text}");
        }
        for text in ["", "/etc/passwd", "a/../b", "a//b", "..", "c:\\x"] {
            assert!(!is_inside(text), "{text}");
        }
        assert!(is_name("f37072fd.gz-1_2") && is_inside("refs/pr/1"));
        assert_eq!(quoted("refs/pr/1"), "refs%2Fpr%2F1");
    }
}
