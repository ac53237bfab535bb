//! The operations on Flex tensors: borrow slices, call a kernel, wrap the result.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{BackendTensor, DispatchTensor, DispatchTensorKind, Flex};
use headstart_kernels::conv::{self, ConvShape, PackedConv};
use headstart_kernels::norm::{self, Norm};
use headstart_kernels::pool::{self, PoolShape};
use headstart_kernels::{act, buffer, curve, depthwise, gemm, optim};

use super::capture::{self, Op};
use super::real::{self, Real, by_format, tensor, values};
use super::{Act, AdamW, ConvGeometry, End, FastOps, Folded, Maybe, NormPlan, PoolGeometry, Sgd};

/// Weights folded with BatchNorm and packed for the kernels, kept as long as their sources live.
///
/// The slot holds on to the buffers it was made from. Whoever changes a shared buffer gets a copy, so
/// a weight that has changed since is another buffer, and the slot is made anew. Vectors beside the weight may be made for
/// each call: they are compared by value.
#[derive(Clone, Debug, Default)]
pub struct PackedSlot(Arc<Mutex<Option<Packed>>>);

struct Packed {
    sources: Vec<FlexTensor>,
    geometry: ConvGeometry,
    weights: Arc<Weights>,
}

enum Weights {
    Dense(PackedConv),
    Depthwise { weight: Vec<f32>, bias: Vec<f32> },
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({:?})", self.geometry)
    }
}

impl PackedSlot {
    fn weights(
        &self,
        sources: Vec<FlexTensor>,
        geometry: ConvGeometry,
        shape: &ConvShape,
        eps: f32,
    ) -> Arc<Weights> {
        // A panic while packing leaves the slot empty or whole, never half written.
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packed) = slot.as_ref() {
            let same = packed.sources.len() == sources.len()
                && packed.geometry == geometry
                && packed.sources.iter().zip(&sources).enumerate().all(|(i, (a, b))| {
                    let vector = i > 0;
                    Arc::ptr_eq(&a.data_arc(), &b.data_arc()) || vector && slice(a) == slice(b)
                });
            if same {
                return Arc::clone(&packed.weights);
            }
        }
        let weights = Arc::new(pack(fold(&sources, shape, eps), shape));
        *slot = Some(Packed { sources, geometry, weights: Arc::clone(&weights) });
        weights
    }
}

/// Folds BatchNorm into weight and bias, in f64 so that folding costs no accuracy.
fn fold<'a>(sources: &'a [FlexTensor], shape: &ConvShape, eps: f32) -> (Cow<'a, [f32]>, Vec<f32>) {
    let weight = slice(&sources[0]);
    match &sources[1..] {
        [] => (weight.into(), vec![0.0; shape.c_out]),
        [bias] => (weight.into(), slice(bias).to_vec()),
        [bias, scale] => {
            let per_out = weight.len() / shape.c_out;
            let rows = weight.chunks(per_out).zip(slice(scale));
            let folded = rows.flat_map(|(w, s)| w.iter().map(move |w| w * s)).collect();
            (folded, slice(bias).iter().zip(slice(scale)).map(|(b, s)| b * s).collect())
        }
        [scale, shift, mean, var, own_bias @ ..] => {
            let factor: Vec<f64> = (slice(scale).iter().zip(slice(var)))
                .map(|(s, v)| f64::from(*s) / (f64::from(*v) + f64::from(eps)).sqrt())
                .collect();
            let per_out = weight.len() / shape.c_out;
            let folded = weight.chunks(per_out).zip(&factor);
            let folded =
                folded.flat_map(|(w, f)| w.iter().map(move |w| (f64::from(*w) * f) as f32)).collect();
            let own = |channel: usize| own_bias.first().map_or(0.0, |b| f64::from(slice(b)[channel]));
            let bias = (slice(shift).iter().zip(slice(mean)).zip(&factor).enumerate())
                .map(|(i, ((s, m), f))| (f64::from(*s) + (own(i) - f64::from(*m)) * f) as f32)
                .collect();
            (folded, bias)
        }
        other => panic!("a convolution folds 0, 1, 2, 4 or 5 tensors, not {}", other.len()),
    }
}

fn pack((weight, bias): (Cow<[f32]>, Vec<f32>), shape: &ConvShape) -> Weights {
    if shape.is_depthwise() {
        Weights::Depthwise { weight: weight.into_owned(), bias }
    } else {
        Weights::Dense(PackedConv::new(shape, &weight, Some(&bias)))
    }
}

