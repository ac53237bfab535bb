//! What a registry row says about a network: names, sizes, preprocessing, weights, licence.

/// One network of the zoo with the family's own numbers in `args`.
#[derive(Debug)]
pub struct Variant<A: 'static> {
    /// What every family tells the rest of the system.
    pub row: Row,
    /// What only the family's constructor needs.
    pub args: A,
}

/// The facts of one network, independent of its family.
#[derive(Debug)]
pub struct Row {
    /// Name as in timm (torchvision's where timm has none), without a tag.
    pub name: &'static str,
    /// Width of the embedding, the input of the classifier.
    pub num_features: usize,
    /// Parameters with a 1000-class head, buffers not counted.
    pub params: usize,
    /// Smallest input side the network can take.
    pub min_size: usize,
    /// Preprocessing when the weights say nothing else.
    pub input: InputSpec,
    /// The paper that describes it.
    pub paper: &'static str,
    /// The architecture and arguments timm builds it with, if timm has it.
    pub timm: Option<TimmName>,
    /// Known weights; the first is what the bare name means.
    pub weights: &'static [Weights],
}

/// How timm names a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimmName {
    /// The `architecture` of its `config.json`.
    pub architecture: &'static str,
    /// Its `model_args`, as JSON.
    pub model_args: Option<&'static str>,
}

/// A published set of weights.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// The tag after the dot: `a1_in1k`.
    pub tag: &'static str,
    /// Where they are.
    pub place: Place,
    /// Preprocessing they were trained for.
    pub input: InputSpec,
    /// Licence, as stated by the publisher.
    pub license: &'static str,
    /// ImageNet-1k top-1 in per cent, as published.
    pub top1: Option<f32>,
}

impl Weights {
    /// A file of torchvision, with its published accuracy.
    pub const fn torchvision(tag: &'static str, file: &'static str, input: InputSpec, top1: f32) -> Self {
        Self { tag, place: Place::Torchvision(file), input, license: "BSD-3-Clause", top1: Some(top1) }
    }

    /// A repository of timm on the hub.
    pub const fn hub(tag: &'static str, repo: &'static str, input: InputSpec) -> Self {
        Self { tag, place: Place::Hub(repo), input, license: "Apache-2.0", top1: None }
    }
}

/// Where weights are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file of torchvision, whose name ends in the first digits of its SHA-256.
    Torchvision(&'static str),
    /// A repository of the Hugging Face hub.
    Hub(&'static str),
    /// The backbone inside this program.
    Embedded,
}

/// Resampling filter for resizing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Triangle filter, antialiased.
    Bilinear,
    /// Cubic filter with a = −0.5, antialiased: PIL's bicubic.
    Bicubic,
}

impl Filter {
    /// Names the filter as timm and torchvision do.
    pub fn name(self) -> &'static str {
        match self {
            Filter::Bilinear => "bilinear",
            Filter::Bicubic => "bicubic",
        }
    }
}

/// How a network wants its pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InputSpec {
    /// Side of the square input, in pixels.
    pub size: usize,
    /// Side of the input over the shorter side after resizing.
    pub crop_pct: f32,
    /// Resampling filter.
    pub filter: Filter,
    /// Channel means on a 0–1 scale.
    pub mean: [f32; 3],
    /// Channel standard deviations on a 0–1 scale.
    pub std: [f32; 3],
    /// Channels: 1 for grey, 3, or 4 with opacity.
    pub channels: usize,
}

/// ImageNet's channel means.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's channel standard deviations.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

impl InputSpec {
    /// Resize to 256 with `filter`, crop 224, ImageNet statistics.
    pub const fn imagenet(filter: Filter) -> Self {
        Self { size: 224, crop_pct: 0.875, filter, mean: IMAGENET_MEAN, std: IMAGENET_STD, channels: 3 }
    }

    /// Replaces the crop fraction.
    pub const fn crop(self, crop_pct: f32) -> Self {
        Self { crop_pct, ..self }
    }

    /// Replaces the input side.
    pub const fn sized(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// Replaces the statistics by mean = std = 0.5.
    pub const fn half(self) -> Self {
        Self { mean: [0.5; 3], std: [0.5; 3], ..self }
    }

    /// Returns mean and deviation of each channel; of one that is no colour, the means of the colours'.
    pub fn statistics(&self) -> [Vec<f32>; 2] {
        [self.mean, self.std].map(|colours| {
            let middle = colours.iter().sum::<f32>() / 3.0;
            match self.channels {
                1 => vec![middle],
                n => (0..n).map(|i| colours.get(i).copied().unwrap_or(middle)).collect(),
            }
        })
    }

    /// Returns the shorter side to resize to, as timm computes it.
    pub fn resize(&self) -> usize {
        (self.size as f64 / self.crop_pct as f64 + 1e-4).floor() as usize
    }
}

/// A named, ordered part of a network, from stem to head; the unit of freezing and of rates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What recipes call it.
    pub name: String,
    /// Prefixes of the checkpoint names it owns.
    pub prefixes: Vec<String>,
}

impl Group {
    /// Makes a group that owns the names under `prefixes`.
    pub fn new(name: &str, prefixes: &[&str]) -> Self {
        Self { name: name.into(), prefixes: prefixes.iter().map(|p| (*p).to_string()).collect() }
    }

    /// Tells whether a checkpoint name is in this group.
    pub fn owns(&self, key: &str) -> bool {
        self.prefixes.iter().any(|p| {
            key.strip_prefix(p.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crop_fractions_give_the_published_resize() {
        let input = InputSpec::imagenet(Filter::Bilinear);
        assert_eq!(input.resize(), 256);
        assert_eq!(input.crop(0.965).resize(), 232);
        assert_eq!(input.crop(0.95).resize(), 235);
        assert_eq!(input.sized(299).crop(0.875).resize(), 341);
    }

    #[test]
    fn a_group_owns_whole_name_parts() {
        let group = Group::new("layer1", &["layer1"]);
        assert!(group.owns("layer1.0.conv1.weight") && group.owns("layer1"));
        assert!(!group.owns("layer10.0.weight"));
    }
}
