//! Gradients of the CPU engine against Burn's own operations, to 1e-4 of their range.

#[path = "support/formula.rs"]
mod formula;

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, TensorData};
use formula::{Path, error, network, pictures, tensor, uniform, values};
use headstart::models::Network;
use headstart::models::layers::{
    Act, Attention, BatchNorm, Branch, Conv2d, ConvSpec, LayerNorm, Linear, Map, Mlp, Padding, Tokens,
    adaptive_avg_pool, conv_bn_act, max_pool, squeeze_excite,
};
use headstart::models::tap::Tap;

const TOLERANCE: f32 = 1e-4;

fn device() -> Device {
    Device::flex().autodiff()
}

fn leaf<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
    let drawn = uniform(name, shape.iter().product(), -2.0, 2.0);
    Tensor::from_data(TensorData::new(drawn, shape), &device()).require_grad()
}

/// Weighs a result by fixed numbers and sums it, so that every output has its own gradient.
fn score<const D: usize>(y: Tensor<D>) -> Tensor<1> {
    let weights = uniform("dy", y.dims().iter().product(), -1.0, 1.0);
    let weights = Tensor::<D>::from_data(TensorData::new(weights, y.dims()), &y.device());
    (y * weights).sum()
}

/// What a layer gives and the gradients it sends back, all named.
type Seen = Vec<(String, Vec<f32>)>;

/// Fills a layer by formula; conv, norm and linear alike.
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

fn compare(what: &str, fast: &Seen, reference: &Seen) {
    compare_to(TOLERANCE, what, fast, reference);
}

fn compare_to(tolerance: f32, what: &str, fast: &Seen, reference: &Seen) {
    assert_eq!(fast.len(), reference.len(), "{what}");
    let mut worst = (0.0, "");
    for ((name, found), (reference_name, expected)) in fast.iter().zip(reference) {
        assert_eq!(name, reference_name, "{what}");
        let off = error(found, expected);
        assert!(off <= tolerance, "{what}: `{name}` differs by {off:.1e} of its range");
        if off >= worst.0 {
            worst = (off, name);
        }
    }
    println!("{what}: {} tensors, worst {:.1e} ({})", fast.len(), worst.0, worst.1);
}

/// Runs `forward` on both paths with a tracked input and compares results and gradients.
fn check<M: Module>(what: &str, shape: [usize; 4], make: &dyn Fn() -> M, forward: &dyn Fn(&M, Map) -> Map) {
    check_to(TOLERANCE, what, shape, make, forward);
}

fn check_to<M: Module>(
    tolerance: f32,
    what: &str,
    shape: [usize; 4],
    make: &dyn Fn() -> M,
    forward: &dyn Fn(&M, Map) -> Map,
) {
    let run = |path: Path| {
        let (module, x) = (make(), leaf("x", shape));
        let y = forward(&module, path.map(x.clone())).into_nchw();
        let mut seen = vec![("y".to_string(), values(&y))];
        let grads = score(y).backward();
        seen.push(("dx".to_string(), values(&x.grad(&grads).expect("a gradient of the input"))));
        seen.extend(gradients(&module, &grads));
        seen
    };
    compare_to(tolerance, what, &run(Path::Fast), &run(Path::Reference));
}

fn conv(what: &str, shape: [usize; 4], spec: ConvSpec, act: Act) {
    check::<Conv2d>(what, shape, &|| spec.init(&device()).map(&mut Fill), &|conv, x| conv.forward(x, act));
}

#[test]
fn convolutions() {
    let spec = ConvSpec::new(5, 7, 3);
    conv("3×3", [2, 5, 9, 12], spec, Act::None);
    conv("3×3 with bias and ReLU", [2, 5, 9, 12], spec.with_bias(), Act::Relu);
    conv("3×3, stride 2", [2, 5, 9, 12], spec.stride(2), Act::Relu6);
    conv("3×3, SAME, stride 2, odd", [2, 5, 9, 11], spec.stride(2).padding(Padding::Same), Act::None);
    conv("3×3, SAME, stride 2, even", [2, 5, 10, 12], spec.stride(2).padding(Padding::Same), Act::None);
    conv("3×3, valid", [1, 5, 6, 5], spec.padding(Padding::Even(0)), Act::None);
    conv("1×1", [3, 33, 5, 7], ConvSpec::new(33, 50, 1), Act::None);
    conv("1×1, stride 2", [2, 16, 7, 9], ConvSpec::new(16, 40, 1).stride(2), Act::None);
    conv("7×7, stride 2", [2, 3, 21, 30], ConvSpec::new(3, 64, 7).stride(2), Act::None);
    conv(
        "11×11, stride 4",
        [1, 3, 35, 47],
        ConvSpec::new(3, 64, 11).stride(4).padding(Padding::Even(2)),
        Act::Relu,
    );
    conv("5×5 in two groups", [2, 8, 9, 9], ConvSpec::new(8, 12, 5).groups(2).with_bias(), Act::Relu);
    conv("on a single pixel", [4, 64, 1, 1], ConvSpec::new(64, 48, 3), Act::None);
}

