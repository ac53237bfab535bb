//! What attention adds to the logits of two cells for their distance, down and across.
//!
//! timm's `RelPosBias`, a table with a row a distance, and `RelPosMlp` in its mode `cr`, a small network of the
//! distance. A table learned on a square map serves others too: it is resampled as timm does when it is told another
//! picture size. Unlike timm in training, the small network drops out nothing.

use burn::Tensor;
use burn::module::{Module, Param};
use burn::tensor::{Device, Int, TensorData, activation};

use super::{Act, Format, Linear, Linears};
use crate::fast::{self, AttentionPlan};
use crate::models::macs;
use crate::models::map::is_cpu;

/// The bias of each head by distance: from a table, or from a network.
#[derive(Module, Debug)]
pub struct RelPos {
    relative_position_bias_table: Option<Param<Tensor<2>>>,
    mlp: Option<DistanceMlp>,
    #[module(skip)]
    side: usize,
}

/// From a distance to a number for each head.
#[derive(Module, Debug)]
struct DistanceMlp {
    fc1: Linear,
    fc2: Linear,
}

impl RelPos {
    /// A table for square maps of side `side`, all zeros.
    pub fn table(side: usize, heads: usize, device: &Device) -> Self {
        let table = Tensor::zeros([(2 * side - 1) * (2 * side - 1), heads], device);
        Self { relative_position_bias_table: Some(Param::from_tensor(table)), mlp: None, side }
    }

    /// A network with `hidden` units, all zeros.
    pub fn network(hidden: usize, heads: usize, device: &Device) -> Self {
        let mlp =
            DistanceMlp { fc1: Linear::new(2, hidden, device), fc2: Linear::new(hidden, heads, device) };
        Self { relative_position_bias_table: None, mlp: Some(mlp), side: 0 }
    }

    /// Lists its linear layers under `at`.
    pub fn linears<'a>(&'a mut self, at: &str, out: &mut Linears<'a>) {
        if let Some(mlp) = &mut self.mlp {
            out.push((format!("{at}.mlp.fc1"), &mut mlp.fc1));
            out.push((format!("{at}.mlp.fc2"), &mut mlp.fc2));
        }
    }

    /// Returns the bias of each pair of cells of a grid, `[heads, T, T]`.
    pub fn bias(&self, grid: [usize; 2]) -> Tensor<3> {
        let by_distance = match (&self.relative_position_bias_table, &self.mlp) {
            (Some(table), _) => resample_table(table.val(), self.side, grid),
            (_, Some(mlp)) => {
                let device = mlp.fc1.weight.val().device();
                let scaled = |distance: f64, _| (distance.signum() * distance.abs().ln_1p()) as f32;
                mlp.fc2.forward(mlp.fc1.forward(distances(grid, scaled, &device), Act::Relu), Act::None)
            }
            _ => panic!("a bias has a table or a network"),
        };
        pairs(by_distance, grid)
    }
}

/// Attends with a bias for each pair of cells: `qkv` `[N, T, heads · 3 · d]` has query, key and value of a head side by side.
pub fn attend_by_head(qkv: Tensor<3>, bias: Tensor<3>) -> Tensor<3> {
    let ([n, t, c3], [heads, ..]) = (qkv.dims(), bias.dims());
    let width = c3 / 3;
    if macs::add(2 * n * t * t * width) {
        return Tensor::zeros([n, t, width], (&qkv.device(), qkv.dtype()));
    }
    if is_cpu(&qkv.device()) {
        let plan = AttentionPlan { by_head: true, ..AttentionPlan::new(width, heads) };
        return fast::attention(qkv, Some(bias), None, plan);
    }
    let (format, qkv) = (qkv.dtype(), qkv.wide());
    let split = qkv.reshape([n, t, heads, 3, width / heads]).permute([3, 0, 2, 1, 4]);
    let part = |i: usize| split.clone().narrow(0, i, 1).squeeze_dim::<4>(0); // [N, heads, T, d]
    let scale = ((width / heads) as f64).powf(-0.5);
    let logits = (part(0) * scale).matmul(part(1).swap_dims(2, 3)) + bias.unsqueeze();
    let y = activation::softmax(logits, 3).matmul(part(2));
    y.permute([0, 2, 1, 3]).reshape([n, t, width]).cast(format)
}

/// Lists the distances between two cells of a grid, down and across, each through `scaled` with its side: `[D, 2]`.
pub(super) fn distances(
    [rows, columns]: [usize; 2],
    scaled: impl Fn(f64, usize) -> f32,
    device: &Device,
) -> Tensor<2> {
    let (down, across) = (2 * rows - 1, 2 * columns - 1);
    let distance = |at: usize, side: usize| scaled(at as f64 - (side as f64 - 1.0), side);
    let table = (0..down * across).flat_map(|i| [distance(i / across, rows), distance(i % across, columns)]);
    Tensor::from_data(TensorData::new(table.collect::<Vec<f32>>(), [down * across, 2]), device)
}

