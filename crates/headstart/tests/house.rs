//! House rules that a reader relies on and the compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};

/// Longer than 400 lines for a reason its first lines give: data tables, kernels, their tests.
const LONG: &[&str] = &["headstart-kernels/src/"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every source file of a crate: its path from `crates/`, and its text.
fn files(part: &str) -> Vec<(String, String)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    sources(&crates.join(part), &mut found);
    assert!(!found.is_empty(), "no sources under {part}");
    let name = |p: &Path| p.strip_prefix(crates).unwrap().to_string_lossy().replace('\\', "/");
    found.into_iter().map(|p| (name(&p), fs::read_to_string(&p).unwrap())).collect()
}

#[test]
fn files_stay_short() {
    for part in ["headstart/src", "headstart-web/src", "headstart-cli/src", "headstart-kernels/src"] {
        for (name, text) in files(part) {
            let lines = text.lines().count();
            let allowed = LONG.iter().any(|long| name.starts_with(long));
            assert!(lines <= 400 || allowed, "{name} has {lines} lines");
        }
    }
}

#[test]
fn imports_point_one_way() {
    let forbidden: &[(&str, &[&str])] = &[
        (
            "headstart/src/models",
            &["crate::train", "crate::data", "crate::weights", "crate::bundle", "crate::session"],
        ),
        ("headstart/src/metrics", &["burn", "crate::image", "crate::train", "crate::models", "crate::data"]),
        ("headstart/src/transfer", &["burn", "crate::image", "crate::train", "crate::models", "crate::data"]),
        ("headstart/src/image", &["burn", "crate::train", "crate::models", "crate::data", "crate::weights"]),
        ("headstart/src/data", &["burn::", "crate::train", "crate::models", "crate::weights"]),
        (
            "headstart/src/weights",
            &["burn::", "crate::train", "crate::models", "crate::data", "crate::image"],
        ),
        (
            "headstart/src/synth",
            &["burn::", "crate::train", "crate::models", "crate::data", "crate::weights"],
        ),
        ("headstart-kernels/src", &["burn", "headstart::"]),
    ];
    for (part, words) in forbidden {
        for (name, text) in files(part) {
            for line in
                text.lines().map(str::trim).filter(|l| l.starts_with("use ") || l.starts_with("pub use "))
            {
                for word in *words {
                    assert!(!line.contains(word), "{name}: `{line}`");
                }
            }
        }
    }
}

#[test]
fn only_the_bridge_sees_kernels_and_only_http_sees_the_network() {
    for (name, text) in files("headstart/src") {
        let kernels = text.lines().any(|l| {
            l.trim().starts_with("use headstart_kernels") || l.contains("pub use headstart_kernels")
        });
        assert!(!kernels || name.starts_with("headstart/src/fast/"), "{name} imports the kernels");
        assert!(
            !text.contains("use ureq") || name.ends_with("weights/http.rs"),
            "{name} talks to the network"
        );
    }
}

#[test]
fn the_library_is_silent() {
    for part in ["headstart/src", "headstart-kernels/src", "headstart-web/src"] {
        for (name, text) in files(part) {
            for word in ["println!", "eprintln!", "process::exit", "dbg!"] {
                let code = text.lines().map(str::trim).filter(|l| !l.starts_with("//"));
                assert!(!code.clone().any(|l| l.contains(word)), "{name} uses {word}");
            }
        }
    }
}