#[test]
fn depthwise_convolutions() {
    let spec = ConvSpec::new(20, 20, 3).groups(20);
    conv("depthwise", [2, 20, 9, 12], spec, Act::None);
    conv("depthwise with bias and ReLU6", [2, 20, 9, 12], spec.with_bias(), Act::Relu6);
    conv("depthwise, stride 2", [2, 20, 9, 12], spec.stride(2), Act::None);
    conv("depthwise, SAME, stride 2", [2, 20, 10, 13], spec.stride(2).padding(Padding::Same), Act::None);
    conv("depthwise 5×5", [1, 33, 7, 5], ConvSpec::new(33, 33, 5).groups(33), Act::None);
}

#[test]
fn pools() {
    let nothing = || ConvSpec::new(1, 1, 1).init(&device());
    for (kernel, stride, pad) in [(3, 2, 1), (3, 2, 0), (2, 2, 0)] {
        let what = format!("max pool {kernel}/{stride}/{pad}");
        check(&what, [2, 19, 11, 14], &nothing, &|_, x| max_pool(x, kernel, stride, pad));
    }
    for size in [[1, 1], [6, 6], [7, 7], [3, 2]] {
        let what = format!("average pool to {size:?}");
        check(&what, [2, 19, 11, 14], &nothing, &|_, x| adaptive_avg_pool(x, size));
        check(&what, [1, 5, 2, 3], &nothing, &|_, x| adaptive_avg_pool(x, size));
    }
}

#[derive(Module, Debug)]
struct Unit {
    conv: Conv2d,
    bn: BatchNorm,
}

#[test]
fn normalisation_with_residual() {
    for (what, live) in [("BatchNorm on batch statistics", true), ("BatchNorm on running statistics", false)]
    {
        for act in [Act::None, Act::Relu, Act::Relu6] {
            // Batch statistics cancel a bias: its gradient is rounding noise around zero.
            let spec = ConvSpec { bias: !live, ..ConvSpec::new(6, 6, 3) };
            let make = || {
                let conv = spec.init(&device()).map(&mut Fill);
                let mut bn = BatchNorm::new(6, 1e-3, &device());
                bn.training = Param::from_bool(live);
                Unit { conv, bn }
            };
            check(what, [3, 6, 7, 5], &make, &|unit: &Unit, x| {
                conv_bn_act(&unit.conv, &unit.bn, x.clone(), Some(x), act)
            });
        }
    }
}

/// Linear layers choose by device, so the comparison is with plain matrix products.
#[test]
fn linear_layers() {
    for (m, k, n, act) in [(5, 33, 17, Act::None), (1, 300, 7, Act::Relu), (16, 64, 64, Act::Relu6)] {
        let layer = Linear::new(k, n, &device()).map(&mut Fill);
        let run = |fast: bool| {
            let x = leaf("x", [m, k]);
            let y = if fast {
                layer.forward(x.clone(), act)
            } else {
                let bias = layer.bias.as_ref().expect("a bias").val().reshape([1, n]);
                let y = x.clone().matmul(layer.weight.val().transpose()) + bias;
                match act {
                    Act::None => y,
                    Act::Relu => y.clamp_min(0.0),
                    Act::Relu6 => y.clamp(0.0, 6.0),
                    other => panic!("{other:?} is not tried here"),
                }
            };
            let mut seen = vec![("y".to_string(), values(&y))];
            let grads = score(y).backward();
            seen.push(("dx".to_string(), values(&x.grad(&grads).expect("a gradient"))));
            seen.extend(gradients(&layer, &grads));
            seen
        };
        compare(&format!("linear {m}×{k}×{n}"), &run(true), &run(false));
    }
}

/// Layers of transformers, to a tenth of the tolerance.
fn tokens<M: Module>(what: &str, make: &dyn Fn() -> M, forward: &dyn Fn(&M, Tokens) -> Tokens) {
    for shape in [[2, 24, 3, 5], [1, 24, 1, 1], [3, 24, 7, 7]] {
        let what = format!("{what} on {shape:?}");
        let forward = |m: &M, x| forward(m, Tokens::from_map(x)).into_map();
        check_to(TOLERANCE / 10.0, &what, shape, make, &forward);
    }
}

