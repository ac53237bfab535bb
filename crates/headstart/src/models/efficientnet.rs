//! EfficientNet: inverted residuals with squeeze-and-excitation, scaled in depth, width and size at once.
//!
//! Tan & Le, ICML 2019, and "EfficientNetV2", ICML 2021, whose first stages have dense convolutions. Names are
//! timm's. The `tf_` networks are as TensorFlow builds them: `SAME` padding and a BatchNorm epsilon of 1e-3.
//! `efficientnet_v2_*` are torchvision's, of even padding with that epsilon; timm's `efficientnetv2_rw_*` follow
//! the figure of the paper rather than the published code. Neither drops out before the head here.

mod rows;

use burn::module::Module;
use burn::tensor::Device;

use super::layers::{BatchNorm, Conv2d, ConvSpec, DropPath, conv_bn_act, global_avg_pool};
use super::mbconv::{self, Block, Style, split_leaf};
use super::spec::{Group, Variant};
use super::tap::Tap;
use super::{Dialect, Family, Flow, ModelOptions, PadType};
use rows::Args;

/// The backbone: stem, stages, a last 1×1, global average pooling.
#[derive(Module, Debug)]
pub struct EfficientNet {
    conv_stem: Conv2d,
    bn1: BatchNorm,
    blocks: Vec<Vec<Block>>,
    conv_head: Conv2d,
    bn2: BatchNorm,
    #[module(skip)]
    style: Style,
}

impl Family for EfficientNet {
    type Args = Args;
    const VARIANTS: &'static [Variant<Args>] = rows::VARIANTS;
    const CLASSIFIER: &'static str = "classifier";
    const DIALECTS: &'static [Dialect] = &[Dialect::Torchvision];

    fn new(variant: &Variant<Args>, options: &ModelOptions, device: &Device) -> Self {
        let args = &variant.args;
        let style = Style {
            same: options.pad_type.map_or(args.style.same, |p| p == PadType::Same),
            bn_eps: options.bn_eps.unwrap_or(args.style.bn_eps),
            ..args.style
        };
        let stem = style.round(args.stem);
        let blocks = mbconv::stages(args.stages, &style, stem, device);
        let features = variant.row.num_features;
        let last = style.round(args.last);
        Self {
            conv_stem: ConvSpec::new(options.in_chans, stem, 3)
                .stride(2)
                .padding(style.padding(3))
                .init(device),
            bn1: style.bn(stem, device),
            blocks,
            conv_head: ConvSpec::new(last, features, 1).init(device),
            bn2: style.bn(features, device),
            style,
        }
    }

    fn groups(&self) -> Vec<Group> {
        mbconv::groups(self.blocks.len(), &["conv_head", "bn2"])
    }

    fn drop_paths(&mut self) -> Vec<&mut DropPath> {
        mbconv::drop_paths(&mut self.blocks)
    }

    fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
        let (x, act) = (x.map(), self.style.act);
        if index == 0 {
            let x = conv_bn_act(&self.conv_stem, &self.bn1, x, None, act); // [N, C, H/2, W/2]
            return Flow::Map(tap.at("conv_stem", x));
        }
        let Some(stage) = self.blocks.get(index - 1) else {
            let x = conv_bn_act(&self.conv_head, &self.bn2, x, None, act); // [N, F, H/32, W/32]
            return Flow::Flat(global_avg_pool(tap.at("conv_head", x)));
        };
        Flow::Map(mbconv::run(stage, index - 1, x, tap))
    }

    fn foreign(&self, _: Dialect, key: &str) -> String {
        let (layer, leaf) = split_leaf(key);
        let last = self.blocks.len() + 1;
        match layer.splitn(4, '.').collect::<Vec<_>>()[..] {
            ["conv_stem"] => format!("features.0.0.{leaf}"),
            ["bn1"] => format!("features.0.1.{leaf}"),
            ["conv_head"] => format!("features.{last}.0.{leaf}"),
            ["bn2"] => format!("features.{last}.1.{leaf}"),
            ["blocks", stage, block, layer] => {
                let (s, b): (usize, usize) =
                    (stage.parse().expect("a stage"), block.parse().expect("a block"));
                let number = mbconv::torchvision(self.blocks[s][b].kind(), layer);
                format!("features.{}.{block}.block.{number}.{leaf}", s + 1)
            }
            _ if key.starts_with("classifier") => key.replacen("classifier", "classifier.1", 1),
            _ => panic!("EfficientNet has no `{key}`"),
        }
    }
}
