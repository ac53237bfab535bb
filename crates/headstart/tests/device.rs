//! Networks on Burn's own operations, which is what graphics cards run, against the CPU kernels; and, where
//! `HEADSTART_TEST_DEVICE` names a device, on that device as well.
//!
//! Without it everything runs on the CPU: [`plainly`] takes the kernels away. A device that is named and cannot be
//! opened fails every test.

#[path = "support/formula.rs"]
mod formula;

use std::path::Path;
use std::sync::OnceLock;

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Gradients};
use formula::{error, network, pictures, uniform, values};
use headstart::Error;
use headstart::device::{DeviceSpec, describe};
use headstart::fast::Precision;
use headstart::models::layers::{Map, plainly};
use headstart::models::tap::Tap;
use headstart::models::{Flow, ModelOptions, Network, frozen};
use headstart::synth::write_flowers;
use headstart::train::groups::{BatchNormPolicy, apply, resolve};
use headstart::train::loss::{cross_entropy, targets};
use headstart::train::observer::{Event, Observer, Silent};
use headstart::train::optimizer::{Optimizer, OptimizerSpec};
use headstart::train::prefix::{CacheLimits, Prefix};
use headstart::train::step::{Lesson, step};
use headstart::train::{Job, Outcome, Photos, Recipe, fit};

const TOLERANCE: f32 = 1e-4;
const CLASSES: usize = 5;
const SIDE: usize = 48;
const N: usize = 4;

/// The device whose operations are compared with the CPU kernels.
fn other() -> &'static Device {
    static OPEN: OnceLock<Device> = OnceLock::new();
    OPEN.get_or_init(|| match std::env::var("HEADSTART_TEST_DEVICE") {
        Err(_) => Device::flex(),
        Ok(name) => {
            let spec: DeviceSpec = name.parse().unwrap_or_else(|e| panic!("HEADSTART_TEST_DEVICE: {e}"));
            let device = spec.open().unwrap_or_else(|e| panic!("{e}; {:?}", e.hints()));
            assert_ne!(describe(&device), "cpu", "HEADSTART_TEST_DEVICE={name} is not to end on the CPU");
            println!("on {}", describe(&device));
            device
        }
    })
}

/// Runs `f` on the CPU kernels, then on the other device without them.
fn both<T>(f: impl Fn(&Device) -> T) -> (T, T) {
    let fast = f(&Device::flex());
    let plain = plainly(|| f(other()));
    (fast, plain)
}

/// Tells whether a device's maps go through the CPU kernels, by the layout of a map of pictures.
fn kernels(device: &Device) -> bool {
    let x = Map::from_nhwc(Tensor::zeros([1, 4, 4, 3], device));
    x.raw().dims() == [1, 4, 4, 3]
}

fn input(n: usize, device: &Device) -> Map {
    Map::from_nhwc(pictures([n, 3, SIDE, SIDE], device).permute([0, 2, 3, 1]))
}

fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    let off = error(found, expected);
    println!("{what}: {off:.1e}");
    assert!(off <= tolerance, "{what} differs by {off:.1e} of its range");
}

#[test]
fn the_two_ways_are_two() {
    let (fast, plain) = both(kernels);
    assert!(fast && !plain, "the CPU kernels ran on both sides, or on none");
    assert!(kernels(&Device::flex()), "the kernels did not come back");
    let caught = std::panic::catch_unwind(|| plainly(|| panic!("inside")));
    assert!(caught.is_err() && kernels(&Device::flex()), "a panic left the thread plain");
}

#[test]
fn forward_passes_agree() {
    // Convolutions, BatchNorm, pooling; depthwise with channel factors; tokens; windows; large depthwise kernels.
    for name in
        ["headstart_nano", "resnet18", "mobilenetv3_small_100", "vit_tiny_patch16_224", "convnext_atto"]
    {
        let (fast, plain) = both(|device| {
            let network = frozen(&network(name, CLASSES, 3.0, &Device::flex())).on(device);
            assert!(network.device() == *device);
            values(&network.forward(input(N, device), &mut Tap::off()))
        });
        close(name, &plain, &fast, TOLERANCE);
    }
}

/// Collects the gradients of a network's tensors, in the order of `params()`.
struct Grads<'a>(&'a Gradients, Vec<Option<Vec<f32>>>);

