//! Twenty steps of training against PyTorch: the same losses, to 1e-3, at every step.
//!
//! `tools/golden/training.py` runs the same network on the same pictures with `torch.optim`. With live
//! BatchNorm the statistics, their gradients and the running statistics all take part.

#[path = "support/formula.rs"]
mod formula;

use burn::Tensor;
use burn::tensor::{Device, TensorData, activation};
use formula::{Path, error, fixture, floats, network, pictures};
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
            let off = (found - expected).abs();
            worst = worst.max(off / expected);
            // A solved task's loss is a sum of numbers near zero, where f32 itself is off by 8e-4: 1e-6 on top.
            assert!(
                off <= TOLERANCE * expected + 1e-6,
                "{spec}, live {live}, {path:?}, step {step}: {found} instead of {expected}"
            );
        }
        println!("{spec}, live {live}, {path:?}: losses {worst:.1e}");
        let state = net.state();
        for (name, expected) in run["running"].as_object().expect("tensors by name") {
            let (_, _, found) = state.iter().find(|(n, ..)| n == name).expect("a buffer of that name");
            let expected = floats(expected);
            let off = error(&found[..expected.len()], &expected);
            println!("    {name}: {off:.1e}");
            assert!(off <= TOLERANCE, "{spec}, live {live}, {path:?}: `{name}` differs by {off:.1e}");
        }
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
