//! CoAtNet: two stages of inverted residuals, then two of attention over the whole map.
//!
//! Dai et al., "CoAtNet: Marrying Convolution and Attention for All Data Sizes", NeurIPS 2021, in the variants and names of timm (`maxxvit.py`), whose
//! weights are public; the paper's are not. Positions enter attention by distance: from a table, or in `coatnet_rmlp_*` from a small network.
//!
//! | network                | parameters |
//! |------------------------|-----------:|
//! | coatnet_nano_rw_224    | 15 141 244 |
//! | coatnet_0_rw_224       | 27 435 562 |
//! | coatnet_1_rw_224       | 41 721 502 |
//! | coatnet_2_rw_224       | 73 868 400 |
//! | coatnet_rmlp_nano_rw_224 | 15 145 116 |
//! | coatnet_rmlp_1_rw_224  | 41 691 982 |
//! | coatnet_rmlp_1_rw2_224 | 41 724 622 |
//! | coatnet_rmlp_2_rw_224  | 73 881 264 |
//!
//! Pictures of other sizes work: the table is resampled, and a stage that averages leaves out an odd last row or column.

mod rows;

use burn::module::Module;
use burn::tensor::Device;

use super::layers::{
    Act, BatchNorm, Branch, Conv2d, ConvSpec, DropPath, LayerNorm, LayerScale, Linears, Map, Mlp, Pointwise,
    RelPos, Tokens, attend_by_head, conv_bn_act, crop_even, global_avg_pool, halve, max_pool, squeeze_excite,
};
use super::spec::{Group, Variant};
use super::tap::Tap;
use super::{Family, Flow, ModelOptions};
use rows::{Args, Position, Shrink};

/// Channels of a head.
const HEAD: usize = 32;
const LN_EPS: f64 = 1e-6;
/// The map's side at 224 pixels, by stage.
const SIDES: [usize; 4] = [56, 28, 14, 7];

/// Halves a map as the shortcuts of a variant do.
fn pool(x: Map, args: &Args) -> Map {
    if args.max_pool { max_pool(x, 3, 2, 1) } else { halve(x) }
}

/// What the shortcut goes through where the size changes: a pooling, then other channels if there are.
#[derive(Module, Debug)]
struct Shortcut {
    expand: Option<Conv2d>,
}

impl Shortcut {
    fn new(c_in: usize, c_out: usize, bias: bool, device: &Device) -> Self {
        let spec = ConvSpec { bias, ..ConvSpec::new(c_in, c_out, 1) };
        Self { expand: (c_in != c_out).then(|| spec.init(device)) }
    }

    fn forward(&self, x: Map, args: &Args) -> Map {
        let x = pool(x, args);
        match &self.expand {
            Some(conv) => conv.forward(x, Act::None),
            None => x,
        }
    }
}

/// Squeeze-and-excitation to a quarter of the inner channels.
#[derive(Module, Debug)]
struct Se {
    fc1: Conv2d,
    fc2: Conv2d,
}

/// BatchNorm, 1×1 to four times the channels, depthwise 3×3, gate, 1×1 back.
#[derive(Module, Debug)]
struct MbConv {
    shortcut: Option<Shortcut>,
    pre_norm: BatchNorm,
    conv1_1x1: Conv2d,
    norm1: BatchNorm,
    conv2_kxk: Conv2d,
    se_early: Option<Se>,
    norm2: BatchNorm,
    se: Option<Se>,
    conv3_1x1: Pointwise,
    #[module(skip)]
    args: &'static Args,
    #[module(skip)]
    drop: DropPath,
}

impl MbConv {
    fn new(c_in: usize, c_out: usize, first: bool, args: &'static Args, eps: f64, device: &Device) -> Self {
        let inner = 4 * c_in;
        let bn = |channels| BatchNorm::new(channels, eps, device);
        let gate = |c_in, c_out| ConvSpec::new(c_in, c_out, 1).with_bias().init(device);
        let se = || Se { fc1: gate(inner, inner / 4), fc2: gate(inner / 4, inner) };
        let stride = if first && args.shrink == Shrink::Depthwise { 2 } else { 1 };
        Self {
            shortcut: first.then(|| Shortcut::new(c_in, c_out, args.conv_bias, device)),
            pre_norm: bn(c_in),
            conv1_1x1: ConvSpec::new(c_in, inner, 1).init(device),
            norm1: bn(inner),
            conv2_kxk: ConvSpec::new(inner, inner, 3).stride(stride).groups(inner).init(device),
            se_early: args.early_gate.then(se),
            norm2: bn(inner),
            se: (!args.early_gate).then(se),
            conv3_1x1: match args.conv_bias {
                true => Pointwise::new(inner, c_out, device),
                false => Pointwise::without_bias(inner, c_out, device),
            },
            args,
            drop: DropPath::default(),
        }
    }

