//! Commands that choose: the rate finder, the advice, recipes picked by it, and runs a signal stops.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::*;

#[test]
fn lr_find_draws_the_curve_and_says_its_readings() {
    let place = Place::new();
    let sweep = ["lr-find", "photos", "--size", "32", "--batch-size", "8", "--out", "lr"];
    let said = place.json(&[&sweep[..], &["--groups", "layer4,head"]].concat());
    assert_eq!(said["groups"], serde_json::json!(["layer4", "head"]));
    let valley = said["suggestions"]["valley"].as_f64().unwrap();
    assert!((1e-6..1.0).contains(&valley), "{said}");
    let picture = headstart::image::decode(place.path("lr/lr-find.png")).unwrap();
    assert!(picture.width() > 400);
    let lines = fs::read_to_string(place.path("lr/lr-find.jsonl")).unwrap();
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(
        (first["lr"].as_f64(), lines.lines().count() as u64),
        (Some(1e-7), said["steps"].as_u64().unwrap())
    );
    assert!(place.good(&sweep).contains("valley   "));
    place.refused(
        &[&sweep[..], &["--groups", "layre4"]].concat(),
        &["`layre4` matches nothing", "hint: did you mean `layer4`?"],
    );
    place.refused(
        &[&sweep[..], &["--start", "1", "--end", "0.1"]].concat(),
        &["rates cannot grow from 1 to 0.1"],
    );
}

#[test]
fn a_fit_finds_its_rate_and_writes_it_down() {
    let place = Place::new();
    let fit = [&Place::fit("photos", "run")[..], &["--lr", "find"]].concat();
    let said = place.json(&fit);
    let note = said["notes"].as_array().unwrap().len();
    let recipe: String = fs::read_to_string(place.path("run/bundle/recipe.toml")).unwrap();
    assert!(!recipe.contains("lr_find") && !recipe.contains("lr = 0.01\n"), "{note} {recipe}");
    let events = fs::read_dir(place.path("run")).unwrap().map(|e| e.unwrap().file_name());
    let events: Vec<_> = events.filter(|n| n.to_string_lossy().starts_with("events.out.tfevents.")).collect();
    assert_eq!(events.len(), 1);
    place.refused(&[&Place::fit("photos", "bad")[..], &["--lr", "fnd"]].concat(), &["`find`"]);
}

#[test]
fn advice_has_numbers_a_reason_and_a_recipe_that_runs() {
    let place = Place::new();
    headstart::synth::write_flowers(&place.path("more"), 16, 4, 1, 48).unwrap();
    let said = place.json(&["advise", "more", "--size", "32"]);
    for key in ["probe", "knn", "similarity", "logme", "h_score"] {
        assert!(!said["measured"][key].is_null(), "{key}: {said}");
    }
    assert!(said["why"].as_str().unwrap().contains("80 training pictures in 5 classes"), "{said}");
    assert_eq!(said["decision"]["outlooks"].as_array().unwrap().len(), 4);
    assert!(said["recipe"].as_str().unwrap().contains("[[phase]]"));

    let fit = ["fit", "more", "--size", "32", "--recipe", "auto", "--epochs", "1", "--out", "run"];
    place.json(&fit);
    let receipt: Value =
        serde_json::from_slice(&fs::read(place.path("run/bundle/receipt.json")).unwrap()).unwrap();
    let advice: Value = serde_json::from_slice(&fs::read(place.path("run/advice.json")).unwrap()).unwrap();
    assert_eq!(receipt["advice"]["why"], advice["why"]);
    assert_eq!(receipt["advice"]["decision"]["choice"], said["decision"]["choice"]);
    // A finished run resumed has the recipe it had chosen, without measuring again.
    place.json(&[&fit[..], &["--resume"]].concat());

    // The built-in backbone has no classes of its own; a network trained for these very classes knows them.
    assert!(said["measured"]["source_tells"].is_null(), "{said}");
    place.json(&["fit", "more", "--size", "32", "--recipe", "head", "--out", "taught"]);
    let said =
        place.json(&["advise", "more", "--size", "32", "--weights", "taught/bundle/model.safetensors"]);
    assert!(said["measured"]["source_tells"].as_f64().unwrap() > 0.05, "{said}");
    assert!(said["why"].as_str().unwrap().contains("Its own classes tell "), "{said}");
}

#[test]
fn too_few_pictures_are_the_answer_no() {
    let place = Place::new();
    headstart::synth::write_flowers(&place.path("few"), 3, 2, 1, 48).unwrap();
    let output = place.command(&["advise", "few", "--size", "32", "-q"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(said.contains("collect more pictures"), "{said}");
    place.refused(
        &["fit", "few", "--size", "32", "--recipe", "auto"],
        &["no recipe is worth its time", "hint: to train all the same"],
    );
}

const LONG: &str = r#"
batch_size = 4
[[phase]]
name = "all"
epochs = 6
trainable = ["all"]
batch_norm = "train"
lr = 1e-3
"#;

#[cfg(unix)]
#[test]
fn a_signal_saves_the_state_and_the_run_goes_on() {
    fn signal(run: Child, name: &str) -> Output {
        let status = Command::new("kill").args([name, &run.id().to_string()]).status().unwrap();
        assert!(status.success());
        run.wait_with_output().unwrap()
    }
    let place = Place::new();
    fs::write(place.path("long.toml"), LONG).unwrap();
    let fit = |out| ["fit", "photos", "--recipe", "long.toml", "--size", "96", "-q", "--out", out];
    place.good(&fit("whole"));
    let checkpoint = place.path("run/checkpoint.safetensors");
    for (name, resume) in [("-INT", false), ("-TERM", true)] {
        let args = [&fit("run")[..], if resume { &["--resume"] } else { &[] }].concat();
        let before = fs::metadata(&checkpoint).and_then(|m| m.modified()).ok();
        let mut run = place.command(&args).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // After the first epoch's checkpoint: in the middle of the next epoch.
        let started = Instant::now();
        while fs::metadata(&checkpoint).and_then(|m| m.modified()).ok() == before {
            assert!(started.elapsed() < Duration::from_secs(120) && run.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(2));
        }
        let output = signal(run, name);
        let words = [
            "stopped before the end",
            "run/checkpoint.safetensors",
            "hint: the same command with `--resume`",
        ];
        check_refused(&output, &args, &words);
        assert!(!place.path("run/bundle").exists());
    }
    place.good(&[&fit("run")[..], &["--resume"]].concat());
    let model = |out: &str| fs::read(place.path(out).join("bundle/model.safetensors")).unwrap();
    assert!(model("run") == model("whole"), "a stopped run gives other bytes");
}
