//! The audit of a data set before training: what would spoil the result, and what is worth a look.
//!
//! [`Audit::of`] makes one pass over the photos: files ([`files`]), classes ([`classes`]) and copies ([`duplicates`]).
//! [`Audit::add_features`] then reads the features of a frozen network: pictures alike to it, and labels its probe does
//! not believe ([`labels`]). [`fix`] turns the result into a list of files to leave out. `fit` makes the first pass too.

pub mod classes;
pub mod duplicates;
pub mod files;
pub mod finding;
pub mod fix;
pub mod hamming;
pub mod labels;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde_json::{Value, json};

use crate::data::split::relative;
use crate::data::{Dataset, Inspected, Listing, Marked, Split, Unreadable, inspect, listing};
use crate::error::{Error, Result};
use crate::sources::Backbone;
use crate::task::{Task, TaskSpec};
use crate::train::observer::Observer;
use classes::ClassCount;
use duplicates::{Clusters, Group, Same};
use finding::{Finding, Severity, count};
use labels::{Probed, Suspect};

/// A readable picture of the data.
#[derive(Clone, Debug)]
pub struct Photo {
    /// The file.
    pub path: PathBuf,
    /// Its name relative to the data.
    pub name: String,
    /// The part it belongs to, where the data say so.
    pub split: Option<Split>,
    /// What it is labelled with.
    pub marked: Marked,
    /// What one pass over it saw.
    pub seen: Inspected,
}

/// What an audit found.
#[derive(Debug)]
pub struct Audit {
    /// The folder or manifest.
    pub data: PathBuf,
    /// What the pictures are labelled for.
    pub task: Task,
    /// Readable pictures.
    pub photos: Vec<Photo>,
    /// Names of the others, with reasons.
    pub unreadable: Vec<(String, String)>,
    /// Readable pictures by class or label and part; of numbers none.
    pub classes: Vec<ClassCount>,
    /// Everything worth a sentence, the worst first.
    pub findings: Vec<Finding>,
    /// Pictures that are one.
    pub groups: Vec<Group>,
    /// Labels to look at, the least believed first.
    pub suspects: Vec<Suspect>,
    /// What the probe behind the suspects is worth.
    pub probed: Option<Probed>,
    clusters: Clusters,
}

/// The cosine from which on pictures count as alike to a network.
pub const SIMILARITY: f32 = 0.95;

/// A probe that agrees with fewer labels than this says more about itself than about them.
const TRUSTED: f64 = 0.75;

impl Audit {
    /// Audits the folder or manifest at `path`, for the task that `spec` says, without a network. `progress` hears
    /// (done, all) from several threads.
    pub fn of(path: &Path, spec: &TaskSpec, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Self> {
        let Listing { root, task, found, marked } = listing(path, spec)?;
        if found.entries.is_empty() && found.empty.is_empty() {
            return Err(Error::BadData {
                place: path.display().to_string(),
                what: "no picture".into(),
                hint: "name the folder that holds `train/<class>/` or `<class>/`".into(),
            });
        }
        let (all, done) = (found.entries.len(), AtomicUsize::new(0));
        let looks: Vec<_> = (found.entries.par_iter())
            .map(|entry| {
                let seen = inspect(&entry.path).map_err(crate::data::audit::plain);
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, all);
                seen
            })
            .collect();
        let (mut photos, mut unreadable) = (Vec::new(), Vec::new());
        for ((entry, marked), look) in found.entries.into_iter().zip(marked).zip(looks) {
            let name = relative(&root, &entry.path);
            match look {
                Err(reason) => unreadable.push((name, reason)),
                Ok(seen) => {
                    photos.push(Photo { path: entry.path, name, split: entry.split, marked, seen });
                }
            }
        }
        let mut audit = Self::new(path, task, photos, unreadable);
        let list = |mut paths: Vec<PathBuf>| {
            paths.sort();
            paths.iter().map(|p| relative(&root, p)).collect::<Vec<_>>()
        };
        for (split, class) in &found.empty {
            let place = split.map_or(class.clone(), |s| format!("{}/{class}", s.name()));
            let what = format!("the class folder `{place}` holds no picture");
            audit.findings.push(Finding::new("empty_class", Severity::Serious, what, vec![]));
        }
        let mut note = |kind, severity, files: Vec<String>, one: &str, many: &str| {
            if !files.is_empty() {
                audit.findings.push(Finding::new(kind, severity, count(files.len(), one, many), files));
            }
        };
        let (one, many) = ("hidden file or folder is skipped", "hidden files or folders are skipped");
        note("hidden", Severity::Note, list(found.hidden), one, many);
        let one = "file is no picture by its name and is ignored";
        let many = "files are no pictures by their names and are ignored";
        note("ignored", Severity::Note, list(found.ignored), one, many);
        let (one, many) = ("folder beside `train` is ignored", "folders beside `train` are ignored");
        note("strangers", Severity::Warning, found.strangers, one, many);
        audit.sort();
        Ok(audit)
    }

