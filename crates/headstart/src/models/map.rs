//! Feature maps whose memory layout is known here and in `layers.rs`, and nowhere else: channels last on
//! the CPU, channels first on other devices and on the reference path.

use std::cell::Cell;

use burn::Tensor;
use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device};

use crate::fast;

/// A batch of feature maps whose memory layout is nobody else's business.
#[derive(Clone, Debug)]
pub struct Map {
    pub(super) x: Tensor<4>,
    pub(super) channels_last: bool,
}

thread_local! {
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with Burn's own operations in place of the CPU kernels: what other devices do, on any machine.
///
/// It holds for this thread, on which networks run.
pub fn plainly<T>(f: impl FnOnce() -> T) -> T {
    /// A panic must not leave the thread plain.
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            PLAIN.set(self.0);
        }
    }
    let _back = Back(PLAIN.replace(true));
    f()
}

/// Tells whether tensors of this device go through the CPU kernels.
pub(crate) fn is_cpu(device: &Device) -> bool {
    let flex = match device.as_dispatch() {
        DispatchDevice::Autodiff(inner) => matches!(**inner, DispatchDevice::Flex(_)),
        other => matches!(other, DispatchDevice::Flex(_)),
    };
    flex && !PLAIN.get()
}

/// Moves a tensor; unlike Burn's own, it takes the autodiff of the device along.
pub(super) fn to_device<const D: usize>(x: Tensor<D>, device: &Device) -> Tensor<D> {
    let x = x.to_device(device);
    if device.is_autodiff() { x.autodiff() } else { x.inner() }
}

impl Map {
    /// Wraps `[N, H, W, C]` pictures in the layout their device likes.
    pub fn from_nhwc(x: Tensor<4>) -> Self {
        if is_cpu(&x.device()) {
            Self { x, channels_last: true }
        } else {
            Self { x: x.permute([0, 3, 1, 2]), channels_last: false }
        }
    }

    /// Wraps `[N, C, H, W]` and stays with Burn's own operations: the reference path.
    pub fn from_nchw(x: Tensor<4>) -> Self {
        Self { x, channels_last: false }
    }

    /// Returns `[N, C, H, W]`.
    pub fn into_nchw(self) -> Tensor<4> {
        if self.channels_last { self.x.permute([0, 3, 1, 2]) } else { self.x }
    }

    /// Returns `[N, H, W, C]`.
    pub fn into_nhwc(self) -> Tensor<4> {
        if self.channels_last { self.x } else { self.x.permute([0, 2, 3, 1]) }
    }

    /// Returns batch, channels, height and width.
    pub fn dims(&self) -> [usize; 4] {
        let [n, a, b, c] = self.x.dims();
        if self.channels_last { [n, c, a, b] } else { [n, a, b, c] }
    }

    /// Moves it to another device of the same kind, say one with autodiff.
    pub fn to_device(self, device: &Device) -> Map {
        let channels_last = self.channels_last;
        if !channels_last {
            return Map { x: to_device(self.x, device), channels_last };
        }
        let data = self.x.into_data();
        Map { x: Tensor::from_data(data, device), channels_last }
    }

    /// Tells whether the CPU kernels run.
    pub(super) fn is_fast(&self) -> bool {
        self.channels_last
    }

    /// Takes the pictures of the batch apart.
    pub(super) fn pictures(self) -> Vec<Map> {
        self.x.split(1, 0).into_iter().map(|x| Map { x, channels_last: self.channels_last }).collect()
    }

    /// Returns the tensor in whatever layout it has, for gradients and caches.
    pub fn raw(&self) -> &Tensor<4> {
        &self.x
    }

    /// Makes a map of zeros like this one that retains its gradient.
    pub(super) fn zero_leaf(&self) -> Map {
        self.with(self.x.zeros_like().detach().require_grad())
    }

    /// Returns it twice, for a residual block; both must be used.
    pub(super) fn fork(self) -> [Map; 2] {
        if !self.channels_last || !self.x.device().is_autodiff() {
            return [self.clone(), self];
        }
        let (a, b) = fast::fork(self.x);
        [a, b].map(|x| Map { x, channels_last: true })
    }

    /// Rounds it to bf16, in which the layers up to the next average pooling then run.
    pub fn half(self) -> Map {
        let channels_last = self.channels_last;
        let x = if channels_last { fast::half(self.x) } else { self.x.cast(DType::BF16) };
        Map { x, channels_last }
    }

    /// Widens it to f32 again, on devices other than the CPU.
    pub(super) fn wide(self) -> Map {
        Map { x: self.x.cast(DType::F32), ..self }
    }

    /// Puts the channels of another map of the same layout behind its own.
    pub fn beside(self, other: Map) -> Map {
        let channels_last = self.channels_last;
        Self { x: Tensor::cat(vec![self.x, other.x], if channels_last { 3 } else { 1 }), channels_last }
    }

    /// Adds two maps of the same layout.
    pub fn plus(self, other: Map) -> Map {
        Self { x: self.x + other.x, channels_last: self.channels_last }
    }

    pub(super) fn with(&self, x: Tensor<4>) -> Map {
        Map { x, channels_last: self.channels_last }
    }

    /// Replaces the values by a function of `[N, H, W, C]`.
    pub(super) fn over_nhwc(self, f: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Map {
        let channels_last = self.channels_last;
        let x = f(self.into_nhwc());
        Map { x: if channels_last { x } else { x.permute([0, 3, 1, 2]) }, channels_last }
    }

    /// Flattens to `[N, C·H·W]` in PyTorch's order.
    pub fn flatten(self) -> Tensor<2> {
        let [n, c, h, w] = self.dims();
        self.into_nchw().reshape([n, c * h * w])
    }
}
