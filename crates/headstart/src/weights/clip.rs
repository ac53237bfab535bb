//! CLIP checkpoints: an image tower and a text tower in one file, in the names of OpenAI, which open_clip kept, or of
//! Hugging Face.
//!
//! [`split`] gives the image tower timm's names, in which the projection into the space shared with texts is the
//! classifier, and leaves OpenAI's to the text tower. Nothing but names, axes and the order of joined tensors changes.

use super::safetensors::bad_weights;
use super::state_dict::{Dtype, Entry, StateDict};
use crate::error::Result;

/// What OpenAI's files say of themselves among the tensors, and masks and counters that follow from the sizes.
const FACTS: [&str; 5] = ["input_resolution", "context_length", "vocab_size", "attn_mask", "position_ids"];

/// A checkpoint in its two halves.
#[derive(Debug)]
pub struct Towers {
    /// The image tower, in timm's names.
    pub image: StateDict,
    /// The text tower, in OpenAI's names; none where the file has none.
    pub text: Option<StateDict>,
    /// Whether OpenAI wrote it, and so whether it was trained with QuickGELU.
    pub openai: bool,
}

/// Takes a CLIP checkpoint apart; gives back what is none.
pub fn split(dict: StateDict) -> Result<std::result::Result<Towers, StateDict>> {
    let dict = match dict.contains("vision_model.embeddings.patch_embedding.weight") {
        true => from_hugging_face(dict)?,
        false => dict,
    };
    if !dict.contains("visual.conv1.weight") {
        return Ok(Err(dict));
    }
    let openai = dict.contains("input_resolution");
    let (mut image, mut text) = (dict.without_tensors(), dict.without_tensors());
    let source = dict.source.clone();
    for (name, entry) in dict.into_tensors() {
        if FACTS.iter().any(|fact| name == *fact || name.ends_with(&format!(".{fact}"))) {
            continue;
        }
        match name.strip_prefix("visual.") {
            Some("proj") => {
                let entry =
                    transposed(&entry).ok_or_else(|| bad_weights(&source, "`visual.proj` is no matrix"))?;
                put_projection(&mut image, entry);
            }
            Some(name) => {
                let (name, entry) = image_tensor(name, entry);
                image.insert(name, entry);
            }
            // open_clip's newer classes keep the text tower under a name of its own.
            None => text.insert(name.strip_prefix("text.").unwrap_or(&name), entry),
        }
    }
    let text = text.contains("token_embedding.weight").then_some(text);
    Ok(Ok(Towers { image, text, openai }))
}

/// The projection as timm's classifier, whose bias CLIP's ViTs lack.
fn put_projection(image: &mut StateDict, entry: Entry) {
    let outputs = entry.shape.first().copied().unwrap_or(0);
    image.insert("head.weight", entry);
    image.insert("head.bias", Entry::from_f32(&[outputs], &vec![0.0; outputs]));
}

/// Renames a tensor of OpenAI's image tower, `visual.` taken off.
fn image_tensor(name: &str, mut entry: Entry) -> (String, Entry) {
    let parts: Vec<&str> = name.split('.').collect();
    let name = match parts[..] {
        // ViT.
        ["class_embedding"] => {
            entry.shape.splice(0..0, [1, 1]);
            "cls_token".into()
        }
        ["positional_embedding"] => {
            entry.shape.insert(0, 1);
            "pos_embed".into()
        }
        ["conv1", leaf] if entry.shape.get(2).is_some_and(|side| *side > 3) => {
            format!("patch_embed.proj.{leaf}")
        }
        ["ln_pre", leaf] => format!("norm_pre.{leaf}"),
        ["ln_post", leaf] => format!("norm.{leaf}"),
        ["transformer", "resblocks", block, ..] => {
            let rest = parts[3..].join(".");
            let rest = rest
                .replace("attn.in_proj_", "attn.qkv.")
                .replace("attn.out_proj", "attn.proj")
                .replace("ln_", "norm")
                .replace("mlp.c_fc", "mlp.fc1")
                .replace("mlp.c_proj", "mlp.fc2");
            format!("blocks.{block}.{rest}")
        }
        // ResNet.
        ["attnpool", "positional_embedding"] => "head.pos_embed".into(),
        ["attnpool", layer, leaf] => {
            let layer = layer.strip_suffix("_proj").unwrap_or(layer);
            format!("head.{}.{leaf}", if layer == "c" { "proj" } else { layer })
        }
        [layer, leaf] => match stem_or_block_layer(layer) {
            Some((kind, number)) => format!("stem.conv{number}.{kind}.{leaf}"),
            None => name.to_string(),
        },
        [stage, block, "downsample", index, leaf] if stage.starts_with("layer") => {
            let kind = if index == "0" { "conv" } else { "bn" };
            format!("stages.{}.{block}.shortcut.conv.{kind}.{leaf}", from_zero(stage))
        }
        [stage, block, layer, leaf] if stage.starts_with("layer") => match stem_or_block_layer(layer) {
            Some((kind, number)) => {
                let size = if number == "2" { "kxk" } else { "1x1" };
                format!("stages.{}.{block}.conv{number}_{size}.{kind}.{leaf}", from_zero(stage))
            }
            None => name.to_string(),
        },
        _ => name.to_string(),
    };
    (name, entry)
}

/// Reads `conv2` or `bn2`.
fn stem_or_block_layer(layer: &str) -> Option<(&'static str, &str)> {
    let number = |prefix: &str| layer.strip_prefix(prefix).filter(|n| ["1", "2", "3"].contains(n));
    number("conv").map(|n| ("conv", n)).or_else(|| number("bn").map(|n| ("bn", n)))
}