#[test]
fn layers_of_transformers() {
    let width = 24;
    tokens("LayerNorm", &|| LayerNorm::new(width, 1e-6, &device()).map(&mut Fill), &|norm, x| norm.tokens(x));
    tokens("attention", &|| Attention::new(width, 3, &device()).map(&mut Fill), &|layer, x| {
        layer.forward(x.clone(), Branch::default(), x)
    });
    let scale = || LayerNorm::new(width, 1e-6, &device()).map(&mut Fill).weight;
    tokens(
        "weighed attention",
        &|| (Attention::new(width, 2, &device()).map(&mut Fill), scale()),
        &|layer, x| layer.0.forward(x.clone(), Branch { scale: Some(&layer.1), ..Branch::default() }, x),
    );
    for act in [Act::Gelu, Act::QuickGelu, Act::Relu] {
        let make = || Mlp::<2>::new(width, 50, act, &device()).map(&mut Fill);
        tokens(&format!("perceptron with {act:?}"), &make, &|mlp, x| {
            mlp.forward(x.clone(), Branch::default(), x)
        });
    }
    let make = || Mlp::<4>::new(width, 48, Act::Gelu, &device()).with_grn(48, &device()).map(&mut Fill);
    tokens("perceptron with response norm", &make, &|mlp, x| mlp.forward(x.clone(), Branch::default(), x));
}

#[test]
fn smooth_activations_and_gates() {
    let nothing = || ConvSpec::new(1, 1, 1).init(&device());
    for act in [Act::Gelu, Act::QuickGelu, Act::Silu, Act::Sigmoid, Act::HardSwish, Act::HardSigmoid] {
        let what = format!("{act:?}");
        check_to(TOLERANCE / 10.0, &what, [2, 19, 11, 14], &nothing, &|_, x| act.map(x));
    }
    let layer = |c_in, c_out| ConvSpec::new(c_in, c_out, 1).with_bias().init(&device()).map(&mut Fill);
    for (act, gate) in [(Act::Silu, Act::Sigmoid), (Act::Relu, Act::HardSigmoid)] {
        check("squeeze-and-excitation", [2, 20, 9, 7], &|| (layer(20, 6), layer(6, 20)), &|layers, x| {
            squeeze_excite(x, &layers.0, &layers.1, act, gate)
        });
    }
}

/// Trains one step of a whole network on both paths: logits, gradients, running statistics.
fn whole(name: &str, live: bool, shape: [usize; 4]) {
    let run = |path: Path| {
        let net: Network = network(name, 5, 3.0, &device()).set_trainable(&|_| true, &|_| live);
        let x = pictures(shape, &device());
        let logits = net.forward(path.map(x), &mut Tap::off());
        let mut seen = vec![("logits".to_string(), values(&logits))];
        let grads = score(logits).backward();
        seen.extend(gradients(&net, &grads));
        for (name, shape, values) in net.state().into_iter().filter(|(name, ..)| name.contains("running_")) {
            assert_eq!(
                live,
                values != tensor(&name, &shape, 3.0),
                "`{name}` moves if and only if it is live"
            );
            seen.push((name, values));
        }
        seen
    };
    compare(&format!("{name}, live {live}"), &run(Path::Fast), &run(Path::Reference));
}

#[test]
fn networks_in_training() {
    whole("headstart_nano", true, [4, 3, 65, 81]);
    whole("headstart_nano", false, [2, 3, 64, 64]);
    whole("mobilenetv2_100", false, [2, 3, 64, 64]);
    whole("tf_mobilenetv2_100", false, [2, 3, 64, 70]);
    whole("seresnet18", false, [2, 3, 40, 48]);
    whole("convnextv2_atto", false, [2, 3, 64, 70]);
    whole("mobilenetv3_small_100", false, [2, 3, 64, 64]);
    whole("efficientnet_b0", false, [2, 3, 64, 64]);
    whole("vit_tiny_patch16_224", false, [2, 3, 64, 80]);
    whole("deit3_small_patch16_224", false, [1, 3, 48, 48]);
}

/// The packed weights of inference follow the parameters.
#[test]
fn folded_weights_follow_their_sources() {
    let plain = Device::flex();
    let net = network("headstart_nano", 3, 3.0, &plain);
    let x = pictures([1, 3, 32, 32], &plain);
    let run = |net: &Network, path: Path| values(&net.forward(path.map(x.clone()), &mut Tap::off()));
    let before = run(&net, Path::Fast);
    assert_eq!(before, run(&net, Path::Fast));
    let changed = headstart::models::frozen(&net).assign(&mut |name, shape| {
        (name == "layer2.0.bn1.running_var").then(|| uniform(name, shape.iter().product(), 2.0, 3.0))
    });
    let after = run(&changed, Path::Fast);
    assert!(error(&after, &before) > 1e-3, "a new variance must change the result");
    assert!(error(&after, &run(&changed, Path::Reference)) < 1e-4);
    assert_eq!(run(&net, Path::Fast), before, "the copy must not disturb the original");
}
