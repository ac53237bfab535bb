//! ResNet: residual blocks with identity shortcuts.
//!
//! He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", CVPR 2016. As in torchvision
//! and timm, which share these names, the stride of a bottleneck sits on its 3×3 ("v1.5").
//!
//! | network    | parameters |
//! |------------|-----------:|
//! | resnet18   | 11 689 512 |
//! | resnet34   | 21 797 672 |
//! | resnet50   | 25 557 032 |
//! | resnet101  | 44 549 160 |
//! | resnet152  | 60 192 808 |
//!
//! `headstart_nano` is a narrow ten-layer member whose weights ship inside the program.

use burn::module::Module;
use burn::tensor::Device;

use super::layers::{Act, BatchNorm, Conv2d, ConvSpec, Map, conv_bn_act, global_avg_pool, max_pool};
use super::spec::{Filter, Group, InputSpec, Place, Row, TimmName, Variant, Weights};
use super::tap::Tap;
use super::{Family, Flow, ModelOptions};

/// Depths of the four stages, block type, and channels of the first stage.
#[derive(Debug)]
pub struct Args {
    depths: [usize; 4],
    bottleneck: bool,
    width: usize,
}

const PAPER: &str = "https://arxiv.org/abs/1512.03385";
const BILINEAR: InputSpec = InputSpec::imagenet(Filter::Bilinear);
const BICUBIC: InputSpec = InputSpec::imagenet(Filter::Bicubic);

const fn row(name: &'static str, num_features: usize, params: usize, weights: &'static [Weights]) -> Row {
    let timm = Some(TimmName { architecture: name, model_args: None });
    Row { name, num_features, params, min_size: 32, input: BILINEAR, paper: PAPER, timm, weights }
}

const VARIANTS: &[Variant<Args>] = &[
    Variant {
        row: row(
            "resnet18",
            512,
            11_689_512,
            &[
                Weights::torchvision("tv_in1k", "resnet18-f37072fd.pth", BILINEAR, 69.758),
                Weights::hub("a1_in1k", "timm/resnet18.a1_in1k", BICUBIC),
            ],
        ),
        args: Args { depths: [2, 2, 2, 2], bottleneck: false, width: 64 },
    },
    Variant {
        row: row(
            "resnet34",
            512,
            21_797_672,
            &[
                Weights::torchvision("tv_in1k", "resnet34-b627a593.pth", BILINEAR, 73.314),
                Weights::hub("a1_in1k", "timm/resnet34.a1_in1k", BICUBIC),
            ],
        ),
        args: Args { depths: [3, 4, 6, 3], bottleneck: false, width: 64 },
    },
    Variant {
        row: row(
            "resnet50",
            2048,
            25_557_032,
            &[
                Weights::torchvision("tv_in1k", "resnet50-0676ba61.pth", BILINEAR, 76.130),
                Weights::torchvision("tv2_in1k", "resnet50-11ad3fa6.pth", BILINEAR.crop(0.965), 80.858),
                Weights::hub("a1_in1k", "timm/resnet50.a1_in1k", BICUBIC.crop(0.95)),
            ],
        ),
        args: Args { depths: [3, 4, 6, 3], bottleneck: true, width: 64 },
    },
    Variant {
        row: row(
            "resnet101",
            2048,
            44_549_160,
            &[Weights::hub("a1_in1k", "timm/resnet101.a1_in1k", BICUBIC.crop(0.95))],
        ),
        args: Args { depths: [3, 4, 23, 3], bottleneck: true, width: 64 },
    },
    Variant {
        row: row(
            "resnet152",
            2048,
            60_192_808,
            &[Weights::hub("a1_in1k", "timm/resnet152.a1_in1k", BICUBIC.crop(0.95))],
        ),
        args: Args { depths: [3, 8, 36, 3], bottleneck: true, width: 64 },
    },
    Variant {
        row: Row {
            name: "headstart_nano",
            num_features: 256,
            params: 1_487_240,
            min_size: 32,
            input: BILINEAR.sized(96),
            paper: PAPER,
            timm: None,
            weights: &[Weights {
                tag: "formula",
                place: Place::Embedded,
                input: BILINEAR.sized(96),
                license: "MIT OR Apache-2.0",
                top1: None,
            }],
        },
        args: Args { depths: [1, 1, 1, 1], bottleneck: false, width: 32 },
    },
];

/// Two 3×3 convolutions, or 1×1, 3×3, 1×1, around a shortcut.
#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    conv3: Option<Conv2d>,
    bn3: Option<BatchNorm>,
    downsample: Option<(Conv2d, BatchNorm)>,
}

