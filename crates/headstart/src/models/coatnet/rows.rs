//! The networks of the CoAtNet family, as timm's configurations have them.

use super::super::layers::Act;
use super::super::spec::{Filter, InputSpec, Row, TimmName, Variant, Weights};

/// What tells the variants apart.
#[derive(Debug)]
pub struct Args {
    pub stem: [usize; 2],
    pub widths: [usize; 4],
    pub depths: [usize; 4],
    /// How the branch of a convolutional stage's first block halves the map.
    pub shrink: Shrink,
    /// Shortcuts and transformers shrink by 3×3 max pooling, not by the mean of 2×2.
    pub max_pool: bool,
    /// Convolutional blocks: a bias in the last convolution and in the shortcut.
    pub conv_bias: bool,
    /// Transformers: a bias in the shortcut.
    pub shortcut_bias: bool,
    /// An activation behind the first norm of convolutional blocks.
    pub early_act: bool,
    /// The gate stands before the second norm, not behind it.
    pub early_gate: bool,
    /// The gate's inner activation.
    pub gate_act: Act,
    /// Where the bias by distance comes from.
    pub position: Position,
    /// A factor for each channel of attention and perceptron.
    pub layer_scale: bool,
}

/// How a branch halves the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shrink {
    /// The mean of 2×2 before the first convolution.
    Pool,
    /// The depthwise convolution's stride.
    Depthwise,
}

/// Where the bias by distance comes from.
#[derive(Clone, Copy, Debug)]
pub enum Position {
    /// A table.
    Table,
    /// A network with so many hidden units.
    Network(usize),
}

const INPUT: InputSpec = InputSpec::imagenet(Filter::Bicubic).half().crop(0.95);
const NANO_INPUT: InputSpec = INPUT.crop(0.9);

const fn row(
    name: &'static str,
    args: Args,
    params: usize,
    input: InputSpec,
    weights: &'static [Weights],
) -> Variant<Args> {
    let timm = Some(TimmName { architecture: name, model_args: None });
    let (num_features, paper) = (args.widths[3], "https://arxiv.org/abs/2106.04803");
    Variant { row: Row { name, num_features, params, min_size: 32, input, paper, timm, weights }, args }
}

const NANO: Args = Args {
    stem: [32, 64],
    widths: [64, 128, 256, 512],
    depths: [3, 4, 6, 3],
    shrink: Shrink::Pool,
    max_pool: false,
    conv_bias: true,
    shortcut_bias: true,
    early_act: false,
    early_gate: false,
    gate_act: Act::Silu,
    position: Position::Table,
    layer_scale: false,
};

const ZERO: Args = Args {
    widths: [96, 192, 384, 768],
    depths: [2, 3, 7, 2],
    conv_bias: false,
    shortcut_bias: false,
    early_act: true,
    early_gate: true,
    gate_act: Act::Relu,
    ..NANO
};

const ONE: Args = Args { depths: [2, 6, 14, 2], shrink: Shrink::Depthwise, ..ZERO };

const RMLP_ONE_2: Args =
    Args { shortcut_bias: true, early_gate: false, position: Position::Network(512), ..ONE };

const TWO: Args = Args {
    stem: [64, 128],
    widths: [128, 256, 512, 1024],
    gate_act: Act::Silu,
    position: Position::Table,
    ..RMLP_ONE_2
};

pub(super) const VARIANTS: &[Variant<Args>] = &[
    row(
        "coatnet_nano_rw_224",
        NANO,
        15_141_244,
        NANO_INPUT,
        &[Weights::hub("sw_in1k", "timm/coatnet_nano_rw_224.sw_in1k", NANO_INPUT)],
    ),
    row(
        "coatnet_0_rw_224",
        ZERO,
        27_435_562,
        INPUT,
        &[Weights::hub("sw_in1k", "timm/coatnet_0_rw_224.sw_in1k", INPUT)],
    ),
    row(
        "coatnet_1_rw_224",
        ONE,
        41_721_502,
        INPUT,
        &[Weights::hub("sw_in1k", "timm/coatnet_1_rw_224.sw_in1k", INPUT)],
    ),
    row(
        "coatnet_2_rw_224",
        TWO,
        73_868_400,
        INPUT,
        &[Weights::hub("sw_in12k_ft_in1k", "timm/coatnet_2_rw_224.sw_in12k_ft_in1k", INPUT)],
    ),
    row(
        "coatnet_rmlp_nano_rw_224",
        Args { shrink: Shrink::Depthwise, position: Position::Network(384), ..NANO },
        15_145_116,
        NANO_INPUT,
        &[Weights::hub("sw_in1k", "timm/coatnet_rmlp_nano_rw_224.sw_in1k", NANO_INPUT)],
    ),
    row(
        "coatnet_rmlp_1_rw_224",
        Args { shrink: Shrink::Pool, max_pool: true, position: Position::Network(384), ..ONE },
        41_691_982,
        INPUT,
        &[Weights::hub("sw_in1k", "timm/coatnet_rmlp_1_rw_224.sw_in1k", INPUT)],
    ),
    row(
        "coatnet_rmlp_1_rw2_224",
        RMLP_ONE_2,
        41_724_622,
        INPUT,
        &[Weights::hub("sw_in12k_ft_in1k", "timm/coatnet_rmlp_1_rw2_224.sw_in12k_ft_in1k", INPUT)],
    ),
    row(
        "coatnet_rmlp_2_rw_224",
        Args { position: Position::Network(512), layer_scale: true, ..TWO },
        73_881_264,
        INPUT,
        &[
            Weights::hub("sw_in1k", "timm/coatnet_rmlp_2_rw_224.sw_in1k", INPUT),
            Weights::hub("sw_in12k_ft_in1k", "timm/coatnet_rmlp_2_rw_224.sw_in12k_ft_in1k", INPUT),
        ],
    ),
];
