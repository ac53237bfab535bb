//! Adapters and biases: PyTorch's gradients, frozen weights that keep every bit, merged weights that answer alike.

#[path = "support/formula.rs"]
mod formula;

use std::cell::Cell;

use burn::Tensor;
use burn::module::Module;
use burn::tensor::{Device, TensorData, activation};
use formula::{Path, error, fixture, floats, network, pictures, tensor, values};
use headstart::Error;
use headstart::data::{Dataset, SplitConfig};
use headstart::error::Result;
use headstart::models::lora::LoraSpec;
use headstart::models::tap::Tap;
use headstart::models::{ModelOptions, Network};
use headstart::session::photos;
use headstart::synth::write_flowers;
use headstart::train::observer::{Event, Observer, Silent};
use headstart::train::optimizer::Optimizer;
use headstart::train::prefix::CacheLimits;
use headstart::train::{Job, Outcome, Recipe, fit};

/// The network of the fixture with its adapters, all by formula.
fn adapted(case: &serde_json::Value, device: &Device) -> Network {
    let number = |key: &str| case[key].as_f64().unwrap();
    let spec = LoraSpec {
        rank: number("rank") as usize,
        alpha: number("alpha"),
        layers: case["layers"].as_str().unwrap().into(),
    };
    let plain = network("vit_tiny_patch16_224", number("classes") as usize, number("gain"), device);
    attach(&spec, plain, number("gain"))
}

fn attach(spec: &LoraSpec, plain: Network, gain: f64) -> Network {
    spec.attach(plain, 0).unwrap().assign(&mut |name, shape| {
        (name.ends_with(".lora_a") || name.ends_with(".lora_b")).then(|| tensor(name, shape, gain))
    })
}

fn input(case: &serde_json::Value, device: &Device) -> Tensor<4> {
    let size = floats(&case["size"]);
    pictures([case["pictures"].as_u64().unwrap() as usize, 3, size[0] as usize, size[1] as usize], device)
}

#[test]
fn loss_and_gradients_are_those_of_pytorch() {
    let case = fixture("lora.json");
    let device = Device::flex().autodiff();
    let classes = case["classes"].as_u64().unwrap() as usize;
    for path in [Path::Fast, Path::Reference] {
        let net = adapted(&case, &device);
        let net = net.set_trainable(&|name| name.contains(".lora_"), &|_| false);
        let logits = net.forward(path.map(input(&case, &device)), &mut Tap::off());
        let off = error(&values(&logits), &floats(&case["logits"]));
        assert!(off < 1e-5, "{path:?}: logits differ by {off:.1e}");
        let n = logits.dims()[0];
        let mut hot = vec![0.0_f32; n * classes];
        (0..n).for_each(|i| hot[i * classes + i % classes] = 1.0);
        let hot = Tensor::<2>::from_data(TensorData::new(hot, [n, classes]), &device);
        let loss = (activation::log_softmax(logits, 1) * hot).sum() / -(n as f32);
        let found = f64::from(loss.clone().into_scalar::<f32>());
        assert!((found - case["loss"].as_f64().unwrap()).abs() < 1e-5, "{path:?}: {found}");

        // A step of plain descent shows every gradient, and what has none.
        let before = net.state();
        let mut grads = loss.backward();
        let mut optimizer = Optimizer::new("sgd(momentum=0, weight_decay=0)".parse().unwrap());
        let after = optimizer.step(net, &mut grads, &|_| 1.0, None).state();
        assert_eq!(optimizer.state().1.len(), 12 * 3 * 2, "memory for anything but adapters");
        let mut seen = 0;
        for ((name, _, before), (_, _, after)) in before.iter().zip(&after) {
            if !name.contains(".lora_") {
                assert_eq!(before, after, "{name}");
                continue;
            }
            let Some(expected) = case["gradients"].get(name) else { continue };
            seen += 1;
            let grad: Vec<f64> =
                before.iter().zip(after).map(|(b, a)| f64::from(*b) - f64::from(*a)).collect();
            let norm = grad.iter().map(|g| g * g).sum::<f64>().sqrt();
            let wanted = expected["norm"].as_f64().unwrap();
            assert!((norm - wanted).abs() < 1e-3 * wanted, "{path:?} {name}: {norm} {wanted}");
            // The difference of two numbers of size 1 carries their rounding.
            let bound = 1e-3 * expected["largest"].as_f64().unwrap() + 2e-7;
            for (g, e) in grad.iter().zip(floats(&expected["first"])) {
                assert!((g - f64::from(e)).abs() < bound, "{path:?} {name}: {g} {e}");
            }
        }
        assert_eq!(seen, 8);
    }
}

