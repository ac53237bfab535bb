//! timm's `config.json`: what a model on the hub says about itself.
//!
//! Fields that are not known here are kept and written back. The flat form of early files, with
//! everything at the top and `labels` for the names, is read as well and written in the new form.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::atomic::write_atomically;
use crate::error::{Error, Result};

/// Describes a model: its builder, its classes, how its pictures are prepared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TimmConfig {
    /// The name of timm's builder, such as `resnet18`.
    pub architecture: String,
    /// How many classes the head has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_classes: Option<usize>,
    /// How long the embedding is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_features: Option<usize>,
    /// How the last feature map becomes an embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_pool: Option<String>,
    /// The classes' names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_names: Option<LabelNames>,
    /// Longer texts for some names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_descriptions: Option<BTreeMap<String, String>>,
    /// Arguments for the builder, as they stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_args: Option<Map<String, Value>>,
    /// The input and where to find stem and head.
    #[serde(default)]
    pub pretrained_cfg: PretrainedCfg,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Lists class names by index, or by number where some numbers have no name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LabelNames {
    /// One name per class, in order.
    List(Vec<String>),
    /// Class number → name, with gaps.
    Map(BTreeMap<String, String>),
}

/// Names one layer or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// A single layer.
    One(String),
    /// Two heads of a distilled network, say.
    Many(Vec<String>),
}

/// Describes the input a model was trained with, and the layers a new task replaces.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names are timm's own
pub struct PretrainedCfg {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// `true`, `false` or `"hf"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_load: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_size: Option<[usize; 3]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_input_size: Option<[usize; 3]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_input_size: Option<[usize; 3]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_input_size: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_pct: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_crop_pct: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<Vec<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<Vec<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_classes: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_offset: Option<usize>,
    // timm always writes the next three, null or not.
    #[serde(default)]
    pub pool_size: Option<Vec<usize>>,
    #[serde(default)]
    pub first_conv: Option<OneOrMany>,
    #[serde(default)]
    pub classifier: Option<OneOrMany>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Everything else: descriptions, papers, origins.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl TimmConfig {
    /// Reads a `config.json` in the present or the flat form.
    pub fn read(path: &Path) -> Result<TimmConfig> {
        let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
        TimmConfig::parse(&text).map_err(|reason| Error::BadWeights {
            path: path.to_path_buf(),
            reason,
            hint: "expected the `config.json` that timm writes, with `architecture`".into(),
        })
    }

    /// Parses the text of a `config.json`; the error says what is wrong in plain words.
    pub fn parse(text: &str) -> std::result::Result<TimmConfig, String> {
        let mut fields: Map<String, Value> =
            serde_json::from_str(text).map_err(|e| format!("its JSON is garbled: {e}"))?;
        if !fields.contains_key("architecture") {
            return Err("it does not name an `architecture`".into());
        }
        if !fields.contains_key("pretrained_cfg") {
            fields = from_flat(fields);
        }
        serde_json::from_value(Value::Object(fields)).map_err(|e| format!("a field has the wrong type: {e}"))
    }

    /// Writes the config as timm does: two blanks of indent, nulls left out but for three fields.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("plain data always becomes JSON");
        write_atomically(path, |out| std::io::Write::write_all(out, text.as_bytes()))
    }

    /// Lists the class names by index; a gap keeps its number as its name.
    pub fn class_names(&self) -> Option<Vec<String>> {
        match self.label_names.as_ref()? {
            LabelNames::List(names) => Some(names.clone()),
            LabelNames::Map(names) => {
                let numbers = names.keys().filter_map(|k| k.parse::<usize>().ok());
                let count = self.num_classes.or_else(|| numbers.max().map(|n| n + 1))?;
                // The count comes from a file; no classifier has a million classes.
                let name = |i: usize| names.get(&i.to_string()).cloned().unwrap_or_else(|| i.to_string());
                (count <= 1_000_000).then(|| (0..count).map(name).collect())
            }
        }
    }
}

/// Moves the flat form's fields to where they are today (timm, `_parse_model_cfg`).
fn from_flat(mut flat: Map<String, Value>) -> Map<String, Value> {
    let mut fields = Map::new();
    for (old, new) in [
        ("architecture", "architecture"),
        ("num_features", "num_features"),
        ("global_pool", "global_pool"),
        ("labels", "label_names"),
        ("label_names", "label_names"),
        ("label_descriptions", "label_descriptions"),
        ("model_args", "model_args"),
    ] {
        if let Some(value) = flat.remove(old) {
            fields.insert(new.into(), value);
        }
    }
    if let Some(classes) = flat.get("num_classes") {
        fields.insert("num_classes".into(), classes.clone());
    }
    fields.insert("pretrained_cfg".into(), Value::Object(flat));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = r#"{"architecture":"resnet18","num_classes":2,"num_features":512,"global_pool":"avg",
        "label_names":["ant","bee"],"odd":1,"pretrained_cfg":{"tag":"a1_in1k","custom_load":false,
        "input_size":[3,224,224],"fixed_input_size":false,"interpolation":"bicubic","crop_pct":0.95,
        "crop_mode":"center","mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225],"num_classes":2,
        "pool_size":[7,7],"first_conv":"conv1","classifier":["head","head_dist"],"paper_ids":"x"}}"#;

    #[test]
    fn a_config_survives_reading_and_writing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let config = TimmConfig::parse(NOW).unwrap();
        assert_eq!(config.class_names().unwrap(), ["ant", "bee"]);
        assert_eq!(config.pretrained_cfg.crop_pct, Some(0.95));
        config.write(&path).unwrap();
        assert_eq!(TimmConfig::read(&path).unwrap(), config);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"odd\": 1") && text.contains("paper_ids") && !text.contains("license"));
    }

    #[test]
    fn the_flat_form_and_gaps_are_read() {
        let flat = r#"{"architecture":"vgg11","num_classes":3,"num_features":4096,"labels":{"0":"a","2":"c"},
            "input_size":[3,224,224],"classifier":"head.fc","first_conv":null}"#;
        let config = TimmConfig::parse(flat).unwrap();
        assert_eq!(config.class_names().unwrap(), ["a", "1", "c"]);
        assert_eq!(config.pretrained_cfg.classifier, Some(OneOrMany::One("head.fc".into())));
        let written = serde_json::to_string(&config).unwrap();
        assert!(written.contains(r#""first_conv":null"#) && written.contains(r#""pool_size":null"#));
    }

    #[test]
    fn other_files_are_refused_in_plain_words() {
        for (text, reason) in
            [("{", "garbled"), ("{}", "architecture"), (r#"{"architecture":1}"#, "wrong type")]
        {
            assert!(TimmConfig::parse(text).unwrap_err().contains(reason), "{text}");
        }
    }
}
