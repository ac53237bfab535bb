//! CLIP among the sources of weights: which file holds both towers, and what its neighbours say of them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Backbone;
use crate::error::{Error, Result};
use crate::models;
use crate::weights::clip::Towers;
use crate::weights::{Cache, HubRepo, Lookup, Progress, Source, StateDict};

/// Whether CLIP's text tower is wanted beside the image tower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextWish {
    /// Take what the usual file has.
    #[default]
    None,
    /// Look for a file with both towers first.
    Preferred,
    /// Without it there is nothing to do.
    Needed,
}

/// A text tower as it was read.
#[derive(Debug)]
pub struct TextWeights {
    /// The tensors, in OpenAI's names.
    pub weights: StateDict,
    /// Whether its perceptrons use OpenAI's approximation of GELU.
    pub quick_gelu: bool,
}

/// Files of a repository that hold both towers; timm's `model.safetensors` beside them holds one.
const WHOLE: [&str; 4] = [
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
];

/// What the files beside CLIP's weights say.
#[derive(Debug, Default)]
pub(super) struct ClipConfig {
    quick_gelu: Option<bool>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
}

/// Finds the file with both towers; none where there is no sign of one.
pub(super) fn whole_file(
    source: &Source,
    wish: TextWish,
    cache: &Cache,
    progress: &mut dyn Progress,
) -> Result<Option<PathBuf>> {
    match (source, wish) {
        (_, TextWish::None) => Ok(None),
        (Source::LocalDir(folder), _) => {
            Ok(WHOLE.iter().map(|name| folder.join(name)).find(|path| path.is_file()))
        }
        (Source::Hub(repo), wish) if repo.name.to_lowercase().contains("clip") => {
            for name in WHOLE {
                match cache.hub_file(repo, name, Lookup::CacheFirst, progress) {
                    Ok(None) => {}
                    // The usual file may be at hand where this one cannot be had.
                    Err(_) if wish == TextWish::Preferred => return Ok(None),
                    found => return found,
                }
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Reads what stands beside the weights: open_clip's description, else Hugging Face's.
pub(super) fn config(source: &Source, cache: &Cache, progress: &mut dyn Progress) -> Result<ClipConfig> {
    let mut found = ClipConfig::default();
    for name in ["open_clip_config.json", "config.json"] {
        let path = match source {
            Source::LocalDir(folder) => Some(folder.join(name)),
            Source::File(path) => Some(path.with_file_name(name)),
            Source::Hub(repo) => cache.hub_file(repo, name, Lookup::CacheFirst, progress)?,
            _ => None,
        };
        if let Some(path) = path.filter(|path| path.is_file()) {
            found.take(&read(&path)?);
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
    serde_json::from_str(&text).map_err(|e| Error::BadWeights {
        path: path.to_path_buf(),
        reason: format!("its JSON is garbled: {e}"),
        hint: "expected the description beside CLIP's weights".into(),
    })
}

impl ClipConfig {
    /// Takes over what is not known yet.
    fn take(&mut self, json: &Value) {
        let three = |v: &Value| {
            let list: Vec<f32> = v.as_array()?.iter().filter_map(|x| x.as_f64().map(|x| x as f32)).collect();
            <[f32; 3]>::try_from(list).ok()
        };
        let act = match (&json["model_cfg"], &json["vision_config"]["hidden_act"]) {
            (Value::Object(model), _) => {
                Some(model.get("quick_gelu").and_then(Value::as_bool).unwrap_or(false))
            }
            (_, Value::String(act)) => Some(act == "quick_gelu"),
            // Hugging Face leaves out what is the default.
            _ => (json["model_type"] == "clip").then_some(true),
        };
        self.quick_gelu = self.quick_gelu.or(act);
        self.mean = self.mean.or_else(|| three(&json["preprocess_cfg"]["mean"]));
        self.std = self.std.or_else(|| three(&json["preprocess_cfg"]["std"]));
    }
}

/// Names the network of an image tower by its tensors; none if the zoo has none like it or the activation is not known.
fn name_of(image: &StateDict, quick_gelu: Option<bool>) -> Option<String> {
    let name = if image.contains("head.pos_embed") {
        let depth = (0..).take_while(|i| image.contains(&format!("stages.2.{i}.conv1_1x1.bn.bias"))).count();
        if depth == 6 { "resnet50_clip" } else { "resnet101_clip" }.to_string()
    } else {
        let [width, _, patch, _] = image.get("patch_embed.proj.weight")?.shape[..] else { return None };
        let cells = image.get("pos_embed")?.shape.get(1)?.checked_sub(1)?;
        let side = patch * cells.isqrt();
        let size = match width {
            768 => "base",
            1024 => "large",
            _ => return None,
        };
        let act = if quick_gelu? { "quickgelu_" } else { "" };
        format!("vit_{size}_patch{patch}_clip_{act}{side}")
    };
    models::find(&name).ok().map(|(row, _)| row.name.to_string())
}

/// Puts both towers of a file and a name the user gave, or none, together.
pub(super) fn backbone(
    towers: Towers,
    model: Option<&str>,
    config: &ClipConfig,
    origin: &str,
) -> Result<Backbone> {
    let Towers { image, text, openai } = towers;
    let quick_gelu = if openai { Some(true) } else { config.quick_gelu };
    let name = match (model, name_of(&image, quick_gelu)) {
        (Some(name), _) => name.to_string(),
        (None, Some(name)) => name,
        (None, None) => {
            return Err(Error::BadModel {
                what: format!("`{}` is a CLIP, but does not say which", image.source.display()),
                hint: "add `--model NAME`; `headstart models clip` lists them, `quickgelu` for those trained like \
                       OpenAI's"
                    .into(),
            });
        }
    };
    let (row, _) = models::find(&name)?;
    let mut found = Backbone::of(row, image, origin);
    found.input.mean = config.mean.unwrap_or(found.input.mean);
    found.input.std = config.std.unwrap_or(found.input.std);
    found.take_text(text, quick_gelu);
    Ok(found)
}

impl Backbone {
    /// Adds the text tower; the activation is the image tower's, where that has one.
    pub(super) fn take_text(&mut self, text: Option<StateDict>, quick_gelu: Option<bool>) {
        let by_name = self.row.name.starts_with("vit_").then(|| self.row.name.contains("quickgelu"));
        if let (Some(true), Some(false)) = (quick_gelu, by_name) {
            let better = self.row.name.replace("_clip_", "_clip_quickgelu_");
            self.weights
                .notes
                .push(format!("these weights were trained with QuickGELU: `--model {better}` fits better"));
        }
        let Some(weights) = text else { return };
        // Every published CLIP around a ResNet was trained with it.
        let quick_gelu = by_name.or(quick_gelu).unwrap_or(true);
        self.text = Some(TextWeights { weights, quick_gelu });
        // OpenAI's own evaluation crops nothing.
        self.input.crop_pct = 1.0;
    }

    /// Checks that what is needed is there.
    pub(super) fn check_text(&self, wish: TextWish) -> Result<()> {
        if wish == TextWish::Needed && self.text.is_none() { Err(no_text(&self.origin)) } else { Ok(()) }
    }
}

/// Says that weights have no text tower, and which have.
pub(crate) fn no_text(origin: &str) -> Error {
    Error::BadModel {
        what: format!("`{origin}` has no text tower"),
        hint: "zero-shot needs a whole CLIP: `--model vit_base_patch32_clip_quickgelu_224`, `resnet50_clip`, or a file of \
               OpenAI, open_clip or Hugging Face with `--weights`"
            .into(),
    }
}

/// Names the repository of a registry row as a source.
pub(super) fn hub_source(repo: &str) -> Result<Source> {
    HubRepo::parse(repo).map(Source::Hub)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Entry;
    use serde_json::json;

    #[test]
    fn a_tower_is_known_by_its_tensors() {
        let mut image = StateDict::new("");
        let zeros = |shape: &[usize]| Entry::from_f32(shape, &vec![0.0; shape.iter().product()]);
        image.insert("patch_embed.proj.weight", zeros(&[768, 1, 32, 32]));
        image.insert("pos_embed", zeros(&[1, 50, 1]));
        assert_eq!(name_of(&image, Some(true)).unwrap(), "vit_base_patch32_clip_quickgelu_224");
        assert_eq!(name_of(&image, Some(false)).unwrap(), "vit_base_patch32_clip_224");
        assert_eq!(name_of(&image, None), None);
    }

    #[test]
    fn the_activation_is_read_from_whoever_says_it() {
        for (text, expected) in [
            (json!({"model_cfg": {"embed_dim": 512, "quick_gelu": true}}), Some(true)),
            (json!({"model_cfg": {"embed_dim": 512}}), Some(false)),
            (json!({"model_type": "clip", "vision_config": {"hidden_act": "gelu"}}), Some(false)),
            (json!({"model_type": "clip"}), Some(true)),
            (json!({"architecture": "vit_base_patch32_clip_224"}), None),
        ] {
            let mut config = ClipConfig::default();
            config.take(&text);
            assert_eq!(config.quick_gelu, expected, "{text}");
        }
    }
}
