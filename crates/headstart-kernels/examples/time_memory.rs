//! Times the kernels that wait for memory, on maps of ResNet-18 and MobileNetV2 at batch 16.
//! GB/s counts each operand once per pass that must touch it.

use headstart_kernels::conv::ConvShape;
use headstart_kernels::norm::{self, Norm, NormGrads};
use headstart_kernels::pool::{self, PoolShape};
use headstart_kernels::{Act, act, depthwise, loss, optim};
use std::time::Instant;

/// Prints the median of the runs and the rate for `floats` moved.
fn time(what: &str, floats: usize, mut run: impl FnMut()) {
    run();
    let mut times: Vec<f64> = (0..15)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let t = times[times.len() / 2];
    println!("{what:<44} {:8.3} ms {:7.1} GB/s", t * 1e3, floats as f64 * 4e-9 / t);
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 2003) as f32 / 1000.0 - 1.0).collect()
}

fn main() {
    for (size, c) in [(112, 64), (56, 64), (28, 128), (14, 256), (7, 512)] {
        let len = 16 * size * size * c;
        let (x, dy, residual, one) = (values(len), values(len), values(len), vec![1.0; c]);
        let (mut mean, mut var, mut y) = (vec![0.0; c], vec![0.0; c], vec![0.0; len]);
        let name = |what: &str| format!("{what} {c}@{size}");
        time(&name("norm::batch_stats"), len, || norm::batch_stats(&x, &mut mean, &mut var));
        let norm = Norm { mean: &mean, var: &var, gamma: &one, beta: &one, eps: 1e-5 };
        time(&name("norm::forward relu"), 2 * len, || norm::forward(&norm, &x, None, Act::Relu, &mut y));
        time(&name("norm::forward residual relu"), 3 * len, || {
            norm::forward(&norm, &x, Some(&residual), Act::Relu, &mut y);
        });
        let (mut dx, mut dr, mut dg, mut db) = (vec![0.0; len], vec![0.0; len], vec![0.0; c], vec![0.0; c]);
        for (what, seen) in
            [("norm::backward relu, mask from y", Some(&y[..])), ("norm::backward relu, from x", None)]
        {
            let moved = if seen.is_some() { 7 } else { 5 };
            time(&name(what), moved * len, || {
                let (dx, dgamma, dbeta) = (Some(&mut dx[..]), Some(&mut dg[..]), Some(&mut db[..]));
                let grads = NormGrads { dx, dgamma, dbeta, dresidual: None };
                norm::backward_train(&norm, Act::Relu, &x, seen, &dy, grads);
            });
        }
        time(&name("norm::backward residual"), 7 * len, || {
            let (dx, dgamma, dbeta) = (Some(&mut dx[..]), Some(&mut dg[..]), Some(&mut db[..]));
            let grads = NormGrads { dx, dgamma, dbeta, dresidual: Some(&mut dr) };
            norm::backward_train(&norm, Act::Relu, &x, Some(&y), &dy, grads);
        });
        time(&name("norm::backward_frozen, only dx"), 3 * len, || {
            let grads = NormGrads { dx: Some(&mut dx), ..NormGrads::default() };
            norm::backward_frozen(&norm, Act::Relu, &[], Some(&y), &dy, grads);
        });
        time(&name("act::add_forward"), 3 * len, || act::add_forward(Act::Relu, &mut y, &residual));
    }

    let stem = PoolShape { n: 16, h: 112, w: 112, c: 64, kernel: [3, 3], stride: [2, 2], pad: [1, 1] };
    let (x, mut dx) = (values(16 * 112 * 112 * 64), vec![0.0; 16 * 112 * 112 * 64]);
    let out = x.len() / 4;
    let (mut y, mut taps, dy) = (vec![0.0; out], vec![0; out], values(out));
    time("pool::max_forward stem", x.len() + out, || pool::max_forward(&stem, &x, &mut y, None));
    time("pool::max_forward stem, taps", x.len() + out + out / 4, || {
        pool::max_forward(&stem, &x, &mut y, Some(&mut taps));
    });
    time("pool::max_backward stem", x.len() + out + out / 4, || {
        pool::max_backward(&stem, &taps, &dy, &mut dx);
    });
    let (last, mut mean) = ([16, 7, 7, 512], vec![0.0; 16 * 512]);
    time("pool::adaptive_avg_forward 512@7", 16 * 49 * 512, || {
        pool::adaptive_avg_forward(last, [1, 1], &x[..16 * 49 * 512], &mut mean);
    });
    time("pool::adaptive_avg_backward 512@7", 16 * 49 * 512, || {
        pool::adaptive_avg_backward(last, [1, 1], &mean, &mut dx[..16 * 49 * 512]);
    });

    for (size, c, k, stride) in [
        (112, 32, 3, 1),
        (112, 96, 3, 2),
        (56, 144, 3, 1),
        (28, 192, 3, 1),
        (14, 576, 3, 1),
        (7, 960, 3, 1),
        (28, 120, 5, 1),
        (14, 672, 5, 2),
        (56, 96, 7, 1),
    ] {
        let shape = ConvShape {
            n: 16,
            h: size,
            w: size,
            c_in: c,
            c_out: c,
            kh: k,
            kw: k,
            stride: [stride; 2],
            pad: [k / 2; 4],
            groups: c,
        };
        let (x, dy, weight) = (values(shape.x_len()), values(shape.y_len()), values(shape.w_len()));
        let (mut dx, mut y, mut dw) = (x.clone(), dy.clone(), weight.clone());
        let moved = x.len() + y.len();
        let gflop = 2e-9 * (shape.y_len() * k * k) as f64;
        let name = |what: &str| format!("depthwise::{what} {c}@{size} k{k}s{stride} ({gflop:.2} GF)");
        time(&name("fwd"), moved, || depthwise::forward(&shape, &x, &weight, None, Act::Relu6, &mut y));
        time(&name("dx"), moved, || depthwise::backward_data(&shape, &dy, &weight, &mut dx));
        time(&name("dw"), moved, || depthwise::backward_weight(&shape, &x, &dy, &mut dw));
    }

    let len = 11_700_000;
    let (mut p, g, mut m, mut v) = (values(len), values(len), vec![0.0; len], vec![0.0; len]);
    let rule = optim::Sgd { lr: 1e-4, momentum: 0.9, weight_decay: 1e-4, nesterov: false };
    time("optim::sgd 11.7 M", 5 * len, || optim::sgd(&rule, false, &mut p, &g, &mut m));
    let rule = optim::AdamW { lr: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 };
    time("optim::adamw 11.7 M", 7 * len, || optim::adamw(&rule, 5, &mut p, &g, &mut m, &mut v));
    time("optim::sum_of_squares 11.7 M", len, || {
        std::hint::black_box(optim::sum_of_squares(&g));
    });
    time("optim::lerp 11.7 M", 3 * len, || optim::lerp(&mut p, &g, 0.01));
    let (rows, c) = (16 * 6 * 197, 197);
    let mut x = values(rows * c);
    time("loss::softmax 18912x197", 2 * rows * c, || loss::softmax(&mut x, c));
    let (x, t, mut d) = (values(32_000), values(32_000), vec![0.0; 32_000]);
    time("loss::cross_entropy 32x1000", 3 * 32_000, || {
        std::hint::black_box(loss::cross_entropy(&x, &t, 1000, None, Some(&mut d)));
    });
}
