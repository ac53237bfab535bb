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
//! Its relatives change one thing each: ResNeXt (Xie et al. 2017) and wide ResNets (Zagoruyko & Komodakis 2016)
//! the groups and the width of the 3×3, SE-ResNets (Hu, Shen & Sun 2018) weigh the channels of each branch.
//! `headstart_nano` is a narrow ten-layer member whose weights ship inside the program.

mod rows;

use burn::module::Module;
use burn::tensor::Device;

use super::layers::{
    Act, BatchNorm, Conv2d, ConvSpec, DropPath, Map, conv_bn_act, conv_bn_join, global_avg_pool, max_pool,
    squeeze_excite,
};
use super::spec::{Group, Variant};
use super::tap::Tap;
use super::{Family, Flow, ModelOptions};

/// Depths of the four stages, block type, channels of the first stage, and what the relatives change.
#[derive(Clone, Copy, Debug)]
pub struct Args {
    depths: [usize; 4],
    bottleneck: bool,
    width: usize,
    /// Groups of a bottleneck's 3×3, and its channels for 64 of the stage.
    groups: usize,
    base: usize,
    /// Squeeze-and-excitation at the end of each branch.
    se: bool,
}

impl Args {
    pub(super) const fn basic(depths: [usize; 4]) -> Self {
        Self { depths, bottleneck: false, width: 64, groups: 1, base: 64, se: false }
    }

    pub(super) const fn bottleneck(depths: [usize; 4]) -> Self {
        Self { bottleneck: true, ..Self::basic(depths) }
    }

    /// 3×3 convolutions in groups, with other channels for 64 of the stage.
    pub(super) const fn groups(self, groups: usize, base: usize) -> Self {
        Self { groups, base, ..self }
    }

    pub(super) const fn se(self) -> Self {
        Self { se: true, ..self }
    }

    pub(super) const fn width(self, width: usize) -> Self {
        Self { width, ..self }
    }

    /// Channels inside a bottleneck of a stage.
    fn inner(&self, stage: usize) -> usize {
        if self.bottleneck { stage * self.base / 64 * self.groups } else { stage }
    }
}

/// Two 3×3 convolutions, or 1×1, 3×3, 1×1, around a shortcut.
#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    conv3: Option<Conv2d>,
    bn3: Option<BatchNorm>,
    se: Option<Se>,
    downsample: Option<(Conv2d, BatchNorm)>,
    #[module(skip)]
    drop: DropPath,
}

/// The two layers of squeeze-and-excitation: to a sixteenth of the channels and back.
#[derive(Module, Debug)]
struct Se {
    fc1: Conv2d,
    fc2: Conv2d,
}

impl Se {
    fn new(channels: usize, device: &Device) -> Self {
        let fewer = (channels / 16 + 4).max(8) / 8 * 8;
        let layer = |c_in, c_out| ConvSpec::new(c_in, c_out, 1).with_bias().init(device);
        Self { fc1: layer(channels, fewer), fc2: layer(fewer, channels) }
    }

    fn forward(&self, x: Map) -> Map {
        squeeze_excite(x, &self.fc1, &self.fc2, Act::Relu, Act::Sigmoid)
    }
}

impl Block {
    fn new(args: &Args, c_in: usize, width: usize, stride: usize, eps: f64, device: &Device) -> Self {
        let (bottleneck, inner) = (args.bottleneck, args.inner(width));
        let c_out = if bottleneck { width * 4 } else { width };
        let bn = |channels| BatchNorm::new(channels, eps, device);
        let shortcut = stride != 1 || c_in != c_out;
        let (first, second) = if bottleneck {
            let middle = ConvSpec::new(inner, inner, 3).stride(stride).groups(args.groups);
            (ConvSpec::new(c_in, inner, 1), middle)
        } else {
            (ConvSpec::new(c_in, inner, 3).stride(stride), ConvSpec::new(inner, inner, 3))
        };
        Self {
            conv1: first.init(device),
            bn1: bn(inner),
            conv2: second.init(device),
            bn2: bn(inner),
            conv3: bottleneck.then(|| ConvSpec::new(inner, c_out, 1).init(device)),
            bn3: bottleneck.then(|| bn(c_out)),
            se: args.se.then(|| Se::new(c_out, device)),
            downsample: shortcut
                .then(|| (ConvSpec::new(c_in, c_out, 1).stride(stride).init(device), bn(c_out))),
            drop: DropPath::default(),
        }
    }

    fn forward(&self, x: Map) -> Map {
        let [x, shortcut] = x.fork();
        let shortcut = match &self.downsample {
            Some((conv, bn)) => conv_bn_act(conv, bn, shortcut, None, Act::None),
            None => shortcut,
        };
        let y = conv_bn_act(&self.conv1, &self.bn1, x, None, Act::Relu);
        let (y, conv, bn) = match (&self.conv3, &self.bn3) {
            (Some(conv3), Some(bn3)) => (conv_bn_act(&self.conv2, &self.bn2, y, None, Act::Relu), conv3, bn3),
            _ => (y, &self.conv2, &self.bn2),
        };
        match &self.se {
            None => conv_bn_join(conv, bn, y, shortcut, Act::Relu, self.drop),
            Some(se) => {
                let y = se.forward(conv_bn_act(conv, bn, y, None, Act::None));
                Act::Relu.map(self.drop.join(y, shortcut))
            }
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
    const VARIANTS: &'static [Variant<Args>] = rows::VARIANTS;
    const CLASSIFIER: &'static str = "fc";

    fn new(variant: &Variant<Args>, options: &ModelOptions, device: &Device) -> Self {
        let args = &variant.args;
        let Args { depths, bottleneck, width, .. } = *args;
        let eps = options.bn_eps.unwrap_or(1e-5);
        let mut channels = width;
        let mut stages = depths.iter().enumerate().map(|(i, &depth)| {
            let (width, stride) = (width << i, if i == 0 { 1 } else { 2 });
            let blocks = (0..depth).map(|j| {
                let block = Block::new(args, channels, width, if j == 0 { stride } else { 1 }, eps, device);
                channels = if bottleneck { width * 4 } else { width };
                block
            });
            blocks.collect::<Vec<_>>()
        });
        let mut next = || stages.next().expect("four stages");
        Self {
            conv1: ConvSpec::new(options.in_chans, width, 7).stride(2).init(device),
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

    fn trains_half(&self) -> bool {
        self.layer1.iter().all(|block| block.se.is_none())
    }

    fn drop_paths(&mut self) -> Vec<&mut DropPath> {
        let stages = [&mut self.layer1, &mut self.layer2, &mut self.layer3, &mut self.layer4];
        stages.into_iter().flatten().map(|block| &mut block.drop).collect()
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