    /// Audits data that is open and read already; `seen` is in the order of the parts: train, val, test.
    pub fn of_dataset(data: &Dataset, seen: Vec<Inspected>, unreadable: &[Unreadable]) -> Self {
        let parts = [Split::Train, Split::Val, Split::Test];
        let samples = parts.into_iter().flat_map(|split| data.part(split).iter().map(move |s| (split, s)));
        let photos = samples.zip(seen).map(|((split, sample), seen)| Photo {
            path: sample.path.clone(),
            name: relative(&data.root, &sample.path),
            split: Some(split),
            marked: data.marked(sample),
            seen,
        });
        let unreadable =
            unreadable.iter().map(|u| (relative(&data.root, &u.path), u.reason.clone())).collect();
        Self::new(&data.root, data.task, photos.collect(), unreadable)
    }

    fn new(data: &Path, task: Task, photos: Vec<Photo>, unreadable: Vec<(String, String)>) -> Self {
        let classes = classes::counts(
            photos.iter().flat_map(|p| p.marked.names.iter().map(|name| (name.as_str(), p.split))),
        );
        let mut findings = Vec::new();
        if !unreadable.is_empty() {
            let what = count(unreadable.len(), "file cannot be read", "files cannot be read");
            let names = unreadable.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
            findings.push(Finding::new("unreadable", Severity::Serious, what, names));
        }
        findings.extend(classes::findings(&classes, task));
        findings.extend(files::findings(&photos));
        let (groups, clusters) = duplicates::by_content(&photos);
        findings.extend(of_groups(&groups, &photos, task));
        let data = data.to_path_buf();
        let mut audit = Self {
            data,
            task,
            photos,
            unreadable,
            classes,
            findings,
            groups,
            suspects: vec![],
            probed: None,
            clusters,
        };
        audit.sort();
        audit
    }

    /// Reads the features of `backbone` and adds what they tell; `similarity` is the cosine from which on pictures count
    /// as alike.
    pub fn add_features(
        &mut self,
        backbone: &Backbone,
        similarity: f32,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if self.photos.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = self.classes.iter().map(|c| c.class.clone()).collect();
        let whole = labels::Whole {
            task: self.task,
            photos: &self.photos,
            clusters: &self.clusters,
            names: &names,
            backbone,
        };
        let seen = whole.look(similarity, observer)?;
        self.findings.extend(of_groups(&seen.groups, &self.photos, self.task));
        self.groups.extend(seen.groups);
        if !seen.suspects.is_empty() {
            let probed = seen.probed.as_ref().expect("suspects come from a probe");
            let what = count(seen.suspects.len(), "label is worth a look", "labels are worth a look");
            let files = seen.suspects.iter().map(|s| self.photos[s.photo].name.clone()).collect();
            let mut what =
                format!("{what}: a probe right on {:.1} % does not believe them", 100.0 * probed.top1);
            let mut severity = Severity::Warning;
            if probed.top1 < TRUSTED {
                what += ", but it errs too often to be trusted; a stronger network (`--model`) sees more";
                severity = Severity::Note;
            }
            self.findings.push(Finding::new("label_suspects", severity, what, files));
        }
        (self.suspects, self.probed) = (seen.suspects, seen.probed);
        self.sort();
        Ok(())
    }

    fn sort(&mut self) {
        self.findings.sort_by_key(|f| f.severity);
    }

