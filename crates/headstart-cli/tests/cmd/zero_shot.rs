//! CLIP from the command line: names instead of training, and training that starts from there.

use headstart::rng::Rng;
use headstart::weights::{Entry, StateDict, safetensors};
use serde_json::json;

use super::*;

/// Writes a CLIP with OpenAI's ResNet-50 and names, random values, and a text tower of two narrow blocks.
fn write_clip(path: &Path) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/clip/towers.json");
    let fixture: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let mut dict = StateDict::new("");
    for (i, (name, shape)) in fixture["RN50-quickgelu"]["shapes"].as_object().unwrap().iter().enumerate() {
        if name.starts_with("transformer.resblocks.") && !name.contains(".0.") && !name.contains(".1.") {
            continue;
        }
        let mut shape: Vec<usize> =
            shape.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        // 16 for the space both towers share, 64 channels for the text tower.
        let text = !name.starts_with("visual.");
        let smaller = |n: &mut usize| match (*n, text) {
            (1024, true) if name == "text_projection" => *n = 16,
            (1024, false) if name.contains("c_proj") => *n = 16,
            (512 | 1536 | 2048, true) => *n /= 8,
            _ => {}
        };
        shape.iter_mut().for_each(smaller);
        let (len, fan_in) = (shape.iter().product(), shape.iter().skip(1).product::<usize>().max(1));
        let mut rng = Rng::keyed(&[7, i as u64]);
        let values: Vec<f32> = match shape.len() {
            0 => vec![100_f32.ln()],
            1 if name.ends_with(".weight") || name.ends_with("running_var") => vec![1.0; len],
            1 => vec![0.0; len],
            _ => (0..len).map(|_| rng.normal() * (2.0 / fan_in as f32).sqrt()).collect(),
        };
        dict.insert(name.clone(), Entry::from_f32_as_f16(&shape, &values));
    }
    safetensors::write(path, &dict).unwrap();
}

#[test]
fn names_alone_make_a_classifier_and_training_goes_on_from_it() {
    let place = Place::new();
    write_clip(&place.path("clip.safetensors"));
    // The network is known by its tensors.
    let common = ["--weights", "clip.safetensors", "--size", "64"];
    let seen = place.json(&[&["zero-shot", "photos"][..], &common].concat());
    assert_eq!(seen["model"], "resnet50_clip");
    assert_eq!((seen["pictures"].as_u64(), seen["classes"].as_array().unwrap().len()), (Some(15), 5));
    let (top1, range) = (seen["top1"].as_f64().unwrap(), &seen["top1_interval95"]);
    assert!(range[0].as_f64().unwrap() <= top1 && top1 <= range[1].as_f64().unwrap());
    assert!(seen["top5"] == 1.0 && seen["top5_interval95"][1] == 1.0);
    assert!(place.good(&[&["zero-shot", "photos"][..], &common].concat()).contains("no training"));

    let photo =
        fs::read_dir(place.path("photos/val")).unwrap().next().unwrap().unwrap().path().join("000.jpg");
    let photo = photo.to_str().unwrap();
    let classes = ["--classes", "daisy,tree=an old oak,car", "--top", "2", "--model", "resnet50_clip"];
    let named = place.json(&[&["zero-shot", photo][..], &classes, &common].concat());
    let labels = named["predictions"][0]["labels"].as_array().unwrap();
    assert!(labels.len() == 2 && labels[0]["score"].as_f64() >= labels[1]["score"].as_f64(), "{named}");
    assert_eq!(
        (&named["classes"], &named["templates"]),
        (&json!(["daisy", "tree", "car"]), &json!(["a photo of a {}."]))
    );

    // A run that goes all the way back to its start ends in the zero-shot classifier, head included.
    fs::write(place.path("back.toml"), format!("wise = 0.0\n{HEAD}")).unwrap();
    let fit = ["fit", "photos", "--recipe", "back.toml", "--head", "zero-shot", "--out", "run"];
    let fitted = place.json(&[&fit[..], &common].concat());
    assert_eq!((&fitted["top1"], &fitted["confusion"]), (&seen["top1"], &seen["confusion"]));
    let recipe = fs::read_to_string(place.path("run/bundle/recipe.toml")).unwrap();
    assert!(recipe.contains("head = \"zero-shot\""), "{recipe}");
    let card = fs::read_to_string(place.path("run/bundle/bundle.json")).unwrap();
    assert!(card.contains("linear(16) | normalize | linear"), "{card}");
    assert_eq!(place.json(&["evaluate", "run", "photos"])["top1"], seen["top1"]);
    // The bundle's classes do for another look at single photos.
    let again = place.json(&[&["zero-shot", photo, "--bundle", "run"][..], &common].concat());
    assert_eq!(again["classes"], seen["classes"]);

    // Six photos a class are too few to recommend a recipe: the answer is no, with all its numbers.
    let output = place.command(&[&["advise", "photos", "--json"][..], &common].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let advice: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(advice["measured"]["zero_shot"]["top1"].is_number(), "{advice}");
    assert!(advice["why"].as_str().unwrap().contains("without any training"));
}

#[test]
fn what_zero_shot_lacks_is_said() {
    let place = Place::new();
    place.refused(&["zero-shot", "photos"], &["has no text tower", "hint: zero-shot needs a whole CLIP"]);
    place.refused(
        &["zero-shot", "photos", "--template", "a photo"],
        &["no place for the class's name", "`{}`"],
    );
    place.refused(&["zero-shot", "x.jpg", "y.jpg", "--classes", "cat"], &["1 class to choose from"]);
    place.refused(&["zero-shot", "nowhere"], &["`nowhere` does not exist"]);
    place.refused(&["zero-shot", "photos", "x.jpg"], &["a set of photos among single photos"]);
    place.refused(
        &["fit", "photos", "--recipe", "head.toml", "--head", "zero-shot"],
        &["has no text tower", "hint: zero-shot needs a whole CLIP"],
    );
    place.refused(
        &["fit", "photos", "--recipe", "scratch", "--head", "zero-shot"],
        &["a zero-shot head cannot start from random weights"],
    );
}
