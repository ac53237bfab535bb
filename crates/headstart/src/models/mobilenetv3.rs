//! MobileNetV3: inverted residuals found by search, with hard versions of swish and sigmoid.
//!
//! Howard et al., "Searching for MobileNetV3", ICCV 2019. 5 483 032 parameters large, 2 542 856 small. Names are
//! timm's; `mobilenet_v3_*` are torchvision's, which differ by a BatchNorm epsilon of 1e-3. The last convolution
//! comes after the pooling. Neither drops out before the head here.

use burn::module::Module;
use burn::tensor::Device;

use super::layers::{Act, BatchNorm, Conv2d, ConvSpec, DropPath, adaptive_avg_pool, conv_bn_act};
use super::mbconv::{self, Block, Style, split_leaf};
use super::spec::{Filter, Group, InputSpec, Row, TimmName, Variant, Weights};
use super::tap::Tap;
use super::{Dialect, Family, Flow, ModelOptions, PadType};

/// The stages, and the BatchNorm epsilon.
#[derive(Debug)]
pub struct Args {
    stages: &'static [&'static [&'static str]],
    /// Channels before the pooling.
    last: usize,
    bn_eps: f64,
}

/// Table 1 of the paper.
const LARGE: Args = Args {
    stages: &[
        &["ds_r1_k3_s1_e1_c16_nre"],
        &["ir_r1_k3_s2_e4_c24_nre", "ir_r1_k3_s1_e3_c24_nre"],
        &["ir_r3_k5_s2_e3_c40_se0.25_nre"],
        &["ir_r1_k3_s2_e6_c80", "ir_r1_k3_s1_e2.5_c80", "ir_r2_k3_s1_e2.3_c80"],
        &["ir_r2_k3_s1_e6_c112_se0.25"],
        &["ir_r3_k5_s2_e6_c160_se0.25"],
        &["cn_r1_k1_s1_c960"],
    ],
    last: 960,
    bn_eps: 1e-5,
};

/// Table 2.
const SMALL: Args = Args {
    stages: &[
        &["ds_r1_k3_s2_e1_c16_se0.25_nre"],
        &["ir_r1_k3_s2_e4.5_c24_nre", "ir_r1_k3_s1_e3.67_c24_nre"],
        &["ir_r1_k5_s2_e4_c40_se0.25", "ir_r2_k5_s1_e6_c40_se0.25"],
        &["ir_r2_k5_s1_e3_c48_se0.25"],
        &["ir_r3_k5_s2_e6_c96_se0.25"],
        &["cn_r1_k1_s1_c576"],
    ],
    last: 576,
    bn_eps: 1e-5,
};

const BICUBIC: InputSpec = InputSpec::imagenet(Filter::Bicubic);
const BILINEAR: InputSpec = InputSpec::imagenet(Filter::Bilinear);
const TV_EPS: Option<&str> = Some(r#"{"bn_eps": 0.001}"#);

const fn row(
    name: &'static str,
    timm: TimmName,
    [num_features, params]: [usize; 2],
    input: InputSpec,
    weights: &'static [Weights],
) -> Row {
    let (paper, timm) = ("https://arxiv.org/abs/1905.02244", Some(timm));
    Row { name, num_features, params, min_size: 32, input, paper, timm, weights }
}

const LARGE_SIZE: [usize; 2] = [1280, 5_483_032];
const SMALL_SIZE: [usize; 2] = [1024, 2_542_856];

const VARIANTS: &[Variant<Args>] = &[
    Variant {
        row: row(
            "mobilenetv3_large_100",
            TimmName { architecture: "mobilenetv3_large_100", model_args: None },
            LARGE_SIZE,
            BICUBIC,
            &[Weights::hub("ra_in1k", "timm/mobilenetv3_large_100.ra_in1k", BICUBIC)],
        ),
        args: LARGE,
    },
    Variant {
        row: row(
            "mobilenetv3_small_100",
            TimmName { architecture: "mobilenetv3_small_100", model_args: None },
            SMALL_SIZE,
            BICUBIC,
            &[Weights::hub("lamb_in1k", "timm/mobilenetv3_small_100.lamb_in1k", BICUBIC)],
        ),
        args: SMALL,
    },
    Variant {
        row: row(
            "mobilenet_v3_large",
            TimmName { architecture: "mobilenetv3_large_100", model_args: TV_EPS },
            LARGE_SIZE,
            BILINEAR,
            &[
                Weights::torchvision("tv_in1k", "mobilenet_v3_large-8738ca79.pth", BILINEAR, 74.042),
                Weights::torchvision(
                    "tv2_in1k",
                    "mobilenet_v3_large-5c1a4163.pth",
                    BILINEAR.crop(0.965),
                    75.274,
                ),
            ],
        ),
        args: Args { bn_eps: 1e-3, ..LARGE },
    },
    Variant {
        row: row(
            "mobilenet_v3_small",
            TimmName { architecture: "mobilenetv3_small_100", model_args: TV_EPS },
            SMALL_SIZE,
            BILINEAR,
            &[Weights::torchvision("tv_in1k", "mobilenet_v3_small-047dcff4.pth", BILINEAR, 67.668)],
        ),
        args: Args { bn_eps: 1e-3, ..SMALL },
    },
];

/// The backbone: stem, stages, global average pooling, a last 1×1.
#[derive(Module, Debug)]
pub struct MobileNetV3 {
    conv_stem: Conv2d,
    bn1: BatchNorm,
    blocks: Vec<Vec<Block>>,
    conv_head: Conv2d,
}

impl Family for MobileNetV3 {
    type Args = Args;
    const VARIANTS: &'static [Variant<Args>] = VARIANTS;
    const CLASSIFIER: &'static str = "classifier";
    const DIALECTS: &'static [Dialect] = &[Dialect::Torchvision];

    fn new(variant: &Variant<Args>, options: &ModelOptions, device: &Device) -> Self {
        let args = &variant.args;
        let style = Style {
            act: Act::HardSwish,
            same: options.pad_type == Some(PadType::Same),
            bn_eps: options.bn_eps.unwrap_or(args.bn_eps),
            width: 1.0,
            depth: [1.0; 2],
            round_limit: 0.9,
            hard_gate: true,
        };
        Self {
            conv_stem: ConvSpec::new(options.in_chans, 16, 3)
                .stride(2)
                .padding(style.padding(3))
                .init(device),
            bn1: style.bn(16, device),
            blocks: mbconv::stages(args.stages, &style, 16, device),
            conv_head: ConvSpec::new(args.last, variant.row.num_features, 1).with_bias().init(device),
        }
    }

    fn groups(&self) -> Vec<Group> {
        mbconv::groups(self.blocks.len(), &["conv_head"])
    }

    fn drop_paths(&mut self) -> Vec<&mut DropPath> {
        mbconv::drop_paths(&mut self.blocks)
    }

    fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
        let x = x.map();
        if index == 0 {
            let x = conv_bn_act(&self.conv_stem, &self.bn1, x, None, Act::HardSwish); // [N, 16, H/2, W/2]
            return Flow::Map(tap.at("conv_stem", x));
        }
        let Some(stage) = self.blocks.get(index - 1) else {
            let x = self.conv_head.forward(adaptive_avg_pool(x, [1, 1]), Act::HardSwish); // [N, F, 1, 1]
            return Flow::Flat(tap.at("conv_head", x).flatten());
        };
        Flow::Map(mbconv::run(stage, index - 1, x, tap))
    }

    fn foreign(&self, _: Dialect, key: &str) -> String {
        let (layer, leaf) = split_leaf(key);
        match layer.splitn(4, '.').collect::<Vec<_>>()[..] {
            ["conv_stem"] => format!("features.0.0.{leaf}"),
            ["bn1"] => format!("features.0.1.{leaf}"),
            ["conv_head"] => format!("classifier.0.{leaf}"),
            ["blocks", stage, block, layer] => {
                let (s, b): (usize, usize) =
                    (stage.parse().expect("a stage"), block.parse().expect("a block"));
                // torchvision numbers all blocks through; the last convolution has no `block` inside.
                let number = 1 + b + self.blocks[..s].iter().map(Vec::len).sum::<usize>();
                match layer {
                    "conv" => format!("features.{number}.0.{leaf}"),
                    "bn1" if s + 1 == self.blocks.len() => format!("features.{number}.1.{leaf}"),
                    _ => {
                        let inner = mbconv::torchvision(self.blocks[s][b].kind(), layer);
                        format!("features.{number}.block.{inner}.{leaf}")
                    }
                }
            }
            _ if key.starts_with("classifier") => key.replacen("classifier", "classifier.3", 1),
            _ => panic!("MobileNetV3 has no `{key}`"),
        }
    }

    fn foreign_shape(&self, _: Dialect, key: &str, shape: &[usize]) -> Vec<usize> {
        if key == "conv_head.weight" { shape[..2].to_vec() } else { shape.to_vec() }
    }
}
