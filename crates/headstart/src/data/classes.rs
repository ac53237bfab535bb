//! The class names of a classifier, in the order of its outputs.
//!
//! Names, not numbers, connect a folder to a network: torchvision sorts by code point, timm sorts
//! `10` after `2`, and a bundle keeps whatever order it was trained with.

use crate::error::{Error, Result};

/// Class names; the position is the label.
#[derive(Clone, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Classes {
    names: Vec<String>,
}

impl Classes {
    /// Sorts the names by code point, as torchvision does, and drops repetitions.
    pub fn sorted(names: impl IntoIterator<Item = String>) -> Self {
        let names: std::collections::BTreeSet<String> = names.into_iter().collect();
        Classes { names: names.into_iter().collect() }
    }

    /// Keeps the names in the order given, that of a trained network's outputs.
    pub fn ordered(names: Vec<String>) -> Result<Self> {
        let mut seen = std::collections::HashSet::new();
        match names.iter().find(|name| !seen.insert(name.as_str())) {
            Some(twice) => Err(Error::BadData {
                place: "the list of classes".into(),
                what: format!("the class `{twice}` appears twice"),
                hint: "keep one of the two".into(),
            }),
            None => Ok(Classes { names }),
        }
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns all names, in the order of the labels.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the name of a label.
    ///
    /// Panics if there is no such label.
    pub fn name(&self, label: usize) -> &str {
        &self.names[label]
    }

    /// Returns the label of a name.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }

    /// Returns groups of names that differ only in case or in surrounding spaces, a frequent slip.
    pub fn look_alikes(&self) -> Vec<Vec<&str>> {
        let mut groups: std::collections::BTreeMap<String, Vec<&str>> = Default::default();
        for name in &self.names {
            groups.entry(name.trim().to_lowercase()).or_default().push(name);
        }
        groups.into_values().filter(|group| group.len() > 1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn names_sort_by_code_point_as_in_torchvision() {
        // Python: sorted(["b", "B", "10", "2", "1", "ä", "a"])
        let classes = Classes::sorted(owned(&["b", "B", "10", "2", "1", "ä", "a", "a"]));
        assert_eq!(classes.names(), owned(&["1", "10", "2", "B", "a", "b", "ä"]));
        assert_eq!(classes.index("2"), Some(2));
        assert_eq!(classes.index("3"), None);
        assert_eq!(classes.look_alikes(), [["B", "b"]]);
    }

    #[test]
    fn a_given_order_is_kept_and_repetitions_are_refused() {
        assert_eq!(Classes::ordered(owned(&["z", "a"])).unwrap().name(0), "z");
        assert!(
            Classes::ordered(owned(&["z", "a", "z"])).unwrap_err().to_string().contains("`z` appears twice")
        );
    }
}
