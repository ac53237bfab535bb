//! DenseNet: every layer sees the channels of all before it.
//!
//! Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, in the names of torchvision and timm; the files that
//! torchvision publishes have older ones. Norm and activation stand before the convolutions.
//!
//! | network     | parameters |
//! |-------------|-----------:|
//! | densenet121 |  7 978 856 |
//! | densenet161 | 28 681 000 |
//! | densenet169 | 14 149 480 |
//! | densenet201 | 20 013 928 |

use burn::module::Module;
use burn::tensor::Device;

use super::layers::{Act, BatchNorm, Conv2d, ConvSpec, Map, conv_bn_act, global_avg_pool, halve, max_pool};
use super::spec::{Filter, Group, InputSpec, Row, TimmName, Variant, Weights};
use super::tap::Tap;
use super::{Dialect, Family, Flow, ModelOptions};

/// Channels each layer adds, and layers in each block.
#[derive(Debug)]
pub struct Args {
    growth: usize,
    layers: [usize; 4],
}

/// Channels inside a layer for each that it adds.
const BOTTLENECK: usize = 4;
const BILINEAR: InputSpec = InputSpec::imagenet(Filter::Bilinear);
const BICUBIC: InputSpec = InputSpec::imagenet(Filter::Bicubic);

const fn row(
    name: &'static str,
    (growth, layers): (usize, [usize; 4]),
    num_features: usize,
    params: usize,
    weights: &'static [Weights],
) -> Variant<Args> {
    let timm = Some(TimmName { architecture: name, model_args: None });
    let paper = "https://arxiv.org/abs/1608.06993";
    let row = Row { name, num_features, params, min_size: 32, input: BILINEAR, paper, timm, weights };
    Variant { row, args: Args { growth, layers } }
}

const fn tv(file: &'static str, top1: f32) -> Weights {
    Weights::torchvision("tv_in1k", file, BILINEAR, top1)
}

const VARIANTS: &[Variant<Args>] = &[
    row(
        "densenet121",
        (32, [6, 12, 24, 16]),
        1024,
        7_978_856,
        &[
            tv("densenet121-a639ec97.pth", 74.434),
            Weights::hub("ra_in1k", "timm/densenet121.ra_in1k", BICUBIC),
        ],
    ),
    row("densenet161", (48, [6, 12, 36, 24]), 2208, 28_681_000, &[tv("densenet161-8d451a50.pth", 77.138)]),
    row("densenet169", (32, [6, 12, 32, 32]), 1664, 14_149_480, &[tv("densenet169-b2777c0a.pth", 75.6)]),
    row("densenet201", (32, [6, 12, 48, 32]), 1920, 20_013_928, &[tv("densenet201-c1103571.pth", 76.896)]),
];

/// 1×1 to a few channels, 3×3 to those it adds.
#[derive(Module, Debug)]
struct Layer {
    norm1: BatchNorm,
    conv1: Conv2d,
    norm2: BatchNorm,
    conv2: Conv2d,
}

impl Layer {
    fn new(channels: usize, growth: usize, eps: f64, device: &Device) -> Self {
        let inner = BOTTLENECK * growth;
        Self {
            norm1: BatchNorm::new(channels, eps, device),
            conv1: ConvSpec::new(channels, inner, 1).init(device),
            norm2: BatchNorm::new(inner, eps, device),
            conv2: ConvSpec::new(inner, growth, 3).init(device),
        }
    }

    fn forward(&self, x: Map) -> Map {
        let y = self.norm1.forward(x.clone(), None, Act::Relu);
        let y = conv_bn_act(&self.conv1, &self.norm2, y, None, Act::Relu);
        x.beside(self.conv2.forward(y, Act::None))
    }
}

/// Halves channels and size.
#[derive(Module, Debug)]
struct Transition {
    norm: BatchNorm,
    conv: Conv2d,
}

impl Transition {
    fn forward(&self, x: Map) -> Map {
        halve(self.conv.forward(self.norm.forward(x, None, Act::Relu), Act::None))
    }
}