#[test]
fn merged_weights_answer_as_adapters_do() {
    let case = fixture("lora.json");
    let device = Device::flex();
    let answer = |net: &Network, path: Path| {
        values(&headstart::models::frozen(net).forward(path.map(input(&case, &device)), &mut Tap::off()))
    };
    for path in [Path::Fast, Path::Reference] {
        let net = adapted(&case, &device);
        let off = error(&answer(&net.clone().merged(), path), &answer(&net, path));
        println!("{path:?}: merged against adapters {off:.1e}");
        assert!(net.is_adapted() && !net.clone().merged().is_adapted() && off < 1e-5, "{path:?}: {off:.1e}");
        // Fresh adapters change nothing.
        let plain = network("vit_tiny_patch16_224", 5, 3.0, &device);
        let spec = LoraSpec { rank: 1, alpha: 2.0, layers: "attn.proj".into() };
        let fresh = spec.attach(plain.clone(), 3).unwrap();
        assert!(error(&answer(&fresh, path), &answer(&plain, path)) < 1e-6);
    }
    // Windows and halvings have linear layers too.
    let swin = Network::new("swinv2_tiny_window8_256", &ModelOptions::new(3), &device).unwrap();
    let names = |layers: &str| {
        LoraSpec { rank: 2, alpha: 2.0, layers: layers.into() }.layers(&swin).map(|names| names.len())
    };
    assert_eq!(
        (names("attn.qkv").unwrap(), names("reduction").unwrap(), names("cpb_mlp.2").unwrap()),
        (12, 3, 12)
    );
    assert_eq!(names("layers.3.*").unwrap(), 2 * 6 + 1);
}

#[test]
fn pointwise_convolutions_bear_adapters_too() {
    let device = Device::flex();
    for (model, layers, count) in
        [("coatnet_nano_rw_224", "attn.qkv|attn.proj|mlp.fc1", 3 * 9), ("convnext_atto", "mlp.fc2", 12)]
    {
        let plain = network(model, 5, 3.0, &device);
        let spec = LoraSpec { rank: 2, alpha: 2.0, layers: layers.into() };
        assert_eq!(spec.layers(&plain).unwrap().len(), count, "{model}");
        let net = attach(&spec, plain.clone(), 3.0);
        for path in [Path::Fast, Path::Reference] {
            let answer = |net: &Network| {
                let x = path.map(pictures([2, 3, 64, 64], &device));
                values(&headstart::models::frozen(net).forward(x, &mut Tap::off()))
            };
            let adapted = answer(&net);
            let off = error(&answer(&net.clone().merged()), &adapted);
            let moved = error(&answer(&plain), &adapted);
            println!("{model}, {path:?}: merged against adapters {off:.1e}, against none {moved:.1e}");
            assert!(off < 1e-5 && moved > 1e-3, "{model}, {path:?}: {off:.1e} {moved:.1e}");
        }
    }
}

fn start(model: &str) -> Network {
    Network::new(model, &ModelOptions::new(5), &Device::flex()).unwrap().init(3)
}