    fn forward(&self, x: Map) -> Map {
        let (args, x) = (self.args, if self.shortcut.is_some() { crop_even(x) } else { x });
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x.clone(), args),
            None => x.clone(),
        };
        let mut y = self.pre_norm.forward(x, None, if args.early_act { Act::Silu } else { Act::None });
        if self.shortcut.is_some() && args.shrink == Shrink::Pool {
            y = halve(y);
        }
        y = conv_bn_act(&self.conv1_1x1, &self.norm1, y, None, Act::Silu);
        let gate = |se: &Se, y| squeeze_excite(y, &se.fc1, &se.fc2, args.gate_act, Act::Sigmoid);
        y = match (&self.se_early, &self.se) {
            (Some(se), _) => {
                let y = gate(se, self.conv2_kxk.forward(y, Act::None));
                self.norm2.forward(y, None, Act::Silu)
            }
            (_, Some(se)) => gate(se, conv_bn_act(&self.conv2_kxk, &self.norm2, y, None, Act::Silu)),
            _ => panic!("a block has a gate"),
        };
        let branch = Branch { drop: self.drop, ..Branch::default() };
        self.conv3_1x1.join(Tokens::from_map(y), branch, Tokens::from_map(shortcut)).into_map()
    }
}

/// Attention over all cells with a bias by distance; a head's query, key and value lie side by side.
#[derive(Module, Debug)]
struct Attention {
    qkv: Pointwise,
    rel_pos: RelPos,
    proj: Pointwise,
}

/// A LayerNorm, and in the first block of a stage a pooling behind it.
#[derive(Module, Debug)]
struct Norm {
    norm: LayerNorm,
}

/// Attention, then a perceptron, each after a LayerNorm and around a shortcut.
#[derive(Module, Debug)]
struct Transformer {
    shortcut: Option<Shortcut>,
    /// In the checkpoint `norm1.norm` where the block halves the map, else `norm1`.
    norm1: Norm,
    attn: Attention,
    ls1: Option<LayerScale>,
    norm2: LayerNorm,
    mlp: Mlp<4>,
    ls2: Option<LayerScale>,
    #[module(skip)]
    args: &'static Args,
    #[module(skip)]
    drop: DropPath,
}

impl Transformer {
    fn new(
        c_in: usize,
        c_out: usize,
        first: bool,
        side: usize,
        args: &'static Args,
        device: &Device,
    ) -> Self {
        let heads = c_in / HEAD;
        let scale = || args.layer_scale.then(|| LayerScale::new(c_out, device));
        Self {
            shortcut: first.then(|| Shortcut::new(c_in, c_out, args.shortcut_bias, device)),
            norm1: Norm { norm: LayerNorm::new(c_in, LN_EPS, device) },
            attn: Attention {
                qkv: Pointwise::new(c_in, 3 * c_in, device),
                rel_pos: match args.position {
                    Position::Table => RelPos::table(side, heads, device),
                    Position::Network(hidden) => RelPos::network(hidden, heads, device),
                },
                proj: Pointwise::new(c_in, c_out, device),
            },
            ls1: scale(),
            norm2: LayerNorm::new(c_out, LN_EPS, device),
            mlp: Mlp::new(c_out, 4 * c_out, Act::Gelu, device),
            ls2: scale(),
            args,
            drop: DropPath::default(),
        }
    }

    fn branch<'a>(&self, scale: &'a Option<LayerScale>) -> Branch<'a> {
        Branch { scale: scale.as_ref().map(|s| &s.gamma), drop: self.drop }
    }

    fn forward(&self, x: Map) -> Map {
        let (shortcut, y) = match &self.shortcut {
            Some(shortcut) => {
                // Max pooling takes an odd last row along.
                let x = if self.args.max_pool { x } else { crop_even(x) };
                let y = pool(self.norm1.norm.pixels(x.clone()), self.args);
                (shortcut.forward(x, self.args), y)
            }
            None => (x.clone(), self.norm1.norm.pixels(x)),
        };
        let y = Tokens::from_map(y);
        let grid = y.grid();
        let y =
            self.attn.qkv.tokens(y, Act::None).apply(|qkv| attend_by_head(qkv, self.attn.rel_pos.bias(grid)));
        let x = self.attn.proj.join(y, self.branch(&self.ls1), Tokens::from_map(shortcut));
        let y = Tokens::from_map(self.norm2.pixels(x.clone().into_map()));
        self.mlp.forward(y, self.branch(&self.ls2), x).into_map()
    }
}

