//! Heads: the layers that replace the classifier, as data and as a module.
//!
//! A head is a chain such as `bn | linear(512) | relu | bn | dropout(0.5) | linear`; the last `linear`
//! takes the number of classes. In a checkpoint a lone linear layer has the classifier's own name
//! (`fc.weight`), a chain is numbered like an `nn.Sequential` (`fc.1.weight`).

use std::fmt;
use std::str::FromStr;

use burn::Tensor;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, activation};

use super::layers::{Act, BatchNorm, Linear};
use crate::error::Error;

/// Widths beyond this are surely a slip of the keyboard.
const MAX_WIDTH: usize = 1 << 16;

/// One layer of a head, as data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HeadOp {
    /// Batch normalisation.
    BatchNorm,
    /// Fully connected, to a width; `None` means the number of classes.
    Linear(Option<usize>),
    /// Rectifier.
    Relu,
    /// Dropout with this probability.
    Dropout(f64),
    /// Division of each embedding by its length.
    Normalize,
}

/// A head, as data: its text form is what recipes and bundles store.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadSpec(Vec<HeadOp>);

impl HeadSpec {
    /// The plain classifier.
    pub fn linear() -> Self {
        Self(vec![HeadOp::Linear(None)])
    }

    /// The lesson's head: BN, linear, ReLU, BN, dropout, linear.
    pub fn mlp(width: usize) -> Self {
        use HeadOp::{BatchNorm, Dropout, Linear, Relu};
        Self(vec![BatchNorm, Linear(Some(width)), Relu, BatchNorm, Dropout(0.5), Linear(None)])
    }

    /// CLIP's: projection into a space of `width` shared with texts, length one, likeness to each class's text.
    pub fn zero_shot(width: usize) -> Self {
        Self(vec![HeadOp::Linear(Some(width)), HeadOp::Normalize, HeadOp::Linear(None)])
    }

    /// Tells whether this is the plain classifier, which other tools can load.
    pub fn is_linear(&self) -> bool {
        self.0 == [HeadOp::Linear(None)]
    }
}

impl fmt::Display for HeadSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, op) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            match op {
                HeadOp::BatchNorm => f.write_str("bn")?,
                HeadOp::Linear(None) => f.write_str("linear")?,
                HeadOp::Linear(Some(width)) => write!(f, "linear({width})")?,
                HeadOp::Relu => f.write_str("relu")?,
                HeadOp::Dropout(p) => write!(f, "dropout({p})")?,
                HeadOp::Normalize => f.write_str("normalize")?,
            }
        }
        Ok(())
    }
}

impl FromStr for HeadSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |what: String| {
            Error::BadRecipe {
            place: "head".into(),
            what,
            hint: "a head is `linear`, `mlp`, `mlp(WIDTH)`, `zero-shot` or a chain of `bn`, `linear(WIDTH)`, `relu`, \
                   `dropout(P)`, `normalize` joined by `|` that ends in `linear`"
                .into(),
        }
        };
        let mut ops = Vec::new();
        for part in text.split('|').map(str::trim) {
            let (name, argument) = match part.split_once('(') {
                Some((name, rest)) => match rest.strip_suffix(')') {
                    Some(argument) => (name.trim(), Some(argument.trim())),
                    None => return Err(bad(format!("`{part}` lacks its closing parenthesis"))),
                },
                None => (part, None),
            };
            let width = |a: &str| match a.parse::<usize>() {
                Ok(width) if (1..=MAX_WIDTH).contains(&width) => Ok(width),
                _ => Err(bad(format!("`{a}` is not a width from 1 to {MAX_WIDTH}"))),
            };
            match (name, argument) {
                ("bn", None) => ops.push(HeadOp::BatchNorm),
                ("relu", None) => ops.push(HeadOp::Relu),
                ("normalize", None) => ops.push(HeadOp::Normalize),
                ("linear", None) => ops.push(HeadOp::Linear(None)),
                ("linear", Some(a)) => ops.push(HeadOp::Linear(Some(width(a)?))),
                ("mlp", None) => ops.extend(Self::mlp(512).0),
                ("mlp", Some(a)) => ops.extend(Self::mlp(width(a)?).0),
                ("dropout", Some(a)) => match a.parse::<f64>() {
                    Ok(p) if (0.0..1.0).contains(&p) => ops.push(HeadOp::Dropout(p)),
                    _ => return Err(bad(format!("`{a}` is not a dropout probability in [0, 1)"))),
                },
                _ => return Err(bad(format!("`{part}` is not a head layer"))),
            }
        }
        let outputs = ops.iter().filter(|op| matches!(op, HeadOp::Linear(None))).count();
        if ops.last() != Some(&HeadOp::Linear(None)) || outputs != 1 {
            return Err(bad(format!("`{text}` must end in its only `linear` without a width")));
        }
        Ok(Self(ops))
    }
}

