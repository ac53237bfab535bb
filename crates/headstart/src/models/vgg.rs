//! VGG: plain stacks of 3×3 convolutions, with or without BatchNorm.
//!
//! Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR
//! 2015. Weights and names are torchvision's (BSD). The first two linear layers belong to the
//! backbone; their dropout is live where the group `pre_logits` trains.
//!
//! | network  |  parameters | with BatchNorm |
//! |----------|------------:|---------------:|
//! | vgg11    | 132 863 336 |    132 868 840 |
//! | vgg13    | 133 047 848 |    133 053 736 |
//! | vgg16    | 138 357 544 |    138 365 992 |
//! | vgg19    | 143 667 240 |    143 678 248 |
//!
//! timm names the linear layers otherwise and stores the first as a 7×7 and the second as a 1×1
//! convolution: the same numbers in the same order. At other sizes than 224 it slides that 7×7 over
//! the map, where torchvision, and we, first average the map to 7×7.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::Device;

use super::layers::{
    Act, BatchNorm, Conv2d, ConvSpec, Linear, Linears, Map, adaptive_avg_pool, conv_bn_act, max_pool,
};
use super::spec::{Filter, Group, InputSpec, Row, TimmName, Variant, Weights};
use super::tap::Tap;
use super::{Dialect, Family, Flow, ModelOptions};

/// Depths of the five blocks, and whether BatchNorm follows each convolution.
#[derive(Debug)]
pub struct Args {
    depths: [usize; 5],
    norm: bool,
}

const BILINEAR: InputSpec = InputSpec::imagenet(Filter::Bilinear);
const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

const VGG11: [usize; 5] = [1, 1, 2, 2, 2];
const VGG13: [usize; 5] = [2, 2, 2, 2, 2];
const VGG16: [usize; 5] = [2, 2, 3, 3, 3];
const VGG19: [usize; 5] = [2, 2, 4, 4, 4];

const fn variant(
    name: &'static str,
    depths: [usize; 5],
    norm: bool,
    params: usize,
    weights: &'static [Weights],
) -> Variant<Args> {
    let row = Row {
        name,
        num_features: 4096,
        params,
        min_size: 32,
        input: BILINEAR,
        paper: "https://arxiv.org/abs/1409.1556",
        timm: Some(TimmName { architecture: name, model_args: None }),
        weights,
    };
    Variant { row, args: Args { depths, norm } }
}

const fn tv(file: &'static str, top1: f32) -> Weights {
    Weights::torchvision("tv_in1k", file, BILINEAR, top1)
}

const VARIANTS: &[Variant<Args>] = &[
    variant("vgg11", VGG11, false, 132_863_336, &[tv("vgg11-8a719046.pth", 69.02)]),
    variant("vgg13", VGG13, false, 133_047_848, &[tv("vgg13-19584684.pth", 69.928)]),
    variant("vgg16", VGG16, false, 138_357_544, &[tv("vgg16-397923af.pth", 71.592)]),
    variant("vgg19", VGG19, false, 143_667_240, &[tv("vgg19-dcbb9e9d.pth", 72.376)]),
    variant("vgg11_bn", VGG11, true, 132_868_840, &[tv("vgg11_bn-6002323d.pth", 70.37)]),
    variant("vgg13_bn", VGG13, true, 133_053_736, &[tv("vgg13_bn-abd245e5.pth", 71.586)]),
    variant("vgg16_bn", VGG16, true, 138_365_992, &[tv("vgg16_bn-6c64b313.pth", 73.36)]),
    variant("vgg19_bn", VGG19, true, 143_678_248, &[tv("vgg19_bn-c79401a0.pth", 74.218)]),
];

/// A convolution, perhaps with BatchNorm, and its ReLU.
#[derive(Module, Debug)]
struct Unit {
    conv: Conv2d,
    bn: Option<BatchNorm>,
}

impl Unit {
    fn forward(&self, x: Map) -> Map {
        match &self.bn {
            Some(bn) => conv_bn_act(&self.conv, bn, x, None, Act::Relu),
            None => self.conv.forward(x, Act::Relu),
        }
    }
}

/// The backbone: five blocks, 7×7 pooling, two linear layers.
#[derive(Module, Debug)]
pub struct Vgg {
    blocks: Vec<Vec<Unit>>,
    fc1: Linear,
    fc2: Linear,
    dropout: Dropout,
}