struct Setup {
    folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_flowers(&folder.path().join("photos"), 4, 2, 1, 48).unwrap();
        Self { folder }
    }

    fn run(
        &self,
        phases: &str,
        checkpoint: &str,
        resume: bool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let pipe = "resize_short(36, bilinear) | center_crop(32) | normalize(imagenet)";
        let text = format!("train = \"{pipe}\"\neval = \"{pipe}\"\nbatch_size = 4\nviews = 1\n{phases}");
        let recipe = Recipe::parse(&text, "test").unwrap();
        let root = self.folder.path();
        let data = Dataset::open(root.join("photos"), &SplitConfig::default()).unwrap();
        let part = |samples, name| photos(samples, pipe, 7, recipe.batch_size, name).unwrap();
        let job = Job {
            recipe: &recipe,
            train: &part(&data.train, "train"),
            val: &part(&data.val, "val"),
            unlabeled: None,
            key: "test".into(),
            checkpoint: Some(root.join(checkpoint)),
            resume,
            every: None,
            limits: CacheLimits { memory: 1 << 30, disk: 1 << 30, folder: root.to_path_buf() },
        };
        fit(&job, start("vit_tiny_patch16_224"), observer)
    }
}

const ADAPTERS: &str = "[[phase]]\nname = \"head\"\nepochs = 1\ntrainable = [\"head\"]\nlr = 1e-2\n\
    [[phase]]\nname = \"adapters\"\nepochs = 3\ntrainable = [\"head\"]\nlr = 3e-3\n\
    lora = { rank = 4, alpha = 8, layers = \"blocks.1*.attn.qkv | mlp.fc2\" }\n";

#[test]
fn training_adapters_leaves_the_matrices_below_alone() {
    let outcome = Setup::new().run(ADAPTERS, "run", false, &mut Silent).unwrap();
    assert!(
        !outcome.network.is_adapted() && outcome.history[outcome.best_epoch].phase == 1,
        "{:?}",
        outcome.history
    );
    let adapter = outcome.adapter.expect("nothing else moved");
    assert_eq!(adapter.tensors.len(), 2 * (3 + 12));
    let adapters: std::collections::HashMap<_, _> =
        adapter.tensors.iter().map(|t| (t.0.as_str(), &t.2)).collect();
    for ((name, shape, before), (_, _, after)) in
        start("vit_tiny_patch16_224").state().into_iter().zip(outcome.network.state())
    {
        let layer = name.trim_end_matches(".weight");
        let pair = (
            adapters.get(format!("{layer}.lora_a").as_str()),
            adapters.get(format!("{layer}.lora_b").as_str()),
        );
        let (Some(a), Some(b)) = pair else {
            assert_eq!(before != after, name.starts_with("head"), "{name}");
            continue;
        };
        assert!(b.iter().any(|v| *v != 0.0), "{name} learned nothing");
        // The start, to the bit, and what the adapters add: had it moved, this would not come out.
        for (row, at) in [(0, 0), (1, 3), (shape[0] - 1, shape[1] - 1)] {
            let sum: f64 = (0..4)
                .map(|r| 2.0 * f64::from(b[row * 4 + r]) * f64::from(a[r * shape[1] + at]))
                .fold(f64::from(before[row * shape[1] + at]), |sum, x| sum + x);
            assert_eq!(sum as f32, after[row * shape[1] + at], "{name}");
        }
    }
}

/// Asks to stop after so many steps.
struct Stopper {
    left: Cell<usize>,
}

impl Observer for Stopper {
    fn event(&mut self, event: Event<'_>) {
        if matches!(event, Event::Step { .. }) {
            self.left.set(self.left.get().saturating_sub(1));
        }
    }

    fn wants_to_stop(&self) -> bool {
        self.left.get() == 0
    }
}