impl ModuleVisitor for Grads<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tracked = param.val().is_require_grad();
        self.1.push(tracked.then(|| param.val().grad(self.0)).flatten().map(|g| values(&g)));
    }
}

#[test]
fn gradients_agree() {
    for name in ["headstart_nano", "vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_100"] {
        let (fast, plain) = both(|device| {
            let network = network(name, CLASSES, 3.0, &Device::flex()).on(device);
            let set = resolve(&["all".to_string()], BatchNormPolicy::Train, &network).unwrap();
            let network = apply(&set, network.train());
            let logits = network.forward(input(N, &device.clone().autodiff()), &mut Tap::off());
            let labels: Vec<usize> = (0..N).map(|i| i % CLASSES).collect();
            let grads = cross_entropy(logits, targets(&labels, CLASSES, 0.1), None).backward();
            let mut all = Grads(&grads, Vec::new());
            network.visit(&mut all);
            network.params().into_iter().map(|p| p.name).zip(all.1).collect::<Vec<_>>()
        });
        // What a BatchNorm behind it takes away again has no gradient but rounding: the largest one sets the floor.
        let largest = fast.iter().flat_map(|(_, g)| g.iter().flatten()).fold(0.0_f32, |m, v| m.max(v.abs()));
        let (mut worst, mut compared) = ((0.0, String::new()), 0);
        for ((tensor, expected), (_, found)) in fast.into_iter().zip(plain) {
            let (Some(mut expected), Some(mut found)) = (expected.clone(), found.clone()) else {
                assert!(
                    expected.is_none() && found.is_none(),
                    "{name}: `{tensor}` has a gradient on one side only"
                );
                continue;
            };
            compared += 1;
            expected.push(largest * 1e-2);
            found.push(largest * 1e-2);
            let off = error(&found, &expected);
            if off > worst.0 {
                worst = (off, tensor);
            }
        }
        println!("{name}: {compared} gradients, worst {:.1e} ({})", worst.0, worst.1);
        assert!(
            compared > 20 && worst.0 <= TOLERANCE,
            "{name}: the gradient of `{}` differs by {:.1e}",
            worst.1,
            worst.0
        );
    }
}

/// Features that a frozen part made without autodiff take gradients to what comes after them.
#[test]
fn the_tail_of_a_frozen_part_gets_gradients() {
    for (name, first) in [("headstart_nano", 3), ("vit_tiny_patch16_224", 7), ("convnext_atto", 3)] {
        let (fast, plain) = both(|device| {
            let network = network(name, CLASSES, 3.0, &Device::flex()).on(device);
            let names: Vec<String> = network.groups()[first..].iter().map(|g| g.name.clone()).collect();
            let set = resolve(&names, BatchNormPolicy::FreezeStats, &network).unwrap();
            let network = apply(&set, network.train());
            let features = frozen(&network).run(0..first, Flow::Map(input(N, device)), &mut Tap::off());
            let lesson = Lesson {
                first,
                input: features.to_device(&device.clone().autodiff()),
                half: false,
                goal: targets(&[0, 1, 2, 3], CLASSES, 0.0),
                weights: None,
                focal: None,
            };
            let grads = lesson.loss(&network).backward();
            let mut all = Grads(&grads, Vec::new());
            network.visit(&mut all);
            let named = network.params().into_iter().zip(all.1);
            named.filter(|(p, _)| p.trainable).map(|(p, g)| (p.name, g)).collect::<Vec<_>>()
        });
        for ((tensor, expected), (_, found)) in fast.iter().zip(&plain) {
            let (Some(expected), Some(found)) = (expected, found) else {
                panic!("{name}: `{tensor}` has no gradient");
            };
            let off = error(found, expected);
            assert!(off <= TOLERANCE, "{name}: the gradient of `{tensor}` differs by {off:.1e}");
        }
    }
}

