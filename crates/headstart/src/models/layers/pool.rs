//! Pooling.

use burn::Tensor;
use burn::tensor::module;
use burn::tensor::ops::MaxPoolOptions;

use super::{Format, Map};
use crate::fast::{self, PoolGeometry};

/// Max-pools with an even padding.
pub fn max_pool(x: Map, kernel: usize, stride: usize, pad: usize) -> Map {
    if x.channels_last {
        return x.with(fast::max_pool(x.x.clone(), PoolGeometry { kernel, stride, pad }));
    }
    let options = MaxPoolOptions {
        kernel_size: [kernel; 2],
        stride: [stride; 2],
        padding: [(pad, pad); 2],
        dilation: [1; 2],
        ceil_mode: false,
    };
    x.with(module::max_pool2d(x.x.clone(), options))
}

/// Averages to a given height and width, in f32 whatever the map is: `AdaptiveAvgPool2d`.
pub fn adaptive_avg_pool(x: Map, size: [usize; 2]) -> Map {
    if x.channels_last {
        return x.with(fast::avg_pool(x.x.clone(), size));
    }
    x.with(module::adaptive_avg_pool2d(x.x.clone().wide(), size))
}

/// Leaves out an odd last row or column.
pub fn crop_even(x: Map) -> Map {
    match x.dims() {
        [_, _, h, w] if h % 2 + w % 2 == 0 => x,
        [_, _, h, w] => x.over_nhwc(|x| x.narrow(1, 0, h / 2 * 2).narrow(2, 0, w / 2 * 2)),
    }
}

/// Averages 2×2 pixels; an odd last row or column is left out.
pub fn halve(x: Map) -> Map {
    let [_, _, h, w] = x.dims();
    adaptive_avg_pool(crop_even(x), [h / 2, w / 2])
}

/// Averages over height and width: `[N, C, H, W]` → `[N, C]`.
pub fn global_avg_pool(x: Map) -> Tensor<2> {
    let [n, c, ..] = x.dims();
    adaptive_avg_pool(x, [1, 1]).x.reshape([n, c])
}
