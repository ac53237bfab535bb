//! What makes a result trustworthy: the audit, lists of files to leave out, the page, checkpoints by the clock, and runs
//! that end well though they go wrong.

use std::process::Stdio;
use std::time::{Duration, Instant};

use headstart::weights::safetensors;

use super::*;

/// The audit of `data` with its exit code.
pub(super) fn audit(place: &Place, args: &[&str]) -> (Option<i32>, Value) {
    let output = place.command(&[&["audit"], args, &["--json", "-q"]].concat()).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (
        output.status.code(),
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {}", stderr(&output))),
    )
}

fn kinds(document: &Value, severity: &str) -> Vec<String> {
    let all = document["findings"].as_array().unwrap();
    let of = all.iter().filter(|f| f["severity"] == severity);
    of.map(|f| f["kind"].as_str().unwrap().to_string()).collect()
}

#[test]
fn an_audit_finds_what_was_planted_and_its_list_mends_it() {
    let place = Place::new();
    headstart::synth::write_flowers(&place.path("photos"), 12, 6, 3, 64).unwrap();
    let (code, sound) = audit(&place, &["photos"]);
    assert_eq!((code, kinds(&sound, "serious").len()), (Some(0), 0), "{sound}");
    assert!(sound["probe"]["top1"].as_f64().unwrap() > 0.4, "{}", sound["probe"]);

    let (train, val) = (place.path("photos/train/daisy"), place.path("photos/val"));
    fs::copy(train.join("001.jpg"), val.join("daisy/copy.jpg")).unwrap();
    let picture = headstart::image::decode(train.join("002.jpg")).unwrap();
    picture.save(val.join("daisy/again.png")).unwrap();
    fs::copy(train.join("003.jpg"), place.path("photos/train/tulip/stray.jpg")).unwrap();
    fs::write(train.join("cut.jpg"), &fs::read(train.join("004.jpg")).unwrap()[..900]).unwrap();
    fs::write(train.join("pointer.jpg"), "version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
        .unwrap();
    fs::rename(train.join("005.jpg"), train.join("005.png")).unwrap();
    fs::write(train.join(".DS_Store"), "x").unwrap();
    let (code, found) = audit(&place, &["photos", "--out", "audit"]);
    assert_eq!(code, Some(1));
    let mut serious = kinds(&found, "serious");
    serious.sort();
    assert_eq!(
        serious,
        ["across_parts", "across_parts", "two_labels", "unreadable"],
        "{}",
        found["findings"]
    );
    assert!(kinds(&found, "warning").contains(&"misnamed".into()));
    assert!(kinds(&found, "note").contains(&"hidden".into()));
    let text = found.to_string();
    assert!(text.contains("a Git LFS pointer") && text.contains("truncated"), "{text}");
    let page = fs::read_to_string(place.path("audit/audit.html")).unwrap();
    assert!(page.contains("data:image/jpeg;base64,") && !page.contains("src=\"http"));
    let saved: Value = serde_json::from_slice(&fs::read(place.path("audit/audit.json")).unwrap()).unwrap();
    assert_eq!(saved["duplicates"], found["duplicates"]);

    let list = fs::read_to_string(place.path("audit/leave-out.csv")).unwrap();
    for name in [
        "train/daisy/001.jpg",
        "train/daisy/002.jpg",
        "train/daisy/003.jpg",
        "train/tulip/stray.jpg",
        "train/daisy/cut.jpg",
    ] {
        assert!(list.contains(name), "{name}: {list}");
    }
    assert!(!list.contains("copy.jpg,") && !list.contains("again.png,"), "{list}");
    let fit = [&Place::fit("photos", "run")[..], &["--exclude", "audit/leave-out.csv"]].concat();
    let said = place.json(&fit);
    assert_eq!(said["excluded"].as_array().unwrap().len(), 6, "{said}");
    assert_eq!(said["unreadable"].as_array().unwrap().len(), 0);
    let serious = said["audit"].as_array().unwrap().iter().filter(|f| f["severity"] == "serious").count();
    assert_eq!(serious, 0, "{}", said["audit"]);

    fs::write(place.path("wrong.csv"), "file_name\nnowhere.jpg\n").unwrap();
    place.refused(
        &[&Place::fit("photos", "new")[..], &["--exclude", "wrong.csv"]].concat(),
        &["none of the 1 files to leave out", "in `wrong.csv`", "hint: names are relative"],
    );
    place.refused(&["audit", "nowhere"], &["`nowhere` does not exist"]);
    place.refused(&["audit", "photos", "--similarity", "7"].map(|a| a), &["a number from 0 to 1"]);
}

#[test]
fn classes_in_conflict_are_told_where_fit_would_refuse() {
    let place = Place::new();
    fs::rename(place.path("photos/val/daisy"), place.path("photos/val/Daisy")).unwrap();
    fs::create_dir_all(place.path("photos/train/empty")).unwrap();
    let (code, found) = audit(&place, &["photos", "--no-features"]);
    assert_eq!(code, Some(1));
    let mut serious = kinds(&found, "serious");
    serious.sort();
    assert_eq!(serious, ["class_conflict", "empty_class", "look_alike_classes"], "{found}");
    assert!(found["probe"].is_null());
    let said = place.command(&["audit", "photos", "--no-features", "-q"]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("serious  `val` has classes that `train` lacks: `Daisy`"), "{said}");
}

#[test]
fn the_page_of_a_run_is_one_file() {
    let place = Place::new();
    place.good(&Place::fit("photos", "run"));
    place.whole_page(
        "run",
        &[
            "named right",
            "prefers-color-scheme:dark",
            "After temperature scaling",
            "Answering only when sure",
            "Class by class",
            "trainable = [",
        ],
    );
}

const ONE_EPOCH: &str = r#"
batch_size = 4
ema = 0.9
accumulate = 2
[[phase]]
name = "all"
epochs = 1
trainable = ["all"]
batch_norm = "train"
lr = 1e-3
"#;

#[test]
fn a_run_killed_within_an_epoch_goes_on_from_the_clock_s_checkpoint() {
    let place = Place::new();
    headstart::synth::write_flowers(&place.path("photos"), 24, 3, 1, 48).unwrap();
    fs::write(place.path("one.toml"), ONE_EPOCH).unwrap();
    let fit = |out| ["fit", "photos", "--recipe", "one.toml", "--size", "96", "-q", "--out", out];
    place.good(&[&fit("whole")[..], &["--checkpoint-minutes", "0"]].concat());
    let often = ["--checkpoint-minutes", "0.0001"];
    let mut run = place.command(&[&fit("run")[..], &often].concat()).stdout(Stdio::null()).spawn().unwrap();
    let within = || {
        let dict = safetensors::read(&place.path("run/checkpoint.safetensors")).ok()?;
        let state: Value = serde_json::from_str(dict.metadata.get("headstart_checkpoint")?).ok()?;
        state["within"]["step"].as_u64()
    };
    let started = Instant::now();
    while within().unwrap_or(0) < 4 {
        assert!(started.elapsed() < Duration::from_secs(60) && run.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(2));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    let step = within().unwrap();
    assert!(step >= 4 && step % 2 == 0, "saved between two gradients of one step: {step}");
    assert!(!place.path("run/bundle").exists());
    place.good(&[&fit("run")[..], &["--resume"]].concat());
    let model = |out: &str| fs::read(place.path(out).join("bundle/model.safetensors")).unwrap();
    assert!(model("run") == model("whole"), "a run resumed within an epoch gives other bytes");
    place.refused(&[&fit("bad")[..], &["--checkpoint-minutes", "nan"]].concat(), &["--checkpoint-minutes"]);
}

const DIVERGES: &str = r#"
batch_size = 8
[[phase]]
name = "good"
epochs = 2
trainable = ["head"]
lr = 1e-2
[[phase]]
name = "wild"
epochs = 2
trainable = ["all"]
batch_norm = "train"
optimizer = "sgd"
lr = 1e30
"#;

#[test]
fn a_run_that_diverges_ends_with_its_best_epoch() {
    let place = Place::new();
    fs::write(place.path("wild.toml"), DIVERGES.replace("optimizer = \"sgd\"\n", "")).unwrap();
    let fit = ["fit", "photos", "--recipe", "wild.toml", "--size", "32", "--out", "run"];
    let said = place.refused(
        &fit,
        &["training stopped: the loss is", "kept are the weights of epoch", "hint: lower the rate"],
    );
    assert!(said.contains("in epoch 3"), "{said}");
    let metrics = fs::read_to_string(place.path("run/bundle/metrics.json")).unwrap();
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("Not the whole plan."));
    // The weights kept are those of a run that stops there.
    let short = DIVERGES.split("[[phase]]\nname = \"wild\"").next().unwrap();
    fs::write(place.path("short.toml"), short).unwrap();
    place.good(&["fit", "photos", "--recipe", "short.toml", "--size", "32", "--out", "short"]);
    assert_eq!(fs::read_to_string(place.path("short/bundle/metrics.json")).unwrap(), metrics);
}

#[cfg(target_os = "linux")]
#[test]
fn a_batch_that_cannot_fit_is_refused_before_the_first_step() {
    let place = Place::new();
    let mut command = Command::new("bash");
    // One GiB of address space stands in for a small machine.
    command.args(["-c", "ulimit -v 1500000; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_headstart")]);
    let args = [
        "fit",
        "photos",
        "--recipe",
        "scratch",
        "--model",
        "headstart_nano",
        "--size",
        "704",
        "--batch-size",
        "30",
        "--out",
        "run",
    ];
    let output = command.args(args).current_dir(place.dir.path()).output().unwrap();
    check_refused(
        &output,
        &args,
        &[
            "batch_size: a step on 30 pictures needs at least",
            "this process may use 1.4 GiB",
            "hint: try `--batch-size",
        ],
    );
    assert!(!place.path("run/checkpoint.safetensors").exists());
}
