//! Swin Transformer V2: attention inside windows, which shift from block to block.
//!
//! Liu et al., "Swin Transformer V2: Scaling Up Capacity and Resolution", CVPR 2022, in timm's names. Queries and
//! keys are compared by angle, positions by a small network of their distance, and norms come after the branches.
//! Pictures of other sizes work: a window is never larger than the map, and maps are padded to whole windows.

use burn::module::Module;
use burn::tensor::Device;

use super::layers::{
    Act, Conv2d, ConvSpec, DropPath, LayerNorm, Linear, Linears, Map, Mlp, Padding, Tokens, WindowAttention,
    global_avg_pool, pad,
};
use super::spec::{Filter, Group, InputSpec, Row, TimmName, Variant, Weights};
use super::tap::Tap;
use super::{Family, Flow, ModelOptions};

/// Side of a window, channels and heads of the first stage, depths.
#[derive(Debug)]
pub struct Args {
    window: usize,
    width: usize,
    depths: [usize; 4],
}

const INPUT: InputSpec = InputSpec::imagenet(Filter::Bicubic).sized(256).crop(0.9);
const EPS: f64 = 1e-5;

const fn row(name: &'static str, args: Args, params: usize, weights: &'static [Weights]) -> Variant<Args> {
    let timm = Some(TimmName { architecture: name, model_args: None });
    let (num_features, paper) = (args.width * 8, "https://arxiv.org/abs/2111.09883");
    Variant {
        row: Row { name, num_features, params, min_size: 32, input: INPUT, paper, timm, weights },
        args,
    }
}

const fn args(window: usize, width: usize, blocks: usize) -> Args {
    Args { window, width, depths: [2, 2, blocks, 2] }
}

const fn ms(repo: &'static str) -> Weights {
    Weights { license: "MIT", ..Weights::hub("ms_in1k", repo, INPUT) }
}

const VARIANTS: &[Variant<Args>] = &[
    row("swinv2_tiny_window8_256", args(8, 96, 6), 28_347_154, &[ms("timm/swinv2_tiny_window8_256.ms_in1k")]),
    row(
        "swinv2_tiny_window16_256",
        args(16, 96, 6),
        28_347_154,
        &[ms("timm/swinv2_tiny_window16_256.ms_in1k")],
    ),
    row(
        "swinv2_small_window8_256",
        args(8, 96, 18),
        49_728_418,
        &[ms("timm/swinv2_small_window8_256.ms_in1k")],
    ),
    row(
        "swinv2_small_window16_256",
        args(16, 96, 18),
        49_728_418,
        &[ms("timm/swinv2_small_window16_256.ms_in1k")],
    ),
    row(
        "swinv2_base_window8_256",
        args(8, 128, 18),
        87_918_816,
        &[ms("timm/swinv2_base_window8_256.ms_in1k")],
    ),
    row(
        "swinv2_base_window16_256",
        args(16, 128, 18),
        87_918_816,
        &[ms("timm/swinv2_base_window16_256.ms_in1k")],
    ),
];

/// Attention in windows, then a perceptron, each with a LayerNorm behind it and a shortcut around.
#[derive(Module, Debug)]
struct Block {
    attn: WindowAttention,
    norm1: LayerNorm,
    mlp: Mlp,
    norm2: LayerNorm,
    #[module(skip)]
    window: usize,
    #[module(skip)]
    shifts: bool,
    #[module(skip)]
    drop: DropPath,
}

impl Block {
    fn forward(&self, x: Map) -> Map {
        let y = self.attn.forward(x.clone(), self.window, self.shifts);
        let x = Tokens::from_map(self.drop.join(self.norm1.pixels(y), x));
        let y = self.norm2.tokens(self.mlp.plain(x.clone()));
        self.drop.join_tokens(y, x).into_map()
    }
}

/// Lays four neighbours side by side and halves their channels.
#[derive(Module, Debug)]
struct PatchMerging {
    reduction: Linear,
    norm: LayerNorm,
}

impl PatchMerging {
    fn forward(&self, x: Map) -> Map {
        let x = x.over_nhwc(|x| {
            let [n, h, w, c] = x.dims();
            let x = pad(x, h.next_multiple_of(2), w.next_multiple_of(2));
            let (h, w) = (h.div_ceil(2), w.div_ceil(2));
            // Down before across, as the checkpoint has it.
            x.reshape([n, h, 2, w, 2, c]).permute([0, 1, 3, 4, 2, 5]).reshape([n, h, w, 4 * c])
        });
        self.norm.tokens(self.reduction.tokens(Tokens::from_map(x), Act::None)).into_map()
    }
}

