//! The command line, as data. No logic.

mod audit;
mod bench;
mod device;
mod fit;
mod labels;
mod lr_find;
mod study;
mod task;
mod zero_shot;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use headstart::fast::Precision;

pub use audit::Audit;
pub use bench::{Bench, Work};
pub use device::DeviceArgs;
pub use fit::{Fit, Lr};
pub use labels::LabelArgs;
pub use lr_find::LrFindArgs;
pub use study::Study;
pub use task::TaskArgs;
pub use zero_shot::ZeroShot;

/// Transfer learning for images: photos and a pretrained network in, a classifier you can trust out.
#[derive(Debug, Parser)]
#[command(name = "headstart", version, max_term_width = 100)]
pub struct Args {
    /// Print one JSON document on stdout instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the main job on a small drawn picture set and the built-in backbone.
    #[command(after_help = "Example:\n  headstart demo --out runs/demo")]
    Demo(Demo),
    /// Train a network on a folder of photos, or on a table of labels or numbers.
    #[command(
        after_help = "Examples:\n  headstart fit photos/ --model resnet18 --recipe head\n  headstart fit photos/ --model resnet18 --weights resnet18.safetensors --recipe finetune --out runs/bees\n  headstart fit photos/ --model resnet50 --device cuda --precision bf16\n  headstart fit apples.csv --model resnet18 --targets diameter,weight"
    )]
    Fit(Fit),
    /// Sweep the learning rate and suggest one.
    #[command(
        after_help = "Examples:\n  headstart lr-find photos/ --model resnet18\n  headstart lr-find photos/ --model resnet18 --groups layer4 --groups head --out runs/lr"
    )]
    LrFind(LrFindArgs),
    /// Measure how far a pretrained network carries on these photos, and say what to do.
    #[command(
        after_help = "Examples:\n  headstart advise photos/ --model resnet18\n  headstart advise photos/ --model resnet18 --model mobilenetv2_100\n  headstart fit photos/ --model resnet18 --recipe auto"
    )]
    Advise(Advise),
    /// Fit several recipes to several sets of photos, a few seeds each, and show which one suits which.
    #[command(
        after_help = "Example:\n  headstart study bees/ cells/ --model resnet18 --recipe head,finetune,scratch --seeds 0,1,2 --size 128"
    )]
    Study(Study),
    /// Look for what would spoil a training: unreadable files, copies, class conflicts, wrong labels.
    #[command(
        after_help = "Examples:\n  headstart audit photos/ --report audit.html\n  headstart audit photos/ --model resnet18 --fix-list leave-out.csv\n  headstart fit photos/ --exclude leave-out.csv\n\nExit codes: 0 nothing serious, 1 something serious (unreadable files, copies across parts, class conflicts), 2 could not run."
    )]
    Audit(Audit),
    /// Measure a bundle, or a network with its original classes, on labelled photos.
    #[command(
        after_help = "Examples:\n  headstart evaluate runs/bees photos/\n  headstart evaluate resnet18.safetensors imagenet/val --model resnet18"
    )]
    Evaluate(Evaluate),
    /// Name what is on photos.
    #[command(after_help = "Example:\n  headstart predict runs/bees a.jpg b.jpg --top 3")]
    Predict(Predict),
    /// Name photos by class names alone, without training: CLIP.
    #[command(
        after_help = "Examples:\n  headstart zero-shot a.jpg b.jpg --model vit_base_patch32_clip_quickgelu_224 --classes cat,dog,fox\n  headstart zero-shot photos/ --weights ViT-B-32.pt --template openai7"
    )]
    ZeroShot(ZeroShot),
    /// Write the embeddings of photos.
    #[command(
        after_help = "Example:\n  headstart embed photos/ --model resnet18 --output features.safetensors"
    )]
    Embed(Embed),
    /// Run a network on a raw tensor, to check parity with other tools.
    #[command(
        after_help = "Example:\n  headstart forward --model resnet18 --weights r18.safetensors --input x.npy --tap layer4 --output y.npy"
    )]
    Forward(Forward),
    /// Write a bundle for other tools.
    #[command(after_help = "Example:\n  headstart export runs/bees --to safetensors --out bees-timm")]
    Export(Export),
    /// List the networks of the zoo.
    #[command(
        after_help = "Example:\n  headstart models resnet\n  headstart models --markdown > docs/zoo.md"
    )]
    Models(Models),
    /// List the layers of a network by checkpoint name.
    #[command(
        after_help = "Examples:\n  headstart describe resnet18 --freeze 'layer4.*'\n  headstart describe vit_small_patch16_224 --recipe finetune --classes 5"
    )]
    Describe(Describe),
    /// Download and verify weights.
    #[command(after_help = "Example:\n  headstart pull resnet18.a1_in1k")]
    Pull(Pull),
    /// Show or clear what is downloaded.
    #[command(after_help = "Examples:\n  headstart cache\n  headstart cache --remove resnet18-f37072fd.pth")]
    Cache(CacheArgs),
    /// Measure the engine on this machine.
    #[command(
        after_help = "Examples:\n  headstart bench forward --model resnet18 --batch 16\n  headstart bench forward --model resnet50 --layers\n  headstart bench step --model resnet18\n  headstart bench step --model resnet50 --batch 64 --device cuda --precision bf16\n  headstart bench decode --data photos/"
    )]
    Bench(Bench),
    /// Train the built-in backbone anew on formula-generated pictures.
    #[command(after_help = "Example:\n  headstart pretrain --minutes 20 --out nano.safetensors")]
    Pretrain(Pretrain),
}

