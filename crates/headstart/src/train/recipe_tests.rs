//! Tests of recipes: round trips, and every way a value can be impossible.

use super::recipe::*;

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