#[test]
fn a_stopped_run_with_adapters_ends_in_the_same_bits() {
    let setup = Setup::new();
    let text = format!(
        "ema = 0.9\n{ADAPTERS}[[phase]]\nname = \"last\"\nepochs = 1\ntrainable = [\"blocks.11\", \"head\"]\nlr = 1e-4\n"
    );
    let whole = setup.run(&text, "whole", false, &mut Silent).unwrap();
    // Five steps an epoch: in the first phase, within and between epochs of the second, in the third.
    let words = "the adapters are merged and not kept apart";
    let last = whole.history[whole.best_epoch].phase == 2;
    assert!(whole.adapter.is_some() || last || whole.notes.iter().any(|n| n.starts_with(words)));
    for steps in [3, 5, 7, 10, 18, 20, 22] {
        let name = format!("stopped-{steps}");
        match setup.run(&text, &name, false, &mut Stopper { left: steps.into() }) {
            Err(Error::Interrupted { .. }) => {}
            other => panic!("after {steps} steps: {:?}", other.map(|o| o.history)),
        }
        let resumed = setup.run(&text, &name, true, &mut Silent).unwrap();
        assert!(resumed.network.state() == whole.network.state(), "stopped after {steps} steps");
        assert!(resumed.best_epoch == whole.best_epoch && resumed.adapter == whole.adapter);
    }
}

#[test]
fn with_bitfit_only_biases_and_the_head_move() {
    let phase = "[[phase]]\nepochs = 2\ntrainable = [\"all\"]\nbitfit = true\nlr = 1e-2\n";
    let outcome = Setup::new().run(phase, "run", false, &mut Silent).unwrap();
    assert!(outcome.adapter.is_none());
    for ((name, _, before), (_, _, after)) in
        start("vit_tiny_patch16_224").state().into_iter().zip(outcome.network.state())
    {
        assert_eq!(before != after, name.ends_with("bias") || name.starts_with("head"), "{name}");
    }
}

#[test]
fn what_cannot_be_adapted_is_refused_with_a_reason() {
    let phase = |keys: &str| {
        let text = format!("[[phase]]\nepochs = 1\nlr = 1e-3\n{keys}\n");
        Recipe::parse(&text, "my.toml").map(|recipe| recipe.phases[0].clone())
    };
    let lora = |layers: &str| format!("trainable = [\"head\"]\nlora = {{ rank = 4, layers = \"{layers}\" }}");
    let refused = |model: &str, keys: &str, want: &str| {
        let error = phase(keys).unwrap().set(&start(model)).unwrap_err();
        assert!(error.to_string().contains(want) && !error.hints().is_empty(), "{error} {:?}", error.hints());
    };
    refused("headstart_nano", &lora("attn.qkv"), "matches no linear layer before the head of headstart_nano");
    refused("vit_tiny_patch16_224", &lora("attn.kqv"), "`attn.kqv` matches no linear layer");
    let all = lora("attn.qkv").replace("head", "blocks.3");
    refused("vit_tiny_patch16_224", &all, "`blocks.3.attn.qkv.weight` trains and has an adapter");
    for (keys, want) in [
        ("trainable = [\"head\"]\nlora = { rank = 0 }", "`rank = 0` is not in 1 to 1024"),
        ("trainable = [\"head\"]\nlora = { rank = 4, alpha = 0.0 }", "`alpha = 0` is not positive"),
        ("trainable = [\"head\"]\nlora = { rank = 4, layer = \"x\" }", "unknown field `layer`"),
        ("trainable = [\"head\"]\nlora = { rank = 4 }\nunfreeze_every = 1", "contradict each other"),
    ] {
        let error = phase(keys).unwrap_err();
        assert!(error.to_string().contains(want) && error.to_string().starts_with("my.toml:"), "{error}");
    }
    let counts =
        |keys: &str| phase(keys).unwrap().trainable_parameters(&start("vit_tiny_patch16_224")).unwrap();
    let head = 192 * 5 + 5;
    assert_eq!(counts(&lora("attn.qkv")), 12 * 4 * (192 + 576) + head);
    assert_eq!(counts("trainable = [\"head\"]"), head);
    assert!(start("vit_tiny_patch16_224").num_params() > 5_000_000);
}