impl Block {
    fn new(c_in: usize, width: usize, stride: usize, bottleneck: bool, eps: f64, device: &Device) -> Self {
        let c_out = if bottleneck { width * 4 } else { width };
        let bn = |channels| BatchNorm::new(channels, eps, device);
        let shortcut = stride != 1 || c_in != c_out;
        let (first, second) = if bottleneck {
            (ConvSpec::new(c_in, width, 1), ConvSpec::new(width, width, 3).stride(stride))
        } else {
            (ConvSpec::new(c_in, width, 3).stride(stride), ConvSpec::new(width, width, 3))
        };
        Self {
            conv1: first.init(device),
            bn1: bn(width),
            conv2: second.init(device),
            bn2: bn(width),
            conv3: bottleneck.then(|| ConvSpec::new(width, c_out, 1).init(device)),
            bn3: bottleneck.then(|| bn(c_out)),
            downsample: shortcut
                .then(|| (ConvSpec::new(c_in, c_out, 1).stride(stride).init(device), bn(c_out))),
        }
    }

    fn forward(&self, x: Map) -> Map {
        let shortcut = match &self.downsample {
            Some((conv, bn)) => conv_bn_act(conv, bn, x.clone(), None, Act::None),
            None => x.clone(),
        };
        let y = conv_bn_act(&self.conv1, &self.bn1, x, None, Act::Relu);
        match (&self.conv3, &self.bn3) {
            (Some(conv3), Some(bn3)) => {
                let y = conv_bn_act(&self.conv2, &self.bn2, y, None, Act::Relu);
                conv_bn_act(conv3, bn3, y, Some(shortcut), Act::Relu)
            }
            _ => conv_bn_act(&self.conv2, &self.bn2, y, Some(shortcut), Act::Relu),
        }
    }
}

/// The backbone: stem, four stages, global average pooling.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    layer4: Vec<Block>,
}

impl ResNet {
    fn stem(&self, x: Map, tap: &mut Tap) -> Map {
        let x = tap.at("conv1", conv_bn_act(&self.conv1, &self.bn1, x, None, Act::Relu)); // [N, 64, H/2, W/2]
        max_pool(x, 3, 2, 1) // [N, 64, H/4, W/4]
    }
}

fn stage(blocks: &[Block], name: &str, mut x: Map, tap: &mut Tap) -> Map {
    for (i, block) in blocks.iter().enumerate() {
        x = tap.at(&format!("{name}.{i}"), block.forward(x));
    }
    tap.at(name, x)
}

impl Family for ResNet {
    type Args = Args;
    const VARIANTS: &'static [Variant<Args>] = VARIANTS;
    const CLASSIFIER: &'static str = "fc";

    fn new(variant: &Variant<Args>, options: &ModelOptions, device: &Device) -> Self {
        let Args { depths, bottleneck, width } = variant.args;
        let eps = options.bn_eps.unwrap_or(1e-5);
        let mut channels = width;
        let mut stages = depths.iter().enumerate().map(|(i, &depth)| {
            let (width, stride) = (width << i, if i == 0 { 1 } else { 2 });
            let blocks = (0..depth).map(|j| {
                let block =
                    Block::new(channels, width, if j == 0 { stride } else { 1 }, bottleneck, eps, device);
                channels = if bottleneck { width * 4 } else { width };
                block
            });
            blocks.collect::<Vec<_>>()
        });
        let mut next = || stages.next().expect("four stages");
        Self {
            conv1: ConvSpec::new(3, width, 7).stride(2).init(device),
            bn1: BatchNorm::new(width, eps, device),
            layer1: next(),
            layer2: next(),
            layer3: next(),
            layer4: next(),
        }
    }

    fn groups(&self) -> Vec<Group> {
        let stage = |name| Group::new(name, &[name]);
        let stem = Group::new("stem", &["conv1", "bn1"]);
        vec![stem, stage("layer1"), stage("layer2"), stage("layer3"), stage("layer4")]
    }

    fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
        let x = x.map();
        match index {
            0 => Flow::Map(self.stem(x, tap)),
            1 => Flow::Map(stage(&self.layer1, "layer1", x, tap)), // [N, 64e, H/4, W/4]
            2 => Flow::Map(stage(&self.layer2, "layer2", x, tap)), // [N, 128e, H/8, W/8]
            3 => Flow::Map(stage(&self.layer3, "layer3", x, tap)), // [N, 256e, H/16, W/16]
            4 => Flow::Flat(global_avg_pool(stage(&self.layer4, "layer4", x, tap))), // [N, 512e]
            _ => panic!("ResNet has five groups, not {index}"),
        }
    }
}
