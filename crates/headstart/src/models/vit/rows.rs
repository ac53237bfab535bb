//! The networks of the ViT family.

use super::super::layers::Act;
use super::super::spec::{Filter, InputSpec, Place, Row, TimmName, Variant, Weights};

/// What tells the networks apart.
#[derive(Debug)]
pub struct Args {
    pub(super) patch: usize,
    pub(super) width: usize,
    pub(super) depth: usize,
    pub(super) heads: usize,
    pub(super) class_token: bool,
    /// Whether the class token has a position.
    pub(super) class_position: bool,
    pub(super) norm_pre: bool,
    pub(super) layer_scale: bool,
    pub(super) act: Act,
    pub(super) eps: f64,
}

const fn args(patch: usize, [width, depth, heads]: [usize; 3]) -> Args {
    Args {
        patch,
        width,
        depth,
        heads,
        class_token: true,
        class_position: true,
        norm_pre: false,
        layer_scale: false,
        act: Act::Gelu,
        eps: 1e-6,
    }
}

const fn clip(patch: usize, size: [usize; 3], act: Act) -> Args {
    Args { norm_pre: true, eps: 1e-5, act, ..args(patch, size) }
}

const TINY: [usize; 3] = [192, 12, 3];
const SMALL: [usize; 3] = [384, 12, 6];
const BASE: [usize; 3] = [768, 12, 12];
const LARGE: [usize; 3] = [1024, 24, 16];

const BICUBIC: InputSpec = InputSpec::imagenet(Filter::Bicubic).crop(0.9);
const HALF: InputSpec = BICUBIC.half();
const TV: InputSpec = InputSpec::imagenet(Filter::Bilinear);
const DINO: InputSpec = BICUBIC.sized(518).crop(1.0);
const CLIP: InputSpec = InputSpec {
    mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
    std: [0.268_629_55, 0.261_302_6, 0.275_777_1],
    ..BICUBIC
};

const VIT: &str = "https://arxiv.org/abs/2010.11929";
const DEIT: &str = "https://arxiv.org/abs/2012.12877";
const DEIT3: &str = "https://arxiv.org/abs/2204.07118";
const DINOV2: &str = "https://arxiv.org/abs/2304.07193";
const RADFORD: &str = "https://arxiv.org/abs/2103.00020";

const fn row(
    name: &'static str,
    args: Args,
    params: usize,
    paper: &'static str,
    input: InputSpec,
    weights: &'static [Weights],
) -> Variant<Args> {
    let timm = Some(TimmName { architecture: name, model_args: None });
    let (num_features, min_size) = (args.width, args.patch);
    Variant { row: Row { name, num_features, params, min_size, input, paper, timm, weights }, args }
}

const MAE: Weights = Weights {
    tag: "mae",
    place: Place::Hub("timm/vit_base_patch16_224.mae"),
    input: BICUBIC,
    license: "CC-BY-NC-4.0",
    top1: None,
};