    /// Counts findings of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|f| f.severity == severity).count()
    }

    /// Says what the pictures are labelled with, as in "in 2 classes".
    pub fn kinds(&self) -> String {
        let (one, many) = self.task.kinds();
        let counted = count(self.classes.len(), one, many);
        match self.task {
            Task::Classify => format!("in {counted}"),
            Task::Multilabel => format!("with {counted}"),
            Task::Regress => "with numbers".into(),
        }
    }

    /// Sums the audit up in a line: the serious findings in full, the others by number.
    pub fn line(&self) -> String {
        let serious: Vec<&str> = self
            .findings
            .iter()
            .filter(|f| f.severity == Severity::Serious)
            .map(|f| f.what.as_str())
            .collect();
        let head = if serious.is_empty() { "nothing serious".into() } else { serious.join("; ") };
        let warnings = count(self.count(Severity::Warning), "warning", "warnings");
        format!("audit: {head}; {warnings}")
    }

    /// Writes everything down.
    pub fn to_json(&self) -> Value {
        let split = |i: usize| self.photos[i].split.map(Split::name);
        let file = |i: &usize| {
            let photo = &self.photos[*i];
            json!({"file": photo.name, "split": split(*i), "class": photo.marked.words})
        };
        let group = |g: &Group| {
            json!({
                "same": g.same,
                "across": g.across,
                "labels_differ": g.labels_differ,
                "similarity": g.similarity,
                "files": g.photos.iter().map(file).collect::<Vec<_>>(),
            })
        };
        let suspect = |s: &Suspect| {
            json!({
                "file": self.photos[s.photo].name,
                "split": split(s.photo),
                "given": self.photos[s.photo].marked.words,
                "suggested": s.suggested,
                "confidence": s.confidence,
                "given_probability": s.given_probability,
            })
        };
        let unreadable = self
            .unreadable
            .iter()
            .map(|(file, reason)| json!({"file": file, "reason": reason}))
            .collect::<Vec<_>>();
        json!({
            "data": self.data,
            "task": self.task,
            "photos": self.photos.len(),
            "serious": self.count(Severity::Serious),
            "warnings": self.count(Severity::Warning),
            "findings": self.findings,
            "classes": self.classes,
            "unreadable": unreadable,
            "duplicates": self.groups.iter().map(group).collect::<Vec<_>>(),
            "probe": self.probed,
            "suspects": self.suspects.iter().map(suspect).collect::<Vec<_>>(),
        })
    }
}

/// Sums groups up by how they agree and whether they cross parts or labels.
fn of_groups(groups: &[Group], photos: &[Photo], task: Task) -> Vec<Finding> {
    let mut all = Vec::new();
    for same in [Same::Bytes, Same::Pixels, Same::Look, Same::Features] {
        let mut say = |kind, severity, wanted: &dyn Fn(&Group) -> bool, one: &str, many: &str| {
            let found: Vec<&Group> = groups.iter().filter(|g| g.same == same && wanted(g)).collect();
            if found.is_empty() {
                return;
            }
            let names = found
                .iter()
                .map(|g| g.photos.iter().map(|i| photos[*i].name.clone()).collect::<Vec<_>>().join(" = "));
            let what = format!("{} ({})", count(found.len(), one, many), same.words());
            all.push(Finding::new(kind, severity, what, names.collect()));
        };
        // Alike to a network may be two photos of one scene, or of one kind: a person decides.
        let severity = if same == Same::Features { Severity::Warning } else { Severity::Serious };
        let (one, many) =
            ("picture lies in several parts of the data", "pictures lie in several parts of the data");
        say("across_parts", severity, &|g| g.across, one, many);
        let (one, many) = match task {
            Task::Classify => ("picture has two labels", "pictures have two labels"),
            Task::Multilabel => {
                ("picture has other labels in its copy", "pictures have other labels in their copies")
            }
            Task::Regress => {
                ("picture has other numbers in its copy", "pictures have other numbers in their copies")
            }
        };
        let doubt = if same < Same::Look { Severity::Serious } else { Severity::Warning };
        say("two_labels", doubt, &|g| g.labels_differ && !g.across, one, many);
        let mild = if same == Same::Features { Severity::Note } else { Severity::Warning };
        let (one, many) = ("picture is there more than once", "pictures are there more than once");
        say("copies", mild, &|g| !g.across && !g.labels_differ, one, many);
    }
    all
}
