//! ConvNeXt: a residual network with the habits of a transformer.
//!
//! Liu et al., "A ConvNet for the 2020s", CVPR 2022, and Woo et al., "ConvNeXt V2", 2023, whose blocks have a
//! response norm in the place of LayerScale. Names and small sizes (`atto` to `nano`) are timm's; torchvision's
//! files are understood too. The small sizes keep their linear layers as 1×1 convolutions.

mod rows;

use burn::Tensor;
use burn::module::{Module, Param};
use burn::tensor::Device;

use super::layers::{
    Act, Branch, Conv2d, ConvSpec, DropPath, LayerNorm, Linears, Map, Mlp, Padding, Tokens, global_avg_pool,
};
use super::spec::{Group, Variant};
use super::tap::Tap;
use super::{Dialect, Family, Flow, ModelOptions};
use rows::Args;

const EPS: f64 = 1e-6;

/// A wide depthwise convolution, a LayerNorm, a perceptron on each pixel, around a shortcut.
#[derive(Module, Debug)]
struct Block {
    gamma: Option<Param<Tensor<1>>>,
    conv_dw: Conv2d,
    norm: LayerNorm,
    mlp: Option<Mlp>,
    /// In the checkpoint `mlp` too.
    conv_mlp: Option<Mlp<4>>,
    #[module(skip)]
    drop: DropPath,
}

impl Block {
    fn new(width: usize, args: &Args, device: &Device) -> Self {
        Self {
            gamma: (!args.v2).then(|| Param::from_tensor(Tensor::zeros([width], device))),
            conv_dw: ConvSpec::new(width, width, 7).groups(width).with_bias().init(device),
            norm: LayerNorm::new(width, EPS, device),
            mlp: (!args.conv_mlp).then(|| perceptron(width, args.v2, device)),
            conv_mlp: args.conv_mlp.then(|| perceptron(width, args.v2, device)),
            drop: DropPath::default(),
        }
    }

    fn forward(&self, x: Map) -> Map {
        let y = Tokens::from_map(self.norm.pixels(self.conv_dw.forward(x.clone(), Act::None)));
        let shortcut = Tokens::from_map(x);
        let branch = Branch { scale: self.gamma.as_ref(), drop: self.drop };
        let y = match (&self.mlp, &self.conv_mlp) {
            (Some(mlp), _) => mlp.forward(y, branch, shortcut),
            (_, Some(mlp)) => mlp.forward(y, branch, shortcut),
            _ => panic!("a block has a perceptron"),
        };
        y.into_map()
    }
}

/// Four times as wide inside, with a response norm there in V2.
fn perceptron<const D: usize>(width: usize, v2: bool, device: &Device) -> Mlp<D> {
    let mlp = Mlp::new(width, 4 * width, Act::Gelu, device);
    if v2 { mlp.with_grn(4 * width, device) } else { mlp }
}

/// Halves the size, then a few blocks.
#[derive(Module, Debug)]
struct Stage {
    downsample: Option<(LayerNorm, Conv2d)>,
    blocks: Vec<Block>,
}

/// What follows the pooling, but for the classifier.
#[derive(Module, Debug)]
struct Head {
    norm: LayerNorm,
}

/// The backbone: patches of four pixels, four stages, global average pooling, a LayerNorm.
#[derive(Module, Debug)]
pub struct ConvNext {
    stem: (Conv2d, LayerNorm),
    stages: Vec<Stage>,
    head: Head,
}

/// Cuts into patches and projects each.
fn patches(c_in: usize, c_out: usize, side: usize, device: &Device) -> Conv2d {
    ConvSpec::new(c_in, c_out, side).stride(side).padding(Padding::Even(0)).with_bias().init(device)
}

impl Family for ConvNext {
    type Args = Args;
    const VARIANTS: &'static [Variant<Args>] = rows::VARIANTS;
    const CLASSIFIER: &'static str = "head.fc";
    const DIALECTS: &'static [Dialect] = &[Dialect::Torchvision];