pub(super) const VARIANTS: &[Variant<Args>] = &[
    row(
        "vit_tiny_patch16_224",
        args(16, TINY),
        5_717_416,
        VIT,
        HALF,
        &[Weights::hub("augreg_in21k_ft_in1k", "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", HALF)],
    ),
    row(
        "vit_small_patch16_224",
        args(16, SMALL),
        22_050_664,
        VIT,
        HALF,
        &[
            Weights::hub("augreg_in21k_ft_in1k", "timm/vit_small_patch16_224.augreg_in21k_ft_in1k", HALF),
            Weights::hub("augreg_in1k", "timm/vit_small_patch16_224.augreg_in1k", HALF),
            Weights::hub("dino", "timm/vit_small_patch16_224.dino", BICUBIC),
        ],
    ),
    row(
        "vit_base_patch16_224",
        args(16, BASE),
        86_567_656,
        VIT,
        HALF,
        &[
            Weights::hub("augreg2_in21k_ft_in1k", "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k", HALF),
            Weights::hub("augreg_in21k_ft_in1k", "timm/vit_base_patch16_224.augreg_in21k_ft_in1k", HALF),
            Weights::hub("augreg_in1k", "timm/vit_base_patch16_224.augreg_in1k", HALF),
            Weights::hub("dino", "timm/vit_base_patch16_224.dino", BICUBIC),
            MAE,
            Weights::torchvision("tv_in1k", "vit_b_16-c867db91.pth", TV, 81.072),
        ],
    ),
    row(
        "vit_large_patch16_224",
        args(16, LARGE),
        304_326_632,
        VIT,
        HALF,
        &[
            Weights::hub("augreg_in21k_ft_in1k", "timm/vit_large_patch16_224.augreg_in21k_ft_in1k", HALF),
            Weights::torchvision("tv_in1k", "vit_l_16-852ce7e3.pth", TV.crop(0.9256), 79.662),
        ],
    ),
    row(
        "vit_small_patch32_224",
        args(32, SMALL),
        22_878_952,
        VIT,
        HALF,
        &[Weights::hub("augreg_in21k_ft_in1k", "timm/vit_small_patch32_224.augreg_in21k_ft_in1k", HALF)],
    ),
    row(
        "vit_base_patch32_224",
        args(32, BASE),
        88_224_232,
        VIT,
        HALF,
        &[
            Weights::hub("augreg_in21k_ft_in1k", "timm/vit_base_patch32_224.augreg_in21k_ft_in1k", HALF),
            Weights::hub("augreg_in1k", "timm/vit_base_patch32_224.augreg_in1k", HALF),
            Weights::torchvision("tv_in1k", "vit_b_32-d86f8d99.pth", TV, 75.912),
        ],
    ),
    row(
        "vit_large_patch32_224",
        args(32, LARGE),
        306_535_400,
        VIT,
        HALF,
        &[Weights::torchvision("tv_in1k", "vit_l_32-c7638314.pth", TV, 76.972)],
    ),
    row(
        "vit_base_patch16_gap_224",
        Args { class_token: false, ..args(16, [768, 12, 16]) },
        86_566_120,
        VIT,
        HALF,
        &[],
    ),
    row(
        "deit_tiny_patch16_224",
        args(16, TINY),
        5_717_416,
        DEIT,
        BICUBIC,
        &[Weights::hub("fb_in1k", "timm/deit_tiny_patch16_224.fb_in1k", BICUBIC)],
    ),
    row(
        "deit_small_patch16_224",
        args(16, SMALL),
        22_050_664,
        DEIT,
        BICUBIC,
        &[Weights::hub("fb_in1k", "timm/deit_small_patch16_224.fb_in1k", BICUBIC)],
    ),
    row(
        "deit_base_patch16_224",
        args(16, BASE),
        86_567_656,
        DEIT,
        BICUBIC,
        &[Weights::hub("fb_in1k", "timm/deit_base_patch16_224.fb_in1k", BICUBIC)],
    ),
    row(
        "deit3_small_patch16_224",
        Args { class_position: false, layer_scale: true, ..args(16, SMALL) },
        22_059_496,
        DEIT3,
        BICUBIC,
        &[
            Weights::hub("fb_in1k", "timm/deit3_small_patch16_224.fb_in1k", BICUBIC),
            Weights::hub(
                "fb_in22k_ft_in1k",
                "timm/deit3_small_patch16_224.fb_in22k_ft_in1k",
                BICUBIC.crop(1.0),
            ),
        ],
    ),
    row(
        "deit3_base_patch16_224",
        Args { class_position: false, layer_scale: true, ..args(16, BASE) },
        86_585_320,
        DEIT3,
        BICUBIC,
        &[
            Weights::hub("fb_in1k", "timm/deit3_base_patch16_224.fb_in1k", BICUBIC),
            Weights::hub(
                "fb_in22k_ft_in1k",
                "timm/deit3_base_patch16_224.fb_in22k_ft_in1k",
                BICUBIC.crop(1.0),
            ),
        ],
    ),
    row(
        "vit_small_patch14_dinov2",
        Args { layer_scale: true, ..args(14, SMALL) },
        22_441_192,
        DINOV2,
        DINO,
        &[Weights::hub("lvd142m", "timm/vit_small_patch14_dinov2.lvd142m", DINO)],
    ),
    row(
        "vit_base_patch14_dinov2",
        Args { layer_scale: true, ..args(14, BASE) },
        87_348_712,
        DINOV2,
        DINO,
        &[Weights::hub("lvd142m", "timm/vit_base_patch14_dinov2.lvd142m", DINO)],
    ),
    row(
        "vit_base_patch16_clip_224",
        clip(16, BASE, Act::Gelu),
        86_568_424,
        RADFORD,
        CLIP,
        &[
            Weights::hub(
                "openai_ft_in12k_in1k",
                "timm/vit_base_patch16_clip_224.openai_ft_in12k_in1k",
                CLIP.crop(0.95),
            ),
            Weights::hub(
                "laion2b_ft_in12k_in1k",
                "timm/vit_base_patch16_clip_224.laion2b_ft_in12k_in1k",
                CLIP.crop(0.95),
            ),
            Weights::hub("openai_ft_in1k", "timm/vit_base_patch16_clip_224.openai_ft_in1k", CLIP),
            Weights::hub("laion2b", "timm/vit_base_patch16_clip_224.laion2b", CLIP.crop(1.0)),
            Weights::hub("datacompxl", "timm/vit_base_patch16_clip_224.datacompxl", CLIP.crop(1.0)),
        ],
    ),
    row(
        "vit_base_patch32_clip_224",
        clip(32, BASE, Act::Gelu),
        88_225_000,
        RADFORD,
        CLIP,
        &[
            Weights::hub(
                "laion2b_ft_in12k_in1k",
                "timm/vit_base_patch32_clip_224.laion2b_ft_in12k_in1k",
                CLIP,
            ),
            Weights::hub("openai_ft_in1k", "timm/vit_base_patch32_clip_224.openai_ft_in1k", CLIP),
            Weights::hub("laion2b", "timm/vit_base_patch32_clip_224.laion2b", CLIP),
            Weights::hub("datacompxl", "timm/vit_base_patch32_clip_224.datacompxl", CLIP.crop(1.0)),
        ],
    ),
    // timm keeps weights made with QuickGELU under the name without it.
    row(
        "vit_base_patch16_clip_quickgelu_224",
        clip(16, BASE, Act::QuickGelu),
        86_568_424,
        RADFORD,
        CLIP,
        &[Weights::hub("openai", "timm/vit_base_patch16_clip_224.openai", CLIP)],
    ),
    row(
        "vit_base_patch32_clip_quickgelu_224",
        clip(32, BASE, Act::QuickGelu),
        88_225_000,
        RADFORD,
        CLIP,
        &[Weights::hub("openai", "timm/vit_base_patch32_clip_224.openai", CLIP)],
    ),
    row(
        "vit_large_patch14_clip_224",
        clip(14, LARGE, Act::Gelu),
        304_204_776,
        RADFORD,
        CLIP.crop(1.0),
        &[Weights::hub(
            "openai_ft_in12k_in1k",
            "timm/vit_large_patch14_clip_224.openai_ft_in12k_in1k",
            CLIP.crop(1.0),
        )],
    ),
    row(
        "vit_large_patch14_clip_quickgelu_224",
        clip(14, LARGE, Act::QuickGelu),
        304_204_776,
        RADFORD,
        CLIP.crop(1.0),
        &[Weights::hub("openai", "timm/vit_large_patch14_clip_224.openai", CLIP.crop(1.0))],
    ),
];
