//! The Hugging Face hub: repositories, and the cache layout shared with huggingface_hub.
//!
//! ```text
//! <cache>/models--org--name/blobs/<etag>                    the content
//!                           refs/<revision>                 the commit a name stood for, last time
//!                           snapshots/<commit>/<file>       a link to the blob, or a copy
//!                           .no_exist/<commit>/<file>       known not to be there
//! <cache>/.locks/models--org--name/<etag>.lock
//! ```
//!
//! A blob may itself be a link into a store shared by all repositories, so links are followed
//! everywhere. Names that come from a server are checked before they become paths.

use std::fs;
use std::path::{Path, PathBuf};

use super::atomic::write_atomically;
use super::cache::Cache;
use super::download::{Job, Progress, Proof, advice, fetch, lock, pause};
use super::http::{Answer, Failure};
use super::hub_repo::{HubRepo, is_commit, is_inside, is_name, quoted};
use super::sharded;
use super::source::PREFERRED;
use super::timm_config::TimmConfig;
use crate::error::{Error, Result};

/// Says whether a file that is there is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// Take what is cached without asking anybody; the network is for what is not.
    CacheFirst,
    /// Ask whether there is something newer or whether the file is damaged; fall back on the
    /// cache when nobody answers.
    Revalidate,
}

/// The hub's facts about a file.
struct Facts {
    commit: String,
    etag: String,
    size: Option<u64>,
}

const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This file is a cache directory tag created by huggingface_hub.\n\
    # For information about cache directory tags, see:\n#\thttps://bford.info/cachedir/\n";

impl Cache {
    /// Brings a file of a repository into the cache; nothing if the repository has no such file.
    pub fn hub_file(
        &self,
        repo: &HubRepo,
        file: &str,
        lookup: Lookup,
        progress: &mut dyn Progress,
    ) -> Result<Option<PathBuf>> {
        let url = self.hub_url(repo, &repo.revision, file);
        if !is_inside(file) {
            return Err(failed(&url, "the name leaves the repository", ""));
        }
        let cached = self.in_snapshot(repo, file);
        if let Some(known) = &cached
            && (lookup == Lookup::CacheFirst || self.env.offline.is_some() || is_commit(&repo.revision))
        {
            return Ok(known.clone());
        }
        if let Some(variable) = &self.env.offline {
            return Err(failed(
                &url,
                format!("it is not cached and `{variable}` forbids the network"),
                format!("fetch it once with `{variable}` unset: `headstart pull {repo}`"),
            ));
        }
        let facts = match self.facts(&url, cached.is_some(), progress) {
            Ok(facts) => facts,
            Err(Failure::Refused { status: 404, code, commit }) if code == "EntryNotFound" => {
                self.remember_absence(repo, file, commit.as_deref());
                return Ok(None);
            }
            Err(failure) => {
                let gone = matches!(&failure, Failure::Refused { code, .. } if code == "RevisionNotFound");
                return match cached {
                    Some(known) if !gone => {
                        progress.noted(&format!("{}: using the cached copy", failure.reason()));
                        Ok(known)
                    }
                    _ => Err(self.refusal(repo, &url, &failure)),
                };
            }
        };
        self.bring(repo, file, &url, &facts, progress).map(Some)
    }