/// Borrows a contiguous tensor's floats.
pub(super) fn slice(tensor: &FlexTensor) -> &[f32] {
    real::values(tensor)
}

/// Makes a tensor contiguous; costs nothing where it already is, as all but gradients of views are.
pub(super) fn dense(tensor: FlexTensor) -> FlexTensor {
    if by_format!(tensor, T => T::slice(&tensor).is_some()) { tensor } else { tensor.to_contiguous() }
}

pub(super) fn wrap(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    real::tensor(values, shape)
}

pub(super) fn dims(tensor: &FlexTensor) -> Vec<usize> {
    tensor.layout().shape().to_vec()
}

/// The linear layer of a weight `[outputs, inputs]` over rows `[images, …, _]`.
pub(super) fn linear_shape(rows: &[usize], [outputs, inputs]: [usize; 2]) -> ConvShape {
    gemm::linear_of([rows[0], rows[1..rows.len() - 1].iter().product()], outputs, inputs)
}

/// A shape with another last axis.
pub(super) fn with_width(mut shape: Vec<usize>, width: usize) -> Vec<usize> {
    *shape.last_mut().expect("rows have a width") = width;
    shape
}

pub(super) fn conv_shape(x: &[usize], weight: &[usize], geometry: ConvGeometry) -> ConvShape {
    debug_assert_eq!(geometry.kernel, [weight[2], weight[3]]);
    geometry.shape([x[0], x[1], x[2], x[3]], weight[0])
}

fn y_dims(shape: &ConvShape) -> [usize; 4] {
    [shape.n, shape.out_h(), shape.out_w(), shape.c_out]
}

pub(super) fn pool_shape(x: &[usize], geometry: PoolGeometry) -> PoolShape {
    geometry.shape([x[0], x[1], x[2], x[3]])
}

/// Reaches the CPU tensor inside a dispatched one without autodiff.
pub(super) fn plain(tensor: DispatchTensor) -> Option<FlexTensor> {
    match tensor.kind {
        DispatchTensorKind::Flex(BackendTensor::Float(tensor)) => Some(tensor),
        _ => None,
    }
}

