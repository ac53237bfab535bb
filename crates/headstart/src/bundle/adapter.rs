//! Adapters as peft reads them: `PeftModel.from_pretrained(timm_model, "bundle/adapter")`.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::exchange_dialect;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::models::lora::Adapter;
use crate::weights::{Entry, StateDict, safetensors};

/// Writes `adapter_model.safetensors`, the adapters and the head, and `adapter_config.json` into `folder`.
pub(super) fn write(folder: &Path, adapter: &Adapter, network: &Network) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::write(folder))?;
    let dialect = exchange_dialect(network);
    let theirs = |layer: &str| {
        let weight = network.foreign(dialect, &format!("{layer}.weight"));
        weight.trim_end_matches(".weight").to_string()
    };
    let params = network.params();
    // Beside a 1×1 convolution peft's factors are two more.
    let axes = |layer: &str| {
        let key = format!("{layer}.weight");
        let own = &params.iter().find(|p| p.name == key).expect("a layer of the network").shape;
        network.foreign_shape(dialect, &key, own).len()
    };
    let mut dict = StateDict::new("");
    let mut layers = Vec::new();
    for (name, shape, values) in &adapter.tensors {
        let (layer, part) = match name.strip_suffix(".lora_a") {
            Some(layer) => (layer, "A"),
            None => (name.trim_end_matches(".lora_b"), "B"),
        };
        if part == "A" {
            layers.push(theirs(layer));
        }
        let name = format!("base_model.model.{}.lora_{part}.weight", theirs(layer));
        let mut shape = shape.clone();
        shape.resize(axes(layer), 1);
        dict.insert(name, Entry::from_f32(&shape, values));
    }
    let head = network.groups().last().expect("a head");
    for (name, shape, values) in network.state_of(&|name| head.owns(name)) {
        let name = format!("base_model.model.{}", network.foreign(dialect, &name));
        dict.insert(name, Entry::from_f32(&shape, &values));
    }
    dict.metadata.insert("format".into(), "pt".into());
    safetensors::write(&folder.join("adapter_model.safetensors"), &dict)?;
    let config = json!({
        "peft_type": "LORA",
        "r": adapter.spec.rank,
        "lora_alpha": adapter.spec.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": true,
        "target_modules": layers,
        "modules_to_save": [theirs(network.classifier())],
        "base_model_name_or_path": network.row().name,
    });
    let path = folder.join("adapter_config.json");
    fs::write(&path, format!("{config:#}\n")).map_err(Error::write(&path))
}