/// Blocks of one kind.
#[derive(Module, Debug)]
struct Stage {
    conv: Vec<MbConv>,
    transformer: Vec<Transformer>,
}

#[derive(Module, Debug)]
struct Stem {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
}

/// The backbone: stem, four stages that halve the map each, a LayerNorm, global average pooling.
#[derive(Module, Debug)]
pub struct CoAtNet {
    stem: Stem,
    stages: Vec<Stage>,
    norm: LayerNorm,
}

impl Family for CoAtNet {
    type Args = Args;
    const VARIANTS: &'static [Variant<Args>] = rows::VARIANTS;
    const CLASSIFIER: &'static str = "head.fc";
    const FIXED_SIZE: bool = true;

    fn new(variant: &Variant<Args>, options: &ModelOptions, device: &Device) -> Self {
        // The constant table outlives every network.
        let args = &Self::VARIANTS.iter().find(|v| v.row.name == variant.row.name).expect("a row").args;
        let [first, second] = args.stem;
        let eps = options.bn_eps.unwrap_or(1e-5);
        let mut channels = second;
        let stages = (0..4).map(|i| {
            let width = args.widths[i];
            let mut stage = Stage { conv: Vec::new(), transformer: Vec::new() };
            for j in 0..args.depths[i] {
                if i < 2 {
                    stage.conv.push(MbConv::new(channels, width, j == 0, args, eps, device));
                } else {
                    stage.transformer.push(Transformer::new(channels, width, j == 0, SIDES[i], args, device));
                }
                channels = width;
            }
            stage
        });
        let stages = stages.collect();
        Self {
            stem: Stem {
                conv1: ConvSpec::new(options.in_chans, first, 3).stride(2).init(device),
                norm1: BatchNorm::new(first, eps, device),
                conv2: ConvSpec::new(first, second, 3).init(device),
            },
            stages,
            norm: LayerNorm::new(args.widths[3], LN_EPS, device),
        }
    }

    fn groups(&self) -> Vec<Group> {
        let mut groups = vec![Group::new("stem", &["stem"])];
        groups.extend((0..4).map(|i| format!("stages.{i}")).map(|name| Group::new(&name, &[&name])));
        groups[4].prefixes.push("norm".into());
        groups
    }

    fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
        let mut x = x.map();
        let Some(index) = index.checked_sub(1) else {
            let x = conv_bn_act(&self.stem.conv1, &self.stem.norm1, x, None, Act::Silu);
            return Flow::Map(tap.at("stem", self.stem.conv2.forward(x, Act::None))); // [N, C, H/2, W/2]
        };
        let (stage, name) = (&self.stages[index], format!("stages.{index}"));
        for (i, block) in stage.conv.iter().enumerate() {
            x = tap.at(&format!("{name}.blocks.{i}"), block.forward(x));
        }
        for (i, block) in stage.transformer.iter().enumerate() {
            x = tap.at(&format!("{name}.blocks.{i}"), block.forward(x));
        }
        x = tap.at(&name, x);
        if index < 3 { Flow::Map(x) } else { Flow::Flat(global_avg_pool(self.norm.pixels(x))) }
    }

    fn linears(&mut self) -> Linears<'_> {
        let mut all = Linears::new();
        for (i, stage) in self.stages.iter_mut().enumerate() {
            for (j, block) in stage.transformer.iter_mut().enumerate() {
                let at = format!("stages.{i}.transformer.{j}");
                all.push((format!("{at}.attn.qkv"), &mut block.attn.qkv));
                block.attn.rel_pos.linears(&format!("{at}.attn.rel_pos"), &mut all);
                all.push((format!("{at}.attn.proj"), &mut block.attn.proj));
                block.mlp.linears(&format!("{at}.mlp"), &mut all);
            }
        }
        all
    }

    fn drop_paths(&mut self) -> Vec<&mut DropPath> {
        let blocks = self.stages.iter_mut().flat_map(|stage| {
            let conv = stage.conv.iter_mut().map(|block| &mut block.drop);
            conv.chain(stage.transformer.iter_mut().map(|block| &mut block.drop))
        });
        blocks.collect()
    }

    fn key(&self, path: &str) -> String {
        let path = path.replace(".conv.", ".blocks.").replace(".transformer.", ".blocks.");
        if path.contains(".blocks.0.") { path } else { path.replace(".norm1.norm.", ".norm1.") }
    }
}
