//! Position embeddings at another grid than they were learned for.

use burn::Tensor;
use burn::tensor::TensorData;

/// Resamples the cells of `embed`, `[1, T, C]`, from a square grid of side `from` to `to`; the tokens before the
/// cells stay. Bicubic with antialiasing, as timm does.
pub fn resample_pos_embed(embed: Tensor<3>, from: usize, to: [usize; 2]) -> Tensor<3> {
    if to == [from; 2] {
        return embed;
    }
    let [_, t, c] = embed.dims();
    let extra = t - from * from;
    let device = embed.device();
    let matrix =
        |to: usize| Tensor::<2>::from_data(TensorData::new(cubic_weights(from, to), [to, from]), &device);
    let cells = embed.clone().narrow(1, extra, from * from);
    // Rows first, [h, from] · [from, from·C], then columns of each row, [w, from] · [from, C].
    let cells = matrix(to[0]).matmul(cells.reshape([from, from * c]));
    let across = matrix(to[1]).unsqueeze::<3>().expand([to[0], to[1], from]);
    let cells = across.matmul(cells.reshape([to[0], from, c])).reshape([1, to[0] * to[1], c]);
    if extra == 0 { cells } else { Tensor::cat(vec![embed.narrow(1, 0, extra), cells], 1) }
}

/// The matrix `[to, from]` of bicubic resampling (a = −0.5) whose filter widens when the grid shrinks.
fn cubic_weights(from: usize, to: usize) -> Vec<f32> {
    let scale = from as f64 / to as f64;
    let widen = scale.max(1.0);
    let kernel = |x: f64| match x.abs() {
        x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        x if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        _ => 0.0,
    };
    let row = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let low = ((centre - 2.0 * widen + 0.5).floor().max(0.0)) as usize;
        let high = ((centre + 2.0 * widen + 0.5).floor() as usize).min(from);
        let taps = (0..from).map(move |j| {
            if (low..high).contains(&j) { kernel((j as f64 + 0.5 - centre) / widen) } else { 0.0 }
        });
        let sum: f64 = taps.clone().sum();
        taps.map(move |w| (w / sum) as f32)
    };
    (0..to).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_a_constant_and_the_same_grid_is_left_alone() {
        for (from, to) in [(14, 14), (14, 5), (7, 16), (3, 1)] {
            let weights = cubic_weights(from, to);
            assert!(weights.chunks(from).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-6));
        }
        let same = cubic_weights(4, 4);
        assert!((0..16).all(|i| (same[i] - f32::from(u8::from(i / 4 == i % 4))).abs() < 1e-6));
    }
}
