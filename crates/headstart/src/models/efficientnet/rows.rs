//! The networks of the EfficientNet family.

use super::super::layers::Act;
use super::super::mbconv::Style;
use super::super::spec::{Filter, InputSpec, Row, TimmName, Variant, Weights};

/// What tells the networks apart.
#[derive(Debug)]
pub struct Args {
    pub(super) stages: &'static [&'static [&'static str]],
    /// Channels of the stem and of the last stage, before scaling.
    pub(super) stem: usize,
    pub(super) last: usize,
    pub(super) style: Style,
}

type Stages = &'static [&'static [&'static str]];

/// Table 1 of the first paper.
const B: Stages = &[
    &["ds_r1_k3_s1_e1_c16_se0.25"],
    &["ir_r2_k3_s2_e6_c24_se0.25"],
    &["ir_r2_k5_s2_e6_c40_se0.25"],
    &["ir_r3_k3_s2_e6_c80_se0.25"],
    &["ir_r3_k5_s1_e6_c112_se0.25"],
    &["ir_r4_k5_s2_e6_c192_se0.25"],
    &["ir_r1_k3_s1_e6_c320_se0.25"],
];

/// The second paper's networks of the first's sizes.
const V2_B: Stages = &[
    &["cn_r1_k3_s1_e1_c16_skip"],
    &["er_r2_k3_s2_e4_c32"],
    &["er_r2_k3_s2_e4_c48"],
    &["ir_r3_k3_s2_e4_c96_se0.25"],
    &["ir_r5_k3_s1_e6_c112_se0.25"],
    &["ir_r8_k3_s2_e6_c192_se0.25"],
];

/// Table 4 of the second paper, as its code has it.
const V2_S: Stages = &[
    &["cn_r2_k3_s1_e1_c24_skip"],
    &["er_r4_k3_s2_e4_c48"],
    &["er_r4_k3_s2_e4_c64"],
    &["ir_r6_k3_s2_e4_c128_se0.25"],
    &["ir_r9_k3_s1_e6_c160_se0.25"],
    &["ir_r15_k3_s2_e6_c256_se0.25"],
];

/// The same as the paper draws it.
const RW_S: Stages = &[
    &["er_r2_k3_s1_e1_c24"],
    &["er_r4_k3_s2_e4_c48"],
    &["er_r4_k3_s2_e4_c64"],
    &["ir_r6_k3_s2_e4_c128_se0.25"],
    &["ir_r9_k3_s1_e6_c160_se0.25"],
    &["ir_r15_k3_s2_e6_c272_se0.25"],
];

const V2_M: Stages = &[
    &["cn_r3_k3_s1_e1_c24_skip"],
    &["er_r5_k3_s2_e4_c48"],
    &["er_r5_k3_s2_e4_c80"],
    &["ir_r7_k3_s2_e4_c160_se0.25"],
    &["ir_r14_k3_s1_e6_c176_se0.25"],
    &["ir_r18_k3_s2_e6_c304_se0.25"],
    &["ir_r5_k3_s1_e6_c512_se0.25"],
];

const V2_L: Stages = &[
    &["cn_r4_k3_s1_e1_c32_skip"],
    &["er_r7_k3_s2_e4_c64"],
    &["er_r7_k3_s2_e4_c96"],
    &["ir_r10_k3_s2_e4_c192_se0.25"],
    &["ir_r19_k3_s1_e6_c224_se0.25"],
    &["ir_r25_k3_s2_e6_c384_se0.25"],
    &["ir_r7_k3_s1_e6_c640_se0.25"],
];

const STYLE: Style = Style {
    act: Act::Silu,
    same: false,
    bn_eps: 1e-5,
    width: 1.0,
    depth: [1.0; 2],
    round_limit: 0.9,
    hard_gate: false,
};

impl Args {
    const fn new(stages: Stages, stem: usize, last: usize) -> Self {
        Self { stages, stem, last, style: STYLE }
    }

    const fn scaled(self, width: f64, depth: f64) -> Self {
        Self { style: Style { width, depth: [depth; 2], ..self.style }, ..self }
    }

    /// As TensorFlow builds it.
    const fn tf(self) -> Self {
        Self { style: Style { same: true, bn_eps: 1e-3, ..self.style }, ..self }
    }
}

const fn v2_b(width: f64, depth: f64) -> Args {
    let args = Args::new(V2_B, 32, 192).scaled(width, depth).tf();
    Args { style: Style { round_limit: 0.0, ..args.style }, ..args }
}

/// torchvision's: TensorFlow's epsilon, PyTorch's padding.
const fn tv(args: Args) -> Args {
    Args { style: Style { bn_eps: 1e-3, ..args.style }, ..args }
}

const V1_PAPER: &str = "https://arxiv.org/abs/1905.11946";
const V2_PAPER: &str = "https://arxiv.org/abs/2104.00298";
const BICUBIC: InputSpec = InputSpec::imagenet(Filter::Bicubic);
const BILINEAR: InputSpec = InputSpec::imagenet(Filter::Bilinear);
const WHOLE: InputSpec = BICUBIC.crop(1.0);

const fn row(
    name: &'static str,
    args: Args,
    [num_features, params]: [usize; 2],
    input: InputSpec,
    weights: &'static [Weights],
) -> Variant<Args> {
    let timm = Some(TimmName { architecture: name, model_args: None });
    let paper =
        if args.stages.len() == 7 && args.stem == 32 && args.last == 320 { V1_PAPER } else { V2_PAPER };
    Variant { row: Row { name, num_features, params, min_size: 32, input, paper, timm, weights }, args }
}

/// A network of torchvision that timm has under another name.
const fn torchvision(
    name: &'static str,
    architecture: &'static str,
    args: Args,
    params: usize,
    input: InputSpec,
    weights: &'static [Weights],
) -> Variant<Args> {
    let timm = Some(TimmName { architecture, model_args: Some(r#"{"bn_eps": 0.001}"#) });
    let variant = row(name, tv(args), [1280, params], input, weights);
    Variant { row: Row { timm, ..variant.row }, ..variant }
}

pub(super) const VARIANTS: &[Variant<Args>] = &[
    row(
        "efficientnet_b0",
        Args::new(B, 32, 320),
        [1280, 5_288_548],
        BICUBIC,
        &[
            Weights::hub("ra_in1k", "timm/efficientnet_b0.ra_in1k", BICUBIC),
            Weights::torchvision("tv_in1k", "efficientnet_b0_rwightman-7f5810bc.pth", BICUBIC, 77.692),
        ],
    ),
    row(
        "efficientnet_b1",
        Args::new(B, 32, 320).scaled(1.0, 1.1),
        [1280, 7_794_184],
        BICUBIC.sized(240),
        &[
            Weights::hub("ft_in1k", "timm/efficientnet_b1.ft_in1k", BICUBIC),
            Weights::torchvision(
                "tv_in1k",
                "efficientnet_b1_rwightman-bac287d4.pth",
                BICUBIC.sized(240).crop(0.9375),
                78.642,
            ),
            Weights::torchvision(
                "tv2_in1k",
                "efficientnet_b1-c27df63c.pth",
                BILINEAR.sized(240).crop(0.9411),
                79.838,
            ),
        ],
    ),
    row(
        "efficientnet_b2",
        Args::new(B, 32, 320).scaled(1.1, 1.2),
        [1408, 9_109_994],
        BICUBIC.sized(256),
        &[
            Weights::hub("ra_in1k", "timm/efficientnet_b2.ra_in1k", BICUBIC.sized(256)),
            Weights::torchvision(
                "tv_in1k",
                "efficientnet_b2_rwightman-c35c1473.pth",
                WHOLE.sized(288),
                80.608,
            ),
        ],
    ),
    row(
        "efficientnet_b3",
        Args::new(B, 32, 320).scaled(1.2, 1.4),
        [1536, 12_233_232],
        BICUBIC.sized(288),
        &[
            Weights::hub("ra2_in1k", "timm/efficientnet_b3.ra2_in1k", BICUBIC.sized(288)),
            Weights::torchvision(
                "tv_in1k",
                "efficientnet_b3_rwightman-b3899882.pth",
                BICUBIC.sized(300).crop(0.9375),
                82.008,
            ),
        ],
    ),
    row(
        "efficientnet_b4",
        Args::new(B, 32, 320).scaled(1.4, 1.8),
        [1792, 19_341_616],
        BICUBIC.sized(320),
        &[
            Weights::hub("ra2_in1k", "timm/efficientnet_b4.ra2_in1k", BICUBIC.sized(320)),
            Weights::torchvision(
                "tv_in1k",
                "efficientnet_b4_rwightman-23ab8bcd.pth",
                BICUBIC.sized(380).crop(0.9895),
                83.384,
            ),
        ],
    ),
    row(
        "tf_efficientnetv2_b0",
        v2_b(1.0, 1.0),
        [1280, 7_139_704],
        BICUBIC.sized(192),
        &[Weights::hub("in1k", "timm/tf_efficientnetv2_b0.in1k", BICUBIC.sized(192))],
    ),
    row(
        "tf_efficientnetv2_b1",
        v2_b(1.0, 1.1),
        [1280, 8_141_052],
        BICUBIC.sized(192).crop(0.882),
        &[Weights::hub("in1k", "timm/tf_efficientnetv2_b1.in1k", BICUBIC.sized(192).crop(0.882))],
    ),
    row(
        "tf_efficientnetv2_b2",
        v2_b(1.1, 1.2),
        [1408, 10_096_086],
        BICUBIC.sized(208).crop(0.89),
        &[Weights::hub("in1k", "timm/tf_efficientnetv2_b2.in1k", BICUBIC.sized(208).crop(0.89))],
    ),
    row(
        "tf_efficientnetv2_b3",
        v2_b(1.2, 1.4),
        [1536, 14_358_406],
        BICUBIC.sized(240).crop(0.9).half(),
        &[Weights::hub(
            "in21k_ft_in1k",
            "timm/tf_efficientnetv2_b3.in21k_ft_in1k",
            BICUBIC.sized(240).crop(0.9).half(),
        )],
    ),
    row(
        "tf_efficientnetv2_s",
        Args::new(V2_S, 24, 256).tf(),
        [1280, 21_458_488],
        WHOLE.sized(300).half(),
        &[
            Weights::hub("in21k_ft_in1k", "timm/tf_efficientnetv2_s.in21k_ft_in1k", WHOLE.sized(300).half()),
            Weights::hub("in1k", "timm/tf_efficientnetv2_s.in1k", WHOLE.sized(300).half()),
        ],
    ),
    row(
        "tf_efficientnetv2_m",
        Args::new(V2_M, 24, 512).tf(),
        [1280, 54_139_356],
        WHOLE.sized(384).half(),
        &[
            Weights::hub("in21k_ft_in1k", "timm/tf_efficientnetv2_m.in21k_ft_in1k", WHOLE.sized(384).half()),
            Weights::hub("in1k", "timm/tf_efficientnetv2_m.in1k", WHOLE.sized(384).half()),
        ],
    ),
    row(
        "tf_efficientnetv2_l",
        Args::new(V2_L, 32, 640).tf(),
        [1280, 118_515_272],
        WHOLE.sized(384).half(),
        &[
            Weights::hub("in21k_ft_in1k", "timm/tf_efficientnetv2_l.in21k_ft_in1k", WHOLE.sized(384).half()),
            Weights::hub("in1k", "timm/tf_efficientnetv2_l.in1k", WHOLE.sized(384).half()),
        ],
    ),
    row(
        "efficientnetv2_rw_t",
        Args::new(V2_S, 24, 256).scaled(0.8, 0.9),
        [1024, 13_649_388],
        WHOLE,
        &[Weights::hub("ra2_in1k", "timm/efficientnetv2_rw_t.ra2_in1k", WHOLE)],
    ),
    row(
        "efficientnetv2_rw_s",
        Args::new(RW_S, 24, 272),
        [1792, 23_941_296],
        WHOLE.sized(288),
        &[Weights::hub("ra2_in1k", "timm/efficientnetv2_rw_s.ra2_in1k", WHOLE.sized(288))],
    ),
    row(
        "efficientnetv2_rw_m",
        Args { style: Style { width: 1.2, depth: [1.2, 1.6], ..STYLE }, ..Args::new(RW_S, 24, 272) },
        [2152, 53_236_442],
        WHOLE.sized(320),
        &[Weights::hub("agc_in1k", "timm/efficientnetv2_rw_m.agc_in1k", WHOLE.sized(320))],
    ),
    torchvision(
        "efficientnet_v2_s",
        "efficientnetv2_s",
        Args::new(V2_S, 24, 256),
        21_458_488,
        BILINEAR.sized(384).crop(1.0),
        &[Weights::torchvision(
            "tv_in1k",
            "efficientnet_v2_s-dd5fe13b.pth",
            BILINEAR.sized(384).crop(1.0),
            84.228,
        )],
    ),
    torchvision(
        "efficientnet_v2_m",
        "efficientnetv2_m",
        Args::new(V2_M, 24, 512),
        54_139_356,
        BILINEAR.sized(480).crop(1.0),
        &[Weights::torchvision(
            "tv_in1k",
            "efficientnet_v2_m-dc08266a.pth",
            BILINEAR.sized(480).crop(1.0),
            85.112,
        )],
    ),
    torchvision(
        "efficientnet_v2_l",
        "efficientnetv2_l",
        Args::new(V2_L, 32, 640),
        118_515_272,
        WHOLE.sized(480).half(),
        &[Weights::torchvision("tv_in1k", "efficientnet_v2_l-59c71312.pth", WHOLE.sized(480).half(), 85.808)],
    ),
];
