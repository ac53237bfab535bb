//! Photos without labels, from the command line.

use std::process::Stdio;

use super::kept::kill_after;
use super::*;

const BOTH: &str = r#"
batch_size = 4
head = "dropout(0.2) | linear"
train = "random_resized_crop({size}, {filter}) | flip_lr(0.5) | normalize({norm})"
strong = "random_resized_crop({size}, {filter}) | rand_augment(2, 10) | normalize({norm})"
views = 2
[[phase]]
name = "pseudo-labels"
epochs = 3
trainable = ["head"]
semi = "pseudo(rounds=2)"
lr = 1e-2
[[phase]]
name = "cached views"
epochs = 1
trainable = ["layer4", "head"]
semi = "fixmatch(threshold=0.3, ratio=2)"
lr = 1e-3
[[phase]]
name = "live views"
epochs = 2
trainable = ["all"]
semi = "fixmatch(threshold=0.3)"
lr = { head = 1e-3, stem = 1e-4 }
"#;

const FIT: [&str; 8] = ["fit", "photos", "--recipe", "both.toml", "--size", "32", "--labels-per-class", "2"];

fn epochs(place: &Place, run: &str) -> Vec<Value> {
    let text = fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn photos_without_labels_take_part_and_threads_and_stops_change_nothing() {
    let place = Place::new();
    fs::write(place.path("both.toml"), BOTH).unwrap();
    let fit = |out| [&FIT[..], &["--unlabeled", "rest", "-q", "--out", out]].concat();
    place.good(&fit("whole"));
    let seen = epochs(&place, "whole");
    let labelled: Vec<f64> = seen.iter().map(|e| e["labelled"].as_f64().unwrap()).collect();
    assert_eq!(labelled.len(), 6);
    // None at first; half of each class, rounded up; all.
    assert!(
        labelled[0] == 0.0 && labelled[1] > 0.4 && labelled[1] < 1.0 && labelled[2] == 1.0,
        "{labelled:?}"
    );
    assert!(labelled[3..].iter().all(|share| (0.0..=1.0).contains(share)), "{labelled:?}");
    let receipt = fs::read_to_string(place.path("whole/bundle/receipt.json")).unwrap();
    let receipt: Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!((&receipt["pictures"]["train"], &receipt["pictures"]["unlabeled"]), (&10.into(), &20.into()));

    let model = |out: &str| fs::read(place.path(out).join("bundle/model.safetensors")).unwrap();
    let single = place.command(&fit("single")).env("HEADSTART_THREADS", "1").output().unwrap();
    assert!(single.status.success(), "{}", stderr(&single));
    assert!(model("single") == model("whole"), "one thread gives other bytes");
    let start = |args: &[&str]| place.command(args).stdout(Stdio::null()).spawn().unwrap();
    for (epochs, out) in [(2, "killed2"), (4, "killed4")] {
        kill_after(epochs, start(&fit(out)), &place.path(out).join("checkpoint.safetensors"));
        assert!(!place.path(out).join("bundle").exists(), "it was not killed in time");
        place.good(&[&fit(out)[..], &["--resume"]].concat());
        assert!(model(out) == model("whole"), "a resumed run gives other bytes");
    }
}

#[test]
fn a_folder_of_photos_will_do_and_known_ones_are_left_out() {
    let place = Place::new();
    fs::write(place.path("both.toml"), BOTH).unwrap();
    headstart::synth::write_flowers(&place.path("more"), 3, 1, 9, 48).unwrap();
    // A validation photo under another name, and one that is broken.
    let class = fs::read_dir(place.path("photos/val")).unwrap().next().unwrap().unwrap().path();
    fs::copy(class.join("000.jpg"), place.path("more/known.jpg")).unwrap();
    fs::write(place.path("more/broken.jpg"), "no picture").unwrap();
    let out = place.command(&[&FIT[..], &["--unlabeled", "more", "--out", "run"]].concat()).output().unwrap();
    let said = stderr(&out);
    assert!(out.status.success(), "{said}");
    for words in [
        "20 photos without labels in `more`",
        "left out 1 photos without labels",
        "more/broken.jpg",
        "labelled",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let place = Place::new();
    fs::write(place.path("both.toml"), BOTH).unwrap();
    fs::write(place.path("none.toml"), BOTH.replace("strong =", "eval =")).unwrap();
    fs::write(place.path("typo.toml"), BOTH.replace("fixmatch(threshold", "fixmatch(treshold")).unwrap();
    fs::create_dir_all(place.path("empty")).unwrap();
    let size = ["--size", "32", "--out", "run"];
    let cases: [(&[&str], &[&str]); 8] = [
        (&["--recipe", "semi"], &["learns from photos without labels", "--unlabeled DIR"]),
        (&["--recipe", "head", "--unlabeled", "photos/val"], &["no readable picture without a label"]),
        (&["--recipe", "head", "--unlabeled", "rest", "--fraction", "0.5"], &["no phase", "--recipe semi"]),
        (
            &["--recipe", "semi", "--unlabeled", "rest"],
            &["no training photo is left over", "--labels-per-class 10"],
        ),
        (&["--recipe", "semi", "--unlabeled", "empty"], &["`empty`", "a folder of photos"]),
        (&["--recipe", "semi", "--unlabeled", "nowhere"], &["`nowhere`", "hint: "]),
        (&["--recipe", "none.toml"], &["none.toml", "strongly changed views", "rand_augment"]),
        (&["--recipe", "typo.toml"], &["typo.toml", "treshold", "did you mean `threshold`?"]),
    ];
    for (args, words) in cases {
        place.refused(&[&["fit", "photos"][..], args, &size].concat(), words);
    }
}
