//! The blocks of mobile networks: what MobileNetV3, EfficientNet and EfficientNetV2 are built of.
//!
//! A stage is written as timm writes it: `ir_r2_k3_s2_e6_c24_se0.25` is two inverted residuals with a 3×3
//! kernel, stride 2, six times the channels inside, 24 outside, and squeeze-and-excitation. The kinds:
//!
//! | kind | layers |
//! |---|---|
//! | `ds` | depthwise, 1×1: MobileNet |
//! | `ir` | 1×1 to more channels, depthwise, 1×1 back: MobileNetV2 |
//! | `er` | dense convolution to more channels, 1×1 back: EfficientNet-EdgeTPU |
//! | `cn` | one convolution |
//!
//! `nre` stands for ReLU in the place of the network's activation, `skip` for a shortcut around a `cn`.

use burn::module::Module;
use burn::tensor::Device;

use super::layers::{
    Act, BatchNorm, Conv2d, ConvSpec, DropPath, Map, Padding, conv_bn_act, conv_bn_join, squeeze_excite,
};
use super::spec::Group;
use super::tap::Tap;

/// What the blocks of one network share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub act: Act,
    /// TensorFlow's padding instead of PyTorch's.
    pub same: bool,
    pub bn_eps: f64,
    /// Factors on channels and depths; the second factor on depths is that of the last two stages.
    pub width: f64,
    pub depth: [f64; 2],
    /// Rounding may take this part of the channels at most.
    pub round_limit: f64,
    /// Squeeze-and-excitation as in MobileNetV3: a share of the inner channels, rounded to eights, with ReLU and
    /// a hard sigmoid; else a share of the block's input, with the network's activation and a sigmoid.
    pub hard_gate: bool,
}

impl Style {
    /// Scales and rounds a number of channels.
    pub fn round(&self, channels: usize) -> usize {
        eights(channels as f64 * self.width, self.round_limit)
    }

    pub fn padding(&self, kernel: usize) -> Padding {
        if self.same { Padding::Same } else { Padding::Even(kernel / 2) }
    }

    pub fn bn(&self, channels: usize, device: &Device) -> BatchNorm {
        BatchNorm::new(channels, self.bn_eps, device)
    }
}

/// Rounds to a multiple of eight, up where that would take more than `1 - limit` of it.
fn eights(channels: f64, limit: f64) -> usize {
    let rounded = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < limit * channels { rounded + 8 } else { rounded }
}

/// The kind of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Separable,
    Inverted,
    Edge,
    Plain,
}

/// Squeeze-and-excitation.
#[derive(Module, Debug)]
struct Se {
    conv_reduce: Conv2d,
    conv_expand: Conv2d,
}

/// One block of any kind; each has its own subset of the layers.
#[derive(Module, Debug)]
pub(super) struct Block {
    conv: Option<Conv2d>,
    conv_exp: Option<Conv2d>,
    /// Before the depthwise convolution, or after it in a `ds`.
    conv_pw: Option<Conv2d>,
    bn1: BatchNorm,
    conv_dw: Option<Conv2d>,
    bn2: Option<BatchNorm>,
    se: Option<Se>,
    conv_pwl: Option<Conv2d>,
    bn3: Option<BatchNorm>,
    #[module(skip)]
    kind: Kind,
    #[module(skip)]
    act: Act,
    #[module(skip)]
    hard_gate: bool,
    #[module(skip)]
    shortcut: bool,
    #[module(skip)]
    drop: DropPath,
}

/// Builds the blocks of all stages for pictures of `channels` channels.
pub(super) fn stages(
    spec: &[&[&str]],
    style: &Style,
    mut channels: usize,
    device: &Device,
) -> Vec<Vec<Block>> {
    let mut stages = Vec::new();
    for (i, parts) in spec.iter().enumerate() {
        let depth = style.depth[usize::from(i + 2 >= spec.len())];
        let mut blocks = Vec::new();
        for part in *parts {
            let part = Part::parse(part);
            for repeat in 0..(part.repeats as f64 * depth).ceil() as usize {
                let stride = if repeat == 0 { part.stride } else { 1 };
                let block = Block::new(&part, style, channels, stride, device);
                channels = style.round(part.channels);
                blocks.push(block);
            }
        }
        stages.push(blocks);
    }
    stages
}

/// The groups of a network of `stages` stages: stem, each stage, and the last convolution with what `head` names.
pub(super) fn groups(stages: usize, head: &[&str]) -> Vec<Group> {
    let mut groups = vec![Group::new("stem", &["conv_stem", "bn1"])];
    let names = (0..stages).map(|i| format!("blocks.{i}"));
    groups.extend(names.map(|name| Group::new(&name, &[&name])));
    groups.push(Group::new("conv_head", head));
    groups
}

