//! What works, from photos to a classifier in use.

use std::fs;

use super::*;

#[test]
fn photos_become_a_classifier_that_every_command_can_use() {
    let place = Place::new();
    let fit = place.json(&Place::fit("photos", "run"));
    let top1 = fit["top1"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&top1) && fit["top5"] == 1.0 && fit["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!((fit["bundle"].as_str(), fit["train_pictures"].as_u64()), (Some("run/bundle"), Some(30)));
    for file in [
        "model.safetensors",
        "config.json",
        "bundle.json",
        "labels.txt",
        "recipe.toml",
        "metrics.json",
        "receipt.json",
    ] {
        assert!(place.path("run/bundle").join(file).is_file(), "{file}");
    }
    for file in ["report.html", "metrics.jsonl", "checkpoint.safetensors"] {
        assert!(place.path("run").join(file).is_file(), "{file}");
    }

    let seen = place.json(&["evaluate", "run", "photos"]);
    assert_eq!(seen["top1"], fit["top1"]);
    assert_eq!(seen["confusion"], fit["confusion"]);

    let photo =
        fs::read_dir(place.path("photos/val")).unwrap().next().unwrap().unwrap().path().join("000.jpg");
    let named = place.json(&["predict", "run", photo.to_str().unwrap(), "--top", "2"]);
    let labels = named["predictions"][0]["labels"].as_array().unwrap();
    assert!(labels.len() == 2 && labels[0]["score"].as_f64() >= labels[1]["score"].as_f64());
    assert!(place.good(&["predict", "run/bundle", photo.to_str().unwrap()]).contains(" %"));

    let embedded = place.json(&["embed", "photos", "--bundle", "run", "--output", "e.safetensors"]);
    assert_eq!((embedded["pictures"].as_u64(), embedded["width"].as_u64()), (Some(45), Some(256)));
    let dict = headstart::weights::read(&place.path("e.safetensors")).unwrap();
    assert_eq!(
        (&dict.get("embeddings").unwrap().shape, &dict.get("labels").unwrap().shape),
        (&vec![45, 256], &vec![45])
    );
    place.good(&["embed", "photos", "--size", "32", "--output", "e.npy", "-q"]);
    let (shape, values) = headstart::npy::read(&place.path("e.npy")).unwrap();
    assert_eq!(shape, [45, 256]);
    assert_eq!(values, dict.get("embeddings").unwrap().to_f32());

    place.good(&["export", "run", "--to", "safetensors", "--out", "exported"]);
    let same = |name: &str| {
        let read = |folder: &str| fs::read(place.path(folder).join(name)).unwrap();
        read("exported") == read("run/bundle")
    };
    assert!(same("model.safetensors") && same("config.json") && same("labels.txt"));
    let from_export = place.json(&[
        "evaluate",
        "exported/model.safetensors",
        "photos",
        "--model",
        "headstart_nano",
        "--size",
        "32",
    ]);
    assert_eq!(from_export["top1"], fit["top1"]);
}

#[test]
fn the_small_commands_answer() {
    let place = Place::new();
    assert!(place.good(&["models"]).contains("resnet18"));
    let models = place.json(&["models", "resnet1"]);
    let names: Vec<_> =
        models["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"resnet18") && names.iter().all(|name| name.contains("resnet1")), "{names:?}");
    let described = place.json(&["describe", "resnet18", "--freeze", "layer1"]);
    assert_eq!(described["params"], 11_689_512);
    assert!(place.good(&["describe", "resnet18"]).contains("layer4.1.conv2.weight"));
    assert_eq!(place.json(&["cache"])["cached"].as_array().unwrap().len(), 0);
    assert!(place.good(&["cache"]).contains("nothing is cached"));
    let plan = place.json(&["fit", "photos", "--explain"]);
    assert_eq!(plan["phase"].as_array().unwrap().len(), 2);
    assert!(!place.path("runs").exists());
}

#[test]
fn every_command_s_help_has_an_example() {
    let place = Place { dir: tempfile::tempdir().unwrap() };
    let all = place.good(&["--help"]);
    let commands: Vec<&str> = (all.lines().skip_while(|l| *l != "Commands:").skip(1))
        .take_while(|l| !l.is_empty())
        .filter(|l| l.starts_with("  ") && !l.starts_with("   "))
        .filter_map(|l| l.split_whitespace().next())
        .filter(|c| *c != "help")
        .collect();
    assert_eq!(commands.len(), 18, "{commands:?}");
    for command in commands {
        let help = place.good(&[command, "--help"]);
        assert!(help.contains("Example") && help.contains(&format!("  headstart {command}")), "{help}");
    }
}

#[test]
fn a_network_without_weights_can_be_trained_from_scratch() {
    let place = Place::new();
    let args = ["fit", "photos", "--recipe", "scratch", "--epochs", "1", "--size", "32", "--out", "run"];
    place.refused(
        &[&args[..], &["--weights", "w.pth"]].concat(),
        &["random weights", "hint: drop `--weights`"],
    );
    assert_eq!(
        place.json(&[&args[..], &["--model", "headstart_nano"]].concat())["tensors_equal_to_source"],
        0
    );
    // Published weights are neither needed nor asked for.
    let explained =
        place.good(&["fit", "photos", "--model", "tf_mobilenetv2_100", "--recipe", "scratch", "--explain"]);
    assert!(explained.contains("pretrained = false"));
    let hint = "train it with `--recipe scratch`";
    place.refused(&["fit", "photos", "--model", "tf_mobilenetv2_100"], &["no published weights", hint]);
}
