//! The networks of the ResNet family.

use super::super::spec::{Filter, InputSpec, Place, Row, TimmName, Variant, Weights};
use super::Args;

const PAPER: &str = "https://arxiv.org/abs/1512.03385";
const BILINEAR: InputSpec = InputSpec::imagenet(Filter::Bilinear);
const BICUBIC: InputSpec = InputSpec::imagenet(Filter::Bicubic);

const fn row(name: &'static str, num_features: usize, params: usize, weights: &'static [Weights]) -> Row {
    let timm = Some(TimmName { architecture: name, model_args: None });
    Row { name, num_features, params, min_size: 32, input: BILINEAR, paper: PAPER, timm, weights }
}

const RESNEXT: &str = "https://arxiv.org/abs/1611.05431";
const WIDE: &str = "https://arxiv.org/abs/1605.07146";
const SE: &str = "https://arxiv.org/abs/1709.01507";

const fn relative(
    name: &'static str,
    args: Args,
    params: usize,
    paper: &'static str,
    weights: &'static [Weights],
) -> Variant<Args> {
    Variant { row: Row { paper, ..row(name, 2048, params, weights) }, args }
}

const fn se(
    name: &'static str,
    num_features: usize,
    args: Args,
    params: usize,
    weights: &'static [Weights],
) -> Variant<Args> {
    let row = row(name, num_features, params, weights);
    Variant { row: Row { paper: SE, input: BICUBIC, ..row }, args: args.se() }
}

pub(super) const VARIANTS: &[Variant<Args>] = &[
    Variant {
        row: row(
            "resnet18",
            512,
            11_689_512,
            &[
                Weights::torchvision("tv_in1k", "resnet18-f37072fd.pth", BILINEAR, 69.758),
                Weights::hub("a1_in1k", "timm/resnet18.a1_in1k", BICUBIC),
            ],
        ),
        args: Args::basic([2, 2, 2, 2]),
    },
    Variant {
        row: row(
            "resnet34",
            512,
            21_797_672,
            &[
                Weights::torchvision("tv_in1k", "resnet34-b627a593.pth", BILINEAR, 73.314),
                Weights::hub("a1_in1k", "timm/resnet34.a1_in1k", BICUBIC),
            ],
        ),
        args: Args::basic([3, 4, 6, 3]),
    },
    Variant {
        row: row(
            "resnet50",
            2048,
            25_557_032,
            &[
                Weights::torchvision("tv_in1k", "resnet50-0676ba61.pth", BILINEAR, 76.130),
                Weights::torchvision("tv2_in1k", "resnet50-11ad3fa6.pth", BILINEAR.crop(0.965), 80.858),
                Weights::hub("a1_in1k", "timm/resnet50.a1_in1k", BICUBIC.crop(0.95)),
            ],
        ),
        args: Args::bottleneck([3, 4, 6, 3]),
    },
    Variant {
        row: row(
            "resnet101",
            2048,
            44_549_160,
            &[Weights::hub("a1_in1k", "timm/resnet101.a1_in1k", BICUBIC.crop(0.95))],
        ),
        args: Args::bottleneck([3, 4, 23, 3]),
    },
    Variant {
        row: row(
            "resnet152",
            2048,
            60_192_808,
            &[Weights::hub("a1_in1k", "timm/resnet152.a1_in1k", BICUBIC.crop(0.95))],
        ),
        args: Args::bottleneck([3, 8, 36, 3]),
    },
    relative(
        "resnext50_32x4d",
        Args::bottleneck([3, 4, 6, 3]).groups(32, 4),
        25_028_904,
        RESNEXT,
        &[
            Weights::torchvision("tv_in1k", "resnext50_32x4d-7cdf4587.pth", BILINEAR, 77.618),
            Weights::hub("a1_in1k", "timm/resnext50_32x4d.a1_in1k", BICUBIC.crop(0.95)),
        ],
    ),
    relative(
        "resnext101_32x8d",
        Args::bottleneck([3, 4, 23, 3]).groups(32, 8),
        88_791_336,
        RESNEXT,
        &[Weights::torchvision("tv_in1k", "resnext101_32x8d-8ba56ff5.pth", BILINEAR, 79.312)],
    ),
    relative(
        "wide_resnet50_2",
        Args::bottleneck([3, 4, 6, 3]).groups(1, 128),
        68_883_240,
        WIDE,
        &[
            Weights::torchvision("tv_in1k", "wide_resnet50_2-95faca4d.pth", BILINEAR, 78.468),
            Weights::hub("racm_in1k", "timm/wide_resnet50_2.racm_in1k", BICUBIC),
        ],
    ),
    relative(
        "wide_resnet101_2",
        Args::bottleneck([3, 4, 23, 3]).groups(1, 128),
        126_886_696,
        WIDE,
        &[Weights::torchvision("tv_in1k", "wide_resnet101_2-32ee1156.pth", BILINEAR, 78.848)],
    ),
    se("seresnet18", 512, Args::basic([2, 2, 2, 2]), 11_779_624, &[]),
    se("seresnet34", 512, Args::basic([3, 4, 6, 3]), 21_960_416, &[]),
    se(
        "seresnet50",
        2048,
        Args::bottleneck([3, 4, 6, 3]),
        28_088_024,
        &[
            Weights::hub("ra2_in1k", "timm/seresnet50.ra2_in1k", BICUBIC.crop(0.95)),
            Weights::hub("a1_in1k", "timm/seresnet50.a1_in1k", BICUBIC.crop(0.95)),
        ],
    ),
    se("seresnet101", 2048, Args::bottleneck([3, 4, 23, 3]), 49_326_872, &[]),
    se("seresnet152", 2048, Args::bottleneck([3, 8, 36, 3]), 66_821_848, &[]),
    se(
        "seresnext50_32x4d",
        2048,
        Args::bottleneck([3, 4, 6, 3]).groups(32, 4),
        27_559_896,
        &[Weights::hub("racm_in1k", "timm/seresnext50_32x4d.racm_in1k", BICUBIC)],
    ),
    Variant {
        row: Row {
            name: "headstart_nano",
            num_features: 256,
            params: 1_487_240,
            min_size: 32,
            input: BILINEAR.sized(96),
            paper: PAPER,
            timm: None,
            weights: &[Weights {
                tag: "formula",
                place: Place::Embedded,
                input: BILINEAR.sized(96),
                license: "MIT OR Apache-2.0",
                top1: None,
            }],
        },
        args: Args::basic([1, 1, 1, 1]).width(32),
    },
];
