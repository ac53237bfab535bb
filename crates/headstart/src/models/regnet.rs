//! RegNetY: residual bottlenecks whose widths follow a rule, with squeeze-and-excitation inside.
//!
//! Radosavovic et al., "Designing Network Design Spaces", CVPR 2020. Names are timm's; torchvision's files are understood too. The
//! number is the multiply-adds in hundreds of millions. `*_tv` are torchvision's, whose rounding of widths differs.

use burn::module::Module;
use burn::tensor::Device;

use super::layers::{Act, Conv2d, ConvNorm, ConvSpec, DropPath, Map, global_avg_pool, squeeze_excite};
use super::spec::{Filter, Group, InputSpec, Row, TimmName, Variant, Weights};
use super::tap::Tap;
use super::{Dialect, Family, Flow, ModelOptions};

/// Channels and blocks of each stage, channels of a group.
#[derive(Debug)]
pub struct Args {
    widths: [usize; 4],
    depths: [usize; 4],
    group: usize,
}

const STEM: usize = 32;
const INPUT: InputSpec = InputSpec::imagenet(Filter::Bicubic);

const fn row(name: &'static str, args: Args, params: usize, weights: &'static [Weights]) -> Variant<Args> {
    let timm = Some(TimmName { architecture: name, model_args: None });
    let (num_features, paper) = (args.widths[3], "https://arxiv.org/abs/2003.13678");
    let row = Row { name, num_features, params, min_size: 32, input: INPUT, paper, timm, weights };
    Variant { row, args }
}

const fn tv(file: &'static str, top1: f32) -> Weights {
    Weights::torchvision("tv2_in1k", file, InputSpec::imagenet(Filter::Bilinear).crop(0.965), top1)
}

const fn ra(tag: &'static str, repo: &'static str) -> Weights {
    Weights::hub(tag, repo, INPUT.crop(0.95))
}

const fn pycls(repo: &'static str) -> Weights {
    Weights { license: "MIT", ..Weights::hub("pycls_in1k", repo, INPUT) }
}

const VARIANTS: &[Variant<Args>] = &[
    row(
        "regnety_002",
        Args { widths: [24, 56, 152, 368], depths: [1, 1, 4, 7], group: 8 },
        3_162_996,
        &[pycls("timm/regnety_002.pycls_in1k")],
    ),
    row(
        "regnety_004",
        Args { widths: [48, 104, 208, 440], depths: [1, 3, 6, 6], group: 8 },
        4_344_144,
        &[tv("regnet_y_400mf-e6988f5f.pth", 75.804), pycls("timm/regnety_004.pycls_in1k")],
    ),
    row(
        "regnety_006",
        Args { widths: [48, 112, 256, 608], depths: [1, 3, 7, 4], group: 16 },
        6_055_160,
        &[pycls("timm/regnety_006.pycls_in1k")],
    ),
    row(
        "regnety_008",
        Args { widths: [64, 128, 320, 768], depths: [1, 3, 8, 2], group: 16 },
        6_263_168,
        &[pycls("timm/regnety_008.pycls_in1k")],
    ),
    row(
        "regnety_008_tv",
        Args { widths: [64, 144, 320, 784], depths: [1, 3, 8, 2], group: 16 },
        6_432_512,
        &[tv("regnet_y_800mf-58fc7688.pth", 78.828)],
    ),
    row(
        "regnety_016",
        Args { widths: [48, 120, 336, 888], depths: [2, 6, 17, 2], group: 24 },
        11_202_430,
        &[tv("regnet_y_1_6gf-0d7bc02a.pth", 80.876), pycls("timm/regnety_016.pycls_in1k")],
    ),
    row(
        "regnety_032",
        Args { widths: [72, 216, 576, 1512], depths: [2, 5, 13, 1], group: 24 },
        19_436_338,
        &[
            tv("regnet_y_3_2gf-9180c971.pth", 81.982),
            ra("ra_in1k", "timm/regnety_032.ra_in1k"),
            pycls("timm/regnety_032.pycls_in1k"),
        ],
    ),
    row(
        "regnety_040",
        Args { widths: [128, 192, 512, 1088], depths: [2, 6, 12, 2], group: 64 },
        20_646_656,
        &[ra("ra3_in1k", "timm/regnety_040.ra3_in1k"), pycls("timm/regnety_040.pycls_in1k")],
    ),
    row(
        "regnety_064",
        Args { widths: [144, 288, 576, 1296], depths: [2, 7, 14, 2], group: 72 },
        30_583_252,
        &[ra("ra3_in1k", "timm/regnety_064.ra3_in1k"), pycls("timm/regnety_064.pycls_in1k")],
    ),
    row(
        "regnety_080",
        Args { widths: [168, 448, 896, 2016], depths: [2, 4, 10, 1], group: 56 },
        39_180_068,
        &[ra("ra3_in1k", "timm/regnety_080.ra3_in1k"), pycls("timm/regnety_080.pycls_in1k")],
    ),
    row(
        "regnety_080_tv",
        Args { widths: [224, 448, 896, 2016], depths: [2, 4, 10, 1], group: 56 },
        39_381_472,
        &[tv("regnet_y_8gf-dc2b1b54.pth", 82.828)],
    ),
];

/// Squeeze-and-excitation to a quarter of the block's input.
#[derive(Module, Debug)]
struct Se {
    fc1: Conv2d,
    fc2: Conv2d,
}

/// 1×1, 3×3 in groups, gate, 1×1, around a shortcut.
#[derive(Module, Debug)]
struct Block {
    conv1: ConvNorm,
    conv2: ConvNorm,
    se: Se,
    conv3: ConvNorm,
    downsample: Option<ConvNorm>,
    #[module(skip)]
    drop: DropPath,
}