/// Losses of a few steps, and all weights after them.
fn train(
    name: &str,
    optimizer: &str,
    policy: BatchNormPolicy,
    half: bool,
    device: &Device,
) -> (Vec<f32>, Network) {
    let start = Network::new(name, &ModelOptions::new(CLASSES), &Device::flex()).unwrap().init(3).on(device);
    let set = resolve(&["all".to_string()], policy, &start).unwrap();
    let mut network = apply(&set, start.train());
    let mut optimizer = Optimizer::new(optimizer.parse::<OptimizerSpec>().unwrap());
    let labels: Vec<usize> = (0..N).map(|i| i % CLASSES).collect();
    let mut losses = Vec::new();
    for _ in 0..4 {
        let lesson = Lesson {
            first: 0,
            input: Flow::Map(input(N, &device.clone().autodiff())),
            half,
            goal: targets(&labels, CLASSES, 0.1),
            weights: None,
            focal: None,
        };
        let (after, loss) = step(network, lesson, &mut optimizer, &|_| 1e-3, Some(1.0));
        network = after;
        losses.push(loss as f32);
    }
    (losses, network)
}

#[test]
fn training_steps_agree() {
    for (name, optimizer, policy) in [
        ("headstart_nano", "sgd(momentum=0.9, weight_decay=1e-4)", BatchNormPolicy::Train),
        ("headstart_nano", "sgd(momentum=0.9, weight_decay=1e-4)", BatchNormPolicy::FreezeStats),
        ("vit_tiny_patch16_224", "adamw(weight_decay=0.01, eps=1e-4)", BatchNormPolicy::Train),
    ] {
        let ((expected, fast), (losses, plain)) =
            both(|device| train(name, optimizer, policy, false, device));
        close(&format!("{name}: losses"), &losses, &expected, TOLERANCE);
        assert!(losses[3] < losses[0], "{name} learned nothing: {losses:?}");
        let start = Network::new(name, &ModelOptions::new(CLASSES), &Device::flex()).unwrap().init(3).state();
        let mut moved = 0;
        for (((tensor, _, found), (_, _, expected)), (_, _, start)) in
            plain.state().iter().zip(&fast.state()).zip(&start)
        {
            let off = error(found, expected);
            assert!(off <= TOLERANCE, "{name}: `{tensor}` differs by {off:.1e} of its range");
            moved += usize::from(found != start);
        }
        assert!(moved * 2 > start.len(), "{name}: {moved} of {} tensors moved", start.len());
    }
}

#[test]
fn bf16_follows_f32() {
    if !other().supports_dtype(DType::BF16) {
        println!("{} does not calculate in bf16", describe(other()));
        assert_ne!(describe(other()), "cpu");
        let refused = headstart::device::check_precision(other(), Precision::Bf16).unwrap_err();
        assert!(refused.to_string().contains("does not calculate in bf16"), "{refused}");
        return;
    }
    for name in ["headstart_nano", "vit_tiny_patch16_224", "mobilenetv3_small_100"] {
        let x = uniform("input", N * SIDE * SIDE * 3, -2.0, 2.0);
        let prefix = |precision| {
            plainly(|| {
                let network = network(name, CLASSES, 3.0, &Device::flex()).on(other());
                let groups = network.groups().len() - 1;
                let flow = Prefix::narrow(&network, groups, precision).run((&x[..]).into(), [N, SIDE, SIDE]);
                values(&flow.flat())
            })
        };
        let (wide, narrow) = (prefix(Precision::F32), prefix(Precision::Bf16));
        assert_ne!(wide, narrow, "{name}: bf16 did not run");
        close(&format!("{name}: frozen prefix in bf16"), &narrow, &wide, 0.05);
    }
    let policy = BatchNormPolicy::Train;
    for (name, optimizer) in [("headstart_nano", "sgd"), ("vit_tiny_patch16_224", "adamw(eps=1e-4)")] {
        let run = |half| plainly(|| train(name, optimizer, policy, half, other()));
        let ((wide, _), (narrow, network)) = (run(false), run(true));
        assert!(plainly(|| network.trains_half(0)));
        assert_ne!(wide, narrow, "{name}: bf16 did not run");
        close(&format!("{name}: losses in bf16"), &narrow, &wide, 0.03);
        assert!(narrow[3] < narrow[0], "{name} learned nothing: {narrow:?}");
        let small = network
            .state()
            .iter()
            .flat_map(|(_, _, v)| v.clone())
            .any(|v| half::bf16::from_f32(v).to_f32() != v);
        assert!(small, "{name}: the weights are no longer f32");
    }
}

/// Tensors by name, with shapes.
type State = Vec<(String, Vec<usize>, Vec<f32>)>;

