//! The weights on this disk: torchvision's folder and the hub's, what they hold, how to free them.
//!
//! Both are the folders torch and huggingface_hub use, so nothing is downloaded twice. The hub's
//! layout is in `hub.rs`, the downloading itself in `download.rs`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::download::{Job, Progress, Proof, fetch, lock, verify};
use super::env::Env;
use super::http::Http;
use super::hub::Lookup;
use super::source::{Source, file_name, sha_prefix, weights_in};
use crate::error::{Error, Result};

/// Brings weights onto the disk and knows what is there.
pub struct Cache {
    pub(super) env: Env,
    // Made on first use: most runs find everything cached and need no TLS set up.
    http: OnceLock<Http>,
}

/// Says which cache an entry is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One file in torch's folder.
    Torchvision,
    /// A repository in the hub's folder.
    Hub,
}

/// Describes something cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// The cache it is in.
    pub kind: Kind,
    /// The file's name, or `org/name`.
    pub name: String,
    /// The file or folder.
    pub path: PathBuf,
    /// What it takes on the disk, parts of broken downloads included.
    pub bytes: u64,
    /// The files a user would see, such as `model.safetensors`, each once.
    pub files: Vec<String>,
    /// Whether a broken download waits to be resumed.
    pub partial: bool,
}

impl Cache {
    /// Opens the caches that `env` points to; nothing is made or asked yet.
    pub fn new(env: Env) -> Cache {
        Cache { env, http: OnceLock::new() }
    }

    /// Returns the settings in use.
    pub fn env(&self) -> &Env {
        &self.env
    }

    pub(super) fn http(&self) -> &Http {
        self.http.get_or_init(|| Http::new(&self.env))
    }

    /// Brings weights onto the disk, wherever they are, and returns the file for [`super::read`].
    ///
    /// Names of models must have been resolved by the registry before.
    pub fn fetch(&self, source: &Source, lookup: Lookup, progress: &mut dyn Progress) -> Result<PathBuf> {
        match source {
            Source::File(path) => Ok(path.clone()),
            Source::LocalDir(folder) => weights_in(folder),
            Source::Hub(repo) => self.hub_weights(repo, lookup, progress),
            Source::Url { url, sha_prefix } => self.url_file(url, sha_prefix.as_deref(), lookup, progress),
            Source::Registry(name) => Err(Error::UnknownModel { name: name.clone(), nearest: vec![] }),
        }
    }