impl FastOps for Flex {
    fn fast_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Maybe<Self>,
        geometry: ConvGeometry,
        act: Act,
    ) -> FloatTensor<Self> {
        let (x, weight, bias) = (dense(x), dense(weight), bias.into_option().map(dense));
        let shape = conv_shape(&dims(&x), &dims(&weight), geometry);
        by_format!(x, T => {
            let mut y = buffer(shape.y_len());
            T::conv(&shape, values(&x), slice(&weight), bias.as_ref().map(slice), act, &mut y);
            tensor::<T>(y, &y_dims(&shape))
        })
    }

    fn fast_conv_folded(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        norm: Folded<Self>,
        residual: Maybe<Self>,
        eps: f32,
        geometry: ConvGeometry,
        end: End,
        slot: PackedSlot,
    ) -> FloatTensor<Self> {
        let (x, residual) = (dense(x), residual.into_option().map(dense));
        let shape = conv_shape(&dims(&x), &dims(&weight), geometry);
        let mut sources = vec![dense(weight)];
        match norm {
            Folded::Nothing => {}
            Folded::Bias(bias) => sources.push(dense(bias)),
            Folded::BiasScale { bias, scale } => sources.extend([bias, scale].map(dense)),
            Folded::Norm { scale, shift, mean, var } => sources.extend([scale, shift, mean, var].map(dense)),
            Folded::BiasNorm { bias, scale, shift, mean, var } => {
                sources.extend([scale, shift, mean, var, bias].map(dense));
            }
        }
        let folded = capture::listening().then(|| {
            let (weight, bias) = fold(&sources, &shape, eps);
            (weight.into_owned(), bias)
        });
        let weights = slot.weights(sources, geometry, &shape, eps);
        let mut y = buffer(shape.y_len());
        match &*weights {
            Weights::Dense(packed) => {
                conv::forward_packed(&shape, slice(&x), packed, residual.as_ref().map(slice), end, &mut y);
            }
            Weights::Depthwise { weight, bias } => match &residual {
                None => depthwise::forward(&shape, slice(&x), weight, Some(bias), end, &mut y),
                Some(residual) => {
                    depthwise::forward(&shape, slice(&x), weight, Some(bias), Act::None, &mut y);
                    match end {
                        End::Clamp(act) => act::add_forward(act, &mut y, slice(residual)),
                        End::Curve(curve) => {
                            act::add_forward(Act::None, &mut y, slice(residual));
                            curve::forward(curve, &mut y);
                        }
                    }
                }
            },
        }
        let y = wrap(y, &y_dims(&shape));
        if let (Some((weight, bias)), End::Clamp(act)) = (folded, end) {
            let op = |residual| Op::Conv { weight, bias, geometry, residual, act };
            capture::note(&x, residual.as_ref(), &y, op);
        }
        y
    }

    fn fast_stats(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let x = dense(x);
        let c = *dims(&x).last().expect("features have channels");
        let (mut mean, mut var) = (vec![0.0; c], vec![0.0; c]);
        by_format!(x, T => norm::batch_stats(values::<T>(&x), &mut mean, &mut var));
        (wrap(mean, &[c]), wrap(var, &[c]))
    }

    fn fast_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        var: FloatTensor<Self>,
        residual: Maybe<Self>,
        plan: NormPlan,
    ) -> FloatTensor<Self> {
        let (x, residual) = (dense(x), residual.into_option().map(dense));
        let (scale, shift, mean, var) = (dense(scale), dense(shift), dense(mean), dense(var));
        let params = Norm {
            mean: slice(&mean),
            var: slice(&var),
            gamma: slice(&scale),
            beta: slice(&shift),
            eps: plan.eps,
        };
        by_format!(x, T => {
            let mut y = buffer(values::<T>(&x).len());
            norm::forward(&params, values::<T>(&x), residual.as_ref().map(values), plan.act, &mut y);
            tensor(y, &dims(&x))
        })
    }

    fn fast_max_pool(x: FloatTensor<Self>, geometry: PoolGeometry) -> FloatTensor<Self> {
        let x = dense(x);
        let shape = pool_shape(&dims(&x), geometry);
        let [h, w] = shape.output();
        let y = by_format!(x, T => {
            let mut y = buffer(shape.n * h * w * shape.c);
            pool::max_forward(&shape, values::<T>(&x), &mut y, None);
            tensor(y, &[shape.n, h, w, shape.c])
        });
        capture::note(&x, None, &y, |_| Op::MaxPool(geometry));
        y
    }

    fn fast_avg_pool(x: FloatTensor<Self>, size: [usize; 2]) -> FloatTensor<Self> {
        let x = dense(x);
        let d = dims(&x);
        let mut y = buffer(d[0] * size[0] * size[1] * d[3]);
        let maps = [d[0], d[1], d[2], d[3]];
        by_format!(x, T => pool::adaptive_avg_forward(maps, size, values::<T>(&x), &mut y));
        let y = wrap(y, &[d[0], size[0], size[1], d[3]]);
        capture::note(&x, None, &y, |_| Op::AvgPool(size));
        y
    }

    fn fast_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Maybe<Self>,
        residual: Maybe<Self>,
        act: Act,
    ) -> FloatTensor<Self> {
        let (x, weight) = (dense(x), dense(weight));
        let [bias, residual] = [bias, residual].map(|operand| operand.into_option().map(dense));
        let layer = linear_shape(&dims(&x), [dims(&weight)[0], dims(&weight)[1]]);
        let mut y = buffer(layer.y_len());
        let [bias, residual] = [&bias, &residual].map(|operand| operand.as_ref().map(slice));
        gemm::gemm(&layer, slice(&x), slice(&weight), bias, residual, act, &mut y);
        wrap(y, &with_width(dims(&x), layer.c_out))
    }

    fn fast_sgd(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        velocity: Maybe<Self>,
        rule: Sgd,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (mut param, grad, velocity) = (dense(param), dense(grad), velocity.into_option().map(dense));
        let first = velocity.is_none();
        let mut velocity = velocity.unwrap_or_else(|| wrap(vec![0.0; slice(&grad).len()], &dims(&grad)));
        optim::sgd(&rule, first, param.storage_mut(), slice(&grad), velocity.storage_mut());
        (param, velocity)
    }

    fn fast_adamw(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        rule: AdamW,
        step: u64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (mut param, grad, mut mean, mut square) = (dense(param), dense(grad), dense(mean), dense(square));
        let (m, v) = (mean.storage_mut(), square.storage_mut());
        optim::adamw(&rule, step, param.storage_mut(), slice(&grad), m, v);
        (param, mean, square)
    }
}
