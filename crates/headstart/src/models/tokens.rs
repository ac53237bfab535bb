//! Tokens: a picture as a sequence, what flows between the blocks of a transformer.

use burn::Tensor;
use burn::tensor::DType;

use super::map::Map;

/// A batch of token sequences `[N, T, C]`: the cells of a grid in rows, after any extra tokens.
#[derive(Clone, Debug)]
pub struct Tokens {
    x: Tensor<3>,
    grid: [usize; 2],
    fast: bool,
}

impl Tokens {
    /// Wraps `[N, T, C]`, the last of which are the cells of `grid`.
    pub fn new(x: Tensor<3>, grid: [usize; 2]) -> Self {
        let fast = super::map::is_cpu(&x.device());
        assert!(x.dims()[1] >= grid[0] * grid[1], "{:?} tokens for a grid {grid:?}", x.dims());
        Self { x, grid, fast }
    }

    /// Makes a token of each pixel.
    pub fn from_map(map: Map) -> Self {
        let ([n, c, h, w], fast) = (map.dims(), map.channels_last);
        Self { x: map.into_nhwc().reshape([n, h * w, c]), grid: [h, w], fast }
    }

    /// Makes a pixel of each cell, dropping the extra tokens.
    pub fn into_map(self) -> Map {
        let [n, t, c] = self.x.dims();
        let [h, w] = self.grid;
        let cells = if t > h * w { self.x.narrow(1, t - h * w, h * w) } else { self.x };
        let x = cells.reshape([n, h, w, c]);
        if self.fast {
            Map { x, channels_last: true }
        } else {
            Map { x: x.permute([0, 3, 1, 2]), channels_last: false }
        }
    }

    /// Puts a map back in the place of the cells.
    pub(super) fn with_map(self, map: Map) -> Self {
        let extra = self.extra();
        let cells = Self::from_map(map).x;
        let x = if extra == 0 { cells } else { Tensor::cat(vec![self.x.narrow(1, 0, extra), cells], 1) };
        Self { x, ..self }
    }

    /// Returns batch, tokens and channels.
    pub fn dims(&self) -> [usize; 3] {
        self.x.dims()
    }

    /// Returns rows and columns of the grid.
    pub fn grid(&self) -> [usize; 2] {
        self.grid
    }

    /// Returns how many tokens come before the cells.
    pub fn extra(&self) -> usize {
        self.x.dims()[1] - self.grid[0] * self.grid[1]
    }

    /// Returns `[N, T, C]`.
    pub fn into_tensor(self) -> Tensor<3> {
        self.x
    }

    /// Adds two sequences.
    pub fn plus(self, other: Tokens) -> Tokens {
        Self { x: self.x + other.x, ..self }
    }

    /// Puts `token`, `[1, 1, C]`, before the others of each picture.
    pub fn prepend(self, token: Tensor<3>) -> Tokens {
        let [n, _, c] = self.x.dims();
        Self { x: Tensor::cat(vec![token.expand([n, 1, c]), self.x], 1), ..self }
    }

    /// Rounds them to bf16; not for the CPU engine.
    pub fn half(self) -> Tokens {
        assert!(!self.fast, "the CPU engine has no tokens in bf16");
        self.apply(|x| x.cast(DType::BF16))
    }

    /// Returns the first token of each picture, `[N, C]`.
    pub fn first(self) -> Tensor<2> {
        let [n, _, c] = self.x.dims();
        self.x.narrow(1, 0, 1).reshape([n, c])
    }

    /// Averages the cells, `[N, C]`.
    pub fn mean(self) -> Tensor<2> {
        super::layers::global_avg_pool(self.into_map())
    }

    /// Tells whether the CPU kernels run.
    pub(super) fn is_fast(&self) -> bool {
        self.fast
    }

    /// Replaces the tensor by a function of it; the number of tokens stays.
    pub(super) fn apply(self, f: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tokens {
        Self { x: f(self.x), ..self }
    }

    /// Moves them to another device of the same kind, say one with autodiff.
    pub fn to_device(self, device: &burn::tensor::Device) -> Tokens {
        Self { x: super::map::to_device(self.x, device), ..self }
    }
}