/// Which network, with which weights.
#[derive(Clone, Debug, clap::Args)]
pub struct ModelArgs {
    /// Network, as `headstart models` lists them; a tag picks weights: `resnet18.a1_in1k`.
    #[arg(long, short)]
    pub model: Option<String>,
    /// Weights: a file, a name, `hf-hub:org/name[@rev]` or `local-dir:PATH`.
    #[arg(long, short)]
    pub weights: Option<String>,
    /// Overrides the padding: `same` or empty, as in timm.
    #[arg(long)]
    pub pad_type: Option<String>,
    /// Overrides BatchNorm's epsilon.
    #[arg(long)]
    pub bn_eps: Option<f64>,
    /// Side of the square input in pixels.
    #[arg(long)]
    pub size: Option<usize>,
    /// Channels of the pictures: 1 grey, 3, or 4 with opacity; the first convolution is adapted as in timm.
    #[arg(long, value_name = "N")]
    pub in_chans: Option<usize>,
    /// Resampling filter: `bilinear` or `bicubic`; the weights' own by default.
    #[arg(long)]
    pub interpolation: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Run folder.
    #[arg(long, default_value = "runs/demo")]
    pub out: PathBuf,
    /// Seed of pictures and training.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Debug, clap::Args)]
pub struct Advise {
    /// `root/{train,val}/CLASS/*`, `root/CLASS/*`, or a CSV manifest.
    pub data: PathBuf,
    #[command(flatten)]
    pub task: TaskArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Networks to compare, as `headstart models` lists them.
    #[arg(long, short)]
    pub model: Vec<String>,
    /// Weights of the networks, in the same order: files, names, `hf-hub:…`, `local-dir:…`.
    #[arg(long, short)]
    pub weights: Vec<String>,
    /// Side of the square input in pixels.
    #[arg(long)]
    pub size: Option<usize>,
    #[command(flatten)]
    pub labels: LabelArgs,
    /// Most pictures to measure on; a larger set is sampled, the same share of every class.
    #[arg(long, default_value_t = 4000)]
    pub pictures: usize,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Share of the photos set aside when the data has no validation part.
    #[arg(long, default_value_t = 0.2)]
    pub val_share: f64,
}

#[derive(Debug, clap::Args)]
pub struct Evaluate {
    /// A bundle or run folder, or weights with `--model`.
    pub what: String,
    /// Photos in class folders, or a CSV manifest.
    pub data: PathBuf,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Which part of a split data set.
    #[arg(long, default_value = "val")]
    pub split: String,
    /// Preprocessing instead of the bundle's or the network's, as recipes write it; with weights, `{norm}`, `{size}`,
    /// `{resize}` and `{filter}` stand for the network's own.
    #[arg(long)]
    pub pipeline: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Predict {
    /// A bundle or run folder.
    pub bundle: PathBuf,
    /// Photos.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// How many labels a photo.
    #[arg(long, default_value_t = 3)]
    pub top: usize,
}

#[derive(Debug, clap::Args)]
pub struct Embed {
    /// Photos in class folders, or a CSV manifest.
    pub data: PathBuf,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// A bundle to take the network from.
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// Where to write: `.safetensors` or `.npy`.
    #[arg(long, short)]
    pub output: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct Forward {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// A `.npy` of float32, `[N, 3, H, W]`.
    #[arg(long)]
    pub input: PathBuf,
    /// Intermediates to write beside the output, as `OUTPUT.TAP.npy`.
    #[arg(long)]
    pub tap: Vec<String>,
    /// Where the logits go.
    #[arg(long, short)]
    pub output: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct Export {
    /// A bundle or run folder.
    pub bundle: PathBuf,
    /// The format.
    #[arg(long, value_parser = ["safetensors"])]
    pub to: String,
    /// Whose names the tensors get.
    #[arg(long, value_parser = ["timm", "torchvision"], default_value = "timm")]
    pub names: String,
    /// Folder to write.
    #[arg(long)]
    pub out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct Models {
    /// Part of a name.
    pub filter: Option<String>,
    /// Print the page docs/zoo.md.
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// With `--markdown`, measure pictures per second on this machine.
    #[arg(long, requires = "markdown")]
    pub measure: bool,
}

#[derive(Debug, clap::Args)]
pub struct Describe {
    /// Network.
    pub model: String,
    /// Show these groups or name patterns as frozen.
    #[arg(long)]
    pub freeze: Vec<String>,
    /// Show what the last phase of a recipe trains, and how much each phase does: a built-in one or a TOML file.
    #[arg(long, conflicts_with = "freeze")]
    pub recipe: Option<String>,
    /// Number of classes of the head.
    #[arg(long, default_value_t = 1000)]
    pub classes: usize,
}

#[derive(Debug, clap::Args)]
pub struct Pull {
    /// Weights by name.
    pub name: String,
}

#[derive(Debug, clap::Args)]
pub struct CacheArgs {
    /// Remove the entry of this name.
    #[arg(long)]
    pub remove: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Pretrain {
    /// How long to train.
    #[arg(long, default_value_t = 20.0)]
    pub minutes: f64,
    /// Seed.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Where the weights go.
    #[arg(long)]
    pub out: PathBuf,
}

fn precision(text: &str) -> Result<Precision, String> {
    match text {
        "f32" => Ok(Precision::F32),
        "bf16" => Ok(Precision::Bf16),
        "int8" => Ok(Precision::Int8),
        _ => Err("one of `f32`, `bf16`, `int8`".into()),
    }
}
