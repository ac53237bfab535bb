//! CLIP's ResNets: the image half of CLIP with convolutions.
//!
//! Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, in timm's names;
//! OpenAI's are changed into these when a file is read. They differ from `resnet.rs` by a stem of three convolutions,
//! by averaging 2×2 pixels wherever others stride (Zhang 2019, and "ResNet-D", He et al. 2019), and by pooling with
//! attention: the mean of all places asks, the places answer.
//!
//! | network         | image tower, parameters | space shared with texts |
//! |-----------------|------------------------:|------------------------:|
//! | resnet50_clip   |              38 316 896 |                    1024 |
//! | resnet101_clip  |              56 259 936 |                     512 |
//!
//! The classifier, `head.proj`, is CLIP's projection into that space when the weights are CLIP's own.

use burn::Tensor;
use burn::module::{Module, Param};
use burn::tensor::{Device, activation};

use super::layers::{Act, ConvNorm, ConvSpec, DropPath, Linear, Map, Tokens, halve, resample_pos_embed};
use super::spec::{Filter, Group, InputSpec, Row, TimmName, Variant, Weights};
use super::tap::Tap;
use super::{Family, Flow, ModelOptions, macs};

/// Depths of the four stages.
#[derive(Debug)]
pub struct Args {
    depths: [usize; 4],
}

/// Channels before the first stage, inside it, and those of a head of the pooling.
const STEM: usize = 64;
const HEAD: usize = 64;

const INPUT: InputSpec = InputSpec {
    mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
    std: [0.268_629_55, 0.261_302_6, 0.275_777_1],
    crop_pct: 0.9,
    ..InputSpec::imagenet(Filter::Bicubic)
};

const fn row(
    name: &'static str,
    depths: [usize; 4],
    params: usize,
    weights: &'static [Weights],
) -> Variant<Args> {
    let timm = Some(TimmName { architecture: name, model_args: None });
    let paper = "https://arxiv.org/abs/2103.00020";
    let row = Row { name, num_features: 2048, params, min_size: 32, input: INPUT, paper, timm, weights };
    Variant { row, args: Args { depths } }
}

/// Three convolutions, the first with a stride, then the mean of 2×2 pixels.
#[derive(Module, Debug)]
struct Stem {
    conv1: ConvNorm,
    conv2: ConvNorm,
    conv3: ConvNorm,
}

/// What the shortcut goes through where the sizes change.
#[derive(Module, Debug)]
struct Shortcut {
    conv: ConvNorm,
}

/// 1×1, 3×3, 1×1 around a shortcut.
#[derive(Module, Debug)]
struct Block {
    shortcut: Option<Shortcut>,
    conv1_1x1: ConvNorm,
    conv2_kxk: ConvNorm,
    conv3_1x1: ConvNorm,
    #[module(skip)]
    halves: bool,
    #[module(skip)]
    drop: DropPath,
}

impl Block {
    fn new(c_in: usize, width: usize, halves: bool, eps: f64, device: &Device) -> Self {
        let layer = |c_in, c_out, kernel| ConvNorm::new(ConvSpec::new(c_in, c_out, kernel), eps, device);
        let c_out = 4 * width;
        Self {
            shortcut: (halves || c_in != c_out).then(|| Shortcut { conv: layer(c_in, c_out, 1) }),
            conv1_1x1: layer(c_in, width, 1),
            conv2_kxk: layer(width, width, 3),
            conv3_1x1: layer(width, c_out, 1),
            halves,
            drop: DropPath::default(),
        }
    }

    fn forward(&self, x: Map) -> Map {
        let smaller = |x: Map| if self.halves { halve(x) } else { x };
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.conv.forward(smaller(x.clone()), Act::None),
            None => x.clone(),
        };
        let y = self.conv1_1x1.forward(x, Act::Relu);
        let y = smaller(self.conv2_kxk.forward(y, Act::Relu));
        self.conv3_1x1.join(y, shortcut, Act::Relu, self.drop)
    }
}

/// Attention in place of an average: the mean over all places is the one query.
#[derive(Module, Debug)]
struct AttentionPool {
    pos_embed: Param<Tensor<2>>,
    q: Linear,
    k: Linear,
    v: Linear,
    #[module(skip)]
    side: usize,
}

impl AttentionPool {
    fn new(width: usize, side: usize, device: &Device) -> Self {
        let linear = || Linear::new(width, width, device);
        let pos_embed = Param::from_tensor(Tensor::zeros([side * side + 1, width], device));
        Self { pos_embed, q: linear(), k: linear(), v: linear(), side }
    }

