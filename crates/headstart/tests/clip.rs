//! CLIP against open_clip: tokens, both towers, logits and the zero-shot classifier, to 1e-4 of their range.
//!
//! Weights come from the formula both sides know, under the names and shapes of open_clip's checkpoints;
//! `tools/golden/clip.py` writes what open_clip made of them.

#[path = "support/formula.rs"]
mod formula;

use burn::Tensor;
use burn::tensor::Device;
use formula::{Path, error, floats, pictures, tensor, values};
use headstart::clip::{HeadPlan, Templates, Tokenizer, embed_texts, text_tower, with_head, zero_shot};
use headstart::models::tap::Tap;
use headstart::models::{HeadSpec, Network, frozen};
use headstart::sources::Backbone;
use headstart::weights::{Entry, StateDict, clip};
use serde_json::Value;

const TOLERANCE: f32 = 1e-4;

fn fixture(name: &str) -> Value {
    let path = format!("{}/../../fixtures/clip/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).expect("valid JSON")
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().expect("a list").iter().map(|s| s.as_str().expect("a string").to_string()).collect()
}

#[test]
fn a_thousand_texts_become_the_reference_s_tokens() {
    let (cases, tokenizer) = (fixture("tokens.json"), Tokenizer::get());
    let cases = cases.as_array().expect("a list");
    assert_eq!(cases.len(), 1000);
    let wrong: Vec<String> = (cases.iter())
        .filter_map(|case| {
            let text = case[0].as_str().expect("a text");
            let wanted: Vec<u32> = floats(&case[1]).iter().map(|v| *v as u32).collect();
            let found = tokenizer.encode(text);
            (found != wanted).then(|| format!("{text:?}: {found:?}, not {wanted:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// A checkpoint of open_clip with values by formula.
fn checkpoint(shapes: &Value, gain: f64) -> StateDict {
    let mut dict = StateDict::new("");
    for (name, shape) in shapes.as_object().expect("shapes by name") {
        let shape: Vec<usize> = floats(shape).iter().map(|v| *v as usize).collect();
        dict.insert(name.clone(), Entry::from_f32(&shape, &tensor(name, &shape, gain)));
    }
    dict
}

fn logits(network: &Network, path: Path) -> Tensor<2> {
    network.forward(path.map(pictures([2, 3, 224, 224], &Device::flex())), &mut Tap::off())
}

/// The first columns of `[n, width]`, as stored.
fn stored(all: &[f32], width: usize, columns: usize) -> Vec<f32> {
    all.chunks(width).flat_map(|row| row[..columns].iter().copied()).collect()
}

fn check(what: &str, found: &[f32], expected: &Value) {
    let off = error(found, &floats(expected));
    println!("{what}: {off:.1e}");
    assert!(off <= TOLERANCE, "{what} differs by {off:.1e} of its range");
}

fn towers(case: &str, model: &str) {
    let fixture = fixture("towers.json");
    let (gain, columns) = (fixture["gain"].as_f64().unwrap(), fixture["stored"].as_u64().unwrap() as usize);
    let reference = &fixture[case];
    // The two activations share the names.
    let shapes = if reference["shapes"].is_null() {
        &fixture["ViT-B-32-quickgelu"]["shapes"]
    } else {
        &reference["shapes"]
    };
    let backbone = Backbone::from_weights(checkpoint(shapes, gain), model).unwrap();
    assert_eq!(backbone.input.crop_pct, 1.0, "OpenAI's preprocessing");

    // The classifier of the image tower alone is CLIP's projection.
    let (whole, _) = backbone.whole().unwrap();
    let (whole, space) = (frozen(&whole), whole.options().num_classes);
    let image = values(&logits(&whole, Path::Fast));
    for path in [Path::Fast, Path::Reference] {
        let found = values(&logits(&whole, path));
        check(&format!("{case} image {path:?}"), &stored(&found, space, columns), &reference["image"]);
    }

    let tower = text_tower(&backbone).unwrap();
    let texts = strings(&fixture["texts"]);
    let tokens: Vec<Vec<u32>> = texts.iter().map(|text| Tokenizer::get().read(text, 77)).collect();
    assert!(tokens.iter().any(|t| t.len() == 77) && tokens.iter().any(|t| t.len() < 7));
    let text: Vec<f32> = tokens.iter().flat_map(|t| values(&tower.forward(&[t]))).collect();
    check(&format!("{case} text"), &stored(&text, space, columns), &reference["text"]);

    let unit = embed_texts(&tower, &texts);
    let cosine = |image: &[f32], text: &[f32]| {
        let dot: f32 = image.iter().zip(text).map(|(a, b)| a * b).sum();
        tower.scale() * dot / image.iter().map(|v| v * v).sum::<f32>().sqrt()
    };
    let pairs: Vec<f32> = image
        .chunks(space)
        .flat_map(|i| unit.chunks(space).map(move |t| (i, t)))
        .map(|(i, t)| cosine(i, t))
        .collect();
    check(&format!("{case} logits"), &pairs, &reference["logits"]);

    let (classes, templates) = (strings(&fixture["classes"]), strings(&fixture["templates"]));
    // Folders cannot always spell blanks.
    let classes: Vec<String> = classes.iter().map(|name| name.replace(' ', "_")).collect();
    let (network, report) = zero_shot(&backbone, &classes, &Templates::new(&templates).unwrap()).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("zero-shot")), "{:?}", report.notes);
    let found = values(&logits(&frozen(&network), Path::Fast));
    check(&format!("{case} zero-shot"), &found, &reference["zero_shot"]);
}

#[test]
fn openai_s_vit_agrees_with_open_clip() {
    towers("ViT-B-32-quickgelu", "vit_base_patch32_clip_quickgelu_224");
}

#[test]
fn a_vit_with_plain_gelu_agrees_with_open_clip() {
    towers("ViT-B-32", "vit_base_patch32_clip_224");
}

#[test]
fn openai_s_resnet_agrees_with_open_clip() {
    towers("RN50-quickgelu", "resnet50_clip");
}

/// Renames a checkpoint of open_clip to what Hugging Face's `CLIPModel` calls its tensors.
fn hugging_face(dict: &StateDict) -> StateDict {
    let mut renamed = StateDict::new("");
    let square = |e: &Entry| {
        let (values, [rows, columns]) = (e.to_f32(), [e.shape[0], e.shape[1]]);
        let turned: Vec<f32> = (0..columns)
            .flat_map(|c| (0..rows).map(move |r| (r, c)))
            .map(|(r, c)| values[r * columns + c])
            .collect();
        Entry::from_f32(&[columns, rows], &turned)
    };
    for (name, entry) in dict.iter() {
        let (tower, rest) = match name.strip_prefix("visual.") {
            Some(rest) => ("vision_model", rest),
            None => ("text_model", name),
        };
        match rest {
            "proj" => renamed.insert("visual_projection.weight", square(entry)),
            "text_projection" => renamed.insert("text_projection.weight", square(entry)),
            "logit_scale" => renamed.insert(rest, entry.clone()),
            "class_embedding" => renamed.insert("vision_model.embeddings.class_embedding", entry.clone()),
            "conv1.weight" => renamed.insert("vision_model.embeddings.patch_embedding.weight", entry.clone()),
            "token_embedding.weight" => {
                renamed.insert("text_model.embeddings.token_embedding.weight", entry.clone())
            }
            "positional_embedding" => {
                renamed.insert(format!("{tower}.embeddings.position_embedding.weight"), entry.clone())
            }
            _ => {
                let rest = (rest.replace("ln_pre", "pre_layrnorm").replace("ln_post", "post_layernorm"))
                    .replace("ln_final", "final_layer_norm")
                    .replace("transformer.resblocks", "encoder.layers")
                    .replace("ln_", "layer_norm")
                    .replace("mlp.c_fc", "mlp.fc1")
                    .replace("mlp.c_proj", "mlp.fc2")
                    .replace("attn.out_proj", "self_attn.out_proj");
                let Some((layer, leaf)) = rest.split_once("attn.in_proj_") else {
                    renamed.insert(format!("{tower}.{rest}"), entry.clone());
                    continue;
                };
                let (values, mut shape) = (entry.to_f32(), entry.shape.clone());
                shape[0] /= 3;
                for (letter, part) in ["q", "k", "v"].iter().zip(values.chunks(values.len() / 3)) {
                    renamed.insert(
                        format!("{tower}.{layer}self_attn.{letter}_proj.{leaf}"),
                        Entry::from_f32(&shape, part),
                    );
                }
            }
        }
    }
    renamed.insert("text_model.embeddings.position_ids", Entry::from_i64(&[1, 77], &[0; 77]));
    renamed
}

#[test]
fn files_of_hugging_face_and_newer_open_clip_hold_the_same() {
    // Small shapes do for names: the towers of a CLIP with two blocks.
    let mut small = StateDict::new("");
    let mut put =
        |name: &str, shape: &[usize]| small.insert(name, Entry::from_f32(shape, &tensor(name, shape, 1.0)));
    for (tower, width) in [("visual.", 6), ("", 4)] {
        put(&format!("{tower}positional_embedding"), &[5, width]);
        for block in 0..2 {
            let mut put = |leaf: &str, shape: &[usize]| {
                put(&format!("{tower}transformer.resblocks.{block}.{leaf}"), shape)
            };
            put("ln_1.weight", &[width]);
            put("ln_2.bias", &[width]);
            put("attn.in_proj_weight", &[3 * width, width]);
            put("attn.in_proj_bias", &[3 * width]);
            put("attn.out_proj.weight", &[width, width]);
            put("mlp.c_fc.bias", &[4 * width]);
            put("mlp.c_proj.weight", &[width, 4 * width]);
        }
    }
    put("visual.class_embedding", &[6]);
    put("visual.conv1.weight", &[6, 3, 8, 8]);
    put("visual.ln_pre.weight", &[6]);
    put("visual.ln_post.weight", &[6]);
    put("visual.proj", &[6, 3]);
    put("token_embedding.weight", &[11, 4]);
    put("ln_final.bias", &[4]);
    put("text_projection", &[4, 3]);
    put("logit_scale", &[]);
    let split = |dict: StateDict| clip::split(dict).unwrap().expect("a CLIP");
    let theirs = split(hugging_face(&small));
    let mut newer = small.clone();
    newer.rename(|name| match name.starts_with("visual.") || name == "logit_scale" {
        true => name.to_string(),
        false => format!("text.{name}"),
    });
    let (newer, ours) = (split(newer), split(small));
    for other in [theirs, newer] {
        for (a, b) in
            [(&other.image, &ours.image), (other.text.as_ref().unwrap(), ours.text.as_ref().unwrap())]
        {
            assert_eq!(a.len(), b.len());
            for (name, entry) in b.iter() {
                assert_eq!(a.get(name), Some(entry), "{name}");
            }
        }
    }
}

#[test]
fn an_image_tower_alone_has_no_zero_shot_head() {
    let backbone = Backbone::from_weights(StateDict::new("x"), "resnet50_clip").unwrap();
    let classes = ["a".to_string(), "b".to_string()];
    let plan: HeadPlan = "zero-shot".parse().unwrap();
    let refused = with_head(&backbone, &classes, plan, 0).unwrap_err();
    assert!(refused.to_string().contains("no text tower"), "{refused}");
    assert!(refused.hints()[0].contains("--model"));
    assert!(!HeadSpec::zero_shot(8).is_linear());
}
