//! AlexNet: five convolutions and three fully connected layers, where deep vision began.
//!
//! Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014: the one-tower
//! version of the 2012 network, without local response normalisation, as torchvision has it. timm does
//! not. 61 100 840 parameters. The weights are torchvision's, under its BSD licence, and so are the
//! names. The first two linear layers are part of the backbone, so an embedding is their 4096 numbers;
//! their dropout is live where the group `pre_logits` trains.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::Device;

use super::layers::{Act, Conv2d, ConvSpec, Linear, Linears, Padding, adaptive_avg_pool, max_pool};
use super::spec::{Filter, Group, InputSpec, Row, Variant, Weights};
use super::tap::Tap;
use super::{Family, Flow, ModelOptions};

const BILINEAR: InputSpec = InputSpec::imagenet(Filter::Bilinear);

const VARIANTS: &[Variant<()>] = &[Variant {
    row: Row {
        name: "alexnet",
        num_features: 4096,
        params: 61_100_840,
        min_size: 63, // the last pooling still finds a 3×3 window
        input: BILINEAR,
        paper: "https://arxiv.org/abs/1404.5997",
        timm: None,
        weights: &[Weights::torchvision("tv_in1k", "alexnet-owt-7be5be79.pth", BILINEAR, 56.522)],
    },
    args: (),
}];

/// Where the five convolutions sit in torchvision's `features`.
const INDEX: [usize; 5] = [0, 3, 6, 8, 10];

/// The backbone: five convolutions, 6×6 pooling, two linear layers.
#[derive(Module, Debug)]
pub struct AlexNet {
    convs: Vec<Conv2d>,
    fc1: Linear,
    fc2: Linear,
    dropout: Dropout,
}

impl Family for AlexNet {
    type Args = ();
    const VARIANTS: &'static [Variant<()>] = VARIANTS;
    const CLASSIFIER: &'static str = "classifier.6";

    fn new(_: &Variant<()>, options: &ModelOptions, device: &Device) -> Self {
        let convs = [
            ConvSpec::new(options.in_chans, 64, 11).stride(4).padding(Padding::Even(2)),
            ConvSpec::new(64, 192, 5),
            ConvSpec::new(192, 384, 3),
            ConvSpec::new(384, 256, 3),
            ConvSpec::new(256, 256, 3),
        ];
        Self {
            convs: convs.into_iter().map(|spec| spec.with_bias().init(device)).collect(),
            fc1: Linear::new(256 * 6 * 6, 4096, device),
            fc2: Linear::new(4096, 4096, device),
            dropout: DropoutConfig::new(0.5).init(),
        }
    }

    fn linears(&mut self) -> Linears<'_> {
        vec![("fc1".into(), &mut self.fc1), ("fc2".into(), &mut self.fc2)]
    }

    fn groups(&self) -> Vec<Group> {
        let conv = |(i, at)| Group::new(&format!("conv{}", i + 1), &[&format!("features.{at}")]);
        let mut groups: Vec<Group> = INDEX.iter().enumerate().map(conv).collect();
        groups.push(Group::new("pre_logits", &["classifier.1", "classifier.4"]));
        groups
    }

    fn trains_half(&self) -> bool {
        true
    }

    fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
        let mut x = x.map();
        if let Some(conv) = self.convs.get(index) {
            x = tap.at(&format!("conv{}", index + 1), conv.forward(x, Act::Relu));
            return Flow::Map(if matches!(index, 0 | 1 | 4) { max_pool(x, 3, 2, 0) } else { x });
        }
        let x = adaptive_avg_pool(x, [6, 6]).flatten(); // [N, 9216]
        let x = self.fc1.forward(self.dropout.forward(x), Act::Relu);
        Flow::Flat(self.fc2.forward(self.dropout.forward(x), Act::Relu)) // [N, 4096]
    }

    fn key(&self, path: &str) -> String {
        let parts: Vec<&str> = path.split('.').collect();
        match parts[..] {
            ["convs", i, leaf] => format!("features.{}.{leaf}", INDEX[i.parse::<usize>().expect("an index")]),
            ["fc1", leaf] => format!("classifier.1.{leaf}"),
            ["fc2", leaf] => format!("classifier.4.{leaf}"),
            ["dropout", leaf] => format!("pre_logits.{leaf}"),
            _ => panic!("AlexNet has no `{path}`"),
        }
    }
}
