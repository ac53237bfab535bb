//! Dividing pictures into training, validation and test parts, the same way every time.
//!
//! Each class is divided by itself. A picture's place depends on (seed, its path): neither the
//! order in which the system lists files nor new files elsewhere move it far. The result is saved
//! beside the run and read back, so that a second run judges by the same pictures.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::folder::Entry;
use super::manifest::{Manifest, field};
use crate::error::{Error, Result};
use crate::rng::{Rng, hash_str};

/// Part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Split {
    /// For the optimizer.
    Train,
    /// For choosing epochs and settings.
    Val,
    /// For the final word.
    Test,
}

impl Split {
    /// Recognises the usual names of split folders, in upper or lower case.
    pub fn of_folder(name: &str) -> Option<Self> {
        match name.to_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "val" | "valid" | "validation" | "eval" => Some(Split::Val),
            "test" | "testing" => Some(Split::Test),
            _ => None,
        }
    }

    /// Names the part as its folder.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }
}

/// How to divide what the folder leaves undivided.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitConfig {
    /// Share of each class for validation; at least one picture of a class that has two.
    pub val_frac: f32,
    /// Share of each class for testing; may be 0.
    pub test_frac: f32,
    /// Seed of the division.
    pub seed: u64,
    /// Where the division is read from, and written to if it is not there yet.
    pub file: Option<PathBuf>,
}

impl Default for SplitConfig {
    fn default() -> Self {
        SplitConfig { val_frac: 0.2, test_frac: 0.0, seed: 0, file: None }
    }
}

/// Divides each class by the shares in `config`; `root` is where paths count from.
pub fn stratified(root: &Path, entries: &[Entry], config: &SplitConfig) -> Result<Vec<Split>> {
    let shares = config.val_frac.min(config.test_frac) >= 0.0 && config.val_frac + config.test_frac < 1.0;
    if !shares || config.val_frac == 0.0 {
        return Err(Error::BadRecipe {
            place: "split".into(),
            what: format!(
                "{} for validation and {} for testing cannot be",
                config.val_frac, config.test_frac
            ),
            hint: "give shares above 0 that leave something to train on, such as 0.2".into(),
        });
    }
    let mut classes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        classes.entry(&entry.class).or_default().push(at);
    }
    let mut out = vec![Split::Train; entries.len()];
    for members in classes.values_mut() {
        members.sort_by_cached_key(|&at| {
            let name = relative(root, &entries[at].path);
            (Rng::keyed(&[config.seed, hash_str(&name)]).bits(), name)
        });
        let n = members.len();
        let share = |frac: f32| (n as f64 * f64::from(frac)).round() as usize;
        let val = share(config.val_frac).max(1).min(n - 1);
        let test = share(config.test_frac).min(n - 1 - val);
        members[..val].iter().for_each(|&at| out[at] = Split::Val);
        members[val..val + test].iter().for_each(|&at| out[at] = Split::Test);
    }
    Ok(out)
}

/// Names a file relative to `root`, with `/` on every system; a file outside keeps its whole path.
pub fn relative(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).unwrap_or(path);
    if inside.is_absolute() {
        return inside.to_string_lossy().into_owned();
    }
    inside
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join("/")
}

/// Writes a division as a CSV table `file_name,label,split`.
pub fn save(file: &Path, root: &Path, entries: &[Entry], splits: &[Split]) -> Result<()> {
    let mut text = String::from("file_name,label,split\n");
    for (entry, split) in entries.iter().zip(splits) {
        let name = relative(root, &entry.path);
        text += &format!("{},{},{}\n", field(&name), field(&entry.class), split.name());
    }
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
    }
    // A reader sees the whole table or none.
    let unfinished = file.with_extension("csv.part");
    std::fs::write(&unfinished, text).map_err(Error::write(&unfinished))?;
    std::fs::rename(&unfinished, file).map_err(Error::write(file))
}

/// Reads a division back: the part of every file name.
pub fn load(file: &Path) -> Result<HashMap<String, Split>> {
    let table = Manifest::read(file)?;
    let column = |name: &str| {
        table.column(name).ok_or_else(|| Error::BadData {
            place: file.display().to_string(),
            what: format!("no column `{name}`"),
            hint: "delete the file to divide the data anew".into(),
        })
    };
    let splits = column("split")?.into_iter().map(|(line, word)| {
        Split::of_folder(word).ok_or_else(|| Error::BadData {
            place: format!("{}:{line}", file.display()),
            what: format!("`{word}` is no part of a data set"),
            hint: "write `train`, `val` or `test`".into(),
        })
    });
    column("file_name")?
        .into_iter()
        .zip(splits)
        .map(|((_, name), split)| Ok((name.to_string(), split?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(counts: &[(&str, usize)]) -> Vec<Entry> {
        let entry = |class: &str, i: usize| Entry {
            split: None,
            class: class.into(),
            path: PathBuf::from(format!("/data/{class}/{i}.jpg")),
        };
        counts.iter().flat_map(|&(class, n)| (0..n).map(move |i| entry(class, i))).collect()
    }

    fn divide(entries: &[Entry], seed: u64) -> Vec<Split> {
        let config = SplitConfig { seed, test_frac: 0.1, ..Default::default() };
        stratified(Path::new("/data"), entries, &config).unwrap()
    }

    fn count(entries: &[Entry], splits: &[Split], class: &str, split: Split) -> usize {
        entries.iter().zip(splits).filter(|(e, s)| e.class == class && **s == split).count()
    }

    #[test]
    fn every_class_is_divided_by_itself() {
        let all = entries(&[("a", 100), ("b", 10), ("c", 2), ("d", 1)]);
        let splits = divide(&all, 3);
        for (class, want) in [("a", [70, 20, 10]), ("b", [7, 2, 1]), ("c", [1, 1, 0]), ("d", [1, 0, 0])] {
            let got = [Split::Train, Split::Val, Split::Test].map(|s| count(&all, &splits, class, s));
            assert_eq!(got, want, "{class}");
        }
    }

    #[test]
    fn the_order_of_the_files_does_not_matter_and_the_seed_does() {
        let all = entries(&[("a", 40), ("b", 30)]);
        let splits = divide(&all, 1);
        let reversed: Vec<Entry> = all.iter().rev().cloned().collect();
        let mut other = divide(&reversed, 1);
        other.reverse();
        assert_eq!(splits, other);
        assert_ne!(splits, divide(&all, 2));
    }

    #[test]
    fn a_saved_division_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("run/split.csv");
        let all = entries(&[("a, b", 4), ("c", 4)]);
        let splits = divide(&all, 1);
        save(&file, Path::new("/data"), &all, &splits).unwrap();
        let read = load(&file).unwrap();
        for (entry, split) in all.iter().zip(splits) {
            assert_eq!(read[&relative(Path::new("/data"), &entry.path)], split);
        }
    }

    #[test]
    fn impossible_shares_are_refused() {
        for (val_frac, test_frac) in [(0.0, 0.1), (0.6, 0.4), (-0.1, 0.1)] {
            let config = SplitConfig { val_frac, test_frac, ..Default::default() };
            assert!(stratified(Path::new(""), &entries(&[("a", 4)]), &config).is_err());
        }
    }
}
