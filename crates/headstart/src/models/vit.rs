//! ViT: a picture as a sequence of patches, between which a transformer attends.
//!
//! Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, in timm's names; torchvision's files are
//! understood too. The family holds its descendants that differ in weights or in a detail:
//!
//! | networks | differ by |
//! |---|---|
//! | `vit_*_patch*_224`  | nothing; weights of "How to train your ViT?", 2022 |
//! | `deit_*`            | weights: Touvron et al. 2021, trained on ImageNet alone |
//! | `deit3_*`           | LayerScale, no position for the class token: Touvron et al. 2022 |
//! | `vit_*_dinov2`      | LayerScale; weights of Oquab et al. 2023, learned without labels |
//! | `vit_*_clip_*`      | a LayerNorm before the blocks: the picture half of CLIP, Radford et al. 2021 |
//! | `vit_base_patch16_gap_224` | no class token: the embedding is the mean of the patches |
//!
//! Each block is a group of its own, so that layer decay and gradual thawing go block by block; the last
//! norm belongs to the last block. Pictures of other sizes work: the position embedding is resampled, and
//! what does not fill a patch at the right and bottom is left out.

mod rows;

use burn::Tensor;
use burn::module::{Module, Param};
use burn::tensor::Device;

use super::layers::{
    Act, Attention, Branch, Conv2d, ConvSpec, DropPath, LayerNorm, LayerScale, Linears, Map, Mlp, Padding,
    Tokens, resample_pos_embed,
};
use super::spec::{Group, Variant};
use super::tap::Tap;
use super::{Dialect, Family, Flow, ModelOptions};
use rows::Args;

/// Attention, then a perceptron, each after a LayerNorm and around a shortcut.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    attn: Attention,
    ls1: Option<LayerScale>,
    norm2: LayerNorm,
    mlp: Mlp,
    ls2: Option<LayerScale>,
    #[module(skip)]
    drop: DropPath,
}

impl Block {
    fn new(args: &Args, device: &Device) -> Self {
        let width = args.width;
        let scale = || args.layer_scale.then(|| LayerScale::new(width, device));
        let norm = || LayerNorm::new(width, args.eps, device);
        Self {
            norm1: norm(),
            attn: Attention::new(width, args.heads, device),
            ls1: scale(),
            norm2: norm(),
            mlp: Mlp::new(width, 4 * width, args.act, device),
            ls2: scale(),
            drop: DropPath::default(),
        }
    }

    fn branch<'a>(&self, scale: &'a Option<LayerScale>) -> Branch<'a> {
        Branch { scale: scale.as_ref().map(|s| &s.gamma), drop: self.drop }
    }

    fn forward(&self, x: Tokens) -> Tokens {
        let x = self.attn.forward(self.norm1.tokens(x.clone()), self.branch(&self.ls1), x);
        self.mlp.forward(self.norm2.tokens(x.clone()), self.branch(&self.ls2), x)
    }
}

/// Cuts the picture into patches and projects each.
#[derive(Module, Debug)]
struct PatchEmbed {
    proj: Conv2d,
}

/// The backbone: patches, positions, blocks, a last norm, the class token or the mean.
#[derive(Module, Debug)]
pub struct ViT {
    cls_token: Option<Param<Tensor<3>>>,
    pos_embed: Param<Tensor<3>>,
    patch_embed: PatchEmbed,
    norm_pre: Option<LayerNorm>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    #[module(skip)]
    side: usize,
}

impl ViT {
    fn embed(&self, x: Map, tap: &mut Tap) -> Tokens {
        let x = tap.at("patch_embed", self.patch_embed.proj.forward(x, Act::None)); // [N, C, H/p, W/p]
        let x = Tokens::from_map(x);
        let format = x.clone().into_tensor().dtype();
        let pos = resample_pos_embed(self.pos_embed.val(), self.side, x.grid()).cast(format);
        let covers_class = pos.dims()[1] > x.dims()[1];
        let x = match &self.cls_token {
            Some(token) if covers_class => x.prepend(token.val().cast(format)).apply(|x| x + pos),
            Some(token) => x.apply(|x| x + pos).prepend(token.val().cast(format)),
            None => x.apply(|x| x + pos),
        };
        match &self.norm_pre {
            Some(norm) => norm.tokens(x),
            None => x,
        }
    }