/// Turns values by distance, `[D, heads]`, into those of each pair of cells, `[heads, T, T]`.
pub(super) fn pairs(by_distance: Tensor<2>, [rows, columns]: [usize; 2]) -> Tensor<3> {
    let [_, heads] = by_distance.dims();
    let (across, t) = (2 * columns - 1, rows * columns);
    let index = (0..t * t).map(|i| {
        let (from, to) = (i / t, i % t);
        let y = from / columns + rows - 1 - to / columns;
        let x = from % columns + columns - 1 - to % columns;
        (y * across + x) as i64
    });
    let index = TensorData::new(index.collect::<Vec<i64>>(), [t * t]);
    let index = Tensor::<1, Int>::from_data(index, &by_distance.device());
    by_distance.select(0, index).reshape([t, t, heads]).permute([2, 0, 1])
}

/// Resamples a table `[D, heads]` of a square map of side `from` for a map of another size.
fn resample_table(table: Tensor<2>, from: usize, to: [usize; 2]) -> Tensor<2> {
    if to == [from; 2] {
        return table;
    }
    let ([_, heads], device) = (table.dims(), table.device());
    let distances = 2 * from - 1;
    let matrix = |to: usize| {
        let data = TensorData::new(geometric_weights(from, to), [2 * to - 1, distances]);
        Tensor::<2>::from_data(data, &device)
    };
    let [down, across] = to.map(|side| 2 * side - 1);
    // Rows first, [down, D] · [D, D·heads], then columns of each row, [across, D] · [D, heads].
    let rows = matrix(to[0]).matmul(table.reshape([distances, distances * heads]));
    let columns = matrix(to[1]).unsqueeze::<3>().expand([down, across, distances]);
    columns.matmul(rows.reshape([down, distances, heads])).reshape([down * across, heads])
}

/// The matrix `[2·to - 1, 2·from - 1]` that reads a table of distances up to `from - 1` at those up to `to - 1`.
///
/// Bao et al., "BEiT", 2021: the known distances are spread so that steps grow geometrically from 1 and the last lies
/// where the new last one is; between them, linearly. Small maps keep the inner part of the table.
fn geometric_weights(from: usize, to: usize) -> Vec<f32> {
    let (known, wanted) = (from - 1, to - 1);
    let sum = |ratio: f64| (1.0 - ratio.powi(known as i32)) / (1.0 - ratio);
    let (mut low, mut high) = (1.01, 1.5);
    let mut ratio = low;
    while high - low > 1e-6 {
        ratio = (low + high) / 2.0;
        *(if sum(ratio) > wanted as f64 { &mut high } else { &mut low }) = ratio;
    }
    let one_side = (0..known).scan((0.0, 1.0), |(place, step), _| {
        (*place, *step) = (*place + *step, *step * ratio);
        Some(*place)
    });
    let one_side: Vec<f64> = one_side.collect();
    let mirrored = one_side.iter().rev().map(|place| -place);
    let places: Vec<f64> = mirrored.chain([0.0]).chain(one_side.iter().copied()).collect();
    let row = |i: usize| {
        let at = i as f64 - wanted as f64;
        let right = places.partition_point(|place| *place < at).min(places.len() - 1);
        let left = right.saturating_sub(1);
        // Beyond the last known distance its value stays.
        let (before, after) = ((at - places[left]).max(0.0), (places[right] - at).max(0.0));
        let share = if before + after > 0.0 { before / (before + after) } else { 1.0 };
        let share = if left == right { 1.0 } else { share };
        (0..places.len()).map(move |j| match j {
            j if j == right => share as f32,
            j if j == left => (1.0 - share) as f32,
            _ => 0.0,
        })
    };
    (0..2 * to - 1).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_the_same_distance_share_a_row() {
        let device = Device::flex();
        let table: Vec<f32> = (0..15).map(|v| v as f32).collect();
        let table = Tensor::<2>::from_data(TensorData::new(table, [15, 1]), &device);
        let found = crate::models::values(&pairs(table, [2, 3]));
        // Cells (0, 0), (0, 1), … of a grid of two rows; distance (0, 0) is row 7 of the table.
        assert_eq!(found[..6], [7.0, 6.0, 5.0, 2.0, 1.0, 0.0]);
        assert!((0..6).all(|cell| found[cell * 7] == 7.0));
    }

    #[test]
    fn resampling_keeps_a_constant_the_middle_and_the_nearest_distances() {
        for (from, to) in [(14, 16), (14, 6), (7, 8), (7, 1), (14, 60), (7, 30)] {
            let (weights, columns) = (geometric_weights(from, to), 2 * from - 1);
            assert_eq!(weights.len(), columns * (2 * to - 1));
            for (i, row) in weights.chunks(columns).enumerate() {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{from} to {to}: {row:?}");
                let distance = i as isize - (to as isize - 1);
                if distance.abs() <= 1 {
                    assert_eq!(row[(from as isize - 1 + distance) as usize], 1.0, "{from} to {to}: {row:?}");
                }
            }
        }
    }
}