    fn forward(&self, x: Map) -> Tensor<2> {
        let [n, c, h, w] = x.dims();
        let (t, heads) = (h * w + 1, c / HEAD);
        let cells = Tokens::from_map(x);
        let mean = cells.clone().mean().reshape([n, 1, c]);
        let pos = resample_pos_embed(self.pos_embed.val().unsqueeze(), self.side, [h, w]);
        let x = Tensor::cat(vec![mean, cells.into_tensor()], 1) + pos; // [N, 1 + H·W, C]
        let query = self.q.forward(x.clone().narrow(1, 0, 1).reshape([n, c]), Act::None);
        let rows = x.reshape([n * t, c]);
        let split = |y: Tensor<2>, t: usize| y.reshape([n, t, heads, HEAD]).swap_dims(1, 2); // [N, heads, T, d]
        if macs::add(2 * n * t * c) {
            self.k.forward(rows.clone(), Act::None);
            self.v.forward(rows, Act::None);
            return Tensor::zeros([n, c], &query.device());
        }
        let key = split(self.k.forward(rows.clone(), Act::None), t);
        let value = split(self.v.forward(rows, Act::None), t);
        let logits = split(query, 1).matmul(key.swap_dims(2, 3)) * (HEAD as f64).powf(-0.5);
        activation::softmax(logits, 3).matmul(value).reshape([n, c])
    }
}

/// The backbone: stem, four stages, attention pooling.
#[derive(Module, Debug)]
pub struct ClipResNet {
    stem: Stem,
    stages: Vec<Vec<Block>>,
    head: AttentionPool,
}

impl Family for ClipResNet {
    type Args = Args;
    const VARIANTS: &'static [Variant<Args>] = &[
        row(
            "resnet50_clip",
            [3, 4, 6, 3],
            38_267_720,
            &[
                Weights { license: "MIT", ..Weights::hub("openai", "timm/resnet50_clip.openai", INPUT) },
                Weights { license: "MIT", ..Weights::hub("yfcc15m", "timm/resnet50_clip.yfcc15m", INPUT) },
                Weights { license: "MIT", ..Weights::hub("cc12m", "timm/resnet50_clip.cc12m", INPUT) },
            ],
        ),
        row(
            "resnet101_clip",
            [3, 4, 23, 3],
            57_259_848,
            &[
                Weights { license: "MIT", ..Weights::hub("openai", "timm/resnet101_clip.openai", INPUT) },
                Weights { license: "MIT", ..Weights::hub("yfcc15m", "timm/resnet101_clip.yfcc15m", INPUT) },
            ],
        ),
    ];
    const CLASSIFIER: &'static str = "head.proj";
    const FIXED_SIZE: bool = true;

    fn new(variant: &Variant<Args>, options: &ModelOptions, device: &Device) -> Self {
        let eps = options.bn_eps.unwrap_or(1e-5);
        let layer = |c_in, c_out| ConvSpec::new(c_in, c_out, 3);
        let norm = |spec| ConvNorm::new(spec, eps, device);
        let mut channels = STEM;
        let stages = variant.args.depths.iter().enumerate().map(|(i, &depth)| {
            let width = STEM << i;
            let blocks = (0..depth).map(|j| {
                let block = Block::new(channels, width, i > 0 && j == 0, eps, device);
                channels = 4 * width;
                block
            });
            blocks.collect()
        });
        Self {
            stages: stages.collect(),
            stem: Stem {
                conv1: norm(layer(options.in_chans, STEM / 2).stride(2)),
                conv2: norm(layer(STEM / 2, STEM / 2)),
                conv3: norm(layer(STEM / 2, STEM)),
            },
            head: AttentionPool::new(variant.row.num_features, variant.row.input.size / 32, device),
        }
    }

    fn groups(&self) -> Vec<Group> {
        let mut groups = vec![Group::new("stem", &["stem"])];
        groups.extend((0..4).map(|i| format!("stages.{i}")).map(|name| Group::new(&name, &[&name])));
        groups.push(Group::new("attnpool", &["head.pos_embed", "head.q", "head.k", "head.v"]));
        groups
    }

    fn drop_paths(&mut self) -> Vec<&mut DropPath> {
        self.stages.iter_mut().flatten().map(|block| &mut block.drop).collect()
    }

    fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
        let mut x = x.map();
        match index {
            0 => {
                let Stem { conv1, conv2, conv3 } = &self.stem;
                let x = conv2.forward(conv1.forward(x, Act::Relu), Act::Relu);
                let x = tap.at("stem", conv3.forward(x, Act::Relu)); // [N, 64, H/2, W/2]
                Flow::Map(halve(x))
            }
            5 => Flow::Flat(self.head.forward(x)), // [N, 2048]
            _ => {
                let name = format!("stages.{}", index - 1);
                for (i, block) in self.stages[index - 1].iter().enumerate() {
                    x = tap.at(&format!("{name}.{i}"), block.forward(x));
                }
                Flow::Map(tap.at(&name, x)) // [N, 256, H/4, W/4] to [N, 2048, H/32, W/32]
            }
        }
    }
}