    fn pool(&self, x: Tokens) -> Tensor<2> {
        if self.cls_token.is_some() {
            return self.norm.flat(x.first());
        }
        self.norm.tokens(x).mean()
    }
}

impl Family for ViT {
    type Args = Args;
    const VARIANTS: &'static [Variant<Args>] = rows::VARIANTS;
    const CLASSIFIER: &'static str = "head";
    const FIXED_SIZE: bool = true;
    const DIALECTS: &'static [Dialect] = &[Dialect::Torchvision, Dialect::TorchvisionOld];

    fn new(variant: &Variant<Args>, options: &ModelOptions, device: &Device) -> Self {
        let args = &variant.args;
        let Args { width, patch, .. } = *args;
        let side = variant.row.input.size / patch;
        let positions = side * side + usize::from(args.class_token && args.class_position);
        let param = |tokens| Param::from_tensor(Tensor::zeros([1, tokens, width], device));
        let proj = ConvSpec::new(options.in_chans, width, patch).stride(patch).padding(Padding::Even(0));
        Self {
            cls_token: args.class_token.then(|| param(1)),
            pos_embed: param(positions),
            patch_embed: PatchEmbed { proj: ConvSpec { bias: !args.norm_pre, ..proj }.init(device) },
            norm_pre: args.norm_pre.then(|| LayerNorm::new(width, args.eps, device)),
            blocks: (0..args.depth).map(|_| Block::new(args, device)).collect(),
            norm: LayerNorm::new(width, args.eps, device),
            side,
        }
    }

    fn groups(&self) -> Vec<Group> {
        let mut stem = vec!["pos_embed", "patch_embed"];
        stem.extend(self.cls_token.is_some().then_some("cls_token"));
        stem.extend(self.norm_pre.is_some().then_some("norm_pre"));
        let mut groups = vec![Group::new("stem", &stem)];
        let names = (0..self.blocks.len()).map(|i| format!("blocks.{i}"));
        groups.extend(names.map(|name| Group::new(&name, &[&name])));
        groups.last_mut().expect("blocks").prefixes.push("norm".into());
        groups
    }

    fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
        let Some(index) = index.checked_sub(1) else {
            return Flow::Tokens(self.embed(x.map(), tap)); // [N, 1 + H/p · W/p, C]
        };
        let x = tap.tokens(&format!("blocks.{index}"), self.blocks[index].forward(x.tokens()));
        if index + 1 < self.blocks.len() { Flow::Tokens(x) } else { Flow::Flat(self.pool(x)) }
    }

    fn drop_paths(&mut self) -> Vec<&mut DropPath> {
        self.blocks.iter_mut().map(|block| &mut block.drop).collect()
    }

    fn linears(&mut self) -> Linears<'_> {
        let mut all = Linears::new();
        for (i, block) in self.blocks.iter_mut().enumerate() {
            block.attn.linears(&format!("blocks.{i}.attn"), &mut all);
            block.mlp.linears(&format!("blocks.{i}.mlp"), &mut all);
        }
        all
    }

    fn foreign(&self, dialect: Dialect, key: &str) -> String {
        torchvision(key, dialect == Dialect::TorchvisionOld)
    }
}

/// Turns timm's name into torchvision's; older files number the perceptron's layers differently.
fn torchvision(key: &str, old: bool) -> String {
    let parts: Vec<&str> = key.splitn(3, '.').collect();
    match parts[..] {
        ["cls_token"] => "class_token".into(),
        ["pos_embed"] => "encoder.pos_embedding".into(),
        ["patch_embed", "proj", leaf] => format!("conv_proj.{leaf}"),
        ["norm", leaf] => format!("encoder.ln.{leaf}"),
        ["head", ..] => format!("heads.{key}"),
        ["blocks", index, rest] => {
            let rest = match rest {
                "attn.qkv.weight" => "self_attention.in_proj_weight".to_string(),
                "attn.qkv.bias" => "self_attention.in_proj_bias".to_string(),
                _ => rest
                    .replace("attn.proj", "self_attention.out_proj")
                    .replace("norm", "ln_")
                    .replace("fc1", if old { "linear_1" } else { "0" })
                    .replace("fc2", if old { "linear_2" } else { "3" }),
            };
            format!("encoder.layers.encoder_layer_{index}.{rest}")
        }
        // Details torchvision's ViT lacks.
        _ => key.into(),
    }
}
