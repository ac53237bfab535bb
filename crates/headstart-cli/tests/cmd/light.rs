//! Few parameters: adapters and biases, from a recipe to a bundle.

use headstart::weights;

use super::*;

const ADAPTERS: &str = r#"
batch_size = 16
pretrained = false
[[phase]]
name = "adapters"
epochs = 2
trainable = ["head"]
lr = 1e-3
lora = { rank = 4, alpha = 8 }
"#;

#[test]
fn adapters_are_merged_and_kept_beside() {
    let place = Place::new();
    fs::write(place.path("lora.toml"), ADAPTERS).unwrap();
    let model = ["--model", "vit_tiny_patch16_224"];
    let fit =
        [&["fit", "photos", "--recipe", "lora.toml", "--size", "32", "--out", "run"][..], &model].concat();
    place.json(&fit);
    let config: Value =
        serde_json::from_slice(&fs::read(place.path("run/bundle/adapter/adapter_config.json")).unwrap())
            .unwrap();
    assert_eq!((config["r"].as_u64(), config["lora_alpha"].as_f64()), (Some(4), Some(8.0)));
    assert_eq!(config["target_modules"].as_array().unwrap().len(), 24);
    let adapter = weights::read(&place.path("run/bundle/adapter/adapter_model.safetensors")).unwrap();
    let shape = |name: &str| adapter.get(name).unwrap_or_else(|| panic!("no {name}")).shape.clone();
    assert_eq!(shape("base_model.model.blocks.3.attn.qkv.lora_B.weight"), [576, 4]);
    assert_eq!(shape("base_model.model.head.weight"), [5, 192]);
    let receipt: Value =
        serde_json::from_slice(&fs::read(place.path("run/bundle/receipt.json")).unwrap()).unwrap();
    let count = 12 * 4 * (192 + 576 + 192 + 192) + 192 * 5 + 5;
    assert_eq!(receipt["trainable_parameters"], serde_json::json!([count]));
    // The bundle opens like any other.
    assert_eq!(place.json(&["evaluate", "run", "photos"])["pictures"], 15);

    let describe = ["describe", model[1], "--recipe", "lora.toml", "--classes", "5"];
    let said = place.json(&describe);
    assert_eq!(
        (&said["phases"][0]["trainable"], &said["trainable"]),
        (&serde_json::json!(count), &serde_json::json!(count))
    );
    let text = place.good(&describe);
    assert!(text.contains("blocks.0.attn.qkv.lora_a") && text.contains("phase `adapters` trains"), "{text}");

    place.refused(
        &[&fit[..], &["--freeze", "blocks.1"]].concat(),
        &["has adapters", "hint: name their layers"],
    );
    let nano = ["fit", "photos", "--recipe", "lora.toml", "--size", "32", "--out", "nano"];
    place.refused(&nano, &["matches no linear layer", "hint: it has none; `bitfit = true`"]);
    let bitfit = ADAPTERS
        .replace("lora = { rank = 4, alpha = 8 }", "bitfit = true")
        .replace("[\"head\"]", "[\"all\"]");
    fs::write(place.path("bitfit.toml"), bitfit).unwrap();
    place.json(&["fit", "photos", "--recipe", "bitfit.toml", "--size", "32", "--out", "nano"]);
    assert!(!place.path("nano/bundle/adapter").exists());
}
