//! Every network against torchvision or timm: logits and one intermediate, to 1e-4 of their range.
//!
//! Weights and pictures come from a formula both sides know; `tools/golden/models.py` writes what
//! PyTorch made of them. Each network runs on the CPU kernels and on Burn's own operations, as
//! inference does (BatchNorm folded) and as training does (on autodiff, statistics frozen).

#[path = "support/formula.rs"]
mod formula;

use burn::tensor::Device;
use formula::{Path, error, fixture, floats, network, pictures, values};
use headstart::models::rows;
use headstart::models::tap::Tap;
use serde_json::Value;

const TOLERANCE: f32 = 1e-4;

fn check(name: &str) {
    agree(name, &fixture("goldens.json")[name]);
}

fn agree(name: &str, case: &Value) {
    let (expected, tapped) = (floats(&case["logits"]), floats(&case["tap_values"]));
    let shape: Vec<usize> = floats(&case["input"]).iter().map(|v| *v as usize).collect();
    let tap_shape: Vec<usize> = floats(&case["tap_shape"]).iter().map(|v| *v as usize).collect();
    let tap_name = case["tap"].as_str().expect("a name");
    let plain = Device::flex();
    let trained = network(name, 10, case["gain"].as_f64().expect("a gain"), &plain.clone().autodiff());
    let trained = trained.set_trainable(&|_| true, &|_| false);
    let inference = headstart::models::frozen(&trained);
    for (place, net, device) in
        [("inference", &inference, plain.clone()), ("autodiff", &trained, plain.autodiff())]
    {
        for path in [Path::Fast, Path::Reference] {
            let x = pictures([shape[0], shape[1], shape[2], shape[3]], &device);
            let mut tap = Tap::keep(&[tap_name]);
            let logits = values(&net.forward(path.map(x), &mut tap));
            let seen = tap.values(tap_name).expect("the tap is passed");
            assert_eq!(seen.dims().to_vec(), tap_shape, "{name}");
            let (at_end, at_tap) =
                (error(&logits, &expected), error(&values(&seen)[..tapped.len()], &tapped));
            println!("{name:20} {place:9} {path:9?} logits {at_end:.1e} {tap_name} {at_tap:.1e}");
            assert!(
                at_end <= TOLERANCE,
                "{name}, {place}, {path:?}: logits differ by {at_end:.1e} of their range"
            );
            assert!(at_tap <= TOLERANCE, "{name}, {place}, {path:?}: {tap_name} differs by {at_tap:.1e}");
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
fn clip_s_resnet_agrees_with_timm() {
    check("resnet50_clip");
}

/// The networks whose results are not in git: see `tools/golden/models.py`.
#[test]
fn the_rest_of_the_zoo_agrees_where_asked_for() {
    let Ok(folder) = std::env::var("HEADSTART_GOLDENS") else { return };
    let text = std::fs::read_to_string(format!("{folder}/goldens.json")).expect("goldens.json");
    let cases: Value = serde_json::from_str(&text).expect("valid JSON");
    cases.as_object().expect("cases by name").iter().for_each(|(name, case)| agree(name, case));
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