    fn new(variant: &Variant<Args>, options: &ModelOptions, device: &Device) -> Self {
        let args = &variant.args;
        let norm = |width| LayerNorm::new(width, EPS, device);
        let stage = |i: usize| {
            let width = args.width << i;
            let before = width / 2;
            Stage {
                downsample: (i > 0).then(|| (norm(before), patches(before, width, 2, device))),
                blocks: (0..args.depths[i]).map(|_| Block::new(width, args, device)).collect(),
            }
        };
        Self {
            stem: (patches(options.in_chans, args.width, 4, device), norm(args.width)),
            stages: (0..4).map(stage).collect(),
            head: Head { norm: norm(args.width * 8) },
        }
    }

    fn drop_paths(&mut self) -> Vec<&mut DropPath> {
        self.stages.iter_mut().flat_map(|stage| &mut stage.blocks).map(|block| &mut block.drop).collect()
    }

    fn linears(&mut self) -> Linears<'_> {
        let mut all = Linears::new();
        for (i, stage) in self.stages.iter_mut().enumerate() {
            for (j, block) in stage.blocks.iter_mut().enumerate() {
                let at = format!("stages.{i}.blocks.{j}");
                if let Some(mlp) = &mut block.mlp {
                    mlp.linears(&format!("{at}.mlp"), &mut all);
                }
                if let Some(mlp) = &mut block.conv_mlp {
                    mlp.linears(&format!("{at}.conv_mlp"), &mut all);
                }
            }
        }
        all
    }

    fn groups(&self) -> Vec<Group> {
        let mut groups = vec![Group::new("stem", &["stem"])];
        groups.extend((0..4).map(|i| format!("stages.{i}")).map(|name| Group::new(&name, &[&name])));
        groups[4].prefixes.push("head.norm".into());
        groups
    }

    fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
        let mut x = x.map();
        let Some(index) = index.checked_sub(1) else {
            let (conv, norm) = &self.stem;
            return Flow::Map(tap.at("stem", norm.pixels(conv.forward(x, Act::None)))); // [N, C, H/4, W/4]
        };
        let stage = &self.stages[index];
        if let Some((norm, conv)) = &stage.downsample {
            x = conv.forward(norm.pixels(x), Act::None);
        }
        for (i, block) in stage.blocks.iter().enumerate() {
            x = tap.at(&format!("stages.{index}.blocks.{i}"), block.forward(x));
        }
        x = tap.at(&format!("stages.{index}"), x);
        if index < 3 { Flow::Map(x) } else { Flow::Flat(self.head.norm.flat(global_avg_pool(x))) }
    }

    fn key(&self, path: &str) -> String {
        path.replace(".conv_mlp.", ".mlp.")
    }

    fn foreign(&self, _: Dialect, key: &str) -> String {
        torchvision(key)
    }

    fn foreign_shape(&self, _: Dialect, key: &str, shape: &[usize]) -> Vec<usize> {
        if key.ends_with(".gamma") { vec![shape[0], 1, 1] } else { shape.to_vec() }
    }
}

/// Turns timm's name into torchvision's, which numbers stages and what lies between them through.
fn torchvision(key: &str) -> String {
    let parts: Vec<&str> = key.split('.').collect();
    let number = |stage: &str| stage.parse::<usize>().expect("a stage");
    match parts[..] {
        ["stem", layer, leaf] => format!("features.0.{layer}.{leaf}"),
        ["stages", stage, "downsample", layer, leaf] => {
            format!("features.{}.{layer}.{leaf}", 2 * number(stage))
        }
        ["stages", stage, "blocks", block, ref rest @ ..] => {
            let rest = match rest {
                ["gamma"] => "layer_scale".to_string(),
                ["conv_dw", leaf] => format!("block.0.{leaf}"),
                ["norm", leaf] => format!("block.2.{leaf}"),
                ["mlp", "fc1", leaf] => format!("block.3.{leaf}"),
                ["mlp", "fc2", leaf] => format!("block.5.{leaf}"),
                // V2's response norm, which torchvision lacks.
                other => other.join("."),
            };
            format!("features.{}.{block}.{rest}", 2 * number(stage) + 1)
        }
        ["head", "norm", leaf] => format!("classifier.0.{leaf}"),
        ["head", "fc", ..] => key.replacen("head.fc", "classifier.2", 1),
        _ => panic!("ConvNeXt has no `{key}`"),
    }
}