/// The blocks' stochastic depth.
pub(super) fn drop_paths(stages: &mut [Vec<Block>]) -> Vec<&mut DropPath> {
    stages.iter_mut().flatten().map(|block| &mut block.drop).collect()
}

/// Runs stage `index`.
pub(super) fn run(stage: &[Block], index: usize, mut x: Map, tap: &mut Tap) -> Map {
    let name = format!("blocks.{index}");
    for (i, block) in stage.iter().enumerate() {
        x = tap.at(&format!("{name}.{i}"), block.forward(x));
    }
    tap.at(&name, x)
}

/// A part of a stage, read from its text.
struct Part {
    kind: Kind,
    repeats: usize,
    kernel: usize,
    stride: usize,
    expand: f64,
    channels: usize,
    se: f64,
    relu: bool,
    skip: bool,
}

impl Part {
    fn parse(text: &str) -> Self {
        let mut words = text.split('_');
        let kind = match words.next() {
            Some("ds") => Kind::Separable,
            Some("ir") => Kind::Inverted,
            Some("er") => Kind::Edge,
            Some("cn") => Kind::Plain,
            _ => panic!("`{text}` is no block"),
        };
        let mut part = Self {
            kind,
            repeats: 1,
            kernel: 3,
            stride: 1,
            expand: 1.0,
            channels: 0,
            se: 0.0,
            relu: false,
            skip: false,
        };
        for word in words {
            let number = |from: usize| word[from..].parse::<f64>().expect("a number after the letter");
            match word {
                "nre" => part.relu = true,
                "skip" => part.skip = true,
                _ if word.starts_with("se") => part.se = number(2),
                _ if word.starts_with('r') => part.repeats = number(1) as usize,
                _ if word.starts_with('k') => part.kernel = number(1) as usize,
                _ if word.starts_with('s') => part.stride = number(1) as usize,
                _ if word.starts_with('e') => part.expand = number(1),
                _ if word.starts_with('c') => part.channels = number(1) as usize,
                _ => panic!("`{word}` in `{text}` means nothing"),
            }
        }
        part
    }
}

impl Block {
    fn new(part: &Part, style: &Style, c_in: usize, stride: usize, device: &Device) -> Self {
        let c_out = style.round(part.channels);
        let expands = matches!(part.kind, Kind::Inverted | Kind::Edge);
        let inner = if expands { eights(c_in as f64 * part.expand, 0.9) } else { c_in };
        let act = if part.relu { Act::Relu } else { style.act };
        let bn = |channels| style.bn(channels, device);
        let one = |c_in, c_out| Some(ConvSpec::new(c_in, c_out, 1).init(device));
        let wide = |c_in, c_out| {
            ConvSpec::new(c_in, c_out, part.kernel).stride(stride).padding(style.padding(part.kernel))
        };
        let depthwise = || Some(wide(inner, inner).groups(inner).init(device));
        let se = (part.se > 0.0).then(|| {
            let fewer = if style.hard_gate {
                eights(inner as f64 * part.se, 0.9)
            } else {
                // Python's `round`, which takes halves to even.
                (inner as f64 * (part.se / part.expand)).round_ties_even() as usize
            };
            let layer = |c_in, c_out| ConvSpec::new(c_in, c_out, 1).with_bias().init(device);
            Se { conv_reduce: layer(inner, fewer), conv_expand: layer(fewer, inner) }
        });
        let empty = Self {
            conv: None,
            conv_exp: None,
            conv_pw: None,
            bn1: bn(inner),
            conv_dw: None,
            bn2: None,
            se,
            conv_pwl: None,
            bn3: None,
            kind: part.kind,
            act,
            hard_gate: style.hard_gate,
            shortcut: stride == 1 && c_in == c_out && (part.kind != Kind::Plain || part.skip),
            drop: DropPath::default(),
        };
        match part.kind {
            Kind::Separable => {
                Self { conv_dw: depthwise(), conv_pw: one(inner, c_out), bn2: Some(bn(c_out)), ..empty }
            }
            Kind::Inverted => Self {
                conv_pw: one(c_in, inner),
                conv_dw: depthwise(),
                bn2: Some(bn(inner)),
                conv_pwl: one(inner, c_out),
                bn3: Some(bn(c_out)),
                ..empty
            },
            Kind::Edge => Self {
                conv_exp: Some(wide(c_in, inner).init(device)),
                conv_pwl: one(inner, c_out),
                bn2: Some(bn(c_out)),
                ..empty
            },
            Kind::Plain => Self { conv: Some(wide(c_in, c_out).init(device)), bn1: bn(c_out), ..empty },
        }
    }

