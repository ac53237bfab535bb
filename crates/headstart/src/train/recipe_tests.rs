//! Tests of recipes: round trips, and every way a value can be impossible.

use burn::tensor::Device;

use super::recipe::*;
use super::schedule::Schedule;
use crate::models::{ModelOptions, Network};

#[test]
fn built_in_recipes_parse_and_round_trip() {
    for (name, text) in BUILT_IN {
        let recipe = Recipe::parse(text, name).unwrap();
        assert_eq!(Recipe::parse(&recipe.to_toml(), name).unwrap(), recipe);
    }
}

#[test]
fn fastais_fine_tune_fits_into_25_lines() {
    let text = include_str!("../../../../recipes/fastai_fine_tune.toml");
    let recipe = Recipe::parse(text, "fastai_fine_tune").unwrap();
    assert!(text.lines().count() <= 25 && recipe.phases.len() == 2);
}

/// Rates, momentum and frozen tensors at every step, recorded by `tools/golden/fine_tune.py`.
#[test]
fn fastais_fine_tune_is_what_fastai_does() {
    let text = include_str!("../../../../fixtures/models/fine_tune.json");
    let expected: serde_json::Value = serde_json::from_str(text).unwrap();
    let recipe = Recipe::parse(include_str!("../../../../recipes/fastai_fine_tune.toml"), "test").unwrap();
    let network = Network::new("resnet18", &ModelOptions::new(3), &Device::flex()).unwrap();
    let batches = expected["batches"].as_u64().unwrap() as usize;
    let mut steps = expected["steps"].as_array().unwrap().iter();
    // One group of each of fastai's three, from the stem on.
    let groups = ["stem", "layer3", "head"].map(|name| {
        network.groups().iter().position(|group| group.name == name).expect("a group of a ResNet")
    });
    for phase in &recipe.phases {
        let (rates, schedule) = (phase.rates(&network).unwrap(), phase.schedule.parse::<Schedule>().unwrap());
        for step in 0..phase.epochs * batches {
            let expected = steps.next().expect("as many steps");
            let progress = step as f64 / (phase.epochs * batches) as f64;
            // fastai keeps the bounds of a cycle in f32.
            let close = |found: f64, expected: &serde_json::Value| {
                let expected = expected.as_f64().unwrap();
                assert!(
                    (found / expected - 1.0).abs() < 1e-6,
                    "{}, step {step}: {found}, {expected}",
                    phase.name
                );
            };
            close(schedule.momentum(progress).unwrap(), &expected["momentum"]);
            groups.iter().zip(expected["lr"].as_array().unwrap()).for_each(|(group, lr)| {
                close(rates[*group] * schedule.factor(progress), lr);
            });
        }
    }
    assert_eq!(steps.next(), None);
    let trained = recipe.phases[0].set(&network).unwrap().params;
    let frozen: Vec<String> = (network.params().into_iter())
        .filter(|p| !p.buffer && !trained.contains(&p.name))
        .map(|p| p.name)
        .collect();
    assert_eq!(serde_json::json!(frozen), expected["frozen"]);
    let adam = &expected["adam"];
    let written = format!(
        "adamw(beta1=0.95, beta2={}, eps={:e}, weight_decay={})",
        adam["sqr_mom"],
        adam["eps"].as_f64().unwrap(),
        adam["wd"]
    );
    assert_eq!(recipe.optimizer, written);
}

#[test]
fn a_typo_gets_its_line_and_a_suggestion() {
    let text = "batch_sise = 8\n[[phase]]\nepochs = 1\ntrainable = [\"head\"]\nlr = 1e-3\n";
    let error = Recipe::parse(text, "my.toml").unwrap_err();
    assert!(error.to_string().starts_with("my.toml:1:1"), "{error}");
    assert_eq!(error.hints(), ["did you mean `batch_size`?"]);
}

#[test]
fn a_bad_value_gets_its_line_too() {
    let phase = "[[phase]]\nepochs = 1\ntrainable = [\"head\"]\nlr = 1e-3\n";
    for (text, place) in [
        (format!("seed = 1\n  ema = 1.5\n{phase}"), "my.toml:2:3"),
        (format!("accumulate = 0\n{phase}"), "my.toml:1:1"),
        (format!("average = \"lst(3)\"\n{phase}"), "my.toml:1:1: average"),
        (format!("optimizer = \"adam\"\n{phase}"), "my.toml:1:1: optimizer"),
        (format!("{phase}schedule = \"cosine\"\n{phase}schedule = \"one_cicle\"\n"), "my.toml:10:1"),
        (format!("{phase}layer_decay = 7.5\n"), "my.toml:5:1"),
        (format!("{phase}unfreeze_every = 0\n"), "my.toml:5:1"),
        (format!("pretrained = false\nwise = 0.5\n{phase}"), "my.toml:2:1"),
    ] {
        let error = Recipe::parse(&text, "my.toml").unwrap_err();
        assert!(error.to_string().starts_with(place), "{place}: {error}");
        assert!(!error.hints().is_empty(), "{error}");
    }
    let text = phase.replace("1e-3", "{ head = 1e-3 }\nlayer_decay = 0.5");
    assert!(Recipe::parse(&text, "my.toml").is_err());
}

#[test]
fn impossible_values_are_refused() {
    let with = |line: &str| format!("{line}\n[[phase]]\nepochs = 1\ntrainable = [\"head\"]\nlr = 1e-3\n");
    for line in ["batch_size = 0", "label_smoothing = 1.5", "optimizer = \"adamv\"", "head = \"relu\""] {
        assert!(Recipe::parse(&with(line), "r").is_err(), "{line}");
    }
    assert!(Recipe::parse("seed = 1", "r").is_err());
}