/// Turns `layer1` into 0: timm counts stages from there.
fn from_zero(stage: &str) -> usize {
    stage.trim_start_matches("layer").parse::<usize>().map_or(0, |n| n.saturating_sub(1))
}

/// Gives a `CLIPModel` of Hugging Face OpenAI's names: queries, keys and values joined, projections transposed.
fn from_hugging_face(mut dict: StateDict) -> Result<StateDict> {
    let mut renamed = dict.without_tensors();
    let names: Vec<String> = dict.names().map(String::from).collect();
    for name in names {
        if name.ends_with(".k_proj.weight") || name.ends_with(".v_proj.weight") || is_bias_of_keys(&name) {
            continue;
        }
        let Some(theirs) = openai_name(&name) else {
            if let Some(entry) = dict.remove(&name) {
                renamed.insert(name, entry);
            }
            continue;
        };
        let bad = |what: &str| bad_weights(&renamed.source, format!("`{name}` {what}"));
        let entry = if name.contains(".q_proj.") {
            let part = |letter: &str| dict.get(&name.replace(".q_proj.", &format!(".{letter}_proj.")));
            let parts: Option<Vec<&Entry>> = ["q", "k", "v"].map(part).into_iter().collect();
            parts.and_then(|parts| joined(&parts)).ok_or_else(|| bad("lacks its keys or values"))?
        } else {
            let entry = dict.remove(&name).expect("a name of the file");
            match name.ends_with("_projection.weight") {
                true => transposed(&entry).ok_or_else(|| bad("is no matrix"))?,
                false => entry,
            }
        };
        renamed.insert(theirs, entry);
    }
    Ok(renamed)
}

fn is_bias_of_keys(name: &str) -> bool {
    name.ends_with(".k_proj.bias") || name.ends_with(".v_proj.bias")
}

fn openai_name(name: &str) -> Option<String> {
    let whole = match name {
        "visual_projection.weight" => "visual.proj",
        "text_projection.weight" => "text_projection",
        "vision_model.embeddings.class_embedding" => "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight" => "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight" => "visual.positional_embedding",
        "text_model.embeddings.token_embedding.weight" => "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight" => "positional_embedding",
        _ => "",
    };
    if !whole.is_empty() {
        return Some(whole.into());
    }
    let (prefix, rest) = match name.split_once('.')? {
        ("vision_model", rest) => ("visual.", rest),
        ("text_model", rest) => ("", rest),
        _ => return None,
    };
    if let Some(rest) = rest.strip_prefix("encoder.layers.") {
        let rest = rest
            .replace("self_attn.q_proj.", "attn.in_proj_")
            .replace("self_attn.out_proj", "attn.out_proj")
            .replace("layer_norm", "ln_")
            .replace("mlp.fc1", "mlp.c_fc")
            .replace("mlp.fc2", "mlp.c_proj");
        return Some(format!("{prefix}transformer.resblocks.{rest}"));
    }
    // `pre_layrnorm` is their spelling.
    let rest = rest
        .replace("pre_layrnorm", "ln_pre")
        .replace("post_layernorm", "ln_post")
        .replace("final_layer_norm", "ln_final");
    Some(format!("{prefix}{rest}"))
}

/// Puts tensors one after the other along the first axis.
fn joined(parts: &[&Entry]) -> Option<Entry> {
    let first = parts.first()?;
    let fits = |e: &&Entry| e.dtype == first.dtype && e.shape == first.shape && !e.shape.is_empty();
    parts.iter().all(fits).then(|| {
        let mut shape = first.shape.clone();
        shape[0] *= parts.len();
        Entry {
            dtype: first.dtype,
            shape,
            bytes: parts.iter().flat_map(|e| e.bytes.iter().copied()).collect(),
        }
    })
}

/// Swaps the axes of a matrix.
fn transposed(entry: &Entry) -> Option<Entry> {
    let [rows, columns] = entry.shape[..] else { return None };
    let width = Dtype::size(entry.dtype);
    let mut bytes = Vec::with_capacity(entry.bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            let at = (row * columns + column) * width;
            bytes.extend_from_slice(&entry.bytes[at..at + width]);
        }
    }
    Some(Entry { dtype: entry.dtype, shape: vec![columns, rows], bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_checkpoints_are_given_back() {
        let mut dict = StateDict::new("");
        dict.insert("conv1.weight", Entry::from_f32(&[1], &[1.0]));
        assert_eq!(split(dict).unwrap().unwrap_err().len(), 1);
    }

    #[test]
    fn a_projection_changes_sides_bit_for_bit() {
        let half = Entry::from_f32_as_f16(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let turned = transposed(&half).unwrap();
        assert_eq!((turned.dtype, &turned.shape[..]), (Dtype::F16, &[3, 2][..]));
        assert_eq!(turned.to_f32(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(transposed(&turned).unwrap(), half);
    }

    #[test]
    fn keys_missing_from_a_file_are_an_error() {
        let mut dict = StateDict::new("");
        for name in [
            "vision_model.embeddings.patch_embedding.weight",
            "text_model.encoder.layers.0.self_attn.q_proj.bias",
        ] {
            dict.insert(name, Entry::from_f32(&[1], &[1.0]));
        }
        assert!(split(dict).unwrap_err().to_string().contains("lacks its keys"));
    }
}