/// Asks to stop once, after so many steps.
struct StopAfter(usize);

impl Observer for StopAfter {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Step { .. } = event {
            self.0 = self.0.saturating_sub(1);
        }
    }

    fn wants_to_stop(&self) -> bool {
        self.0 == 0
    }
}

/// A fit of two phases on drawn flowers, interrupted after `stop` steps and resumed; with the tensors it started from.
fn whole_job(device: &Device, precision: &str, stop: usize) -> (Outcome, State) {
    let folder = tempfile::tempdir().unwrap();
    write_flowers(folder.path(), 6, 3, 1, 48).unwrap();
    let pipeline = "resize_short(36, bilinear) | center_crop(32) | normalize(imagenet)";
    let recipe = format!(
        "seed = 1\nbatch_size = 8\nclip = 1.0\nema = 0.5\nviews = 1\naccumulate = 2\nprecision = \"{precision}\"\n\
         train = \"{pipeline}\"\neval = \"{pipeline}\"\noptimizer = \"adamw(eps=1e-4)\"\n\
         [[phase]]\nepochs = 2\ntrainable = [\"head\"]\nlr = 1e-2\n\
         [[phase]]\nepochs = 2\ntrainable = [\"layer4\", \"head\"]\nbatch_norm = \"train\"\nlr = 1e-3\n"
    );
    let recipe = Recipe::parse(&recipe, "test").unwrap();
    let part = |name: &str, pipeline: &str| {
        let sorted = |folder: &Path| {
            let mut all: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
            all.sort();
            all
        };
        let classes = sorted(&folder.path().join(name)).into_iter().enumerate();
        let files = classes.flat_map(|(label, class)| sorted(&class).into_iter().map(move |f| (f, label)));
        Photos::new(files.collect(), pipeline.parse().unwrap(), 1, 8, name)
    };
    let (train, val) = (part("train", &recipe.train), part("val", &recipe.eval));
    let start =
        || Network::new("headstart_nano", &ModelOptions::new(5), &Device::flex()).unwrap().init(3).on(device);
    let mut job = Job {
        recipe: &recipe,
        train: &train,
        val: &val,
        key: "test".into(),
        checkpoint: Some(folder.path().join("checkpoint.safetensors")),
        resume: false,
        every: None,
        limits: CacheLimits { memory: 1 << 30, disk: 0, folder: folder.path().into() },
        unlabeled: None,
    };
    let stopped = fit(&job, start(), &mut StopAfter(stop)).unwrap_err();
    assert!(matches!(stopped, Error::Interrupted { .. }), "{stopped}");
    job.resume = true;
    (fit(&job, start(), &mut Silent).unwrap(), start().state())
}

fn losses(outcome: &Outcome) -> Vec<f32> {
    outcome.history.iter().map(|e| e.train_loss as f32).collect()
}

#[test]
fn the_main_job_runs_and_frozen_tensors_keep_their_bits() {
    let ((fast, _), (plain, start)) = both(|device| whole_job(device, "f32", 11));
    assert_eq!(plain.history.len(), 4);
    close("losses of a fit", &losses(&plain), &losses(&fast), 1e-3);
    assert!(plain.network.device() == *other());
    let (mut kept, mut moved) = (0, 0);
    for ((name, _, now), (_, _, before)) in plain.network.state().iter().zip(&start) {
        let same = now.iter().zip(before).all(|(a, b)| a.to_bits() == b.to_bits());
        let frozen = !name.starts_with("layer4") && !name.starts_with(plain.network.classifier());
        assert!(same || !frozen, "`{name}` is frozen and changed");
        if same { kept += 1 } else { moved += 1 }
    }
    assert!(kept > 10 && moved > 5, "{kept} tensors kept, {moved} moved");
}

#[test]
fn the_main_job_runs_in_bf16() {
    if !other().supports_dtype(DType::BF16) {
        return; // `bf16_follows_f32` checks that this is said.
    }
    let run = |precision| plainly(|| whole_job(other(), precision, 3).0);
    let (wide, narrow) = (run("f32"), run("bf16"));
    assert_ne!(losses(&wide), losses(&narrow), "bf16 did not run");
    close("losses of a fit in bf16", &losses(&narrow), &losses(&wide), 0.05);
}