/// One layer of a head.
#[derive(Module, Debug)]
enum HeadLayer {
    BatchNorm(BatchNorm),
    Linear(Linear),
    Relu(Rectifier),
    Dropout(Dropout),
    Normalize(Normalizer),
}

/// A layer without parameters, so that chains can hold it.
#[derive(Module, Debug)]
struct Rectifier {}

/// The same for lengths.
#[derive(Module, Debug)]
struct Normalizer {}

/// The layers after the backbone.
#[derive(Module, Debug)]
pub struct Head {
    layers: Vec<HeadLayer>,
}

impl Head {
    /// Builds the chain for embeddings of `width` features, all zeros.
    pub fn new(spec: &HeadSpec, mut width: usize, num_classes: usize, device: &Device) -> Self {
        let layers = spec.0.iter().map(|op| match op {
            HeadOp::BatchNorm => HeadLayer::BatchNorm(BatchNorm::new(width, 1e-5, device)),
            HeadOp::Linear(out) => {
                let out = out.unwrap_or(num_classes);
                let layer = Linear::new(width, out, device);
                width = out;
                HeadLayer::Linear(layer)
            }
            HeadOp::Relu => HeadLayer::Relu(Rectifier {}),
            HeadOp::Dropout(p) => HeadLayer::Dropout(DropoutConfig::new(*p).init()),
            HeadOp::Normalize => HeadLayer::Normalize(Normalizer {}),
        });
        Self { layers: layers.collect() }
    }

    /// Turns embeddings `[N, C]` into logits `[N, classes]`.
    pub fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
        for layer in &self.layers {
            x = match layer {
                HeadLayer::BatchNorm(bn) => bn.forward_flat(x),
                HeadLayer::Linear(linear) => linear.forward(x, Act::None),
                HeadLayer::Relu(_) => activation::relu(x),
                HeadLayer::Dropout(dropout) => dropout.forward(x),
                HeadLayer::Normalize(_) => unit_length(x),
            };
        }
        x
    }

    /// Turns a module path below the head into the checkpoint's name.
    pub(super) fn key(&self, path: &str, classifier: &str) -> String {
        // `layers.3.Linear.weight`: the third part is the enum's variant, which no checkpoint has.
        let parts: Vec<&str> = path.split('.').collect();
        let (index, rest) = (parts[1], parts[3..].join("."));
        if self.layers.len() == 1 {
            format!("{classifier}.{rest}")
        } else {
            format!("{classifier}.{index}.{rest}")
        }
    }
}

/// Divides each row of `[N, C]` by its length.
pub(crate) fn unit_length(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().square().sum_dim(1).sqrt();
    x / length.clamp_min(1e-12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_data_are_the_same() {
        for text in [
            "linear",
            "linear(8) | normalize | linear",
            "bn | linear(64) | relu | bn | dropout(0.25) | linear",
        ] {
            assert_eq!(text.parse::<HeadSpec>().unwrap().to_string(), text);
        }
        assert_eq!("mlp(512)".parse::<HeadSpec>().unwrap(), HeadSpec::mlp(512));
    }

    #[test]
    fn an_impossible_head_says_why() {
        for text in [
            "relu",
            "linear | relu",
            "linear | linear",
            "dropout(2) | linear",
            "lin",
            "linear(0) | linear",
            "",
        ] {
            assert!(text.parse::<HeadSpec>().is_err(), "`{text}` was taken");
        }
    }
}
