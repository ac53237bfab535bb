//! GFLOP/s of every dense layer of ResNet-18 at batch 16, and of some 1x1 and linear layers.
//!
//! `cargo run --release -p headstart-kernels --example layers [part of a name]`. The peak of two Zen 5 cores
//! at AVX-512 is about 540; `docs/performance.md` has what was measured. Winograd does fewer products than
//! are counted, so its layers may pass the peak. Best of several runs: other programs only slow it.

mod timing;

use headstart_kernels::conv::{self, ConvShape, PackedConv};
use headstart_kernels::{Act, Level, gemm};
use timing::best;

fn main() {
    let only = std::env::args().nth(1).unwrap_or_default();
    println!("level {}, {} threads, GFLOP/s", Level::current(), headstart_kernels::threads::threads());
    println!("{:22} {:>8} {:>8} {:>8} {:>8}", "layer", "packed", "forward", "bwd-data", "bwd-w");
    let mut totals = [0.0; 4];
    for (name, count, shape) in layers() {
        if !name.contains(&only) {
            continue;
        }
        let times = time_layer(&shape);
        let flops = 2.0 * (shape.y_len() * shape.c_in / shape.groups * shape.kh * shape.kw) as f64;
        print!("{name:22}");
        for (time, total) in times.into_iter().zip(&mut totals) {
            print!(" {:>8.0}", flops / time / 1e9);
            *total += time * f64::from(count);
        }
        println!("   {:.2?} ms", times.map(|t| t * 1e3));
    }
    println!("ResNet-18 ms: {:.1?}", totals.map(|t| t * 1e3));
}

/// Name, how often ResNet-18 has it, shape.
fn layers() -> Vec<(String, u32, ConvShape)> {
    let conv = |hw: usize, c: [usize; 2], k: usize, s: usize| ConvShape {
        n: 16,
        h: hw,
        w: hw,
        c_in: c[0],
        c_out: c[1],
        kh: k,
        kw: k,
        stride: [s, s],
        pad: [k / 2; 4],
        groups: 1,
    };
    let mut layers = Vec::new();
    let mut add = |count, shape: ConvShape| {
        let ConvShape { h, c_in, c_out, kh, stride, .. } = shape;
        layers.push((format!("{kh}x{kh}s{} {c_in}->{c_out} @{h}", stride[0]), count, shape));
    };
    add(1, conv(224, [3, 64], 7, 2));
    for (i, (hw, c)) in [(56, 64), (28, 128), (14, 256), (7, 512)].into_iter().enumerate() {
        if i > 0 {
            add(1, conv(hw * 2, [c / 2, c], 3, 2));
            add(1, conv(hw * 2, [c / 2, c], 1, 2));
        }
        add(if i == 0 { 4 } else { 3 }, conv(hw, [c, c], 3, 1));
    }
    add(0, conv(56, [64, 256], 1, 1));
    add(0, conv(56, [256, 64], 1, 1));
    add(0, conv(14, [1024, 256], 1, 1));
    add(0, conv(7, [512, 2048], 1, 1));
    add(0, conv(7, [2048, 512], 1, 1));
    for (name, rows, k, n) in [
        ("linear head", 1, 512, 1000),
        ("linear ViT-S proj", 197, 384, 384),
        ("linear ViT-S fc1", 197, 384, 1536),
        ("linear ViT-S fc2", 197, 1536, 384),
        ("linear ViT-B fc1", 197, 768, 3072),
        ("linear ViT-B fc2", 197, 3072, 768),
    ] {
        layers.push((name.into(), 0, gemm::linear_of([16, rows], n, k)));
    }
    layers
}

/// Seconds of packed forward, forward, backward-data and backward-weight.
fn time_layer(s: &ConvShape) -> [f64; 4] {
    let x: Vec<f32> = (0..s.x_len()).map(|i| (i % 101) as f32 / 50.0 - 1.0).collect();
    let mut w: Vec<f32> = (0..s.w_len()).map(|i| (i % 97) as f32 / 500.0 - 0.1).collect();
    let mut y: Vec<f32> = (0..s.y_len()).map(|i| (i % 89) as f32 / 50.0 - 1.0).collect();
    let mut dx = vec![0.0; s.x_len()];
    let dy = y.clone();
    let packed = PackedConv::new(s, &w, None);
    [
        best(|| conv::forward_packed(s, &x, &packed, None, Act::Relu, &mut y)),
        best(|| conv::forward(s, &x, &w, None, &mut y)),
        best(|| conv::backward_data(s, &dy, &w, &mut dx)),
        best(|| conv::backward_weight(s, &x, &dy, &mut w)),
    ]
}
