//! What a tensor's values are stored as, for the operations that run in f32 and in bf16.

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};
use half::bf16;
use half::slice::HalfFloatSliceExt;
use headstart_kernels::conv::{self, ConvShape};
use headstart_kernels::half as kernels;
use headstart_kernels::{Act, Element, act, depthwise};

/// A storage format with its convolutions. Weights and their gradients are f32 in any.
pub(super) trait Real: Element {
    const DTYPE: DType;

    /// Borrows the values of a contiguous tensor of this format.
    fn slice(tensor: &FlexTensor) -> Option<&[Self]>;
    /// Borrows all storage of a tensor of this format; copies it if it is shared.
    fn storage_mut(tensor: &mut FlexTensor) -> &mut [Self];
    fn bytes(values: Vec<Self>) -> Bytes;
    fn conv(shape: &ConvShape, x: &[Self], w: &[f32], bias: Option<&[f32]>, act: Act, y: &mut [Self]);
    fn conv_dx(shape: &ConvShape, dy: &[Self], w: &[f32], dx: &mut [Self]);
    fn conv_dw(shape: &ConvShape, x: &[Self], dy: &[Self], dw: &mut [f32]);
}

impl Real for f32 {
    const DTYPE: DType = DType::F32;

    fn slice(tensor: &FlexTensor) -> Option<&[f32]> {
        tensor.as_slice::<f32>()
    }

    fn storage_mut(tensor: &mut FlexTensor) -> &mut [f32] {
        tensor.storage_mut()
    }

    fn bytes(values: Vec<f32>) -> Bytes {
        Bytes::from_elems(values)
    }

    fn conv(shape: &ConvShape, x: &[f32], w: &[f32], bias: Option<&[f32]>, act: Act, y: &mut [f32]) {
        if shape.is_depthwise() {
            return depthwise::forward(shape, x, w, bias, act, y);
        }
        conv::forward(shape, x, w, bias, y);
        act::forward(act, y);
    }

    fn conv_dx(shape: &ConvShape, dy: &[f32], w: &[f32], dx: &mut [f32]) {
        if shape.is_depthwise() {
            return depthwise::backward_data(shape, dy, w, dx);
        }
        conv::backward_data(shape, dy, w, dx);
    }

    fn conv_dw(shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        if shape.is_depthwise() {
            return depthwise::backward_weight(shape, x, dy, dw);
        }
        conv::backward_weight(shape, x, dy, dw);
    }
}

impl Real for u16 {
    const DTYPE: DType = DType::BF16;

    fn slice(tensor: &FlexTensor) -> Option<&[u16]> {
        tensor.as_slice::<bf16>().map(HalfFloatSliceExt::reinterpret_cast)
    }

    fn storage_mut(tensor: &mut FlexTensor) -> &mut [u16] {
        tensor.storage_mut::<bf16>().reinterpret_cast_mut()
    }

    fn bytes(values: Vec<u16>) -> Bytes {
        Bytes::from_elems(values)
    }

    fn conv(shape: &ConvShape, x: &[u16], w: &[f32], bias: Option<&[f32]>, act: Act, y: &mut [u16]) {
        kernels::forward(shape, x, w, bias, act, y);
    }

    fn conv_dx(shape: &ConvShape, dy: &[u16], w: &[f32], dx: &mut [u16]) {
        kernels::backward_data(shape, dy, w, dx);
    }

    fn conv_dw(shape: &ConvShape, x: &[u16], dy: &[u16], dw: &mut [f32]) {
        kernels::backward_weight(shape, x, dy, dw);
    }
}

/// Runs a body with `$T` being what the tensor's values are stored as.
macro_rules! by_format {
    ($tensor:expr, $T:ident => $body:expr) => {
        match $tensor.dtype() {
            burn::tensor::DType::BF16 => {
                type $T = u16;
                $body
            }
            _ => {
                type $T = f32;
                $body
            }
        }
    };
}

pub(super) use by_format;

/// Borrows a contiguous tensor's values.
pub(super) fn values<T: Real>(tensor: &FlexTensor) -> &[T] {
    T::slice(tensor)
        .unwrap_or_else(|| panic!("an operand of the CPU engine is {tensor:?}, not {:?}", T::DTYPE))
}

/// Makes a tensor of values in order.
pub(super) fn tensor<T: Real>(values: Vec<T>, shape: &[usize]) -> FlexTensor {
    FlexTensor::new(T::bytes(values), Layout::contiguous(Shape::from(shape.to_vec())), T::DTYPE)
}