    /// Returns the kind, and whether it weighs channels.
    pub(super) fn kind(&self) -> (Kind, bool) {
        (self.kind, self.se.is_some())
    }

    pub(super) fn forward(&self, x: Map) -> Map {
        let shortcut = self.shortcut.then(|| x.clone());
        let layer = |conv: &Option<Conv2d>, bn: Option<&BatchNorm>, x, shortcut: Option<Map>, act| {
            let (conv, bn) = (conv.as_ref().expect("a layer of its kind"), bn.expect("its norm"));
            match shortcut {
                Some(shortcut) => conv_bn_join(conv, bn, x, shortcut, act, self.drop),
                None => conv_bn_act(conv, bn, x, None, act),
            }
        };
        let (bn1, bn2, bn3) = (Some(&self.bn1), self.bn2.as_ref(), self.bn3.as_ref());
        match self.kind {
            Kind::Separable => {
                let y = self.weigh(layer(&self.conv_dw, bn1, x, None, self.act));
                layer(&self.conv_pw, bn2, y, shortcut, Act::None)
            }
            Kind::Inverted => {
                let y = layer(&self.conv_pw, bn1, x, None, self.act);
                let y = self.weigh(layer(&self.conv_dw, bn2, y, None, self.act));
                layer(&self.conv_pwl, bn3, y, shortcut, Act::None)
            }
            Kind::Edge => {
                let y = self.weigh(layer(&self.conv_exp, bn1, x, None, self.act));
                layer(&self.conv_pwl, bn2, y, shortcut, Act::None)
            }
            Kind::Plain => {
                let y = layer(&self.conv, bn1, x, None, self.act);
                match shortcut {
                    Some(shortcut) => self.drop.join(y, shortcut),
                    None => y,
                }
            }
        }
    }

    fn weigh(&self, x: Map) -> Map {
        let Some(se) = &self.se else { return x };
        let (act, gate) =
            if self.hard_gate { (Act::Relu, Act::HardSigmoid) } else { (self.act, Act::Sigmoid) };
        squeeze_excite(x, &se.conv_reduce, &se.conv_expand, act, gate)
    }
}

/// Turns a block's layer (`conv_dw`, `se.conv_reduce`) into torchvision's number inside `block.`.
pub(super) fn torchvision((kind, se): (Kind, bool), layer: &str) -> String {
    let last = usize::from(se);
    match (kind, layer) {
        (Kind::Separable, "conv_dw") | (Kind::Inverted, "conv_pw") | (Kind::Edge, "conv_exp") => "0.0".into(),
        (Kind::Separable | Kind::Inverted | Kind::Edge, "bn1") => "0.1".into(),
        (Kind::Separable, "se.conv_reduce") => "1.fc1".into(),
        (Kind::Separable, "se.conv_expand") => "1.fc2".into(),
        (Kind::Separable, "conv_pw") => format!("{}.0", 1 + last),
        (Kind::Separable, "bn2") => format!("{}.1", 1 + last),
        (Kind::Inverted, "conv_dw") => "1.0".into(),
        (Kind::Inverted, "bn2") => "1.1".into(),
        (Kind::Inverted, "se.conv_reduce") => "2.fc1".into(),
        (Kind::Inverted, "se.conv_expand") => "2.fc2".into(),
        (Kind::Inverted, "conv_pwl") => format!("{}.0", 2 + last),
        (Kind::Inverted, "bn3") => format!("{}.1", 2 + last),
        (Kind::Edge, "conv_pwl") => "1.0".into(),
        (Kind::Edge, "bn2") => "1.1".into(),
        (Kind::Plain, "conv") => "0.0".into(),
        (Kind::Plain, "bn1") => "0.1".into(),
        _ => panic!("a block has no `{layer}`"),
    }
}

/// Splits a name into its layer and the rest: `a.b.weight` into `a.b` and `weight`.
pub(super) fn split_leaf(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or((key, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_round_to_eights() {
        let cases = [(24.0 * 1.1, 24), (16.0 * 1.2, 24), (32.0 * 1.1, 32), (10.0, 16), (3.0, 8)];
        for (channels, want) in cases {
            assert_eq!(eights(channels, 0.9), want, "{channels}");
        }
        assert_eq!(eights(16.0 * 1.2, 0.0), 16);
    }
}
