//! The program as users run it: exit codes, messages, and that nothing is ever lost.

mod guided;
mod happy;
mod kept;
mod light;
mod refused;
mod semi;
mod tables;
mod trusted;
mod zero_shot;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

/// One phase: the head, on cached features.
const HEAD: &str = r#"
batch_size = 8
[[phase]]
name = "head"
epochs = 2
trainable = ["head"]
lr = 1e-2
"#;

/// A place to work in, with drawn flowers in `photos` and the recipe `head.toml`.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        headstart::synth::write_flowers(&place.path("photos"), 6, 3, 1, 48).unwrap();
        fs::write(place.path("head.toml"), HEAD).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes the command, in this place, cut off from caches and network.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headstart"));
        command.args(args).current_dir(self.dir.path());
        command.env("TORCH_HOME", self.path("none")).env("HF_HOME", self.path("none"));
        command.env("HF_HUB_OFFLINE", "1").env("RUST_BACKTRACE", "0").env_remove("HF_HUB_CACHE");
        command
    }

    /// Runs and returns stdout; it must succeed.
    fn good(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs with `--json` and parses the one document on stdout.
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.good(&[args, &["--json"]].concat())).unwrap()
    }

    /// Runs and returns stderr, which must hold each of `words`; the exit code must be 2.
    fn refused(&self, args: &[&str], words: &[&str]) -> String {
        check_refused(&self.command(args).output().unwrap(), args, words)
    }

    /// Checks that the page of a run holds `parts` and what every page has, and needs nothing besides itself.
    fn whole_page(&self, run: &str, parts: &[&str]) {
        let page = fs::read_to_string(self.path(run).join("report.html")).unwrap();
        let always = ["bit for bit", "audit: ", "data:image/jpeg;base64,", "class activation map"];
        for part in always.iter().chain(parts) {
            assert!(page.contains(part), "the page lacks `{part}`");
        }
        let from_elsewhere = page.split("src=\"").skip(1).any(|source| !source.starts_with("data:"));
        assert!(
            !from_elsewhere && !page.contains("<script") && !page.contains("NaN"),
            "not offline or not tidy"
        );
    }

    /// `fit` on `data` with the small recipe.
    fn fit<'a>(data: &'a str, out: &'a str) -> Vec<&'a str> {
        vec!["fit", data, "--recipe", "head.toml", "--size", "32", "--out", out]
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn check_refused(output: &Output, args: &[&str], words: &[&str]) -> String {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    assert!(said.contains("error: ") && !said.contains("panicked"), "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?} must say `{word}`: {said}");
    }
    said
}

/// Reads every file below `folder`, by path.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        match path.is_dir() {
            true => files.extend(contents(&path)),
            false => files.push((path.clone(), fs::read(path).unwrap())),
        }
    }
    files.sort();
    files
}
