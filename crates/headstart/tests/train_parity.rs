//! Twenty steps of training against PyTorch: the same losses, to 1e-3, at every step.
//!
//! `tools/golden/training.py` runs the same network on the same pictures with `torch.optim`. With live
//! BatchNorm the statistics, their gradients and their running means all take part.

#[path = "support/formula.rs"]
mod formula;

use burn::Tensor;
use burn::tensor::{Device, TensorData, activation};
use formula::{Path, fixture, floats, network, pictures};
use headstart::models::tap::Tap;
use headstart::train::optimizer::Optimizer;

const TOLERANCE: f32 = 1e-3;

/// The mean of −log softmax at the label.
fn cross_entropy(logits: Tensor<2>, classes: usize) -> Tensor<1> {
    let [n, _] = logits.dims();
    let device = logits.device();
    let mut hot = vec![0.0_f32; n * classes];
    (0..n).for_each(|i| hot[i * classes + i % classes] = 1.0);
    let hot = Tensor::<2>::from_data(TensorData::new(hot, [n, classes]), &device);
    (activation::log_softmax(logits, 1) * hot).sum() / -(n as f32)
}

fn check(path: Path) {
    let case = fixture("training.json");
    let number = |key: &str| case[key].as_u64().expect("a number") as usize;
    let (pictures_n, classes, size) = (number("pictures"), number("classes"), number("size"));
    for run in case["runs"].as_array().expect("runs") {
        let device = Device::flex().autodiff();
        let live = run["live"].as_bool().expect("a flag");
        let (spec, lr) = (run["optimizer"].as_str().expect("text"), run["lr"].as_f64().expect("a rate"));
        let mut net = network("headstart_nano", classes, case["gain"].as_f64().expect("a gain"), &device)
            .set_trainable(&|_| true, &|_| live);
        let mut optimizer = Optimizer::new(spec.parse().unwrap());
        let mut worst = 0.0_f32;
        for (step, expected) in floats(&run["losses"]).into_iter().enumerate() {
            let x = pictures([pictures_n, 3, size, size], &device);
            let loss = cross_entropy(net.forward(path.map(x), &mut Tap::off()), classes);
            let mut grads = loss.backward();
            net = optimizer.step(net, &mut grads, &|_| lr, None);
            let found = loss.into_scalar::<f32>();
            // Losses of a solved task are sums of numbers near zero: 1e-5 is allowed besides.
            let off = ((found - expected).abs() - 1e-5).max(0.0) / expected;
            worst = worst.max(off);
            assert!(off <= TOLERANCE, "{spec}, live {live}, {path:?}, step {step}: {found} instead of {expected}");
        }
        println!("{spec}, live {live}, {path:?}: {worst:.1e}");
    }
}

#[test]
fn the_fast_path_trains_like_pytorch() {
    check(Path::Fast);
}

#[test]
fn the_reference_path_trains_like_pytorch() {
    check(Path::Reference);
}