impl Block {
    fn new(c_in: usize, width: usize, stride: usize, group: usize, eps: f64, device: &Device) -> Self {
        let norm = |spec| ConvNorm::new(spec, eps, device);
        let gate = |c_in, c_out| ConvSpec::new(c_in, c_out, 1).with_bias().init(device);
        let shortcut = || norm(ConvSpec::new(c_in, width, 1).stride(stride));
        Self {
            conv1: norm(ConvSpec::new(c_in, width, 1)),
            conv2: norm(ConvSpec::new(width, width, 3).stride(stride).groups(width / group)),
            se: Se { fc1: gate(width, c_in / 4), fc2: gate(c_in / 4, width) },
            conv3: norm(ConvSpec::new(width, width, 1)),
            downsample: (c_in != width || stride != 1).then(shortcut),
            drop: DropPath::default(),
        }
    }

    fn forward(&self, x: Map) -> Map {
        let [x, shortcut] = x.fork();
        let shortcut = match &self.downsample {
            Some(layer) => layer.forward(shortcut, Act::None),
            None => shortcut,
        };
        let y = self.conv2.forward(self.conv1.forward(x, Act::Relu), Act::Relu);
        let y = squeeze_excite(y, &self.se.fc1, &self.se.fc2, Act::Relu, Act::Sigmoid);
        self.conv3.join(y, shortcut, Act::Relu, self.drop)
    }
}

/// The backbone: stem, four stages, global average pooling.
#[derive(Module, Debug)]
pub struct RegNet {
    stem: ConvNorm,
    s1: Vec<Block>,
    s2: Vec<Block>,
    s3: Vec<Block>,
    s4: Vec<Block>,
}

impl RegNet {
    fn stages(&self) -> [&Vec<Block>; 4] {
        [&self.s1, &self.s2, &self.s3, &self.s4]
    }
}

impl Family for RegNet {
    type Args = Args;
    const VARIANTS: &'static [Variant<Args>] = VARIANTS;
    const CLASSIFIER: &'static str = "head.fc";
    const DIALECTS: &'static [Dialect] = &[Dialect::Torchvision];

    fn new(variant: &Variant<Args>, options: &ModelOptions, device: &Device) -> Self {
        let Args { widths, depths, group } = variant.args;
        let eps = options.bn_eps.unwrap_or(1e-5);
        let mut channels = STEM;
        let [s1, s2, s3, s4] = [0, 1, 2, 3].map(|i| {
            let block = |j| {
                let (c_in, stride) = if j == 0 { (channels, 2) } else { (widths[i], 1) };
                Block::new(c_in, widths[i], stride, group, eps, device)
            };
            let blocks = (0..depths[i]).map(block).collect();
            channels = widths[i];
            blocks
        });
        let stem = ConvNorm::new(ConvSpec::new(options.in_chans, STEM, 3).stride(2), eps, device);
        Self { stem, s1, s2, s3, s4 }
    }

    fn groups(&self) -> Vec<Group> {
        ["stem", "s1", "s2", "s3", "s4"].map(|name| Group::new(name, &[name])).into()
    }

    fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
        let mut x = x.map();
        let Some(stage) = index.checked_sub(1) else {
            return Flow::Map(tap.at("stem", self.stem.forward(x, Act::Relu))); // [N, 32, H/2, W/2]
        };
        for (i, block) in self.stages()[stage].iter().enumerate() {
            x = tap.at(&format!("s{index}.b{}", i + 1), block.forward(x));
        }
        x = tap.at(&format!("s{index}"), x);
        if index < 4 { Flow::Map(x) } else { Flow::Flat(global_avg_pool(x)) }
    }

    fn drop_paths(&mut self) -> Vec<&mut DropPath> {
        let stages = [&mut self.s1, &mut self.s2, &mut self.s3, &mut self.s4];
        stages.into_iter().flatten().map(|block| &mut block.drop).collect()
    }

    fn key(&self, path: &str) -> String {
        match path.splitn(3, '.').collect::<Vec<_>>()[..] {
            [stage @ ("s1" | "s2" | "s3" | "s4"), block, rest] => {
                format!("{stage}.b{}.{rest}", block.parse::<usize>().expect("a block") + 1)
            }
            _ => path.to_string(),
        }
    }

    fn foreign(&self, _: Dialect, key: &str) -> String {
        torchvision(key)
    }
}

/// Turns timm's name into torchvision's, which counts blocks from 0 and names each after its stage.
fn torchvision(key: &str) -> String {
    let pair = |layer: &str| if layer == "conv" { "0" } else { "1" };
    match key.split('.').collect::<Vec<_>>()[..] {
        ["stem", layer, leaf] => format!("stem.{}.{leaf}", pair(layer)),
        ["head", "fc", ref rest @ ..] => [&["fc"], rest].concat().join("."),
        [stage, block, part, ref rest @ ..] => {
            let (stage, block) = (&stage[1..], block[1..].parse::<usize>().expect("a block") - 1);
            let at = format!("trunk_output.block{stage}.block{stage}-{block}");
            match (part, rest) {
                ("se", [layer, leaf]) => format!("{at}.f.se.{layer}.{leaf}"),
                ("downsample", [layer, leaf]) => format!("{at}.proj.{}.{leaf}", pair(layer)),
                ("conv1", [layer, leaf]) => format!("{at}.f.a.{}.{leaf}", pair(layer)),
                ("conv2", [layer, leaf]) => format!("{at}.f.b.{}.{leaf}", pair(layer)),
                ("conv3", [layer, leaf]) => format!("{at}.f.c.{}.{leaf}", pair(layer)),
                _ => panic!("RegNet has no `{key}`"),
            }
        }
        _ => panic!("RegNet has no `{key}`"),
    }
}