    /// Brings the weights of a repository into the cache, all shards if there are several.
    pub fn hub_weights(
        &self,
        repo: &HubRepo,
        lookup: Lookup,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf> {
        // What is cached already wins over asking for each preferred name in turn; shards are left
        // to the loop, which knows whether all of them are there.
        if (lookup == Lookup::CacheFirst || self.env.offline.is_some())
            && let Some(folder) = self.snapshot(repo, &repo.revision)
            && let Some(path) = PREFERRED.iter().map(|name| folder.join(name)).find(|path| path.is_file())
            && !is_index(&path)
        {
            return Ok(path);
        }
        for name in PREFERRED {
            let Some(path) = self.hub_file(repo, name, lookup, progress)? else { continue };
            if is_index(&path) {
                for shard in sharded::shards(&path)? {
                    if self.hub_file(repo, &shard, lookup, progress)?.is_none() {
                        let url = self.hub_url(repo, &repo.revision, &shard);
                        return Err(failed(&url, "the index lists it, but it is not there", ""));
                    }
                }
            }
            return Ok(path);
        }
        let url = format!("{}/{}", self.env.hub_url, repo.name);
        Err(failed(
            &url,
            "the repository holds no weights under a usual name",
            "download the file you want and name it with `--weights FILE`",
        ))
    }

    /// Brings timm's description of a model into the cache and reads it.
    pub fn hub_config(
        &self,
        repo: &HubRepo,
        lookup: Lookup,
        progress: &mut dyn Progress,
    ) -> Result<Option<TimmConfig>> {
        let path = self.hub_file(repo, "config.json", lookup, progress)?;
        path.map(|path| TimmConfig::read(&path)).transpose()
    }

    fn hub_url(&self, repo: &HubRepo, revision: &str, file: &str) -> String {
        let file: Vec<String> = file.split('/').map(quoted).collect();
        format!("{}/{}/resolve/{}/{}", self.env.hub_url, repo.name, quoted(revision), file.join("/"))
    }

    fn repo_folder(&self, repo: &HubRepo) -> PathBuf {
        self.env.hub_cache.join(repo.folder())
    }

    /// Returns the folder of the commit a revision stands for, or stood for when last seen.
    fn snapshot(&self, repo: &HubRepo, revision: &str) -> Option<PathBuf> {
        let folder = self.repo_folder(repo);
        let commit = match is_commit(revision) {
            true => revision.to_string(),
            false => fs::read_to_string(folder.join("refs").join(revision)).ok()?.trim().to_string(),
        };
        is_inside(&commit).then(|| folder.join("snapshots").join(commit))
    }

    /// Looks a file up: there, known not to be there, or unknown.
    fn in_snapshot(&self, repo: &HubRepo, file: &str) -> Option<Option<PathBuf>> {
        let snapshot = self.snapshot(repo, &repo.revision)?;
        let path = snapshot.join(file);
        if path.is_file() {
            return Some(Some(path));
        }
        let absent = self.repo_folder(repo).join(".no_exist").join(snapshot.file_name()?).join(file);
        absent.is_file().then_some(None)
    }

    fn facts(
        &self,
        url: &str,
        cached: bool,
        progress: &mut dyn Progress,
    ) -> std::result::Result<Facts, Failure> {
        // With something to fall back on, a hub in trouble is not worth waiting for.
        let attempts = if cached { 1 } else { self.env.attempts };
        let mut failures = 0;
        let answer = loop {
            match self.http().head(url, self.env.token.as_deref()) {
                Err(Failure::Passing { reason, wait }) if failures + 1 < attempts => {
                    failures += 1;
                    pause(&self.env, failures, wait, &reason, progress);
                }
                other => break other?,
            }
        };
        facts_in(&answer).ok_or_else(|| Failure::Unreachable {
            reason: "the answer does not come from a Hugging Face hub".into(),
        })
    }

    /// Makes sure that blob, link and ref are there.
    fn bring(
        &self,
        repo: &HubRepo,
        file: &str,
        url: &str,
        facts: &Facts,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf> {
        let folder = self.repo_folder(repo);
        let pointer = folder.join("snapshots").join(&facts.commit).join(file);
        let remember = || match repo.revision == facts.commit {
            true => Ok(()),
            false => self.write_ref(repo, &facts.commit),
        };
        if pointer.is_file() {
            // The cache may be mounted read-only, which is no reason to fail now.
            let _ = remember();
            return Ok(pointer);
        }
        let blob = folder.join("blobs").join(&facts.etag);
        for path in [&blob, &pointer] {
            let parent = path.parent().expect("both are inside the repository's folder");
            fs::create_dir_all(parent).map_err(Error::write(parent))?;
        }
        let tag = self.env.hub_cache.join("CACHEDIR.TAG");
        if !tag.exists() {
            let _ = fs::write(tag, TAG);
        }
        remember()?;
        let locks = self.env.hub_cache.join(".locks").join(repo.folder());
        let _held = lock(&locks.join(format!("{}.lock", facts.etag)), progress)?;
        if !blob.is_file() && !pointer.is_file() {
            let job = Job {
                // At the very commit, so that a push between the two requests cannot mix files.
                url: &self.hub_url(repo, &facts.commit, file),
                token: self.env.token.as_deref(),
                // huggingface_hub puts eight random digits there; fixed ones can be resumed.
                partial: folder.join("blobs").join(format!("{}.4ead57a7.incomplete", facts.etag)),
                target: blob.clone(),
                size: facts.size,
                proof: proof(&facts.etag),
            };
            fetch(self.http(), &self.env, &job, progress).map_err(|error| named_by(error, url))?;
        }
        self.link(&blob, &pointer, Path::new(file).components().count())?;
        Ok(pointer)
    }

    /// Points a snapshot's file at its blob; where that cannot be, copies.
    fn link(&self, blob: &Path, pointer: &Path, depth: usize) -> Result<()> {
        if pointer.is_file() {
            return Ok(());
        }
        let name = blob.file_name().expect("a blob has its etag as its name");
        let up: PathBuf = std::iter::repeat_n("..", depth + 1).collect();
        // A link whose blob is gone would be in the way.
        let _ = fs::remove_file(pointer);
        if self.env.symlinks && symlink(&up.join("blobs").join(name), pointer).is_ok() {
            return Ok(());
        }
        write_atomically(pointer, |out| std::io::copy(&mut fs::File::open(blob)?, out).map(drop))
    }

    fn write_ref(&self, repo: &HubRepo, commit: &str) -> Result<()> {
        let path = self.repo_folder(repo).join("refs").join(&repo.revision);
        if fs::read_to_string(&path).is_ok_and(|known| known == commit) {
            return Ok(());
        }
        write_atomically(&path, |out| std::io::Write::write_all(out, commit.as_bytes()))
    }

    /// Notes that a commit lacks a file, so that offline runs know it too; best effort.
    fn remember_absence(&self, repo: &HubRepo, file: &str, commit: Option<&str>) {
        let Some(commit) = commit.filter(|commit| is_name(commit)) else { return };
        let path = self.repo_folder(repo).join(".no_exist").join(commit).join(file);
        if write_atomically(&path, |_| Ok(())).is_ok() && repo.revision != commit {
            let _ = self.write_ref(repo, commit);
        }
    }

    fn refusal(&self, repo: &HubRepo, url: &str, failure: &Failure) -> Error {
        let (reason, hint) = match failure {
            Failure::Refused { code, .. } if code == "GatedRepo" => (
                format!("`{}` asks for an agreement to its terms", repo.name),
                format!("agree at {}/{} and set `HF_TOKEN`", self.env.hub_url, repo.name),
            ),
            Failure::Refused { code, .. } if code == "RevisionNotFound" => (
                format!("`{}` has no revision `{}`", repo.name, repo.revision),
                "leave out `@…` for the newest".into(),
            ),
            // The hub answers 401 for what does not exist, so as not to tell what does.
            Failure::Refused { status: 401 | 403 | 404, .. } => (
                format!("there is no repository `{}`, or it is private", repo.name),
                match self.env.token {
                    None => "check the name; for a private repository set `HF_TOKEN`".into(),
                    Some(_) => "check the name and whether your `HF_TOKEN` may read it".into(),
                },
            ),
            other => (other.reason(), advice(other)),
        };
        failed(url, reason, hint)
    }
}

fn failed(url: &str, reason: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::Download { url: url.into(), reason: reason.into(), hint: hint.into() }
}

/// Lets an error speak of the address the user meant, not of the one with the commit in it.
fn named_by(error: Error, url: &str) -> Error {
    match error {
        Error::Download { reason, hint, .. } => failed(url, reason, hint),
        other => other,
    }
}

fn facts_in(answer: &Answer) -> Option<Facts> {
    let etag = answer.header("x-linked-etag").or_else(|| answer.header("etag"))?;
    let etag = etag.trim_start_matches("W/").trim_matches('"');
    let commit = answer.header("x-repo-commit")?;
    // On a redirect the content length is that of the redirect's own text.
    let own = || answer.number("content-length").filter(|_| answer.status == 200);
    (is_name(etag) && is_name(commit)).then(|| Facts {
        commit: commit.into(),
        etag: etag.into(),
        size: answer.number("x-linked-size").or_else(own),
    })
}

fn proof(etag: &str) -> Proof {
    let hex = etag.bytes().all(|b| b.is_ascii_hexdigit());
    match etag.len() {
        64 if hex => Proof::Sha256(etag.into()),
        40 if hex => Proof::GitSha1(etag.into()),
        _ => Proof::Nothing,
    }
}

fn is_index(path: &Path) -> bool {
    path.to_string_lossy().ends_with(".index.json")
}

#[cfg(unix)]
fn symlink(to: &Path, at: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(windows)]
fn symlink(to: &Path, at: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(to, at)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_tell_how_to_verify() {
        assert_eq!(proof(&"a".repeat(64)), Proof::Sha256("a".repeat(64)));
        assert_eq!(proof(&"0".repeat(40)), Proof::GitSha1("0".repeat(40)));
        assert_eq!(proof("some-tag"), Proof::Nothing);
    }
}
