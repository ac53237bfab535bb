//! The zoo: networks as plain code plus tables.
//!
//! A family is one file with its variants, its structs under the checkpoint's names, and the
//! [`Family`] trait; it joins the zoo with one line in [`families!`]. A [`Network`] is a backbone and a
//! head. Both are cut into ordered groups, the unit of freezing, of rates and of the frozen prefix.
//! Nothing here knows training, data or files. Read `resnet.rs` next.

mod flow;
pub mod head;
mod init;
pub mod layers;
pub mod lora;
mod macs;
mod map;
mod network;
mod parts;
pub mod spec;
pub mod tap;
mod tokens;

mod alexnet;
mod clip_resnet;
mod clip_text;
mod coatnet;
mod convnext;
mod densenet;
mod efficientnet;
mod mbconv;
mod mobilenetv2;
mod mobilenetv3;
mod regnet;
mod resnet;
mod swinv2;
mod vgg;
mod vit;

use burn::module::Module;
use burn::tensor::Device;

use crate::error::{Error, Result};
use layers::{DropPath, Linears};
use spec::{Group, Row, Variant, Weights};
use tap::Tap;

pub use clip_text::{ClipText, TextSpec};
pub use flow::Flow;
pub use head::HeadSpec;
pub(crate) use head::unit_length;
pub use macs::macs;
pub use network::values as host_values;
pub use network::{Network, ParamInfo, frozen};
pub(crate) use network::{is_buffer, layer_of, values};

/// Whose names a checkpoint uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The names of this program: timm's, or torchvision's where timm lacks the family.
    Own,
    /// torchvision's.
    Torchvision,
    /// torchvision's of files older than its current names.
    TorchvisionOld,
    /// timm's.
    Timm,
}

/// How padding at the border is chosen, where a family knows both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadType {
    /// PyTorch's even padding.
    Torch,
    /// TensorFlow's `SAME`.
    Same,
}

/// What can differ between two builds of one variant.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelOptions {
    /// Outputs of the head.
    pub num_classes: usize,
    /// The head's layers.
    pub head: HeadSpec,
    /// Overrides the variant's padding.
    pub pad_type: Option<PadType>,
    /// Overrides the variant's BatchNorm epsilon.
    pub bn_eps: Option<f64>,
    /// Channels of the pictures.
    pub in_chans: usize,
}

impl ModelOptions {
    /// A linear head for `num_classes` classes.
    pub fn new(num_classes: usize) -> Self {
        Self { num_classes, head: HeadSpec::linear(), pad_type: None, bn_eps: None, in_chans: 3 }
    }
}

/// What a family of networks tells the rest of the system.
pub trait Family: Module {
    /// The numbers that tell its variants apart.
    type Args: 'static;
    /// The registry rows.
    const VARIANTS: &'static [Variant<Self::Args>];
    /// Name of the classifier in the checkpoint: `fc`.
    const CLASSIFIER: &'static str;
    /// Whether something in it belongs to one picture size and is resampled for others: embeddings or tables of positions.
    const FIXED_SIZE: bool = false;
    /// Foreign dialects its checkpoints come in.
    const DIALECTS: &'static [Dialect] = &[];

    /// Builds the backbone, everything before the classifier, all zeros.
    fn new(variant: &Variant<Self::Args>, options: &ModelOptions, device: &Device) -> Self;

    /// Lists the groups in execution order, without the head.
    fn groups(&self) -> Vec<Group>;

    /// Runs group `index`.
    fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow;

    /// Tells whether all layers up to the embeddings can be trained on bf16 maps: convolutions, BatchNorm and pooling.
    fn trains_half(&self) -> bool {
        false
    }

    /// Lists its linear layers by module path, for adapters.
    fn linears(&mut self) -> Linears<'_> {
        Vec::new()
    }

    /// Lists what may leave out its blocks' branches in training, a block each, from stem to head.
    fn drop_paths(&mut self) -> Vec<&mut DropPath> {
        Vec::new()
    }

    /// Turns a module path into the checkpoint's name.
    fn key(&self, path: &str) -> String {
        path.to_string()
    }

    /// Turns a checkpoint name into a foreign dialect's.
    fn foreign(&self, dialect: Dialect, key: &str) -> String {
        let _ = dialect;
        key.to_string()
    }

    /// Returns the shape a foreign dialect gives a tensor; the numbers and their order are the same.
    fn foreign_shape(&self, dialect: Dialect, key: &str, shape: &[usize]) -> Vec<usize> {
        let _ = (dialect, key);
        shape.to_vec()
    }
}

