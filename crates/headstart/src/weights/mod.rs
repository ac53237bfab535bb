//! Weights: where they come from, how they are read, and what they are called.
//!
//! [`Source`] understands what a user may name; [`Cache`] brings it onto the disk, into the
//! folders torchvision and Hugging Face use themselves; [`read`] turns a file or folder into a
//! [`StateDict`] with clean names. Applying a state dict to a network is not done here.
//!
//! Nothing in a file is ever run: `.pth` files are read by a machine that only builds data
//! (`pickle.rs`). Only `http.rs` talks to the network.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

pub mod atomic;
pub mod cache;
pub mod clip;
mod download;
pub mod env;
pub mod family;
mod http;
pub mod hub;
pub mod hub_repo;
pub mod names;
mod pickle;
mod pickle_machine;
pub mod pth;
mod rebuild;
pub mod report;
pub mod safetensors;
pub mod sharded;
pub mod source;
pub mod state_dict;
pub mod timm_config;
mod zip;

pub use atomic::write_atomically;
pub use cache::{Cache, Cached, Kind};
pub use download::Progress;
pub use env::Env;
pub use family::looks_like;
pub use hub::Lookup;
pub use hub_repo::HubRepo;
pub use report::{LoadReport, Misshapen};
pub use source::{Source, weights_in};
pub use state_dict::{Dtype, Entry, StateDict};
pub use timm_config::{LabelNames, PretrainedCfg, TimmConfig};

/// Reads weights from a file of any known kind, an index of shards, or a folder with such files.
///
/// Training checkpoints are unwrapped and wrappers' prefixes stripped; [`StateDict::notes`] says
/// what was done. A file that holds no tensor at all is an error.
pub fn read(path: &Path) -> Result<StateDict> {
    let path = if path.is_dir() { weights_in(path)? } else { path.to_path_buf() };
    let mut dict = match path.to_string_lossy().ends_with(".index.json") {
        true => sharded::read(&path)?,
        false => read_file(&path)?,
    };
    if dict.is_empty() {
        let reason = match dict.notes.first() {
            Some(note) => format!("it holds no tensor that can be used ({note})"),
            None => "it holds no tensors".into(),
        };
        return Err(safetensors::bad_weights(&path, reason));
    }
    names::strip_prefixes(&mut dict);
    names::modernize_densenet(&mut dict);
    Ok(dict)
}

/// Reads one file, told apart by its first bytes: people rename `.pth` to `.bin` and back.
fn read_file(path: &Path) -> Result<StateDict> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(Error::read(path))?;
    file.take(64).read_to_end(&mut start).map_err(Error::read(path))?;
    let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    let bad = |reason: &str, hint: &str| {
        Err(Error::BadWeights { path: path.to_path_buf(), reason: reason.into(), hint: hint.into() })
    };
    if start.is_empty() {
        bad("it is empty", "download it again")
    } else if start.starts_with(b"version https://git-lfs") {
        bad("it is a Git LFS pointer, not the file itself", "fetch the real file with `git lfs pull`")
    } else if start.trim_ascii_start().starts_with(b"<") {
        bad("it is a web page, not a weights file", "the address it came from needs a login or is wrong")
    } else if named || start.get(8) == Some(&b'{') {
        safetensors::read(path)
    } else {
        pth::read(path)
    }
}
