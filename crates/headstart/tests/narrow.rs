//! A frozen part in bf16 and in bytes against itself in f32.

#[path = "support/formula.rs"]
mod formula;

use burn::tensor::Device;
use formula::{error, network, uniform};
use headstart::fast::Precision;
use headstart::models::{Flow, host_values};
use headstart::train::prefix::Prefix;

const SIZE: [usize; 3] = [3, 64, 64];

fn features(model: &str, first: Option<usize>, precision: Precision) -> (Vec<usize>, Vec<f32>) {
    let network = network(model, 10, 1.0, &Device::flex());
    let groups = network.groups().len();
    let first = first.unwrap_or(groups - 1).min(groups);
    let x = uniform("x", SIZE.iter().product::<usize>() * 3, -1.0, 1.0);
    let mut prefix = Prefix::narrow(&network, first, precision);
    if precision != Precision::F32 {
        prefix.calibrate(std::iter::once((x.clone(), SIZE))).expect("these networks have narrow layers");
    }
    match prefix.run(x.into(), SIZE) {
        Flow::Flat(x) => (x.dims().to_vec(), host_values(&x)),
        Flow::Map(map) => (map.dims().to_vec(), host_values(&map.into_nhwc())),
        Flow::Tokens(_) => panic!("{model} has no tokens"),
    }
}

#[test]
fn narrow_features_are_those_of_f32_up_to_rounding() {
    for model in ["resnet18", "resnet50", "tf_mobilenetv2_100", "vgg11_bn", "alexnet", "headstart_nano"] {
        // Without the head, two groups, and all: linear layers stay in f32.
        for first in [None, Some(2), Some(99)] {
            let (shape, exact) = features(model, first, Precision::F32);
            // Rounding adds up over the layers; a wrong layer is off by the whole range.
            for (precision, bound) in [(Precision::Bf16, 0.03), (Precision::Int8, 0.15)] {
                let (narrow_shape, narrow) = features(model, first, precision);
                assert_eq!(shape, narrow_shape, "{model} {precision:?}");
                let off = error(&narrow, &exact);
                assert!(off <= bound, "{model} before {first:?} in {precision:?}: {off} of the range");
                assert!(off > 0.0, "{model} before {first:?} in {precision:?} ran in f32");
            }
        }
    }
}

#[test]
fn pictures_do_not_depend_on_their_neighbours() {
    let network = network("resnet18", 10, 1.0, &Device::flex());
    let each = SIZE[1] * SIZE[2] * 3;
    let x = uniform("x", each * 11, -1.0, 1.0);
    for precision in [Precision::Bf16, Precision::Int8] {
        let mut prefix = Prefix::narrow(&network, network.groups().len() - 1, precision);
        prefix.calibrate(std::iter::once((x.clone(), [11, 64, 64]))).expect("a ResNet has narrow layers");
        let all = host_values(&prefix.run(x[..].into(), [11, 64, 64]).flat());
        let last = host_values(&prefix.run(x[10 * each..].into(), [1, 64, 64]).flat());
        assert!(all[10 * last.len()..] == last[..], "{precision:?}");
    }
}
