//! Guesses from tensor names which network a file of weights was made for.
//!
//! Only for saying "these weights look like …" when they do not fit; nothing is decided by it.

use super::state_dict::StateDict;

/// Names the family that the keys look like, with the library whose spelling they use where the
/// spellings differ.
pub fn looks_like(dict: &StateDict) -> Option<&'static str> {
    let has = |name: &str| dict.contains(name);
    let starts = |prefix: &str| dict.names().any(|n| n.starts_with(prefix));
    let holds = |part: &str| dict.names().any(|n| n.contains(part));
    let axes = |name: &str| dict.get(name).map_or(0, |e| e.shape.len());

    // The most telling keys first: several families share `features.0` or `blocks.0`.
    Some(if starts("layers.0.blocks.") || holds("relative_position_bias_table") || holds(".attn.cpb_mlp.") {
        "Swin Transformer"
    } else if starts("visual.trunk.") {
        "CLIP around a network of timm (open_clip names)"
    } else if has("conv_proj.weight") && has("class_token") {
        "ViT (torchvision names)"
    } else if has("patch_embed.proj.weight") && starts("blocks.0.attn.") {
        "ViT (timm names)"
    } else if holds(".denseblock1.") || starts("features.denseblock1") {
        "DenseNet"
    } else if has("s1.b1.conv1.conv.weight") {
        "RegNet (timm names)"
    } else if starts("trunk_output.") {
        "RegNet (torchvision names)"
    } else if has("stages.0.blocks.0.conv2_kxk.weight") && holds(".attn.rel_pos.") {
        "CoAtNet (timm names)"
    } else if has("stages.0.blocks.0.conv_dw.weight") {
        "ConvNeXt (timm names)"
    } else if holds(".layer_scale") && starts("features.") {
        "ConvNeXt (torchvision names)"
    } else if has("conv_stem.weight") && starts("blocks.") {
        // MobileNetV2 and V3 and EfficientNet share their builder in timm: the first tells by
        // having no squeeze-and-excitation, the second by a head without BatchNorm.
        // V4 has depthwise convolutions where the others have none.
        if holds(".dw_start.") {
            return Some("MobileNetV4 (timm names)");
        }
        match (holds(".se.conv_reduce."), has("bn2.weight")) {
            (false, _) => "MobileNetV2 (timm names)",
            (true, false) => "MobileNetV3 (timm names)",
            (true, true) => "EfficientNet (timm names)",
        }
    } else if starts("features.") && holds(".block.") {
        match has("classifier.3.weight") {
            true => "MobileNetV3 (torchvision names)",
            false => "EfficientNet (torchvision names)",
        }
    } else if has("features.0.0.weight") && holds(".conv.") {
        "MobileNetV2 (torchvision names)"
    } else if holds(".squeeze.weight") {
        "SqueezeNet"
    } else if axes("features.0.weight") == 4 {
        match dict.get("features.0.weight").map(|e| e.shape[2]) {
            Some(11) => "AlexNet",
            _ => "VGG",
        }
    } else if has("conv1.0.weight") && starts("layer1.0.") {
        "ResNet-D (timm names)"
    } else if has("conv1.weight") && starts("layer1.0.") {
        match (axes("conv1.weight"), has("layer4.0.conv1.weight")) {
            (4, true) => "ResNet",
            _ => "ResNet for small pictures (CIFAR)",
        }
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::super::state_dict::Entry;
    use super::*;

    fn guess(keys: &[(&str, &[usize])]) -> Option<&'static str> {
        let mut dict = StateDict::new("");
        for (name, shape) in keys {
            dict.insert(*name, Entry::from_f32(shape, &vec![0.0; shape.iter().product()]));
        }
        looks_like(&dict)
    }

    #[test]
    fn families_are_told_apart() {
        let x: &[usize] = &[1];
        for (keys, expected) in [
            (
                &[
                    ("conv1.weight", &[1, 1, 7, 7][..]),
                    ("layer1.0.bn1.bias", x),
                    ("layer4.0.conv1.weight", x),
                ][..],
                "ResNet",
            ),
            (
                &[("conv1.weight", &[1, 1, 3, 3]), ("layer1.0.bn1.bias", x)],
                "ResNet for small pictures (CIFAR)",
            ),
            (&[("features.0.weight", &[1, 1, 11, 11])], "AlexNet"),
            (&[("features.0.weight", &[1, 1, 3, 3])], "VGG"),
            (&[("conv_stem.weight", x), ("blocks.0.0.conv_dw.weight", x)], "MobileNetV2 (timm names)"),
            (
                &[("conv_stem.weight", x), ("blocks.0.0.se.conv_reduce.weight", x), ("bn2.weight", x)],
                "EfficientNet (timm names)",
            ),
            (
                &[("features.0.0.weight", x), ("features.1.conv.0.0.weight", x)],
                "MobileNetV2 (torchvision names)",
            ),
            (&[("patch_embed.proj.weight", x), ("blocks.0.attn.qkv.weight", x)], "ViT (timm names)"),
            (
                &[
                    ("features.0.0.weight", x),
                    ("features.1.0.layer_scale", x),
                    ("features.1.0.block.0.weight", x),
                ],
                "ConvNeXt (torchvision names)",
            ),
            (
                &[("features.0.0.weight", x), ("features.1.0.block.0.0.weight", x)],
                "EfficientNet (torchvision names)",
            ),
        ] {
            assert_eq!(guess(keys), Some(expected));
        }
        assert_eq!(guess(&[("encoder.weight", x)]), None);
    }
}
