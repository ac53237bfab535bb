//! Networks against torchvision or timm: logits and two intermediates to 1e-4 of their range, gradients of three
//! weights to 1e-3 of the largest.
//!
//! Weights and pictures come from a formula both sides know; `tools/golden/models.py` writes what
//! PyTorch made of them. Each network runs on the CPU kernels and on Burn's own operations, as
//! inference does (BatchNorm folded) and as training does (on autodiff, statistics frozen). The rest of the
//! registry: `just golden --all`, docs/parity.md.

#[path = "support/formula.rs"]
mod formula;
#[path = "support/parity.rs"]
mod parity;

use formula::{Path, fixture};
use headstart::models::rows;
use parity::Subject;
use serde_json::Value;

fn check(name: &str) {
    let case = &fixture("goldens.json")[name];
    let subject = Subject::new(name, case);
    for path in [Path::Fast, Path::Reference] {
        for (place, found) in [("inference", subject.inference(path)), ("autodiff", subject.training(path))] {
            println!("{name:20} {place:9} {path:9?} {:.1e} {:?} {:?}", found.logits, found.taps, found.grads);
            let forward = found.taps.into_iter().chain([("logits".to_string(), found.logits)]);
            for (point, error) in forward {
                assert!(
                    error <= 1e-4,
                    "{name}, {place}, {path:?}: {point} differs by {error:.1e} of its range"
                );
            }
            for (weight, error) in found.grads {
                assert!(error <= 1e-3, "{name}, {path:?}: the gradient of {weight} differs by {error:.1e}");
            }
        }
    }
}

#[test]
fn resnets_agree_with_torchvision() {
    ["headstart_nano", "resnet18", "resnet34", "resnet50"].into_iter().for_each(check);
}

#[test]
fn deep_resnets_agree_with_torchvision() {
    ["resnet101", "resnet152"].into_iter().for_each(check);
}

#[test]
fn alexnet_and_plain_vggs_agree_with_torchvision() {
    ["alexnet", "vgg11", "vgg13", "vgg16", "vgg19"].into_iter().for_each(check);
}

#[test]
fn vggs_with_batch_norm_agree_with_torchvision() {
    ["vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"].into_iter().for_each(check);
}

#[test]
fn mobilenets_agree_with_timm() {
    ["mobilenetv2_100", "tf_mobilenetv2_100"].into_iter().for_each(check);
}

#[test]
fn relatives_of_resnet_agree_with_timm() {
    ["seresnet18", "resnext50_32x4d"].into_iter().for_each(check);
}

#[test]
fn convnexts_agree_with_timm() {
    ["convnext_atto", "convnextv2_atto", "convnext_tiny"].into_iter().for_each(check);
}

#[test]
fn networks_of_mobile_blocks_agree_with_timm() {
    ["efficientnet_b0", "tf_efficientnetv2_b0", "mobilenetv3_small_100", "mobilenet_v3_small"]
        .into_iter()
        .for_each(check);
}

#[test]
fn vits_agree_with_timm() {
    ["vit_tiny_patch16_224", "deit3_small_patch16_224"].into_iter().for_each(check);
}

#[test]
fn swins_agree_with_timm() {
    check("swinv2_tiny_window8_256");
}

#[test]
fn regnets_and_densenets_agree_with_timm() {
    ["regnety_004", "densenet121"].into_iter().for_each(check);
}

#[test]
fn coatnets_agree_with_timm() {
    ["coatnet_nano_rw_224", "coatnet_rmlp_nano_rw_224"].into_iter().for_each(check);
}

#[test]
fn clip_s_resnet_agrees_with_timm() {
    check("resnet50_clip");
}

#[test]
fn every_row_has_a_golden() {
    let (goldens, on_demand) = (fixture("goldens.json"), fixture("on_demand.json"));
    let on_demand: Vec<&str> =
        on_demand.as_array().expect("names").iter().filter_map(Value::as_str).collect();
    let lacking: Vec<&str> = (rows().iter().map(|r| r.name))
        .filter(|n| goldens.get(n).is_none() && !on_demand.contains(n))
        .collect();
    assert!(lacking.is_empty(), "no golden for {lacking:?}");
}
