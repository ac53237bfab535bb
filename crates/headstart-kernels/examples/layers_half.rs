//! GFLOP/s of every dense layer of ResNet-18 and ResNet-50 at batch 16: inference in bf16 and int8, and the three passes
//! of a training step in bf16.
//!
//! `cargo run --release -p headstart-kernels --example layers_half [part of a name]`. The peaks of two Zen 5
//! cores are about 1090 (bf16) and 2180 (int8). The totals weigh each layer by how often the networks have
//! it. Best of several runs: other programs only slow it.

mod timing;

use headstart_kernels::conv::ConvShape;
use headstart_kernels::half::{self, PackedConvHalf};
use headstart_kernels::int8::{self, PackedConvInt8, Quant};
use headstart_kernels::{Act, Level};
use timing::best;

/// Name, how often ResNet-18 and ResNet-50 have it, whether a residual joins, shape.
type Layer = (String, [u32; 2], bool, ConvShape);

fn main() {
    let only = std::env::args().nth(1).unwrap_or_default();
    let level = Level::current();
    println!("level {level}, {} threads, GFLOP/s", headstart_kernels::threads::threads());
    println!("{:26} {:>8} {:>8} {:>8} {:>8} {:>8}", "layer", "bf16", "int8", "forward", "bwd-data", "bwd-w");
    let mut totals = [[0.0; 2]; 5];
    for (name, counts, joins, shape) in layers() {
        if !name.contains(&only) {
            continue;
        }
        let [forward, data, weight] = time_training(&shape);
        let times = [time_half(&shape, joins), time_int8(&shape, joins), forward, data, weight];
        let flops = 2.0 * (shape.y_len() * shape.c_in / shape.groups * shape.kh * shape.kw) as f64;
        print!("{name:26}");
        for (format, time) in times.into_iter().enumerate() {
            print!(" {:>8.0}", flops / time / 1e9);
            for (total, count) in totals[format].iter_mut().zip(counts) {
                *total += time * f64::from(count) * 1e3;
            }
        }
        println!("   {:.2?} ms", times.map(|t| t * 1e3));
    }
    for (format, [small, large]) in ["bf16", "int8", "forward", "bwd-data", "bwd-w"].into_iter().zip(totals) {
        println!("{format}: ResNet-18 {small:.1} ms, ResNet-50 {large:.1} ms for 16 images");
    }
}

fn layers() -> Vec<Layer> {
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
    let mut add = |counts, joins: bool, shape: ConvShape| {
        let ConvShape { h, c_in, c_out, kh, stride, .. } = shape;
        let join = if joins { " +" } else { "" };
        layers.push((format!("{kh}x{kh}s{} {c_in}->{c_out} @{h}{join}", stride[0]), counts, joins, shape));
    };
    add([1, 1], false, conv(224, [3, 64], 7, 2));
    for (i, (hw, c)) in [(56, 64), (28, 128), (14, 256), (7, 512)].into_iter().enumerate() {
        let (blocks, before) = ([3, 4, 6, 3][i], if i == 0 { 64 } else { 2 * c });
        let (step, wide) = if i == 0 { (1, hw) } else { (2, 2 * hw) };
        // ResNet-18: two blocks of two 3x3 layers, of which the last adds the block's input.
        if i > 0 {
            add([1, 0], false, conv(wide, [c / 2, c], 3, 2));
            add([1, 0], false, conv(wide, [c / 2, c], 1, 2));
        }
        add([if i == 0 { 2 } else { 1 }, blocks - u32::from(i > 0)], false, conv(hw, [c, c], 3, 1));
        add([2, 0], true, conv(hw, [c, c], 3, 1));
        // ResNet-50: narrow, 3x3, widen and add.
        add([0, 1], false, conv(wide, [before, c], 1, 1));
        if i > 0 {
            add([0, 1], false, conv(wide, [c, c], 3, 2));
        }
        add([0, 1], false, conv(wide, [before, 4 * c], 1, step));
        add([0, blocks - 1], false, conv(hw, [4 * c, c], 1, 1));
        add([0, blocks], true, conv(hw, [c, 4 * c], 1, 1));
    }
    layers
}

fn halves(len: usize) -> Vec<u16> {
    let floats: Vec<f32> = (0..len).map(|i| (i % 101) as f32 / 50.0 - 1.0).collect();
    let mut halves = vec![0; len];
    half::bf16::from_f32(&floats, &mut halves);
    halves
}

/// Seconds of forward, backward-data and backward-weight in bf16, with weights packed at each call.
fn time_training(s: &ConvShape) -> [f64; 3] {
    let (x, dy) = (halves(s.x_len()), halves(s.y_len()));
    let mut w: Vec<f32> = (0..s.w_len()).map(|i| (i % 97) as f32 / 500.0 - 0.1).collect();
    let (mut y, mut dx) = (vec![0; s.y_len()], vec![0; s.x_len()]);
    [
        best(|| half::forward(s, &x, &w, None, Act::None, &mut y)),
        best(|| half::backward_data(s, &dy, &w, &mut dx)),
        best(|| half::backward_weight(s, &x, &dy, &mut w)),
    ]
}

/// Seconds of a bf16 layer.
fn time_half(s: &ConvShape, joins: bool) -> f64 {
    let values = halves;
    let (x, residual) = (values(s.x_len()), joins.then(|| values(s.y_len())));
    let w: Vec<f32> = (0..s.w_len()).map(|i| (i % 97) as f32 / 500.0 - 0.1).collect();
    let mut y = vec![0; s.y_len()];
    let packed = PackedConvHalf::new(s, &w, None);
    best(|| half::forward_half(s, &x, &packed, residual.as_deref(), Act::Relu, &mut y))
}

/// Seconds of an int8 layer.
fn time_int8(s: &ConvShape, joins: bool) -> f64 {
    let values = |len: usize| (0..len).map(|i| (i % 251) as u8).collect::<Vec<u8>>();
    let (x, residual) = (values(s.x_len()), joins.then(|| values(s.y_len())));
    let w: Vec<f32> = (0..s.w_len()).map(|i| (i % 97) as f32 / 500.0 - 0.1).collect();
    let mut y = vec![0; s.y_len()];
    let quant = Quant { scale: 0.02, zero: 100 };
    let packed = PackedConvInt8::new(s, &w, None, quant, quant);
    best(|| {
        let residual = residual.as_deref().map(|r| (r, quant));
        int8::forward_int8(s, &x, &packed, residual, Act::Relu, &mut y);
    })
}
