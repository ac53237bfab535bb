//! What must not be lost: frozen bits, a killed run's work, a bundle that is already there.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use headstart::models::HeadSpec;
use headstart::sources::{Backbone, Wanted};
use headstart::weights::{self, Dtype, Entry, StateDict, safetensors};

use super::*;

/// Writes `headstart_nano` with its convolutions in half and the rest in full precision.
fn source(path: &Path) -> StateDict {
    struct Quiet;
    impl weights::Progress for Quiet {
        fn started(&mut self, _: &str, _: Option<u64>) {}
        fn advanced(&mut self, _: u64, _: Option<u64>) {}
    }
    let backbone = Backbone::open(&Wanted::default(), &mut Quiet).unwrap();
    let (network, _) = backbone.with_new_head(5, HeadSpec::linear(), 0).unwrap();
    let mut dict = StateDict::new("");
    for (name, shape, values) in network.state() {
        let half = shape.len() == 4;
        dict.insert(
            name,
            if half { Entry::from_f32_as_f16(&shape, &values) } else { Entry::from_f32(&shape, &values) },
        );
    }
    safetensors::write(path, &dict).unwrap();
    dict
}

#[test]
fn frozen_tensors_keep_type_and_bytes() {
    let place = Place::new();
    let source = source(&place.path("source.safetensors"));
    let from = ["--model", "headstart_nano", "--weights", "source.safetensors", "--size", "32"];
    let fit = ["fit", "photos", "--recipe", "head", "--epochs", "1", "--views", "1", "--out", "run"];
    let said = place.json(&[&fit[..], &from[..]].concat());
    let bundle = weights::read(&place.path("run/bundle/model.safetensors")).unwrap();
    let mut same = 0;
    for (name, entry) in source.iter().filter(|(name, _)| !name.starts_with("fc.")) {
        assert_eq!(bundle.get(name), Some(entry), "{name}");
        same += 1;
    }
    assert_eq!(said["tensors_equal_to_source"], same);
    assert_eq!(bundle.get("conv1.weight").unwrap().dtype, Dtype::F16);
    assert_ne!(bundle.get("fc.weight").unwrap().bytes, source.get("fc.weight").unwrap().bytes);
    // What trains moves; what `--freeze` names does not.
    // One phase, so that the kept epoch is one that trained everything.
    let all = "batch_size = 8\n[[phase]]\nepochs = 1\ntrainable = [\"all\"]\nbatch_norm = \"freeze-stats\"\nlr = 1e-4\n";
    std::fs::write(place.path("all.toml"), all).unwrap();
    let fit = ["fit", "photos", "--recipe", "all.toml", "--out", "tuned"];
    place.json(&[&fit[..], &from[..], &["--freeze", "stem", "--freeze", "layer1.*"]].concat());
    let bundle = weights::read(&place.path("tuned/bundle/model.safetensors")).unwrap();
    for (name, entry) in
        source.iter().filter(|(name, _)| name.starts_with("layer1.") || name.starts_with("conv1."))
    {
        assert_eq!(bundle.get(name), Some(entry), "{name}");
    }
    assert_ne!(bundle.get("layer4.0.conv1.weight").unwrap().dtype, Dtype::F16);
}

const TWO_PHASES: &str = r#"
batch_size = 8
seed = 3
optimizer = "adamw"
head = "bn | dropout(0.3) | linear"
train = "random_resized_crop({size}, {filter}) | flip_lr(0.5) | normalize({norm})"
views = 2
[[phase]]
name = "head"
epochs = 3
trainable = ["head"]
lr = 1e-2
schedule = "one_cycle"
[[phase]]
name = "all"
epochs = 5
trainable = ["all"]
batch_norm = "train"
lr = { head = 1e-3, stem = 1e-5 }
schedule = "cosine"
"#;