    /// Brings one of torchvision's files into torch's folder: `resnet18-f37072fd.pth`, say.
    pub fn torchvision_file(
        &self,
        file: &str,
        lookup: Lookup,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf> {
        let url = format!("{}{file}", self.env.torchvision_url);
        self.url_file(&url, sha_prefix(file), lookup, progress)
    }

    /// Brings a file into torch's folder, under the last part of its address, as torch would.
    ///
    /// [`Lookup::Revalidate`] hashes a cached file again and replaces it if it is damaged.
    pub fn url_file(
        &self,
        url: &str,
        sha_prefix: Option<&str>,
        lookup: Lookup,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf> {
        let failed = |reason: String, hint: String| Error::Download { url: url.into(), reason, hint };
        let name = file_name(url);
        if name.is_empty() || name.starts_with('.') || name.contains(['\\', ':']) {
            return Err(failed("the address does not end in a file name".into(), String::new()));
        }
        let proof = sha_prefix.map_or(Proof::Nothing, |digits| Proof::Sha256(digits.to_lowercase()));
        let target = self.env.torch_cache.join(name);
        let usable = || -> Result<bool> {
            let unchecked = lookup == Lookup::CacheFirst;
            Ok(target.is_file() && (unchecked || verify(&target, &proof)?.is_none()))
        };
        if usable()? {
            return Ok(target);
        }
        if let Some(variable) = &self.env.offline {
            let state = if target.is_file() { "the cached file is damaged" } else { "it is not cached" };
            return Err(failed(
                format!("{state} and `{variable}` forbids the network"),
                format!("fetch it once with `{variable}` unset, or copy it to `{}`", target.display()),
            ));
        }
        let _held = lock(&self.env.torch_cache.join(".locks").join(format!("{name}.lock")), progress)?;
        // Whoever held the lock before has probably fetched the very file.
        if usable()? {
            return Ok(target);
        }
        let partial = self.env.torch_cache.join(format!("{name}.headstart.partial"));
        let job = Job { url, token: None, partial, target: target.clone(), size: None, proof };
        fetch(self.http(), &self.env, &job, progress)?;
        Ok(target)
    }

    /// Lists what is cached, torchvision's files first, each by name.
    pub fn list(&self) -> Result<Vec<Cached>> {
        let mut found: Vec<Cached> = Vec::new();
        for path in children(&self.env.torch_cache)? {
            let Some(name) = path.file_name().and_then(|n| n.to_str()).map(String::from) else { continue };
            let bytes = fs::metadata(&path).map_or(0, |m| m.len());
            let whole = name.strip_suffix(".headstart.partial");
            if !path.is_file() || name.starts_with('.') {
                continue;
            }
            let name = whole.unwrap_or(&name).to_string();
            // The part of a file that is being replaced counts to the file.
            match found.iter_mut().find(|c| c.name == name) {
                Some(entry) => {
                    entry.bytes += bytes;
                    entry.partial |= whole.is_some();
                }
                None => {
                    let (files, partial) = (vec![name.clone()], whole.is_some());
                    let path = self.env.torch_cache.join(&name);
                    found.push(Cached { kind: Kind::Torchvision, name, path, bytes, files, partial });
                }
            }
        }
        for path in children(&self.env.hub_cache)? {
            let folder = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("models--"));
            if let Some(name) = folder.filter(|_| path.is_dir()).map(|n| n.replace("--", "/")) {
                found.push(hub_entry(name, path)?);
            }
        }
        Ok(found)
    }

    /// Removes an entry by the name [`Cache::list`] gives it; returns the bytes freed.
    ///
    /// Content in a store shared by several repositories stays: others may point to it.
    pub fn remove(&self, name: &str) -> Result<u64> {
        let mut freed = None;
        for entry in self.list()?.into_iter().filter(|entry| entry.name == name) {
            let paths = match entry.kind {
                Kind::Torchvision => {
                    let partial = self.env.torch_cache.join(format!("{name}.headstart.partial"));
                    let lock = self.env.torch_cache.join(".locks").join(format!("{name}.lock"));
                    vec![entry.path, partial, lock]
                }
                Kind::Hub => {
                    let folder = format!("models--{}", name.replace('/', "--"));
                    vec![entry.path, self.env.hub_cache.join(".locks").join(folder)]
                }
            };
            for path in paths {
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                match removed {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::write(&path)(e)),
                    _ => {}
                }
            }
            freed = Some(freed.unwrap_or(0) + entry.bytes);
        }
        freed.ok_or_else(|| Error::NotFound { path: name.into() })
    }
}

/// Measures a repository: each content once, however many snapshots point to it.
fn hub_entry(name: String, path: PathBuf) -> Result<Cached> {
    let mut seen = HashSet::new();
    let (mut bytes, mut partial) = (0, false);
    let mut add = |path: &Path| {
        let Ok(real) = fs::canonicalize(path) else { return };
        if seen.insert(real.clone()) {
            bytes += fs::metadata(real).map_or(0, |m| m.len());
        }
    };
    for blob in children(&path.join("blobs"))? {
        partial |= blob.extension().is_some_and(|e| e == "incomplete");
        add(&blob);
    }
    let mut files = Vec::new();
    for snapshot in children(&path.join("snapshots"))? {
        let mut folders = vec![snapshot.clone()];
        while let Some(folder) = folders.pop() {
            for child in children(&folder)? {
                // Links to folders are not followed: they could lead anywhere, and round in circles.
                if child.is_dir() && !child.is_symlink() {
                    folders.push(child);
                } else if child.is_file() {
                    add(&child);
                    let inside = child.strip_prefix(&snapshot).unwrap_or(&child);
                    files.push(inside.to_string_lossy().replace('\\', "/"));
                }
            }
        }
    }
    files.sort();
    files.dedup();
    Ok(Cached { kind: Kind::Hub, name, path, bytes, files, partial })
}

/// Lists a folder in order of names; one that is not there is empty.
fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(Error::read(folder))?,
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}
