//! The networks of the ConvNeXt family.

use super::super::spec::{Filter, InputSpec, Place, Row, TimmName, Variant, Weights};

/// What tells the networks apart.
#[derive(Debug)]
pub struct Args {
    pub(super) depths: [usize; 4],
    /// Channels of the first stage; each next one has twice as many.
    pub(super) width: usize,
    pub(super) v2: bool,
    /// The perceptron's layers are 1×1 convolutions in the checkpoint.
    pub(super) conv_mlp: bool,
}

const V1: &str = "https://arxiv.org/abs/2201.03545";
const V2: &str = "https://arxiv.org/abs/2301.00808";
const BICUBIC: InputSpec = InputSpec::imagenet(Filter::Bicubic);
const WIDE: InputSpec = BICUBIC.crop(0.95);
const TV: InputSpec = InputSpec::imagenet(Filter::Bilinear);

/// One of the small sizes, which are timm's own.
const fn small(depths: [usize; 4], width: usize) -> Args {
    Args { depths, width, v2: false, conv_mlp: true }
}

const fn large(depths: [usize; 4], width: usize) -> Args {
    Args { depths, width, v2: false, conv_mlp: false }
}

const fn row(
    name: &'static str,
    args: Args,
    params: usize,
    input: InputSpec,
    weights: &'static [Weights],
) -> Variant<Args> {
    let timm = Some(TimmName { architecture: name, model_args: None });
    let (num_features, paper) = (args.width * 8, if args.v2 { V2 } else { V1 });
    Variant { row: Row { name, num_features, params, min_size: 32, input, paper, timm, weights }, args }
}

const fn v2(name: &'static str, args: Args, params: usize, weights: &'static [Weights]) -> Variant<Args> {
    row(name, Args { v2: true, ..args }, params, BICUBIC, weights)
}

/// V2's weights may not be used commercially.
const fn fcmae(repo: &'static str) -> Weights {
    let (tag, license) = ("fcmae_ft_in1k", "CC-BY-NC-4.0");
    Weights { tag, place: Place::Hub(repo), input: BICUBIC, license, top1: None }
}

pub(super) const VARIANTS: &[Variant<Args>] = &[
    row(
        "convnext_atto",
        small([2, 2, 6, 2], 40),
        3_695_520,
        BICUBIC,
        &[Weights::hub("d2_in1k", "timm/convnext_atto.d2_in1k", BICUBIC)],
    ),
    row(
        "convnext_femto",
        small([2, 2, 6, 2], 48),
        5_217_784,
        BICUBIC,
        &[Weights::hub("d1_in1k", "timm/convnext_femto.d1_in1k", BICUBIC)],
    ),
    row(
        "convnext_pico",
        small([2, 2, 6, 2], 64),
        9_045_672,
        BICUBIC,
        &[Weights::hub("d1_in1k", "timm/convnext_pico.d1_in1k", BICUBIC)],
    ),
    row(
        "convnext_nano",
        small([2, 2, 8, 2], 80),
        15_593_560,
        WIDE,
        &[
            Weights::hub("in12k_ft_in1k", "timm/convnext_nano.in12k_ft_in1k", WIDE),
            Weights::hub("d1h_in1k", "timm/convnext_nano.d1h_in1k", WIDE),
        ],
    ),
    row(
        "convnext_tiny",
        large([3, 3, 9, 3], 96),
        28_589_128,
        WIDE,
        &[
            Weights::hub("in12k_ft_in1k", "timm/convnext_tiny.in12k_ft_in1k", WIDE),
            Weights::hub("fb_in22k_ft_in1k", "timm/convnext_tiny.fb_in22k_ft_in1k", BICUBIC),
            Weights::hub("fb_in1k", "timm/convnext_tiny.fb_in1k", BICUBIC),
            Weights::torchvision("tv_in1k", "convnext_tiny-983f1562.pth", TV.crop(0.949), 82.52),
        ],
    ),
    row(
        "convnext_small",
        large([3, 3, 27, 3], 96),
        50_223_688,
        WIDE,
        &[
            Weights::hub("in12k_ft_in1k", "timm/convnext_small.in12k_ft_in1k", WIDE),
            Weights::hub("fb_in22k_ft_in1k", "timm/convnext_small.fb_in22k_ft_in1k", BICUBIC),
            Weights::hub("fb_in1k", "timm/convnext_small.fb_in1k", BICUBIC),
            Weights::torchvision("tv_in1k", "convnext_small-0c510722.pth", TV.crop(0.9735), 83.616),
        ],
    ),
    row(
        "convnext_base",
        large([3, 3, 27, 3], 128),
        88_591_464,
        BICUBIC,
        &[
            Weights::hub("fb_in22k_ft_in1k", "timm/convnext_base.fb_in22k_ft_in1k", BICUBIC),
            Weights::hub("fb_in1k", "timm/convnext_base.fb_in1k", BICUBIC),
            Weights::torchvision("tv_in1k", "convnext_base-6075fbad.pth", TV.crop(0.965), 84.062),
        ],
    ),
    row(
        "convnext_large",
        large([3, 3, 27, 3], 192),
        197_767_336,
        BICUBIC,
        &[
            Weights::hub("fb_in22k_ft_in1k", "timm/convnext_large.fb_in22k_ft_in1k", BICUBIC),
            Weights::hub("fb_in1k", "timm/convnext_large.fb_in1k", BICUBIC),
            Weights::torchvision("tv_in1k", "convnext_large-ea097f82.pth", TV.crop(0.965), 84.414),
        ],
    ),
    v2("convnextv2_atto", small([2, 2, 6, 2], 40), 3_708_400, &[fcmae("timm/convnextv2_atto.fcmae_ft_in1k")]),
    v2(
        "convnextv2_femto",
        small([2, 2, 6, 2], 48),
        5_233_240,
        &[fcmae("timm/convnextv2_femto.fcmae_ft_in1k")],
    ),
    v2("convnextv2_pico", small([2, 2, 6, 2], 64), 9_066_280, &[fcmae("timm/convnextv2_pico.fcmae_ft_in1k")]),
    v2(
        "convnextv2_nano",
        small([2, 2, 8, 2], 80),
        15_623_800,
        &[fcmae("timm/convnextv2_nano.fcmae_ft_in1k")],
    ),
    v2(
        "convnextv2_tiny",
        large([3, 3, 9, 3], 96),
        28_635_496,
        &[fcmae("timm/convnextv2_tiny.fcmae_ft_in1k")],
    ),
    v2(
        "convnextv2_base",
        large([3, 3, 27, 3], 128),
        88_717_800,
        &[fcmae("timm/convnextv2_base.fcmae_ft_in1k")],
    ),
    v2(
        "convnextv2_large",
        large([3, 3, 27, 3], 192),
        197_956_840,
        &[fcmae("timm/convnextv2_large.fcmae_ft_in1k")],
    ),
];