/// Waits until the run has saved `epochs` epochs, then kills it without a warning.
pub(super) fn kill_after(epochs: usize, mut run: Child, checkpoint: &Path) {
    let started = Instant::now();
    let saved = || {
        let dict = safetensors::read(checkpoint).ok()?;
        let place: Value = serde_json::from_str(dict.metadata.get("headstart_checkpoint")?).ok()?;
        Some(place["history"].as_array()?.len())
    };
    while saved().unwrap_or(0) < epochs {
        assert!(started.elapsed() < Duration::from_secs(60) && run.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn a_killed_run_goes_on_and_ends_in_the_same_bytes_whatever_the_threads() {
    let place = Place::new();
    fs::write(place.path("two.toml"), TWO_PHASES).unwrap();
    let fit = |out| ["fit", "photos", "--recipe", "two.toml", "--size", "32", "-q", "--out", out];
    let model = |out: &str| fs::read(place.path(out).join("bundle/model.safetensors")).unwrap();

    let single = place.command(&fit("whole")).env("HEADSTART_THREADS", "1").output().unwrap();
    assert!(single.status.success(), "{}", stderr(&single));

    let checkpoint = place.path("killed/checkpoint.safetensors");
    let start = |args: &[&str]| place.command(args).stdout(Stdio::null()).spawn().unwrap();
    kill_after(1, start(&fit("killed")), &checkpoint);
    assert!(!place.path("killed/bundle").exists());
    let resume = [&fit("killed")[..], &["--resume"]].concat();
    kill_after(5, start(&resume), &checkpoint);
    assert!(!place.path("killed/bundle").exists());
    place.good(&resume);
    assert!(model("killed") == model("whole"), "a resumed run gives other bytes");
    // Again on a finished run: nothing to do, same result.
    place.good(&resume);
    assert!(model("killed") == model("whole"));

    let other = [&resume[..], &["--seed", "4"]].concat();
    let before = contents(&place.path("killed"));
    place.refused(&other, &["killed/checkpoint.safetensors", "another recipe", "hint: "]);
    assert!(contents(&place.path("killed")) == before);
}

#[test]
fn a_full_disk_costs_nothing_that_was_saved() {
    let place = Place::new();
    place.good(&Place::fit("photos", "run"));
    let before = contents(&place.path("run"));
    // The limit on file sizes stands in for a full disk; one block is 1024 bytes.
    let limited = |args: &[&str], words: &[&str]| {
        let mut command = Command::new("bash");
        command.args([
            "-c",
            "trap '' XFSZ; ulimit -f 1000; exec \"$@\"",
            "bash",
            env!("CARGO_BIN_EXE_headstart"),
        ]);
        let output = command.args(args).current_dir(place.dir.path()).output().unwrap();
        check_refused(&output, args, words);
    };
    limited(
        &Place::fit("photos", "run"),
        &["cannot write `run/checkpoint.safetensors`", "File too large", "hint: "],
    );
    assert!(contents(&place.path("run")) == before, "the first epoch touched what was there");
    // A finished run has no epoch left: the bundle is the first thing it writes.
    let resume = [&Place::fit("photos", "run")[..], &["--resume"]].concat();
    limited(&resume, &["model.safetensors`", "File too large"]);
    assert!(contents(&place.path("run")) == before, "the bundle was touched");
    limited(&Place::fit("photos", "new"), &["new/checkpoint.safetensors"]);
    assert!(contents(&place.path("new")).is_empty());
    limited(&["export", "run", "--to", "safetensors", "--out", "exported"], &["exported/model.safetensors"]);
    assert!(contents(&place.path("exported")).is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_really_full_disk_says_so() {
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let place = Place::new();
    fs::create_dir(place.path("disk")).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=32m", "tmpfs", "disk"];
    let mounted = Command::new("mount").args(mount).current_dir(place.dir.path()).output();
    if !mounted.as_ref().is_ok_and(|o| o.status.success()) {
        println!("skipped: this user may not mount a small disk ({mounted:?})");
        return;
    }
    let _guard = Mounted(place.path("disk"));
    place.good(&Place::fit("photos", "disk/run"));
    let before = contents(&place.path("disk/run"));
    let filled = fs::write(place.path("disk/filler"), vec![1; 64 << 20]);
    assert!(filled.is_err(), "the disk is larger than it should be");
    let words = ["No space left on device", "hint: free some space", "`--resume`"];
    place.refused(&Place::fit("photos", "disk/run"), &words);
    place.refused(&[&Place::fit("photos", "disk/run")[..], &["--resume"]].concat(), &words);
    assert!(contents(&place.path("disk/run")) == before);
    fs::remove_file(place.path("disk/filler")).unwrap();
    place.good(&[&Place::fit("photos", "disk/run")[..], &["--resume"]].concat());
}