/// Makes the zoo out of `Type = file` lines.
///
/// `ResNet = resnet` becomes a variant `Backbone::ResNet(resnet::ResNet)`, the rows of
/// `resnet::ResNet::VARIANTS` in [`rows`], an arm in `build`, and an arm in each delegating method.
/// An enum rather than a trait object because optimizer and store must know the module's type.
macro_rules! families {
    ($($family:ident = $file:ident),+ $(,)?) => {
        /// Any backbone of the zoo.
        #[derive(Module, Debug)]
        #[allow(clippy::large_enum_variant)]
        pub enum Backbone {
            $(#[doc = concat!("See `models/", stringify!($file), ".rs`.")]
            $family($file::$family)),+
        }

        /// Lists every network of the zoo, family by family.
        pub fn rows() -> Vec<&'static Row> {
            let mut rows = Vec::new();
            $(rows.extend($file::$family::VARIANTS.iter().map(|v| &v.row));)+
            rows
        }

        impl Backbone {
            fn build(name: &str, options: &ModelOptions, device: &Device) -> Option<(Self, &'static Row)> {
                $(if let Some(v) = $file::$family::VARIANTS.iter().find(|v| v.row.name == name) {
                    return Some((Self::$family($file::$family::new(v, options, device)), &v.row));
                })+
                None
            }

            fn groups(&self) -> Vec<Group> {
                match self { $(Self::$family(net) => net.groups()),+ }
            }

            fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
                match self { $(Self::$family(net) => net.run_group(index, x, tap)),+ }
            }

            fn linears(&mut self) -> Linears<'_> {
                match self { $(Self::$family(net) => net.linears()),+ }
            }

            fn drop_paths(&mut self) -> Vec<&mut DropPath> {
                match self { $(Self::$family(net) => net.drop_paths()),+ }
            }

            fn key(&self, path: &str) -> String {
                match self { $(Self::$family(net) => net.key(path)),+ }
            }

            fn foreign(&self, dialect: Dialect, key: &str) -> String {
                match self { $(Self::$family(net) => net.foreign(dialect, key)),+ }
            }

            fn foreign_shape(&self, dialect: Dialect, key: &str, shape: &[usize]) -> Vec<usize> {
                match self { $(Self::$family(net) => net.foreign_shape(dialect, key, shape)),+ }
            }

            fn dialects(&self) -> &'static [Dialect] {
                match self { $(Self::$family(_) => <$file::$family as Family>::DIALECTS),+ }
            }

            fn trains_half(&self) -> bool {
                match self { $(Self::$family(net) => net.trains_half()),+ }
            }

            fn fixed_size(&self) -> bool {
                match self { $(Self::$family(_) => <$file::$family as Family>::FIXED_SIZE),+ }
            }

            fn classifier(&self) -> &'static str {
                match self { $(Self::$family(_) => <$file::$family as Family>::CLASSIFIER),+ }
            }
        }
    };
}

families! {
    ResNet = resnet,
    AlexNet = alexnet,
    Vgg = vgg,
    MobileNetV2 = mobilenetv2,
    MobileNetV3 = mobilenetv3,
    EfficientNet = efficientnet,
    ConvNext = convnext,
    ViT = vit,
    SwinV2 = swinv2,
    CoAtNet = coatnet,
    RegNet = regnet,
    DenseNet = densenet,
    ClipResNet = clip_resnet,
}

/// Lists every dialect a network's checkpoints may use, its own first.
pub fn all_dialects(network: &Network) -> Vec<Dialect> {
    [Dialect::Own].into_iter().chain(network.dialects().iter().copied()).collect()
}

/// Finds a network by name, with or without a tag: `resnet18`, `resnet18.a1_in1k`.
pub fn find(name: &str) -> Result<(&'static Row, Option<&'static Weights>)> {
    let (base, tag) = match name.split_once('.') {
        Some((base, tag)) => (base, Some(tag)),
        None => (name, None),
    };
    let rows = rows();
    let row = rows.iter().find(|r| r.name == base).ok_or_else(|| Error::UnknownModel {
        name: name.to_string(),
        nearest: nearest(base, rows.iter().map(|r| r.name)),
    })?;
    match tag {
        None => Ok((row, row.weights.first())),
        Some(tag) => match row.weights.iter().find(|w| w.tag == tag) {
            Some(weights) => Ok((row, Some(weights))),
            None => Err(Error::UnknownModel {
                name: name.to_string(),
                nearest: row.weights.iter().map(|w| format!("{base}.{}", w.tag)).collect(),
            }),
        },
    }
}

/// Returns up to three candidates within a few typing errors of `name`, nearest first.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Vec<String> {
    let wanted = name.to_lowercase();
    let limit = (wanted.chars().count() / 3).max(2);
    let mut scored: Vec<(usize, &str)> = candidates
        .map(|c| (edit_distance(&wanted, &c.to_lowercase()), c))
        .filter(|(d, _)| *d <= limit)
        .collect();
    scored.sort();
    scored.into_iter().take(3).map(|(_, c)| c.to_string()).collect()
}

/// Levenshtein distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        previous[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = previous[j + 1];
            previous[j + 1] = cost.min(diagonal + 1).min(previous[j] + 1);
        }
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_and_without_a_tag() {
        assert_eq!(find("resnet18").unwrap().0.name, "resnet18");
        assert_eq!(find("resnet18.tv_in1k").unwrap().1.unwrap().tag, "tv_in1k");
    }

    #[test]
    fn an_unknown_name_suggests_its_neighbours() {
        let Err(Error::UnknownModel { nearest, .. }) = find("resnet81") else { panic!("found resnet81") };
        assert!(nearest.contains(&"resnet18".to_string()), "{nearest:?}");
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
