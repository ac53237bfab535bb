//! MobileNetV2: inverted residuals, depthwise convolutions between narrow ends.
//!
//! Sandler, Howard, Zhu, Zhmoginov & Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
//! CVPR 2018. 3 504 872 parameters. The names are timm's; torchvision's files are understood too.
//! `tf_mobilenetv2_100` is the same network as TensorFlow and Keras build it: `SAME` padding, a
//! BatchNorm epsilon of 1e-3, and pictures scaled to ±1. Neither library drops out before the head here:
//! that is the head's choice.

use burn::module::Module;
use burn::tensor::Device;

use super::layers::{
    Act, BatchNorm, Conv2d, ConvSpec, DropPath, Map, Padding, conv_bn_act, conv_bn_join, global_avg_pool,
};
use super::spec::{Filter, Group, InputSpec, Row, TimmName, Variant, Weights};
use super::tap::Tap;
use super::{Dialect, Family, Flow, ModelOptions, PadType};

/// How the variant pads, and the BatchNorm epsilon.
#[derive(Debug)]
pub struct Args {
    pad_type: PadType,
    bn_eps: f64,
}

const BICUBIC: InputSpec = InputSpec::imagenet(Filter::Bicubic);
const BILINEAR: InputSpec = InputSpec::imagenet(Filter::Bilinear);

const ROW: Row = Row {
    name: "mobilenetv2_100",
    num_features: 1280,
    params: 3_504_872,
    min_size: 32,
    input: BICUBIC,
    paper: "https://arxiv.org/abs/1801.04381",
    timm: Some(TimmName { architecture: "mobilenetv2_100", model_args: None }),
    weights: &[
        Weights::hub("ra_in1k", "timm/mobilenetv2_100.ra_in1k", BICUBIC),
        Weights::torchvision("tv_in1k", "mobilenet_v2-b0353104.pth", BILINEAR, 71.878),
        Weights::torchvision("tv2_in1k", "mobilenet_v2-7ebf99e0.pth", BILINEAR.crop(0.965), 72.154),
    ],
};

