//! Milliseconds of a forward pass and of a training step of one network, on pictures of noise.
//!
//! `cargo run --release -p headstart --example network -- vit_small_patch16_224 [BATCH] [SIDE]`. A step is forward,
//! cross-entropy and backward of everything, without the update. Best of several runs: other programs only slow it.
//! With `HEADSTART_THREADS=1` the mean CPU time of this thread instead, which they disturb less.

use std::time::Instant;

use burn::Tensor;
use burn::tensor::{Device, Distribution, activation};
use headstart::models::layers::Map;
use headstart::models::tap::Tap;
use headstart::models::{ModelOptions, Network, frozen};

fn main() {
    headstart::prepare_process();
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| "vit_small_patch16_224".into());
    let mut number = |default: usize| args.next().map_or(default, |a| a.parse().expect("a number"));
    let (batch, side) = (number(16), number(224));
    let (plain, tracked) = (Device::flex(), Device::flex().autodiff());

    let trained = Network::new(&name, &ModelOptions::new(1000), &tracked).expect("a network").init(1);
    let inference = frozen(&trained);
    let pictures = |device: &Device| {
        Map::from_nhwc(Tensor::random([batch, side, side, 3], Distribution::Normal(0.0, 1.0), device))
    };
    let x = pictures(&plain);
    let forward = best(|| drop(inference.forward(x.clone(), &mut Tap::off())));
    let x = pictures(&tracked);
    let step = best(|| {
        let logits = trained.forward(x.clone(), &mut Tap::off());
        let loss = -activation::log_softmax(logits, 1).narrow(1, 0, 1).mean();
        drop(loss.backward());
    });
    println!("{name}, batch {batch}, {side}²: forward {forward:.1} ms, step {step:.1} ms");
}

/// CPU time of this thread, on Linux.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(stat.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

/// Milliseconds of the quickest run.
fn best(mut run: impl FnMut()) -> f64 {
    run();
    let (start, cpu_start, mut best) = (Instant::now(), cpu_seconds(), f64::MAX);
    let mut runs = 0_u32;
    while runs < 5 || start.elapsed().as_secs_f64() < 3.0 {
        let from = Instant::now();
        run();
        best = best.min(from.elapsed().as_secs_f64());
        runs += 1;
    }
    match (std::env::var("HEADSTART_THREADS").as_deref(), cpu_start, cpu_seconds()) {
        (Ok("1"), Some(start), Some(end)) => (end - start) / f64::from(runs) * 1e3,
        _ => best * 1e3,
    }
}
