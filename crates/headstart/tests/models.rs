//! The contract every network of the zoo keeps, checked over the registry.

#[path = "support/formula.rs"]
mod formula;

use std::collections::BTreeSet;

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients};
use formula::{Path, error, fixture, network, pictures, uniform, values};
use headstart::models::spec::Row;
use headstart::models::tap::Tap;
use headstart::models::{Dialect, Flow, HeadSpec, ModelOptions, Network, frozen, rows};
use headstart::train::groups::{BatchNormPolicy, apply, resolve};

const CLASSES: usize = 7;
const SIDE: usize = 64;
/// Beyond this many parameters only the structure is checked, unless its golden is in git: a smaller network of
/// the family runs.
const LARGE: usize = 30_000_000;

/// Runs `check` for the rows in two halves, so that the test runner's threads share the work.
fn each(part: usize, check: impl Fn(&'static Row)) {
    rows().into_iter().enumerate().filter(|(i, _)| i % 2 == part).for_each(|(_, row)| check(row));
}

/// He-like weights keep every layer alive without training.
fn build(row: &Row) -> Network {
    network(row.name, CLASSES, 4.0, &Device::flex().autodiff())
}

/// Zeros, which cost nothing.
fn empty(row: &Row) -> Network {
    Network::new(row.name, &ModelOptions::new(CLASSES), &Device::flex()).unwrap()
}

fn logits(net: &Network, x: Tensor<4>) -> Tensor<2> {
    net.forward(Path::Fast.map(x), &mut Tap::off())
}

/// Collects, tensor by tensor in the order of `params()`, whether it got a gradient other than zero.
struct Reached<'a> {
    grads: &'a Gradients,
    found: Vec<bool>,
}

impl ModuleVisitor for Reached<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let grad = param.val().is_require_grad().then(|| param.val().grad(self.grads)).flatten();
        self.found.push(grad.is_some_and(|g| {
            let largest = g.abs().max().into_scalar::<f32>();
            largest.is_finite() && largest > 0.0
        }));
    }
}

/// Backpropagates from a score and returns the trainable tensors that no gradient reached.
fn unreached(net: &Network) -> Vec<String> {
    let x = pictures([2, 3, SIDE, SIDE], &Device::flex().autodiff());
    let grads = logits(net, x).square().sum().backward();
    let mut visitor = Reached { grads: &grads, found: Vec::new() };
    net.visit(&mut visitor);
    let params = net.params();
    assert_eq!(params.len(), visitor.found.len());
    let stray = params.iter().zip(&visitor.found).find(|(p, found)| !p.trainable && **found);
    assert!(stray.is_none(), "a frozen tensor got a gradient: {stray:?}");
    params
        .iter()
        .zip(visitor.found)
        .filter(|(p, found)| p.trainable && !found)
        .map(|(p, _)| p.name.clone())
        .collect()
}

/// Structure: groups, counts, names.
fn structure(row: &Row, net: &Network) {
    let params = net.params();
    for param in &params {
        let owners: Vec<_> = net.groups().iter().filter(|g| g.owns(&param.name)).collect();
        assert_eq!(owners.len(), 1, "{}: `{}` belongs to {owners:?}", row.name, param.name);
    }
    for group in net.groups() {
        let owned = params.iter().any(|p| group.owns(&p.name));
        assert!(owned, "{}: group `{}` is empty", row.name, group.name);
        for prefix in &group.prefixes {
            let used = params.iter().any(|p| p.name.starts_with(prefix.as_str()));
            assert!(used, "{}: nothing is called `{prefix}`", row.name);
        }
    }
    let names: BTreeSet<&str> = params.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names.len(), params.len(), "{}: a name occurs twice", row.name);
    let count: usize = params.iter().filter(|p| !p.buffer).map(|p| p.shape.iter().product::<usize>()).sum();
    assert_eq!(count + (1000 - CLASSES) * (row.num_features + 1), row.params, "{}", row.name);
    let classifier = params.iter().find(|p| p.name == format!("{}.weight", net.classifier()));
    assert_eq!(classifier.expect("a classifier").shape, [CLASSES, row.num_features], "{}", row.name);
}

/// Names that a registry row promises: the first convolution sees three colours, the default tap is a group's.
fn named(row: &Row, net: &Network) {
    let first = format!("{}.weight", net.first_conv());
    let first = net.params().into_iter().find(|p| p.name == first).expect("the first convolution");
    assert_eq!((first.shape[1], net.group_of(&first.name)), (3, 0), "{}", row.name);
    assert!(net.groups().iter().any(|g| g.name == net.default_tap()), "{}", row.name);
}

