//! Brings one file onto the disk: resumable, verified, renamed into place only when complete.
//!
//! The partial file survives a failure, and the next attempt or the next run goes on from its
//! end. Nothing is trusted but the final hash: if it is wrong after a resume, the file is fetched
//! once more from the start; if it is wrong again, the promise and the content differ.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::atomic::sync_folder;
use super::env::Env;
use super::http::{Answer, Failure, Http};
use crate::error::{Error, Result};

/// Gains that count as a working connection, so that a flaky link may break any number of times.
const WORTHWHILE: u64 = 1 << 20;
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Watches a download; every method has an empty default.
pub trait Progress {
    /// Hears that a file is about to be fetched, and how large it is if known.
    fn started(&mut self, _file: &str, _total: Option<u64>) {}
    /// Hears how many bytes are there, those of earlier runs included.
    fn advanced(&mut self, _done: u64, _total: Option<u64>) {}
    /// Hears a plain sentence: waiting, trying again, resuming.
    fn noted(&mut self, _message: &str) {}
    /// Hears that the file is complete and verified.
    fn finished(&mut self, _file: &str) {}
}

/// Watches nothing.
impl Progress for () {}

/// Says how the content is known to be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// The sha256 starts with these digits, or is them.
    Sha256(String),
    /// Git's name for the content, for small files on the hub.
    GitSha1(String),
    /// Only the size, if even that.
    Nothing,
}

/// Describes one file to fetch.
pub(super) struct Job<'a> {
    pub(super) url: &'a str,
    pub(super) token: Option<&'a str>,
    pub(super) partial: PathBuf,
    pub(super) target: PathBuf,
    pub(super) size: Option<u64>,
    pub(super) proof: Proof,
}

/// Why one attempt ended.
enum Halt {
    /// Trying again may help.
    Passing { reason: String, wait: Option<Duration> },
    /// Nothing will help.
    Final(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Halt {
        Halt::Final(error)
    }
}

/// Fetches, verifies and puts in place.
pub(super) fn fetch(http: &Http, env: &Env, job: &Job, progress: &mut dyn Progress) -> Result<()> {
    let name = job.url.rsplit('/').next().unwrap_or(job.url);
    progress.started(name, job.size);
    let mut resumed = length(&job.partial) > 0;
    let (mut failures, mut restarted) = (0, false);
    loop {
        let before = length(&job.partial);
        match attempt(http, job, progress) {
            Ok(()) => match verify(&job.partial, &job.proof)? {
                None => break,
                Some(reason) => {
                    fs::remove_file(&job.partial).map_err(Error::write(&job.partial))?;
                    if !resumed || restarted {
                        let hint = "the server or something on the way sends another file: \
                                    try later, or ask whoever runs the network"
                            .into();
                        return Err(Error::Download { url: job.url.into(), reason, hint });
                    }
                    progress.noted("the resumed file is not right: starting over");
                    restarted = true;
                }
            },
            Err(Halt::Final(error)) => return Err(error),
            Err(Halt::Passing { reason, wait }) => {
                let after = length(&job.partial);
                failures = if after >= before + WORTHWHILE { 1 } else { failures + 1 };
                resumed |= after > 0;
                if failures >= env.attempts {
                    let hint = match after {
                        0 => "try again later".into(),
                        n => format!("try again: {n} bytes are kept and not fetched twice"),
                    };
                    return Err(Error::Download { url: job.url.into(), reason, hint });
                }
                pause(env, failures, wait, &reason, progress);
            }
        }
    }
    File::open(&job.partial).and_then(|f| f.sync_all()).map_err(Error::write(&job.partial))?;
    fs::rename(&job.partial, &job.target).map_err(Error::write(&job.target))?;
    job.target.parent().map(sync_folder);
    progress.finished(name);
    Ok(())
}

/// Waits before the next attempt: as long as the server asks, else twice as long each time.
pub(super) fn pause(
    env: &Env,
    failures: u32,
    wait: Option<Duration>,
    reason: &str,
    progress: &mut dyn Progress,
) {
    let doubled = env.backoff.saturating_mul(1 << (failures - 1).min(10));
    let wait = wait.unwrap_or(doubled).min(MAX_WAIT);
    progress.noted(&format!("{reason}: trying again in {:.1} s", wait.as_secs_f64()));
    std::thread::sleep(wait);
}

/// Fetches what the partial file lacks.
fn attempt(http: &Http, job: &Job, progress: &mut dyn Progress) -> std::result::Result<(), Halt> {
    let write_error = |e| Halt::Final(Error::write(&job.partial)(e));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&job.partial)
        .map_err(write_error)?;
    let mut done = file.seek(SeekFrom::End(0)).map_err(write_error)?;
    if job.size.is_some_and(|size| done > size) {
        done = 0;
    }
    // An empty file still has to be asked for once: without a size nothing is known about it.
    if done > 0 && job.size == Some(done) {
        return Ok(());
    }
    let answer = http.get(job.url, job.token, done).map_err(|failure| halt(job, failure))?;
    if answer.header("content-type").is_some_and(|t| t.starts_with("text/html")) {
        let reason = "the server sent a web page: is a login page or a proxy in between?".into();
        return Err(Error::Download { url: job.url.into(), reason, hint: String::new() }.into());
    }
    let (start, total) = extent(&answer, done);
    if start != Some(done) && start != Some(0) {
        // The range is not the one asked for, or there is nothing after what is here already.
        file.set_len(0).map_err(write_error)?;
        return Err(Halt::Passing { reason: "the server cannot go on from here".into(), wait: None });
    }
    done = start.unwrap_or(0);
    file.set_len(done).map_err(write_error)?;
    file.seek(SeekFrom::Start(done)).map_err(write_error)?;
    let total = job.size.or(total);
    progress.advanced(done, total);