/// Halves the size, then a few blocks.
#[derive(Module, Debug)]
struct Stage {
    downsample: Option<PatchMerging>,
    blocks: Vec<Block>,
}

/// Cuts the picture into patches and projects each.
#[derive(Module, Debug)]
struct PatchEmbed {
    proj: Conv2d,
    norm: LayerNorm,
}

/// The backbone: patches of four pixels, four stages, a LayerNorm, global average pooling.
#[derive(Module, Debug)]
pub struct SwinV2 {
    patch_embed: PatchEmbed,
    layers: Vec<Stage>,
    norm: LayerNorm,
}

impl Family for SwinV2 {
    type Args = Args;
    const VARIANTS: &'static [Variant<Args>] = VARIANTS;
    const CLASSIFIER: &'static str = "head.fc";
    const FIXED_SIZE: bool = true;

    fn new(variant: &Variant<Args>, options: &ModelOptions, device: &Device) -> Self {
        let Args { window, width, depths } = variant.args;
        let norm = |width| LayerNorm::new(width, EPS, device);
        let block = |width: usize, index: usize| Block {
            attn: WindowAttention::new(width, width / 32, device),
            norm1: norm(width),
            mlp: Mlp::new(width, 4 * width, Act::Gelu, device),
            norm2: norm(width),
            window,
            shifts: index % 2 == 1,
            drop: DropPath::default(),
        };
        let stage = |i: usize| {
            let width = width << i;
            let merge = || PatchMerging {
                reduction: Linear::without_bias(2 * width, width, device),
                norm: norm(width),
            };
            Stage {
                downsample: (i > 0).then(merge),
                blocks: (0..depths[i]).map(|j| block(width, j)).collect(),
            }
        };
        let proj = ConvSpec::new(options.in_chans, width, 4).stride(4).padding(Padding::Even(0)).with_bias();
        Self {
            patch_embed: PatchEmbed { proj: proj.init(device), norm: norm(width) },
            layers: (0..4).map(stage).collect(),
            norm: norm(width * 8),
        }
    }

    fn groups(&self) -> Vec<Group> {
        let mut groups = vec![Group::new("stem", &["patch_embed"])];
        groups.extend((0..4).map(|i| format!("layers.{i}")).map(|name| Group::new(&name, &[&name])));
        groups[4].prefixes.push("norm".into());
        groups
    }

    fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
        let mut x = x.map();
        let Some(index) = index.checked_sub(1) else {
            let x = self.patch_embed.proj.forward(x, Act::None); // [N, C, H/4, W/4]
            return Flow::Map(tap.at("patch_embed", self.patch_embed.norm.pixels(x)));
        };
        let stage = &self.layers[index];
        if let Some(merge) = &stage.downsample {
            x = merge.forward(x);
        }
        for (i, block) in stage.blocks.iter().enumerate() {
            x = tap.at(&format!("layers.{index}.blocks.{i}"), block.forward(x));
        }
        x = tap.at(&format!("layers.{index}"), x);
        if index < 3 { Flow::Map(x) } else { Flow::Flat(global_avg_pool(self.norm.pixels(x))) }
    }

    fn drop_paths(&mut self) -> Vec<&mut DropPath> {
        self.layers.iter_mut().flat_map(|stage| &mut stage.blocks).map(|block| &mut block.drop).collect()
    }

    fn linears(&mut self) -> Linears<'_> {
        let mut all = Linears::new();
        for (i, stage) in self.layers.iter_mut().enumerate() {
            if let Some(merge) = &mut stage.downsample {
                all.push((format!("layers.{i}.downsample.reduction"), &mut merge.reduction));
            }
            for (j, block) in stage.blocks.iter_mut().enumerate() {
                block.attn.linears(&format!("layers.{i}.blocks.{j}.attn"), &mut all);
                block.mlp.linears(&format!("layers.{i}.blocks.{j}.mlp"), &mut all);
            }
        }
        all
    }

    fn key(&self, path: &str) -> String {
        // The checkpoint counts the activation between the two layers.
        path.replace(".cpb_mlp.1.", ".cpb_mlp.2.")
    }
}
