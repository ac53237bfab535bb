//! CLIP's text tower: what a network trained on pictures and their captions reads captions with.
//!
//! Radford et al. 2021, in OpenAI's names: a transformer in which each token sees those before it, read off where the
//! text ends, then projected into the space it shares with pictures. Tokens after the end are seen by none of those
//! that count, so they are left out, and so is padding.

use burn::Tensor;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Int, TensorData};

use super::layers::{Act, Attention, Branch, LayerNorm, Mlp, Tokens};

/// The sizes of a text tower.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextSpec {
    /// Tokens there are.
    pub vocab: usize,
    /// Longest text in tokens.
    pub context: usize,
    /// Channels; a head takes 64.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Width of the space shared with pictures.
    pub space: usize,
    /// The activation: OpenAI's [`Act::QuickGelu`], or [`Act::Gelu`].
    pub act: Act,
}

/// Attention, then a perceptron, each after a LayerNorm and around a shortcut.
#[derive(Module, Debug)]
struct ResBlock {
    ln_1: LayerNorm,
    attn: Attention,
    ln_2: LayerNorm,
    mlp: Mlp,
}

#[derive(Module, Debug)]
struct Transformer {
    resblocks: Vec<ResBlock>,
}

#[derive(Module, Debug)]
struct TokenEmbedding {
    weight: Param<Tensor<2>>,
}

/// The text tower, with the factor between its answers and the logits.
#[derive(Module, Debug)]
pub struct ClipText {
    token_embedding: TokenEmbedding,
    positional_embedding: Param<Tensor<2>>,
    transformer: Transformer,
    ln_final: LayerNorm,
    text_projection: Param<Tensor<2>>,
    logit_scale: Param<Tensor<1>>,
    #[module(skip)]
    spec: TextSpec,
}

/// Returns the values of a tensor of this name and shape, or why there are none.
type Values<'a, E> = dyn FnMut(&str, &[usize]) -> Result<Vec<f32>, E> + 'a;

impl ClipText {
    /// Builds the tower from the values `fill` returns for a name and shape.
    pub fn new<E>(spec: TextSpec, device: &Device, fill: &mut Values<'_, E>) -> Result<Self, E> {
        let TextSpec { vocab, context, width, depth, space, act } = spec;
        let matrix = |rows, columns| Param::from_tensor(Tensor::zeros([rows, columns], device));
        let norm = || LayerNorm::new(width, 1e-5, device);
        let block = || ResBlock {
            ln_1: norm(),
            attn: Attention::new(width, width / 64, device).causal(),
            ln_2: norm(),
            mlp: Mlp::new(width, 4 * width, act, device),
        };
        let zeros = Self {
            token_embedding: TokenEmbedding { weight: matrix(vocab, width) },
            positional_embedding: matrix(context, width),
            transformer: Transformer { resblocks: (0..depth).map(|_| block()).collect() },
            ln_final: norm(),
            text_projection: matrix(width, space),
            logit_scale: Param::from_tensor(Tensor::zeros([1], device)),
            spec,
        };
        let mut mapper = Fill { fill, path: Vec::new(), failed: None };
        let tower = zeros.map(&mut mapper);
        mapper.failed.map_or(Ok(tower), Err)
    }

    /// Returns the sizes.
    pub fn spec(&self) -> &TextSpec {
        &self.spec
    }

    /// Returns the factor of the logits, e^`logit_scale`.
    pub fn scale(&self) -> f32 {
        self.logit_scale.val().into_scalar::<f32>().exp()
    }

    /// Turns texts of equally many tokens, end included, into `[N, space]`.
    ///
    /// # Panics
    /// When lengths differ, a text is longer than the context or a token is not in the vocabulary.
    pub fn forward(&self, texts: &[&[u32]]) -> Tensor<2> {
        let (n, t, width) = (texts.len(), texts[0].len(), self.spec.width);
        assert!(t <= self.spec.context && texts.iter().all(|text| text.len() == t), "texts of one length");
        let tokens: Vec<i32> = texts.iter().flat_map(|text| text.iter().map(|&token| token as i32)).collect();
        assert!(tokens.iter().all(|&token| (token as usize) < self.spec.vocab), "a token of the vocabulary");
        let weight = self.token_embedding.weight.val();
        let tokens = Tensor::<1, Int>::from_data(TensorData::new(tokens, [n * t]), &weight.device());
        let x = weight.select(0, tokens).reshape([n, t, width]);
        let x = x + self.positional_embedding.val().narrow(0, 0, t).unsqueeze(); // [N, T, C]
        let mut x = Tokens::new(x, [1, t]);
        for block in &self.transformer.resblocks {
            let y = block.attn.forward(block.ln_1.tokens(x.clone()), Branch::default(), x);
            x = block.mlp.forward(block.ln_2.tokens(y.clone()), Branch::default(), y);
        }
        let end = x.into_tensor().narrow(1, t - 1, 1).reshape([n, width]);
        self.ln_final.flat(end).matmul(self.text_projection.val())
    }
}

/// Turns a module path into OpenAI's name.
fn openai_name(path: &[String]) -> String {
    let name = path.join(".");
    name.replace("attn.qkv.", "attn.in_proj_")
        .replace("attn.proj.", "attn.out_proj.")
        .replace("mlp.fc1", "mlp.c_fc")
        .replace("mlp.fc2", "mlp.c_proj")
}

struct Fill<'a, E> {
    fill: &'a mut Values<'a, E>,
    path: Vec<String>,
    /// The first refusal; what follows stays zero.
    failed: Option<E>,
}

impl<E> ModuleMapper for Fill<'_, E> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.failed.is_some() {
            return param;
        }
        let shape = param.lazy_shape().to_vec();
        match (self.fill)(&openai_name(&self.path), &shape) {
            Ok(values) => param.map(|old| Tensor::from_data(TensorData::new(values, shape), &old.device())),
            Err(error) => {
                self.failed = Some(error);
                param
            }
        }
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}