impl Vgg {
    /// Returns where torchvision's `features` has a convolution; its BatchNorm is the next.
    fn index(&self, block: usize, unit: usize) -> usize {
        // Each unit takes two places, or three with BatchNorm, and each pooling one.
        let step = if self.blocks[0][0].bn.is_some() { 3 } else { 2 };
        self.blocks[..block].iter().map(|units| units.len() * step + 1).sum::<usize>() + unit * step
    }
}

impl Family for Vgg {
    type Args = Args;
    const VARIANTS: &'static [Variant<Args>] = VARIANTS;
    const CLASSIFIER: &'static str = "classifier.6";
    const DIALECTS: &'static [Dialect] = &[Dialect::Timm];

    fn new(variant: &Variant<Args>, options: &ModelOptions, device: &Device) -> Self {
        let Args { depths, norm } = variant.args;
        let eps = options.bn_eps.unwrap_or(1e-5);
        let mut channels = options.in_chans;
        let mut blocks = Vec::new();
        for (depth, width) in depths.into_iter().zip(CHANNELS) {
            let units = (0..depth).map(|_| {
                let conv = ConvSpec::new(channels, width, 3).with_bias().init(device);
                channels = width;
                Unit { conv, bn: norm.then(|| BatchNorm::new(width, eps, device)) }
            });
            blocks.push(units.collect());
        }
        Self {
            blocks,
            fc1: Linear::new(512 * 7 * 7, 4096, device),
            fc2: Linear::new(4096, 4096, device),
            dropout: DropoutConfig::new(0.5).init(),
        }
    }

    fn linears(&mut self) -> Linears<'_> {
        vec![("fc1".into(), &mut self.fc1), ("fc2".into(), &mut self.fc2)]
    }

    fn groups(&self) -> Vec<Group> {
        let mut groups = Vec::new();
        for (b, units) in self.blocks.iter().enumerate() {
            let at = units.iter().enumerate().flat_map(|(u, unit)| {
                let first = self.index(b, u);
                first..=first + usize::from(unit.bn.is_some())
            });
            let prefixes = at.map(|i| format!("features.{i}")).collect();
            groups.push(Group { name: format!("block{}", b + 1), prefixes });
        }
        groups.push(Group::new("pre_logits", &["classifier.0", "classifier.3"]));
        groups
    }

    fn trains_half(&self) -> bool {
        true
    }

    fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
        let mut x = x.map();
        if let Some(units) = self.blocks.get(index) {
            for unit in units {
                x = unit.forward(x);
            }
            // Tapped before the pooling: the finer map shows more.
            return Flow::Map(max_pool(tap.at(&format!("block{}", index + 1), x), 2, 2, 0));
        }
        let x = adaptive_avg_pool(x, [7, 7]).flatten(); // [N, 25088]
        let x = self.dropout.forward(self.fc1.forward(x, Act::Relu));
        Flow::Flat(self.dropout.forward(self.fc2.forward(x, Act::Relu))) // [N, 4096]
    }

    fn key(&self, path: &str) -> String {
        let parts: Vec<&str> = path.split('.').collect();
        let number = |text: &str| text.parse::<usize>().expect("an index");
        match parts[..] {
            ["blocks", b, u, "conv", leaf] => format!("features.{}.{leaf}", self.index(number(b), number(u))),
            ["blocks", b, u, "bn", leaf] => {
                format!("features.{}.{leaf}", self.index(number(b), number(u)) + 1)
            }
            ["fc1", leaf] => format!("classifier.0.{leaf}"),
            ["fc2", leaf] => format!("classifier.3.{leaf}"),
            ["dropout", leaf] => format!("pre_logits.{leaf}"),
            _ => panic!("VGG has no `{path}`"),
        }
    }

    fn foreign_shape(&self, dialect: Dialect, key: &str, shape: &[usize]) -> Vec<usize> {
        // timm's first two linear layers are convolutions over the pooled 7×7 map, numbers in the same order.
        match (dialect, key) {
            (Dialect::Timm, "classifier.0.weight") => vec![shape[0], 512, 7, 7],
            (Dialect::Timm, "classifier.3.weight") => vec![shape[0], shape[1], 1, 1],
            _ => shape.to_vec(),
        }
    }

    fn foreign(&self, dialect: Dialect, key: &str) -> String {
        if dialect != Dialect::Timm {
            return key.to_string();
        }
        let table = [
            ("classifier.0", "pre_logits.fc1"),
            ("classifier.3", "pre_logits.fc2"),
            ("classifier.6", "head.fc"),
        ];
        let renamed =
            table.iter().find_map(|(ours, theirs)| Some(format!("{theirs}{}", key.strip_prefix(ours)?)));
        renamed.unwrap_or_else(|| key.to_string())
    }
}