#[derive(Module, Debug)]
struct Features {
    conv0: Conv2d,
    norm0: BatchNorm,
    blocks: Vec<Vec<Layer>>,
    transitions: Vec<Transition>,
    norm5: BatchNorm,
}

/// The backbone: stem, four blocks with three transitions between them, a last norm, global average pooling.
#[derive(Module, Debug)]
pub struct DenseNet {
    features: Features,
}

impl Family for DenseNet {
    type Args = Args;
    const VARIANTS: &'static [Variant<Args>] = VARIANTS;
    const CLASSIFIER: &'static str = "classifier";
    const DIALECTS: &'static [Dialect] = &[Dialect::TorchvisionOld];

    fn new(variant: &Variant<Args>, options: &ModelOptions, device: &Device) -> Self {
        let Args { growth, layers } = variant.args;
        let eps = options.bn_eps.unwrap_or(1e-5);
        let stem = 2 * growth;
        let (mut channels, mut blocks, mut transitions) = (stem, Vec::new(), Vec::new());
        for (i, depth) in layers.into_iter().enumerate() {
            if i > 0 {
                transitions.push(Transition {
                    norm: BatchNorm::new(channels, eps, device),
                    conv: ConvSpec::new(channels, channels / 2, 1).init(device),
                });
                channels /= 2;
            }
            let layer = |j| Layer::new(channels + j * growth, growth, eps, device);
            blocks.push((0..depth).map(layer).collect());
            channels += depth * growth;
        }
        let features = Features {
            conv0: ConvSpec::new(options.in_chans, stem, 7).stride(2).init(device),
            norm0: BatchNorm::new(stem, eps, device),
            blocks,
            transitions,
            norm5: BatchNorm::new(channels, eps, device),
        };
        Self { features }
    }

    fn groups(&self) -> Vec<Group> {
        let mut groups = vec![
            Group::new("stem", &["features.conv0", "features.norm0"]),
            Group::new("denseblock1", &["features.denseblock1"]),
        ];
        for i in 2..=4 {
            let (block, before) = (format!("denseblock{i}"), format!("features.transition{}", i - 1));
            groups.push(Group::new(&block, &[&before, &format!("features.{block}")]));
        }
        groups[4].prefixes.push("features.norm5".into());
        groups
    }

    fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
        let (mut x, net) = (x.map(), &self.features);
        let Some(index) = index.checked_sub(1) else {
            let x = conv_bn_act(&net.conv0, &net.norm0, x, None, Act::Relu);
            return Flow::Map(max_pool(tap.at("conv0", x), 3, 2, 1)); // [N, 2k, H/4, W/4]
        };
        if let Some(before) = index.checked_sub(1) {
            x = net.transitions[before].forward(x);
        }
        let name = format!("denseblock{}", index + 1);
        for (i, layer) in net.blocks[index].iter().enumerate() {
            x = tap.at(&format!("{name}.{i}"), layer.forward(x));
        }
        if index < 3 {
            return Flow::Map(tap.at(&name, x));
        }
        Flow::Flat(global_avg_pool(tap.at(&name, net.norm5.forward(x, None, Act::Relu))))
    }

    fn key(&self, path: &str) -> String {
        let number = |text: &str| text.parse::<usize>().expect("a number of a list") + 1;
        match path.split('.').collect::<Vec<_>>()[..] {
            ["features", "blocks", block, layer, ref rest @ ..] => {
                let (block, layer, rest) = (number(block), number(layer), rest.join("."));
                format!("features.denseblock{block}.denselayer{layer}.{rest}")
            }
            ["features", "transitions", transition, ref rest @ ..] => {
                format!("features.transition{}.{}", number(transition), rest.join("."))
            }
            _ => path.to_string(),
        }
    }

    fn foreign(&self, _: Dialect, key: &str) -> String {
        if !key.contains(".denselayer") {
            return key.to_string();
        }
        let digits =
            [("norm1.", "norm.1."), ("norm2.", "norm.2."), ("conv1.", "conv.1."), ("conv2.", "conv.2.")];
        digits.iter().fold(key.to_string(), |key, (new, old)| key.replace(new, old))
    }
}
