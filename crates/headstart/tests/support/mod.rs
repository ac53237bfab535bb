//! What the tests of downloads share: the server, the settings, a log.

// Each test file is a program of its own and uses its own part of this.
#![allow(dead_code)]

pub mod http_server;

use std::path::Path;
use std::time::Duration;

use headstart::Error;
use headstart::weights::{Env, Progress};
use sha1::Digest;

pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

pub fn sha256(content: &[u8]) -> String {
    hex(sha2::Sha256::digest(content))
}

pub fn git_sha1(content: &[u8]) -> String {
    hex(sha1::Sha1::new().chain_update(format!("blob {}\0", content.len())).chain_update(content).finalize())
}

/// Bytes that do not repeat, so that a wrong splice shows.
pub fn content(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

pub fn env(dir: &Path, server: &str) -> Env {
    let mut env = Env::from_vars(|_| None);
    env.torch_cache = dir.join("torch/hub/checkpoints");
    env.hub_cache = dir.join("hf/hub");
    env.torchvision_url = format!("{server}/models/");
    env.hub_url = server.into();
    env.answer_timeout = Duration::from_millis(700);
    env.stall_timeout = Duration::from_millis(300);
    env.attempts = 3;
    env.backoff = Duration::from_millis(5);
    env
}

/// What a download reports, for looking at afterwards.
#[derive(Default)]
pub struct Log {
    pub notes: Vec<String>,
    pub done: Vec<(u64, Option<u64>)>,
    pub finished: usize,
}

impl Progress for Log {
    fn advanced(&mut self, done: u64, total: Option<u64>) {
        self.done.push((done, total));
    }
    fn noted(&mut self, message: &str) {
        self.notes.push(message.into());
    }
    fn finished(&mut self, _file: &str) {
        self.finished += 1;
    }
}

pub fn refusal(error: Error) -> (String, String) {
    match &error {
        Error::Download { reason, .. } => (reason.clone(), error.hints().join(" ")),
        other => panic!("{other:?}"),
    }
}
