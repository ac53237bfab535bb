//! Layers and networks on bf16 maps against the same in f32, and training on them.

#[path = "support/formula.rs"]
mod formula;

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Gradients, TensorData};
use formula::{network, pictures, tensor, uniform, values};
use headstart::fast::Precision;
use headstart::models::layers::{
    Act, BatchNorm, Conv2d, ConvSpec, Map, Padding, adaptive_avg_pool, conv_bn_act, max_pool,
};
use headstart::models::{Flow, ModelOptions, Network};
use headstart::train::loss::targets;
use headstart::train::optimizer::Optimizer;
use headstart::train::step::{Lesson, step};

/// Of the error's norm to the result's: a few roundings of 2⁻⁹.
const ROUNDED: f32 = 6e-3;

/// The same where a value near the end of an activation's range may fall on its other side.
const SWITCHED: f32 = 0.15;

fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len(), "lengths differ");
    let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|v| v * v).sum::<f32>().sqrt();
    norm(&mut found.iter().zip(expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied())
}

fn device() -> Device {
    Device::flex().autodiff()
}

/// Values that bf16 holds exactly.
fn rounded(name: &str, len: usize) -> Vec<f32> {
    uniform(name, len, -2.0, 2.0).into_iter().map(|v| half::bf16::from_f32(v).to_f32()).collect()
}

fn leaf<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
    let drawn = rounded(name, shape.iter().product());
    Tensor::from_data(TensorData::new(drawn, shape), &device()).require_grad()
}

/// Weighs a result by fixed numbers and sums it, so that every output has its own gradient.
fn score<const D: usize>(y: Tensor<D>) -> Tensor<1> {
    let weights = Tensor::<D>::from_data(
        TensorData::new(rounded("dy", y.dims().iter().product()), y.dims()),
        &y.device(),
    );
    (y.cast(DType::F32) * weights).sum()
}

/// What a layer gives and the gradients it sends back, all named.
type Seen = Vec<(String, Vec<f32>)>;

/// Fills a layer by formula; conv and norm alike.
struct Fill;

impl burn::module::ModuleMapper for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape().to_vec();
        let name = if D == 1 { "x.bias" } else { "x.weight" };
        let drawn = tensor(name, &shape, 3.0);
        param.map(|old| {
            let new = Tensor::<D>::from_data(TensorData::new(drawn, shape), &old.device());
            if D == 1 { old + new } else { new }.detach().require_grad()
        })
    }
}

/// Collects the gradients of a module's parameters.
struct Grads<'a> {
    grads: &'a Gradients,
    seen: Seen,
    path: Vec<String>,
}

impl ModuleVisitor for Grads<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = param.val().grad(self.grads) {
            assert_eq!(grad.dtype(), DType::F32, "gradients of parameters are f32");
            self.seen.push((format!("d {}", self.path.join(".")), values(&grad)));
        }
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}

fn gradients<M: Module>(module: &M, grads: &Gradients) -> Seen {
    let mut visitor = Grads { grads, seen: Vec::new(), path: Vec::new() };
    module.visit(&mut visitor);
    visitor.seen
}

/// Runs `forward` in both formats with a tracked input; `format` is that of the result.
fn check<M: Module>(
    what: &str,
    shape: [usize; 4],
    (format, tolerance): (DType, f32),
    make: &dyn Fn() -> M,
    forward: &dyn Fn(&M, Map) -> Map,
) {
    let run = |half: bool| {
        let (module, x) = (make(), leaf("x", shape));
        let map = Map::from_nhwc(x.clone());
        let y = forward(&module, if half { map.half() } else { map }).into_nhwc();
        assert_eq!(y.dtype(), if half { format } else { DType::F32 }, "{what}");
        let mut seen = vec![("y".to_string(), values(&y))];
        let grads = score(y).backward();
        let dx = x.grad(&grads).expect("a gradient of the input");
        assert_eq!(dx.dtype(), DType::F32, "{what}");
        seen.push(("dx".to_string(), values(&dx)));
        seen.extend(gradients(&module, &grads));
        seen
    };
    let (narrow, wide) = (run(true), run(false));
    assert_eq!(narrow.len(), wide.len(), "{what}");
    for ((name, found), (_, expected)) in narrow.iter().zip(&wide) {
        let off = distance(found, expected);
        assert!(off <= tolerance, "{what}: `{name}` differs by {off:.1e}");
        println!("{what}: `{name}` {off:.1e}");
    }
    assert_ne!(narrow, wide, "{what}: bf16 did not run");
}

fn conv(what: &str, shape: [usize; 4], spec: ConvSpec, act: Act) {
    let make = || spec.init(&device()).map(&mut Fill);
    let tolerance = if act == Act::None { ROUNDED } else { SWITCHED };
    check::<Conv2d>(what, shape, (DType::BF16, tolerance), &make, &|conv, x| conv.forward(x, act));
}