/// Names in every dialect are exactly those of the libraries.
fn dialects(row: &Row, net: &Network) {
    let keys = &fixture("keys.json")[row.name];
    if keys.is_null() {
        // A golden on demand: a wrong name gives wrong values there.
        return;
    }
    for dialect in [Dialect::Own].iter().chain(net.dialects()) {
        let field = match dialect {
            Dialect::Own => "own",
            Dialect::Torchvision => "torchvision",
            Dialect::TorchvisionOld => "torchvision_old",
            Dialect::Timm => "timm",
        };
        // Of families that the other library has in part, only the rows it has are stored.
        let Some(list) = keys[field].as_array() else {
            assert!(*dialect != Dialect::Own, "{}: no names stored", row.name);
            continue;
        };
        let expected: BTreeSet<String> =
            list.iter().map(|k| k.as_str().expect("a name").to_string()).collect();
        let found: Vec<String> = net.params().iter().map(|p| net.foreign(*dialect, &p.name)).collect();
        assert_eq!(found.len(), expected.len(), "{} in {field}", row.name);
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{} in {field}", row.name);
        // The head alone has a name too: weights of other heads are recognised by it.
        let head = net.foreign(*dialect, net.classifier());
        assert!(expected.contains(&format!("{head}.weight")), "{}: `{head}` in {field}", row.name);
    }
}

/// The tap of a group called `stem`.
fn stem(name: &str) -> &'static str {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|p| name.starts_with(p));
    if starts(&["vit", "deit", "swin"]) {
        "patch_embed"
    } else if starts(&["convnext", "regnet", "coatnet"]) || name.ends_with("_clip") {
        "stem"
    } else if starts(&["mobilenet", "efficientnet", "tf_"]) {
        "conv_stem"
    } else if starts(&["densenet"]) {
        "conv0"
    } else {
        "conv1"
    }
}

/// Forward: shape, batches, taps, state.
fn inference(row: &Row, net: &Network) {
    let device = Device::flex();
    let net = frozen(net);
    let x = pictures([2, 3, SIDE, SIDE], &device);
    let names: Vec<String> = net.groups().iter().map(|g| g.name.clone()).collect();
    // Every group before the head offers its last map under its name, but for the stem.
    let points: Vec<&str> = names[..names.len() - 1]
        .iter()
        .map(String::as_str)
        .filter(|n| !["pre_logits", "attnpool"].contains(n))
        .map(|n| if n == "stem" { stem(row.name) } else { n })
        .collect();
    let mut tap = Tap::keep(&points);
    let both = net.forward(Path::Fast.map(x.clone()), &mut tap);
    assert_eq!(both.dims(), [2, CLASSES], "{}", row.name);
    assert_eq!(tap.missed(), Vec::<&str>::new(), "{}", row.name);
    let embedding = net.embed(Path::Fast.map(x.clone()), &mut Tap::off());
    assert_eq!(embedding.dims(), [2, row.num_features], "{}", row.name);
    for i in 0..2 {
        let one = logits(&net, x.clone().narrow(0, i, 1));
        let difference = error(&values(&one), &values(&both.clone().narrow(0, i, 1)));
        assert!(difference < 1e-5, "{}: alone, picture {i} differs by {difference:.1e}", row.name);
    }
    let mut state = net.state().into_iter();
    let fresh = Network::new(row.name, &ModelOptions::new(CLASSES), &device).unwrap();
    let loaded = fresh.assign(&mut |name, shape| {
        let (saved_name, saved_shape, saved) = state.next().expect("as many tensors as saved");
        assert_eq!((name, shape), (saved_name.as_str(), saved_shape.as_slice()));
        Some(saved)
    });
    assert_eq!(values(&logits(&loaded, x)), values(&both), "{}: other logits after loading", row.name);
}

/// Training: gradients reach what trains and nothing else.
fn training(row: &Row, net: Network) {
    let everything = resolve(&["all".to_string()], BatchNormPolicy::FreezeStats, &net).unwrap();
    // Dropout and batch statistics are off, so that nothing is zero by chance.
    let net = net.set_trainable(&|name| everything.params.contains(name), &|_| false);
    assert_eq!(unreached(&net), Vec::<String>::new(), "{}", row.name);
    let head = resolve(&["head".to_string()], BatchNormPolicy::FreezeStats, &net).unwrap();
    let net = apply(&head, net);
    let trainable: Vec<String> = net.params().into_iter().filter(|p| p.trainable).map(|p| p.name).collect();
    let classifier = net.classifier();
    assert_eq!(trainable, [format!("{classifier}.weight"), format!("{classifier}.bias")], "{}", row.name);
    assert_eq!(unreached(&net), Vec::<String>::new(), "{}", row.name);
}

fn contract(row: &'static Row) {
    let started = std::time::Instant::now();
    let large = row.params > LARGE && fixture("goldens.json")[row.name].is_null();
    let net = if large { empty(row) } else { build(row) };
    structure(row, &net);
    named(row, &net);
    dialects(row, &net);
    if !large {
        inference(row, &net);
        training(row, net);
    }
    println!("{:20} {:.1} s", row.name, started.elapsed().as_secs_f32());
}

#[test]
fn the_contract_holds_for_even_rows() {
    each(0, contract);
}

#[test]
fn the_contract_holds_for_odd_rows() {
    each(1, contract);
}

