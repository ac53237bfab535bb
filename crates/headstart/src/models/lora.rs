//! Low-rank adapters: what fine-tuning adds to a matrix as the product of two thin ones, while the matrix stays.
//!
//! Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022: `W + alpha / rank · B A`, with `B` zero at the
//! start and `A` drawn as PyTorch draws a linear layer, which is what the reference and peft do. Tensors are called
//! `LAYER.lora_a` and `LAYER.lora_b`.

use std::collections::BTreeSet;

use burn::Tensor;
use burn::tensor::TensorData;
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::Network;
use crate::error::{Error, Result};
use crate::rng::{Rng, hash_str};

/// Which layers get adapters, and how wide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSpec {
    /// Rows of `A`, columns of `B`.
    pub rank: usize,
    /// The product counts `alpha / rank` times.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// Names of linear layers, or their last parts, joined by `|`; `*` stands for anything.
    #[serde(default = "attention")]
    pub layers: String,
}

fn alpha() -> f64 {
    16.0
}
fn attention() -> String {
    "attn.qkv|attn.proj".into()
}

impl LoraSpec {
    /// Says what is impossible in it.
    pub fn check(&self) -> Result<()> {
        let bad = |what: String, hint: &str| {
            Err(Error::BadRecipe { place: "lora".into(), what, hint: hint.into() })
        };
        if !(1..=1024).contains(&self.rank) {
            return bad(format!("`rank = {}` is not in 1 to 1024", self.rank), "4 to 16 are usual");
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return bad(
                format!("`alpha = {}` is not positive", self.alpha),
                "the rank, or twice the rank, is usual",
            );
        }
        if self.layers.split('|').any(|p| p.trim().is_empty()) {
            return bad(
                format!("`layers = \"{}\"` has an empty name", self.layers),
                "`attn.qkv|attn.proj` is usual",
            );
        }
        Ok(())
    }

    /// Names the layers of `network` that get adapters; a pattern that matches none is an error.
    pub fn layers(&self, network: &Network) -> Result<Vec<String>> {
        self.check()?;
        let all: Vec<String> = network.clone().linears().into_iter().map(|(name, _)| name).collect();
        let model = network.row().name;
        let mut chosen = BTreeSet::new();
        for pattern in self.layers.split('|').map(str::trim) {
            let body = regex::escape(pattern).replace(r"\*", ".*");
            let matcher = Regex::new(&format!(r"^(.*\.)?{body}$")).expect("an escaped pattern is a regex");
            let found: Vec<&String> = all.iter().filter(|name| matcher.is_match(name)).collect();
            if found.is_empty() {
                return Err(Error::BadRecipe {
                    place: "lora".into(),
                    what: format!("`{pattern}` matches no linear layer before the head of {model}"),
                    hint: match all.len() {
                        0 => "it has none; `bitfit = true` trains its biases and shifts alone".into(),
                        _ => format!("there are {}", kinds(&all)),
                    },
                });
            }
            chosen.extend(found.into_iter().cloned());
        }
        // In the network's order.
        Ok(all.into_iter().filter(|name| chosen.contains(name)).collect())
    }

    /// Puts adapters onto the layers, their values drawn from `seed`; the network's answers stay as they are.
    pub fn attach(&self, mut network: Network, seed: u64) -> Result<Network> {
        let chosen: BTreeSet<String> = self.layers(&network)?.into_iter().collect();
        for (name, layer) in network.linears().into_iter().filter(|(name, _)| chosen.contains(name)) {
            let (device, [outputs, inputs]) = (layer.device(), layer.size());
            let mut rng = Rng::keyed(&[seed, hash_str(&format!("{name}.lora_a"))]);
            let bound = 1.0 / (inputs as f32).sqrt();
            let values: Vec<f32> = (0..self.rank * inputs).map(|_| rng.range(-bound, bound)).collect();
            let a = Tensor::from_data(TensorData::new(values, [self.rank, inputs]), &device);
            layer.adapt(a, Tensor::zeros([outputs, self.rank], &device), self.alpha / self.rank as f64);
        }
        Ok(network)
    }
}

/// The endings of layer names that occur, most general first.
fn kinds(names: &[String]) -> String {
    let ending = |name: &String| {
        let parts: Vec<&str> = name.split('.').filter(|p| p.parse::<usize>().is_err()).collect();
        parts[parts.len().saturating_sub(2)..].join(".")
    };
    let kinds: BTreeSet<String> = names.iter().map(ending).collect();
    kinds.into_iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
}

impl Network {
    /// Tells whether any layer has an adapter.
    pub fn is_adapted(&self) -> bool {
        self.clone().linears().iter().any(|(_, layer)| layer.is_adapted())
    }

    /// Makes adapters a part of the matrices they sit on.
    pub fn merged(mut self) -> Self {
        self.linears().into_iter().for_each(|(_, layer)| layer.merge());
        self
    }
}

/// Adapters beside the weights they are a part of.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// What made them.
    pub spec: LoraSpec,
    /// Their tensors: name, shape, values.
    pub tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

/// Tells an adapter's tensor by its name.
pub fn is_adapter(name: &str) -> bool {
    name.ends_with(".lora_a") || name.ends_with(".lora_b")
}