const TF_TIMM: TimmName = TimmName {
    architecture: "mobilenetv2_100",
    model_args: Some(r#"{"pad_type": "same", "bn_eps": 0.001}"#),
};

const VARIANTS: &[Variant<Args>] = &[
    Variant { row: ROW, args: Args { pad_type: PadType::Torch, bn_eps: 1e-5 } },
    Variant {
        row: Row {
            name: "tf_mobilenetv2_100",
            input: BICUBIC.half(),
            timm: Some(TF_TIMM),
            weights: &[],
            ..ROW
        },
        args: Args { pad_type: PadType::Same, bn_eps: 1e-3 },
    },
];

/// Expansion, channels, depth and stride of the seven stages: table 2 of the paper.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

/// Expand 1×1, filter depthwise 3×3, project 1×1; the first block of all does not expand.
#[derive(Module, Debug)]
struct Block {
    conv_pw: Conv2d,
    bn1: BatchNorm,
    conv_dw: Conv2d,
    bn2: BatchNorm,
    conv_pwl: Option<Conv2d>,
    bn3: Option<BatchNorm>,
    #[module(skip)]
    drop: DropPath,
}

impl Block {
    fn forward(&self, x: Map) -> Map {
        let (Some(conv_pwl), Some(bn3)) = (&self.conv_pwl, &self.bn3) else {
            // Without expansion, timm's names change their order: `conv_dw, bn1, conv_pw, bn2`.
            let y = conv_bn_act(&self.conv_dw, &self.bn1, x, None, Act::Relu6);
            return conv_bn_act(&self.conv_pw, &self.bn2, y, None, Act::None);
        };
        let same = self.conv_dw.spec().stride == 1 && self.conv_pw.spec().c_in == conv_pwl.spec().c_out;
        let (x, shortcut) = if same {
            let [x, shortcut] = x.fork();
            (x, Some(shortcut))
        } else {
            (x, None)
        };
        let y = conv_bn_act(&self.conv_pw, &self.bn1, x, None, Act::Relu6);
        let y = conv_bn_act(&self.conv_dw, &self.bn2, y, None, Act::Relu6);
        match shortcut {
            Some(shortcut) => conv_bn_join(conv_pwl, bn3, y, shortcut, Act::None, self.drop),
            None => conv_bn_act(conv_pwl, bn3, y, None, Act::None),
        }
    }
}

/// The backbone: stem, seven stages, a last 1×1, global average pooling.
#[derive(Module, Debug)]
pub struct MobileNetV2 {
    conv_stem: Conv2d,
    bn1: BatchNorm,
    blocks: Vec<Vec<Block>>,
    conv_head: Conv2d,
    bn2: BatchNorm,
}

impl Family for MobileNetV2 {
    type Args = Args;
    const VARIANTS: &'static [Variant<Args>] = VARIANTS;
    const CLASSIFIER: &'static str = "classifier";
    const DIALECTS: &'static [Dialect] = &[Dialect::Torchvision];

    fn new(variant: &Variant<Args>, options: &ModelOptions, device: &Device) -> Self {
        let eps = options.bn_eps.unwrap_or(variant.args.bn_eps);
        let padding = match options.pad_type.unwrap_or(variant.args.pad_type) {
            PadType::Torch => Padding::Even(1),
            PadType::Same => Padding::Same,
        };
        let bn = |channels| BatchNorm::new(channels, eps, device);
        let one = |c_in, c_out| ConvSpec::new(c_in, c_out, 1).init(device);
        let block = |c_in: usize, expansion: usize, c_out: usize, stride: usize| {
            let wide = c_in * expansion;
            let depthwise =
                ConvSpec::new(wide, wide, 3).stride(stride).padding(padding).groups(wide).init(device);
            let expands = expansion > 1;
            Block {
                conv_pw: if expands { one(c_in, wide) } else { one(c_in, c_out) },
                bn1: bn(wide),
                conv_dw: depthwise,
                bn2: bn(if expands { wide } else { c_out }),
                conv_pwl: expands.then(|| one(wide, c_out)),
                bn3: expands.then(|| bn(c_out)),
                drop: DropPath::default(),
            }
        };
        let mut channels = 32;
        let mut blocks = Vec::new();
        for (expansion, width, depth, stride) in STAGES {
            let stage = (0..depth).map(|i| {
                let block = block(channels, expansion, width, if i == 0 { stride } else { 1 });
                channels = width;
                block
            });
            blocks.push(stage.collect());
        }
        Self {
            conv_stem: ConvSpec::new(options.in_chans, 32, 3).stride(2).padding(padding).init(device),
            bn1: bn(32),
            blocks,
            conv_head: one(320, 1280),
            bn2: bn(1280),
        }
    }

    fn groups(&self) -> Vec<Group> {
        let mut groups = vec![Group::new("stem", &["conv_stem", "bn1"])];
        groups
            .extend((0..STAGES.len()).map(|i| format!("blocks.{i}")).map(|name| Group::new(&name, &[&name])));
        groups.push(Group::new("conv_head", &["conv_head", "bn2"]));
        groups
    }

    fn trains_half(&self) -> bool {
        true
    }

    fn drop_paths(&mut self) -> Vec<&mut DropPath> {
        self.blocks.iter_mut().flatten().map(|block| &mut block.drop).collect()
    }

    fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
        let mut x = x.map();
        if index == 0 {
            let x = conv_bn_act(&self.conv_stem, &self.bn1, x, None, Act::Relu6); // [N, 32, H/2, W/2]
            return Flow::Map(tap.at("conv_stem", x));
        }
        let Some(stage) = self.blocks.get(index - 1) else {
            let x = conv_bn_act(&self.conv_head, &self.bn2, x, None, Act::Relu6); // [N, 1280, H/32, W/32]
            return Flow::Flat(global_avg_pool(tap.at("conv_head", x)));
        };
        let name = format!("blocks.{}", index - 1);
        for (i, block) in stage.iter().enumerate() {
            x = tap.at(&format!("{name}.{i}"), block.forward(x));
        }
        Flow::Map(tap.at(&name, x))
    }

    fn foreign(&self, dialect: Dialect, key: &str) -> String {
        if dialect == Dialect::Torchvision { torchvision(key) } else { key.to_string() }
    }
}

/// Turns timm's name into torchvision's, which numbers all blocks through.
fn torchvision(key: &str) -> String {
    let (layer, leaf) = match key.rsplit_once('.') {
        Some((layer, leaf @ ("weight" | "bias" | "running_mean" | "running_var"))) => {
            (layer, format!(".{leaf}"))
        }
        _ => (key, String::new()),
    };
    let parts: Vec<&str> = layer.split('.').collect();
    let theirs = match parts[..] {
        ["conv_stem"] => "features.0.0".to_string(),
        ["bn1"] => "features.0.1".to_string(),
        ["conv_head"] => "features.18.0".to_string(),
        ["bn2"] => "features.18.1".to_string(),
        ["blocks", stage, block, name] => {
            let (stage, block): (usize, usize) =
                (stage.parse().expect("a stage"), block.parse().expect("a block"));
            let number = 1 + block + STAGES[..stage].iter().map(|s| s.2).sum::<usize>();
            let inner = match (stage, name) {
                (0, "conv_dw") | (1.., "conv_pw") => "0.0",
                (_, "bn1") => "0.1",
                (0, "conv_pw") => "1",
                (1.., "conv_dw") => "1.0",
                (0, "bn2") | (_, "conv_pwl") => "2",
                (_, "bn2") => "1.1",
                (_, "bn3") => "3",
                _ => panic!("a block has no `{name}`"),
            };
            // The narrow end is numbered plainly, the activated layers in pairs.
            format!("features.{number}.conv.{inner}")
        }
        ["classifier", ..] => layer.replacen("classifier", "classifier.1", 1),
        _ => panic!("MobileNetV2 has no `{key}`"),
    };
    theirs + &leaf
}