#[test]
fn pictures_too_small_are_refused_with_what_works() {
    let options = ModelOptions::new(2);
    for name in ["headstart_nano", "mobilenetv2_100"] {
        let net = Network::new(name, &options, &Device::flex()).unwrap();
        let min = net.row().min_size;
        net.check_size(min, min).unwrap();
        let refused = net.check_size(min - 1, min).unwrap_err();
        assert!(refused.hints()[0].contains(&format!("{min}×{min}")), "{:?}", refused.hints());
    }
}

#[test]
fn the_smallest_size_of_every_family_works() {
    for name in [
        "headstart_nano",
        "alexnet",
        "vgg11",
        "mobilenetv2_100",
        "tf_mobilenetv2_100",
        "mobilenetv3_small_100",
        "efficientnet_b0",
        "convnext_atto",
        "vit_tiny_patch16_224",
        "swinv2_tiny_window8_256",
        "resnet50_clip",
        "regnety_004",
        "densenet121",
        "coatnet_nano_rw_224",
    ] {
        let net = Network::new(name, &ModelOptions::new(2), &Device::flex()).unwrap();
        let min = net.row().min_size;
        for path in [Path::Fast, Path::Reference] {
            let x = pictures([1, 3, min, min], &Device::flex());
            assert_eq!(net.forward(path.map(x), &mut Tap::off()).dims(), [1, 2], "{name} {path:?}");
        }
    }
}

#[test]
fn a_long_head_has_numbered_names_in_every_dialect() {
    let options = ModelOptions { head: HeadSpec::mlp(16), ..ModelOptions::new(3) };
    let net = Network::new("mobilenetv2_100", &options, &Device::flex()).unwrap();
    let names: Vec<String> = net
        .params()
        .iter()
        .map(|p| net.foreign(Dialect::Torchvision, &p.name))
        .filter(|n| n.starts_with("cl"))
        .collect();
    assert_eq!(names[0], "classifier.1.0.weight");
    assert_eq!(names.last().unwrap(), "classifier.1.5.bias");
    assert!(net.params().iter().all(|p| net.groups().iter().filter(|g| g.owns(&p.name)).count() == 1));
}

#[test]
fn tokens_go_from_a_frozen_prefix_to_a_trained_tail() {
    let (plain, tracked) = (Device::flex(), Device::flex().autodiff());
    let net = network("vit_tiny_patch16_224", 3, 3.0, &tracked);
    let inference = frozen(&net);
    let x = || Flow::Map(Path::Fast.map(pictures([2, 3, 48, 64], &plain)));
    let groups = net.groups().len();
    let whole = inference.run(0..groups, x(), &mut Tap::off()).flat();
    let features = inference.run(0..5, x(), &mut Tap::off()).tokens();
    assert_eq!((features.grid(), features.extra()), ([3, 4], 1));
    let tail = net.run(5..groups, Flow::Tokens(features.to_device(&tracked)), &mut Tap::off()).flat();
    assert!(error(&values(&tail), &values(&whole)) < 1e-5);
    assert!(net.params().iter().any(|p| p.trainable));
    tail.sum().backward();
}

#[test]
fn dropout_is_live_only_where_its_group_trains() {
    let device = Device::flex().autodiff();
    let net = Network::new("alexnet", &ModelOptions::new(4), &device).unwrap().init(1);
    let twice = |net: &Network| {
        let x = pictures([1, 3, 63, 63], &device);
        (values(&logits(net, x.clone())), values(&logits(net, x)))
    };
    let only_head = resolve(&["head".to_string()], BatchNormPolicy::default(), &net).unwrap();
    let net = apply(&only_head, net);
    let (a, b) = twice(&net);
    assert_eq!(a, b, "a frozen backbone drops nothing");
    let more =
        resolve(&["head".to_string(), "pre_logits".to_string()], BatchNormPolicy::default(), &net).unwrap();
    let net = apply(&more, net);
    let (a, b) = twice(&net);
    assert_ne!(a, b, "a training `pre_logits` drops at random");
    let net = frozen(&net);
    let x = pictures([1, 3, 63, 63], &Device::flex());
    assert_eq!(values(&logits(&net, x.clone())), values(&logits(&net, x)));
}

#[test]
fn init_draws_the_spread_each_layer_needs() {
    let net = Network::new("mobilenetv2_100", &ModelOptions::new(5), &Device::flex()).unwrap().init(3);
    for (name, shape, values) in net.state() {
        let square = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        let wanted = match shape[..] {
            [_, 1, kh, kw] => 2.0 / (kh * kw) as f32,
            [out, _, kh, kw] => 2.0 / (out * kh * kw) as f32,
            _ => continue,
        };
        let off = (square / wanted - 1.0).abs();
        assert!(off < 6.0 * (2.0 / values.len() as f32).sqrt(), "{name} is off by {off}");
    }
    // The formula's stream is not the initialiser's: tests must not agree by accident.
    assert_ne!(uniform("conv_stem.weight", 4, -1.0, 1.0), net.state()[0].2[..4]);
}