    let mut body = answer.into_reader();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                file.write_all(&buffer[..n]).map_err(write_error)?;
                done += n as u64;
                progress.advanced(done, total);
                if total.is_some_and(|total| done > total) {
                    break;
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => {
                let reason = match total {
                    Some(total) => {
                        format!("the connection broke or stood still after {done} of {total} bytes")
                    }
                    None => format!("the connection broke or stood still after {done} bytes"),
                };
                return Err(Halt::Passing { reason, wait: None });
            }
        }
    }
    match total {
        Some(total) if done < total => Err(Halt::Passing {
            reason: format!("the connection ended after {done} of {total} bytes"),
            wait: None,
        }),
        Some(total) if done > total => {
            file.set_len(0).map_err(write_error)?;
            Err(Halt::Passing { reason: format!("the server sends more than the {total} bytes"), wait: None })
        }
        _ => Ok(()),
    }
}

/// Reads where the answer starts in the file and how long the file is in all.
fn extent(answer: &Answer, asked: u64) -> (Option<u64>, Option<u64>) {
    match answer.status {
        200 => (Some(0), answer.number("content-length")),
        206 => {
            // `bytes 100-199/200`
            let range = answer.header("content-range").and_then(|r| r.strip_prefix("bytes "));
            let start = range.and_then(|r| r.split('-').next()?.trim().parse().ok());
            let total = range.and_then(|r| r.rsplit('/').next()?.trim().parse().ok());
            (start.or(Some(asked).filter(|_| range.is_none())), total)
        }
        _ => (None, None),
    }
}

fn halt(job: &Job, failure: Failure) -> Halt {
    match failure {
        Failure::Passing { reason, wait } => Halt::Passing { reason, wait },
        other => {
            Halt::Final(Error::Download { url: job.url.into(), hint: advice(&other), reason: other.reason() })
        }
    }
}

/// Says what a user can do about a server that says no.
pub(super) fn advice(failure: &Failure) -> String {
    match failure {
        Failure::Refused { status: 404, .. } => "check the name".into(),
        Failure::Refused { status: 401 | 403, .. } => "set `HF_TOKEN` to a token that may read it".into(),
        Failure::Unreachable { .. } | Failure::Passing { .. } => {
            "check the connection, or give a file on the disk with `--weights FILE`".into()
        }
        Failure::Refused { .. } => String::new(),
    }
}

/// Compares content and promise; returns what is wrong.
pub(super) fn verify(path: &Path, proof: &Proof) -> Result<Option<String>> {
    let (kind, promised, found) = match proof {
        Proof::Nothing => return Ok(None),
        Proof::Sha256(digits) => ("sha256", digits, digest(path, Sha256::new())?),
        Proof::GitSha1(digits) => {
            let start = Sha1::new().chain_update(format!("blob {}\0", length(path)));
            ("git hash", digits, digest(path, start)?)
        }
    };
    let right = found.starts_with(promised.as_str());
    Ok((!right).then(|| {
        format!("its {kind} is {}…, but {promised} was promised", &found[..promised.len().clamp(8, 12)])
    }))
}

fn digest<D: Digest>(path: &Path, mut hash: D) -> Result<String> {
    let mut file = File::open(path).map_err(Error::read(path))?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).map_err(Error::read(path))? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

/// Waits until no other process fetches the same file; the lock ends with the returned handle.
///
/// The lock is `flock`, as in Python's `filelock`, so huggingface_hub respects it. On file
/// systems without locks nothing is returned, and the final hash is what protects.
pub(super) fn lock(path: &Path, progress: &mut dyn Progress) -> Result<Option<File>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::write(folder))?;
    }
    let options = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = options.map_err(Error::write(path))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    progress.noted("waiting: another process is fetching the same file");
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
}