#[test]
fn convolutions() {
    let spec = ConvSpec::new(5, 7, 3);
    conv("3×3", [2, 9, 12, 5], spec, Act::None);
    conv("3×3 with bias and ReLU, odd batch", [3, 9, 12, 5], spec.with_bias(), Act::Relu);
    conv("3×3, stride 2", [2, 9, 12, 5], spec.stride(2), Act::None);
    conv("3×3, SAME, stride 2", [2, 9, 11, 5], spec.stride(2).padding(Padding::Same), Act::None);
    conv("1×1", [3, 5, 7, 32], ConvSpec::new(32, 50, 1), Act::None);
    conv("1×1, stride 2", [1, 7, 9, 16], ConvSpec::new(16, 40, 1).stride(2), Act::None);
    conv("7×7, stride 2", [2, 21, 30, 3], ConvSpec::new(3, 64, 7).stride(2), Act::None);
    conv(
        "11×11, stride 4",
        [1, 35, 47, 3],
        ConvSpec::new(3, 64, 11).stride(4).padding(Padding::Even(2)),
        Act::Relu,
    );
    conv("5×5 in two groups", [2, 9, 9, 8], ConvSpec::new(8, 12, 5).groups(2).with_bias(), Act::Relu);
    conv("depthwise", [2, 9, 12, 20], ConvSpec::new(20, 20, 3).groups(20).stride(2), Act::Relu6);
    conv("on a single pixel", [4, 1, 1, 64], ConvSpec::new(64, 48, 3), Act::None);
}

#[test]
fn pools() {
    let nothing = || ConvSpec::new(1, 1, 1).init(&device());
    check("max pool", [2, 11, 14, 19], (DType::BF16, ROUNDED), &nothing, &|_, x| max_pool(x, 3, 2, 1));
    for size in [[1, 1], [6, 6], [3, 2]] {
        check(&format!("to {size:?}"), [2, 11, 14, 19], (DType::F32, ROUNDED), &nothing, &|_, x| {
            adaptive_avg_pool(x, size)
        });
    }
}

#[derive(Module, Debug)]
struct Unit {
    conv: Conv2d,
    bn: BatchNorm,
}

#[test]
fn normalisation_with_residual() {
    for (what, live) in [("batch statistics", true), ("running statistics", false)] {
        for (act, joins) in [(Act::None, true), (Act::Relu, true), (Act::Relu6, true), (Act::Relu, false)] {
            let make = || {
                let conv = ConvSpec::new(6, 6, 3).init(&device()).map(&mut Fill);
                let mut bn = BatchNorm::new(6, 1e-3, &device());
                bn.training = Param::from_bool(live);
                Unit { conv, bn }
            };
            let tolerance = if act == Act::None { ROUNDED } else { SWITCHED };
            check(what, [3, 21, 15, 6], (DType::BF16, tolerance), &make, &|unit: &Unit, x| {
                conv_bn_act(&unit.conv, &unit.bn, x.clone(), joins.then_some(x), act)
            });
        }
    }
}

/// Which networks train on bf16 maps, and from which group on.
#[test]
fn networks_say_whether_they_can() {
    let new = |name: &str| Network::new(name, &ModelOptions::new(3), &Device::flex()).unwrap();
    for name in ["resnet18", "resnext50_32x4d", "vgg11", "vgg11_bn", "alexnet", "mobilenetv2_100"] {
        let network = new(name);
        let groups = network.groups().len();
        assert!(network.trains_half(0) && !network.trains_half(groups - 1), "{name}");
    }
    assert!(!new("vgg11").trains_half(5), "linear layers only");
    for name in ["seresnet18", "vit_tiny_patch16_224", "convnext_atto", "efficientnet_b0"] {
        assert!(!new(name).trains_half(0), "{name}");
    }
}

/// Twenty steps in both formats from the same start.
fn twenty_steps(name: &str, spec: &str, rate: f64) {
    let run = |half: bool| -> Vec<f64> {
        let mut net = network(name, 5, 3.0, &device()).set_trainable(&|_| true, &|_| true);
        let mut optimizer = Optimizer::new(spec.parse().unwrap());
        let x = pictures([8, 3, 64, 64], &device()).permute([0, 2, 3, 1]);
        let labels: Vec<usize> = (0..8).map(|i| i % 5).collect();
        let mut losses = Vec::new();
        for _ in 0..20 {
            let lesson = Lesson {
                first: 0,
                input: Flow::Map(Map::from_nhwc(x.clone())),
                half,
                goal: targets(&labels, 5, 0.0),
                weights: None,
                focal: None,
            };
            let loss;
            (net, loss) = step(net, lesson, &mut optimizer, &|_| rate, None);
            losses.push(loss);
        }
        losses
    };
    let (narrow, wide) = (run(true), run(false));
    println!("{name}, {spec}: bf16 {narrow:.4?}\nf32 {wide:.4?}");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let off = (mean(&narrow) / mean(&wide) - 1.0).abs();
    assert!(off < 0.1, "{name}, {spec}: the mean loss differs by {off:.3}");
    assert!(narrow[19] < 0.5 * narrow[0], "{name}, {spec} learns nothing: {narrow:?}");
    assert_ne!(narrow, wide, "{name}: bf16 did not run");
}

#[test]
fn training_follows_f32() {
    twenty_steps("headstart_nano", "sgd", 0.02);
    twenty_steps("headstart_nano", "adamw", 1e-3);
    twenty_steps("mobilenetv2_100", "sgd", 0.01);
}

#[test]
fn precisions_have_names() {
    for (precision, name) in [(Precision::F32, "f32"), (Precision::Bf16, "bf16"), (Precision::Int8, "int8")] {
        assert_eq!((precision.name(), serde_json::to_value(precision).unwrap()), (name, name.into()));
    }
}
