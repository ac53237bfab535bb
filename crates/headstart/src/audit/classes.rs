//! What is odd about the classes: names, sets, sizes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use unicode_normalization::UnicodeNormalization;

use super::finding::{Finding, Severity, count};
use crate::data::Split;
use crate::task::Task;

/// Fewer training pictures than this teach a class little.
const FEW: usize = 10;
/// Fewer validation pictures than this judge a class hardly at all.
const FEW_TO_JUDGE: usize = 5;
/// The largest class over the smallest from which on guessing the large one pays.
const UNEVEN: f64 = 5.0;

/// Pictures of a class by part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// The class.
    pub class: String,
    /// In the training part.
    pub train: usize,
    /// In the validation part.
    pub val: usize,
    /// In the test part.
    pub test: usize,
    /// In no part.
    pub undivided: usize,
}

/// Counts pictures by class, classes in order of name.
pub fn counts<'a>(photos: impl Iterator<Item = (&'a str, Option<Split>)>) -> Vec<ClassCount> {
    let mut all: BTreeMap<&str, ClassCount> = BTreeMap::new();
    for (class, split) in photos {
        let own =
            all.entry(class).or_insert_with(|| ClassCount { class: class.into(), ..ClassCount::default() });
        match split {
            Some(Split::Train) => own.train += 1,
            Some(Split::Val) => own.val += 1,
            Some(Split::Test) => own.test += 1,
            None => own.undivided += 1,
        }
    }
    all.into_values().collect()
}

/// Writes a name as others may: one Unicode form, lower case, single spaces.
pub fn folded(name: &str) -> String {
    let form: String = name.nfkc().flat_map(char::to_lowercase).collect();
    form.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Looks at names, sets and sizes of classes, or of labels.
pub fn findings(counts: &[ClassCount], task: Task) -> Vec<Finding> {
    let (one, many) = task.kinds();
    let mut all = Vec::new();
    let mut say = |kind, severity, what: String| all.push(Finding::new(kind, severity, what, vec![]));
    let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    counts.iter().for_each(|c| alike.entry(folded(&c.class)).or_default().push(&c.class));
    for names in alike.into_values().filter(|names| names.len() > 1) {
        let names: Vec<String> = names.iter().map(|n| format!("`{}`", n.escape_debug())).collect();
        say(
            "look_alike_classes",
            Severity::Serious,
            format!("the {many} {} differ only in case, spaces or Unicode form", names.join(", ")),
        );
    }
    let has = |part: fn(&ClassCount) -> usize| counts.iter().any(|c| part(c) > 0);
    type Part = (&'static str, fn(&ClassCount) -> usize);
    let held_out: [Part; 2] = [("val", |c| c.val), ("test", |c| c.test)];
    let without = |a: fn(&ClassCount) -> usize, b: fn(&ClassCount) -> usize| {
        let names: BTreeSet<&str> =
            counts.iter().filter(|c| a(c) > 0 && b(c) == 0).map(|c| c.class.as_str()).collect();
        names.into_iter().map(|n| format!("`{n}`")).collect::<Vec<_>>()
    };
    let train: fn(&ClassCount) -> usize = |c| c.train;
    for (name, part) in held_out.into_iter().filter(|(_, part)| has(train) && has(*part)) {
        let strange = without(part, train);
        if !strange.is_empty() {
            say(
                "class_conflict",
                Severity::Serious,
                format!("`{name}` has {many} that `train` lacks: {}", short(&strange)),
            );
        }
        let unjudged = without(train, part);
        if !unjudged.is_empty() {
            say(
                "class_conflict",
                Severity::Warning,
                format!("`{name}` has no photo of {}", short(&unjudged)),
            );
        }
    }
    let learned = |c: &ClassCount| if has(train) { c.train } else { c.undivided };
    let few = |n: &dyn Fn(&ClassCount) -> usize, most: usize| {
        let few = counts.iter().filter(|c| (1..most).contains(&n(c)));
        few.map(|c| format!("`{}` ({})", c.class, n(c))).collect::<Vec<_>>()
    };
    let tiny = few(&learned, FEW);
    if !tiny.is_empty() {
        let what = count(tiny.len(), &format!("{one} has"), &format!("{many} have"));
        say(
            "tiny_class",
            Severity::Warning,
            format!("{what} fewer than {FEW} photos to learn from: {}", short(&tiny)),
        );
    }
    let tiny = few(&|c| c.val, FEW_TO_JUDGE);
    if !tiny.is_empty() {
        let what = count(tiny.len(), &format!("{one} has"), &format!("{many} have"));
        let text = format!("{what} fewer than {FEW_TO_JUDGE} photos to be judged by: {}", short(&tiny));
        say("tiny_class", Severity::Warning, text);
    }
    let sizes = || counts.iter().filter(|c| learned(c) > 0);
    if let (Some(small), Some(large)) =
        (sizes().min_by_key(|c| learned(c)), sizes().max_by_key(|c| learned(c)))
    {
        let ratio = learned(large) as f64 / learned(small) as f64;
        if ratio >= UNEVEN {
            let remedy = match task {
                Task::Classify => "`class_weights` or `sampler = \"balanced\"`",
                _ => "`class_weights` or `loss = \"asymmetric\"`",
            };
            let text = format!(
                "uneven: `{}` has {:.0} times the photos of `{}` ({} and {}); {remedy} in the recipe makes up for it",
                large.class,
                ratio,
                small.class,
                learned(large),
                learned(small)
            );
            say("imbalance", Severity::Warning, text);
        }
    }
    all
}

/// The first of many names.
fn short(names: &[String]) -> String {
    let shown = names[..names.len().min(6)].join(", ");
    if names.len() > 6 { format!("{shown} and {} more", names.len() - 6) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(rows: &[(&str, Option<Split>, usize)]) -> Vec<(&'static str, Severity)> {
        let photos = rows.iter().flat_map(|(class, split, n)| std::iter::repeat_n((*class, *split), *n));
        findings(&counts(photos), Task::Classify).into_iter().map(|f| (f.kind, f.severity)).collect()
    }

    #[test]
    fn sound_classes_raise_nothing() {
        let (train, val) = (Some(Split::Train), Some(Split::Val));
        assert_eq!(kinds(&[("a", train, 30), ("b", train, 40), ("a", val, 9), ("b", val, 9)]), []);
        assert_eq!(kinds(&[("a", None, 30), ("b", None, 40)]), []);
    }

    #[test]
    fn conflicts_names_and_sizes_are_told() {
        let (train, val) = (Some(Split::Train), Some(Split::Val));
        let found = kinds(&[("a", train, 60), ("b", train, 4), ("c", val, 9), ("a", val, 3)]);
        assert_eq!(
            found,
            [
                ("class_conflict", Severity::Serious),
                ("class_conflict", Severity::Warning),
                ("tiny_class", Severity::Warning),
                ("tiny_class", Severity::Warning),
                ("imbalance", Severity::Warning)
            ]
        );
        // Composed and decomposed é, a trailing space, capitals, a no-break space.
        for (one, two) in [("caf\u{e9}", "cafe\u{301}"), ("a", "a "), ("Bee", "bee"), ("a b", "a\u{a0}b")] {
            assert_eq!(
                kinds(&[(one, train, 30), (two, train, 30)]),
                [("look_alike_classes", Severity::Serious)]
            );
        }
        assert_eq!(kinds(&[("cafe", train, 30), ("caf\u{e9}", train, 30)]), []);
    }
}
