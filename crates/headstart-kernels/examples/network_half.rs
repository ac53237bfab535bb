//! Images per second of a whole ResNet-18 or ResNet-50 in bf16: folded layers, pools, no classifier.
//!
//! `cargo run --release -p headstart-kernels --example network_half [images a batch] [images at a time]`.
//! Few images at a time keep the maps in the caches, but read the weights more often.

use std::time::Instant;

use headstart_kernels::conv::ConvShape;
use headstart_kernels::half::{self, PackedConvHalf};
use headstart_kernels::pool::PoolShape;
use headstart_kernels::{Act, Level};

fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse().expect("a number of images"));
    let batch = args.next().unwrap_or(16);
    println!("level {}, {} threads", Level::current(), headstart_kernels::threads::threads());
    let steps = args.next().map_or_else(|| vec![batch, 4, 2, 1], |step| vec![step]);
    for (name, wide) in [("ResNet-18", false), ("ResNet-50", true)] {
        let network = Network::new(wide);
        let x = vec![0x3f00; batch * 224 * 224 * 3];
        for step in steps.iter().filter(|step| batch.is_multiple_of(**step)) {
            let run = || {
                x.chunks_exact(step * 224 * 224 * 3).map(|x| network.forward(*step, x).len()).sum::<usize>()
            };
            let rate = batch as f64 / best(|| _ = std::hint::black_box(run()));
            println!("{name}: {rate:.0} images/s, {step} of {batch} at a time");
        }
    }
}

/// A convolution with its geometry, for maps of any size.
struct Conv {
    shape: ConvShape,
    packed: PackedConvHalf,
}

impl Conv {
    fn new(c: [usize; 2], k: usize, stride: usize) -> Self {
        let shape = ConvShape {
            n: 1,
            h: k,
            w: k,
            c_in: c[0],
            c_out: c[1],
            kh: k,
            kw: k,
            stride: [stride; 2],
            pad: [k / 2; 4],
            groups: 1,
        };
        let size = (shape.w_len() / c[1]) as f32;
        let w: Vec<f32> = (0..shape.w_len()).map(|i| ((i % 97) as f32 / 48.0 - 1.0) / size.sqrt()).collect();
        Self { packed: PackedConvHalf::new(&shape, &w, Some(&vec![0.1; c[1]])), shape }
    }

    fn forward(&self, map: &Map, residual: Option<&Map>, act: Act) -> Map {
        let shape = ConvShape { n: map.n, h: map.size, w: map.size, ..self.shape };
        let mut y = vec![0; shape.y_len()];
        half::forward_half(&shape, &map.x, &self.packed, residual.map(|r| &r.x[..]), act, &mut y);
        Map { n: map.n, size: shape.out_h(), x: y }
    }
}

struct Map {
    n: usize,
    size: usize,
    x: Vec<u16>,
}

struct Network {
    stem: Conv,
    /// The layers of each block, and the projection of its residual.
    blocks: Vec<(Vec<Conv>, Option<Conv>)>,
}

impl Network {
    fn new(wide: bool) -> Self {
        let mut blocks = Vec::new();
        let mut c_in = 64;
        let depths = if wide { [3, 4, 6, 3] } else { [2, 2, 2, 2] };
        for (stage, depth) in depths.into_iter().enumerate() {
            for block in 0..depth {
                let c = 64 << stage;
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let c_out = if wide { 4 * c } else { c };
                let layers = if wide {
                    vec![
                        Conv::new([c_in, c], 1, 1),
                        Conv::new([c, c], 3, stride),
                        Conv::new([c, c_out], 1, 1),
                    ]
                } else {
                    vec![Conv::new([c_in, c], 3, stride), Conv::new([c, c], 3, 1)]
                };
                let project = (c_in != c_out || stride > 1).then(|| Conv::new([c_in, c_out], 1, stride));
                blocks.push((layers, project));
                c_in = c_out;
            }
        }
        Self { stem: Conv::new([3, 64], 7, 2), blocks }
    }

    /// The pooled features.
    fn forward(&self, n: usize, x: &[u16]) -> Vec<f32> {
        let map = self.stem.forward(&Map { n, size: 224, x: x.to_vec() }, None, Act::Relu);
        let pool = PoolShape { n, h: 112, w: 112, c: 64, kernel: [3; 2], stride: [2; 2], pad: [1; 2] };
        let mut pooled = vec![0; n * 56 * 56 * 64];
        half::max_forward(&pool, &map.x, &mut pooled);
        let mut map = Map { n, size: 56, x: pooled };
        for (layers, project) in &self.blocks {
            let residual = project.as_ref().map(|conv| conv.forward(&map, None, Act::None));
            let (last, first) = layers.split_last().expect("a block has layers");
            let mut inner = None;
            for conv in first {
                inner = Some(conv.forward(inner.as_ref().unwrap_or(&map), None, Act::Relu));
            }
            let inner = inner.expect("a block has two layers or more");
            map = last.forward(&inner, Some(residual.as_ref().unwrap_or(&map)), Act::Relu);
        }
        let channels = map.x.len() / n / map.size / map.size;
        let mut features = vec![0.0; n * channels];
        half::adaptive_avg_forward([n, map.size, map.size, channels], [1, 1], &map.x, &mut features);
        features
    }
}

/// Seconds of the quickest run; of one thread, the mean CPU time, which other programs disturb less.
fn best(mut run: impl FnMut()) -> f64 {
    run();
    let (start, cpu_start, mut best) = (Instant::now(), cpu_seconds(), f64::MAX);
    let mut runs = 0;
    while runs < 5 || start.elapsed().as_secs_f64() < 1.5 {
        let run_start = Instant::now();
        run();
        best = best.min(run_start.elapsed().as_secs_f64());
        runs += 1;
    }
    match (headstart_kernels::threads::threads(), cpu_start, cpu_seconds()) {
        (1, Some(start), Some(end)) => (end - start) / f64::from(runs),
        _ => best,
    }
}

/// CPU time of this thread, on Linux.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(stat.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}
