//! Every reduction has the same bits on one thread as on all: a call from inside a task runs alone.

use headstart_kernels::conv::ConvShape;
use headstart_kernels::norm::{self, Norm, NormGrads};
use headstart_kernels::threads::parallel_for;
use headstart_kernels::{Act, attention, depthwise, gate, half, layer_norm, loss, optim, pool};
use std::sync::Mutex;

fn values(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0).collect()
}

/// Runs `kernel` on all threads and, nested in a task, on one.
fn same(what: &str, kernel: impl Fn() -> Vec<f32> + Sync) {
    let alone = Mutex::new(Vec::new());
    parallel_for(2, |index| {
        if index == 0 {
            *alone.lock().expect("one task writes") = kernel();
        }
    });
    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let alone = alone.into_inner().expect("one task writes");
    assert!(!alone.is_empty(), "{what} gave nothing");
    for _ in 0..3 {
        assert!(bits(&kernel()) == bits(&alone), "{what}: the bits depend on the threads");
    }
}

#[test]
fn at_any_thread_count() {
    let (rows, c) = (16 * 14 * 14, 100);
    let (x, dy, one) = (values(rows * c, 1), values(rows * c, 2), vec![1.0; c]);
    let stats = || {
        let (mut mean, mut var) = (vec![0.0; c], vec![0.0; c]);
        norm::batch_stats(&x, &mut mean, &mut var);
        (mean, var)
    };
    same("batch statistics", || [stats().0, stats().1].concat());
    same("norm backward", || {
        let (mean, var) = stats();
        let norm = Norm { mean: &mean, var: &var, gamma: &one, beta: &one, eps: 1e-5 };
        let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; x.len()], vec![0.0; c], vec![0.0; c]);
        let grads = NormGrads {
            dx: Some(&mut dx),
            dgamma: Some(&mut dgamma),
            dbeta: Some(&mut dbeta),
            dresidual: None,
        };
        norm::backward_train(&norm, Act::Relu, &x, None, &dy, grads);
        [dx, dgamma, dbeta].concat()
    });
    same("channel sums", || {
        let mut sums = vec![0.0; c];
        norm::channel_sums(&x, &mut sums);
        sums
    });
    same("depthwise weight gradient", || {
        let shape = ConvShape {
            n: 16,
            h: 14,
            w: 14,
            c_in: c,
            c_out: c,
            kh: 3,
            kw: 3,
            stride: [1, 1],
            pad: [1; 4],
            groups: c,
        };
        let mut dweight = vec![0.0; 9 * c];
        depthwise::backward_weight(&shape, &x, &dy, &mut dweight);
        dweight
    });
    same("weight gradient in bf16", || {
        let shape = ConvShape {
            n: 5,
            h: 28,
            w: 28,
            c_in: 64,
            c_out: 80,
            kh: 3,
            kw: 3,
            stride: [1, 1],
            pad: [1; 4],
            groups: 1,
        };
        let narrow = |values: Vec<f32>| {
            let mut half = vec![0; values.len()];
            half::bf16::from_f32(&values, &mut half);
            half
        };
        let (x, dy) = (narrow(values(shape.x_len(), 3)), narrow(values(shape.y_len(), 4)));
        let mut dweight = vec![0.0; shape.w_len()];
        half::backward_weight(&shape, &x, &dy, &mut dweight);
        let (mut sums, mut mean, mut var) = (vec![0.0; 80], vec![0.0; 80], vec![0.0; 80]);
        norm::channel_sums(&dy, &mut sums);
        norm::batch_stats(&dy, &mut mean, &mut var);
        [dweight, sums, mean, var].concat()
    });
    same("sum of squares", || vec![optim::sum_of_squares(&x) as f32]);
    same("cross-entropy", || {
        let mut gradient = vec![0.0; x.len()];
        let value = loss::cross_entropy(&x, &dy, c, None, Some(&mut gradient));
        gradient.push(value as f32);
        gradient
    });
    same("adaptive average", || {
        let mut y = vec![0.0; 16 * 9 * c];
        pool::adaptive_avg_forward([16, 14, 14, c], [3, 3], &x, &mut y);
        y
    });
    same("LayerNorm backward", || {
        let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; x.len()], vec![0.0; c], vec![0.0; c]);
        let grads = layer_norm::LayerNormGrads {
            dx: Some(&mut dx),
            dgamma: Some(&mut dgamma),
            dbeta: Some(&mut dbeta),
        };
        layer_norm::backward(&x, &one, 1e-6, &dy, grads);
        [dx, dgamma, dbeta].concat()
    });
    same("attention", || {
        let shape = attention::AttentionShape {
            windows: 2,
            cosine: true,
            ..attention::AttentionShape::plain(11, 20, 5, 12)
        };
        let windows = attention::Windows::new((0..40).collect(), None);
        let qkv = values(3 * shape.y_len(), 5);
        let bias = values(5 * 20 * 20, 6);
        let logits = attention::Logits { scales: &[0.2; 5], bias: Some(&bias), windows: Some(&windows) };
        let (mut y, mut dqkv) = (vec![0.0; shape.y_len()], vec![0.0; qkv.len()]);
        let (mut dbias, mut dscales) = (vec![0.0; bias.len()], vec![0.0; 5]);
        attention::forward(&shape, &logits, &qkv, &mut y);
        let grads =
            attention::AttentionGrads { qkv: &mut dqkv, bias: Some(&mut dbias), scales: Some(&mut dscales) };
        attention::backward(&shape, &logits, &qkv, &dy[..y.len()], grads);
        [y, dqkv, dbias, dscales].concat()
    });
    same("gate gradient", || {
        let mut dgate = vec![0.0; 16 * c];
        gate::backward_gate(&x, &dy, c, &mut dgate);
        dgate
    });
}
