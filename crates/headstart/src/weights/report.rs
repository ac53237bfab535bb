//! What happened when weights were applied to a network, and how to say it.

/// Tells which tensors were used and which were not; loading never half succeeds in silence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadReport {
    /// Names that were applied.
    pub applied: Vec<String>,
    /// Names the network has and the file lacks.
    pub missing: Vec<String>,
    /// Names the file has and the network lacks.
    pub unused: Vec<String>,
    /// Names both have, in different shapes.
    pub misshapen: Vec<Misshapen>,
    /// What was unwrapped, stripped or adapted on the way, one sentence each.
    pub notes: Vec<String>,
}

/// Names a tensor whose shape in the file is not the network's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    /// The tensor.
    pub name: String,
    /// Its shape in the file.
    pub found: Vec<usize>,
    /// Its shape in the network.
    pub wanted: Vec<usize>,
}

impl LoadReport {
    /// Tells whether every tensor of the network was filled and none of the file was left over.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.misshapen.is_empty()
    }

    /// Says it in one plain sentence, with the first few names.
    pub fn sentence(&self) -> String {
        let mut parts = vec![format!("{} applied", tensors(self.applied.len()))];
        for (names, what) in [(&self.missing, "missing"), (&self.unused, "unused")] {
            if !names.is_empty() {
                parts.push(format!(
                    "{} {what} ({})",
                    names.len(),
                    first(names.iter().map(|n| format!("`{n}`")))
                ));
            }
        }
        if !self.misshapen.is_empty() {
            let names =
                self.misshapen.iter().map(|m| format!("`{}` is {:?}, not {:?}", m.name, m.found, m.wanted));
            parts.push(format!("{} of another shape ({})", self.misshapen.len(), first(names)));
        }
        parts.join(", ")
    }
}

impl std::fmt::Display for LoadReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence())
    }
}

fn tensors(count: usize) -> String {
    format!("{count} tensor{}", if count == 1 { "" } else { "s" })
}

/// Joins the first three; a whole network's worth of names helps nobody.
fn first(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(3);
    let mut shown = names.take(3).collect::<Vec<_>>().join(", ");
    if more > 0 {
        shown.push_str(&format!(" and {more} more"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_counts_and_names() {
        let names = |prefix: &str, n: usize| (0..n).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>();
        let mut report = LoadReport { applied: names("a", 120), ..LoadReport::default() };
        assert!(report.is_complete());
        assert_eq!(report.sentence(), "120 tensors applied");
        report.missing = names("m", 5);
        report.misshapen =
            vec![Misshapen { name: "fc.weight".into(), found: vec![1000, 512], wanted: vec![5, 512] }];
        assert_eq!(
            report.to_string(),
            "120 tensors applied, 5 missing (`m0`, `m1`, `m2` and 2 more), \
             1 of another shape (`fc.weight` is [1000, 512], not [5, 512])"
        );
    }
}
