//! The operations on Flex tensors: borrow slices, call a kernel, wrap the result.

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::Flex;
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Bytes, DType, Shape};
use headstart_kernels::conv::{self, ConvShape, PackedConv};
use headstart_kernels::norm::{self, Norm};
use headstart_kernels::pool::{self, PoolShape};
use headstart_kernels::{act, depthwise, gemm};

use super::{
    Act, ConvGeometry, FastGrads, FastOps, Folded, Maybe, NormGrads, NormGradsWanted, NormPlan, PoolGeometry,
    SavedNorm,
};

/// Weights folded with BatchNorm and packed for the kernels, kept as long as their sources live.
///
/// The slot holds on to the buffers it was made from. Whoever changes a shared buffer gets a copy, so
/// a weight that has changed since is another buffer, and the slot is made anew.
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
                && packed
                    .sources
                    .iter()
                    .zip(&sources)
                    .all(|(a, b)| Arc::ptr_eq(&a.data_arc(), &b.data_arc()));
            if same {
                return Arc::clone(&packed.weights);
            }
        }
        let weights = Arc::new(fold(&sources, shape, eps));
        *slot = Some(Packed { sources, geometry, weights: Arc::clone(&weights) });
        weights
    }
}

/// Folds BatchNorm into weight and bias, in f64 so that folding costs no accuracy, and packs them.
fn fold(sources: &[FlexTensor], shape: &ConvShape, eps: f32) -> Weights {
    let weight = slice(&sources[0]);
    let (weight, bias) = match &sources[1..] {
        [] => (weight.to_vec(), vec![0.0; shape.c_out]),
        [bias] => (weight.to_vec(), slice(bias).to_vec()),
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
        other => panic!("a convolution folds 0, 1, 4 or 5 tensors, not {}", other.len()),
    };
    if is_depthwise(shape) {
        Weights::Depthwise { weight, bias }
    } else {
        Weights::Dense(PackedConv::new(shape, &weight, Some(&bias)))
    }
}

fn is_depthwise(shape: &ConvShape) -> bool {
    shape.groups > 1 && shape.groups == shape.c_in && shape.c_in == shape.c_out
}

/// Borrows a contiguous tensor's values.
pub(super) fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("operands of the CPU engine are contiguous f32")
}

/// Makes a tensor contiguous; costs nothing where it already is, as all but gradients of views are.
pub(super) fn dense(tensor: FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

pub(super) fn wrap(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::from(shape.to_vec())), DType::F32)
}

pub(super) fn dims(tensor: &FlexTensor) -> Vec<usize> {
    tensor.layout().shape().to_vec()
}

fn conv_shape(x: &[usize], weight: &[usize], geometry: ConvGeometry) -> ConvShape {
    ConvShape {
        n: x[0],
        h: x[1],
        w: x[2],
        c_in: x[3],
        c_out: weight[0],
        kh: weight[2],
        kw: weight[3],
        stride: geometry.stride,
        pad: geometry.pad,
        groups: geometry.groups,
    }
}

fn y_dims(shape: &ConvShape) -> [usize; 4] {
    [shape.n, shape.out_h(), shape.out_w(), shape.c_out]
}

fn pool_shape(x: &[usize], geometry: PoolGeometry) -> PoolShape {
    let PoolGeometry { kernel, stride, pad } = geometry;
    PoolShape { n: x[0], h: x[1], w: x[2], c: x[3], kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 2] }
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
        let mut y = vec![0.0; shape.y_len()];
        let bias = bias.as_ref().map(slice);
        if is_depthwise(&shape) {
            depthwise::forward(&shape, slice(&x), slice(&weight), bias, act, &mut y);
        } else {
            conv::forward(&shape, slice(&x), slice(&weight), bias, &mut y);
            act::forward(act, &mut y);
        }
        wrap(y, &y_dims(&shape))
    }

    fn fast_conv_folded(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        norm: Folded<Self>,
        residual: Maybe<Self>,
        eps: f32,
        geometry: ConvGeometry,
        act: Act,
        slot: PackedSlot,
    ) -> FloatTensor<Self> {
        let (x, residual) = (dense(x), residual.into_option().map(dense));
        let shape = conv_shape(&dims(&x), &dims(&weight), geometry);
        let mut sources = vec![dense(weight)];
        match norm {
            Folded::Nothing => {}
            Folded::Bias(bias) => sources.push(dense(bias)),
            Folded::Norm { scale, shift, mean, var } => sources.extend([scale, shift, mean, var].map(dense)),
            Folded::BiasNorm { bias, scale, shift, mean, var } => {
                sources.extend([scale, shift, mean, var, bias].map(dense));
            }
        }
        let weights = slot.weights(sources, geometry, &shape, eps);
        let mut y = vec![0.0; shape.y_len()];
        match &*weights {
            Weights::Dense(packed) => {
                conv::forward_packed(&shape, slice(&x), packed, residual.as_ref().map(slice), act, &mut y);
            }
            Weights::Depthwise { weight, bias } => match &residual {
                None => depthwise::forward(&shape, slice(&x), weight, Some(bias), act, &mut y),
                Some(residual) => {
                    depthwise::forward(&shape, slice(&x), weight, Some(bias), Act::None, &mut y);
                    act::add_forward(act, &mut y, slice(residual));
                }
            },
        }
        wrap(y, &y_dims(&shape))
    }

    fn fast_stats(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let x = dense(x);
        let c = *dims(&x).last().expect("features have channels");
        let (mut mean, mut var) = (vec![0.0; c], vec![0.0; c]);
        norm::batch_stats(slice(&x), &mut mean, &mut var);
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
        let mut y = vec![0.0; slice(&x).len()];
        norm::forward(&params, slice(&x), residual.as_ref().map(slice), plan.act, &mut y);
        wrap(y, &dims(&x))
    }

    fn fast_max_pool(x: FloatTensor<Self>, geometry: PoolGeometry) -> FloatTensor<Self> {
        let x = dense(x);
        let shape = pool_shape(&dims(&x), geometry);
        let [h, w] = shape.output();
        let mut y = vec![0.0; shape.n * h * w * shape.c];
        pool::max_forward(&shape, slice(&x), &mut y, None);
        wrap(y, &[shape.n, h, w, shape.c])
    }

    fn fast_avg_pool(x: FloatTensor<Self>, size: [usize; 2]) -> FloatTensor<Self> {
        let x = dense(x);
        let d = dims(&x);
        let mut y = vec![0.0; d[0] * size[0] * size[1] * d[3]];
        pool::adaptive_avg_forward([d[0], d[1], d[2], d[3]], size, slice(&x), &mut y);
        wrap(y, &[d[0], size[0], size[1], d[3]])
    }

    fn fast_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Maybe<Self>,
        act: Act,
    ) -> FloatTensor<Self> {
        let (x, weight, bias) = (dense(x), dense(weight), bias.into_option().map(dense));
        let (m, k, n) = (dims(&x)[0], dims(&x)[1], dims(&weight)[0]);
        let mut y = vec![0.0; m * n];
        gemm::gemm(m, n, k, slice(&x), slice(&weight), bias.as_ref().map(slice), act, &mut y);
        wrap(y, &[m, n])
    }
}

impl FastGrads for Flex {
    fn conv_dx(x: &[usize], weight: FlexTensor, dy: FlexTensor, geometry: ConvGeometry) -> FlexTensor {
        let (weight, dy) = (dense(weight), dense(dy));
        let shape = conv_shape(x, &dims(&weight), geometry);
        let mut dx = vec![0.0; shape.x_len()];
        if is_depthwise(&shape) {
            depthwise::backward_data(&shape, slice(&dy), slice(&weight), &mut dx);
        } else {
            conv::backward_data(&shape, slice(&dy), slice(&weight), &mut dx);
        }
        wrap(dx, x)
    }

    fn conv_dw(x: FlexTensor, weight: &[usize], dy: FlexTensor, geometry: ConvGeometry) -> FlexTensor {
        let (x, dy) = (dense(x), dense(dy));
        let shape = conv_shape(&dims(&x), weight, geometry);
        let mut dw = vec![0.0; shape.w_len()];
        if is_depthwise(&shape) {
            depthwise::backward_weight(&shape, slice(&x), slice(&dy), &mut dw);
        } else {
            conv::backward_weight(&shape, slice(&x), slice(&dy), &mut dw);
        }
        wrap(dw, weight)
    }

    fn channel_sum(dy: FlexTensor) -> FlexTensor {
        let dy = dense(dy);
        let c = *dims(&dy).last().expect("gradients have channels");
        let mut sums = vec![0.0; c];
        norm::channel_sums(slice(&dy), &mut sums);
        wrap(sums, &[c])
    }

    fn act_backward(y: FlexTensor, dy: FlexTensor, act: Act) -> FlexTensor {
        let y = dense(y);
        let mut masked = slice(&dense(dy)).to_vec();
        act::backward(act, slice(&y), &mut masked);
        wrap(masked, &dims(&y))
    }

    fn norm_backward(saved: SavedNorm<Self>, dy: FlexTensor, want: NormGradsWanted) -> NormGrads<Self> {
        let SavedNorm { x, y, scale, mean, var, plan } = saved;
        let (x, y, scale, mean, var, dy) =
            (dense(x), dense(y), dense(scale), dense(mean), dense(var), dense(dy));
        let (c, len) = (slice(&scale).len(), slice(&x).len());
        let zeros = vec![0.0; c];
        let params =
            Norm { mean: slice(&mean), var: slice(&var), gamma: slice(&scale), beta: &zeros, eps: plan.eps };
        let buffer = |wanted: bool, len: usize| wanted.then(|| vec![0.0_f32; len]);
        let mut dx = buffer(want.x, len);
        let mut dresidual = buffer(want.residual, len);
        let mut dgamma = buffer(want.affine, c);
        let mut dbeta = buffer(want.affine, c);
        let grads = norm::NormGrads {
            dx: dx.as_deref_mut(),
            dgamma: dgamma.as_deref_mut(),
            dbeta: dbeta.as_deref_mut(),
            dresidual: dresidual.as_deref_mut(),
        };
        let run = if plan.batch_stats { norm::backward_train } else { norm::backward_frozen };
        run(&params, plan.act, slice(&x), Some(slice(&y)), slice(&dy), grads);
        let shape = dims(&x);
        NormGrads {
            x: dx.map(|v| wrap(v, &shape)),
            scale: dgamma.map(|v| wrap(v, &[c])),
            shift: dbeta.map(|v| wrap(v, &[c])),
            residual: dresidual.map(|v| wrap(v, &shape)),
        }
    }

    fn max_pool_winners(x: FlexTensor, geometry: PoolGeometry) -> (FlexTensor, Arc<Vec<u8>>) {
        let x = dense(x);
        let shape = pool_shape(&dims(&x), geometry);
        let [h, w] = shape.output();
        let mut y = vec![0.0; shape.n * h * w * shape.c];
        let mut winners = vec![0; y.len()];
        pool::max_forward(&shape, slice(&x), &mut y, Some(&mut winners));
        (wrap(y, &[shape.n, h, w, shape.c]), Arc::new(winners))
    }

    fn max_pool_dx(x: &[usize], geometry: PoolGeometry, winners: &[u8], dy: FlexTensor) -> FlexTensor {
        let dy = dense(dy);
        let mut dx = vec![0.0; x.iter().product()];
        pool::max_backward(&pool_shape(x, geometry), winners, slice(&dy), &mut dx);
        wrap(dx, x)
    }

    fn avg_pool_dx(x: &[usize], dy: FlexTensor) -> FlexTensor {
        let dy = dense(dy);
        let size = [dims(&dy)[1], dims(&dy)[2]];
        let mut dx = vec![0.0; x.iter().product()];
        pool::adaptive_avg_backward([x[0], x[1], x[2], x[3]], size, slice(&dy), &mut dx);
        wrap(dx, x)
    }

    fn linear_dx(weight: FlexTensor, dy: FlexTensor) -> FlexTensor {
        let (weight, dy) = (dense(weight), dense(dy));
        let (m, n, k) = (dims(&dy)[0], dims(&dy)[1], dims(&weight)[1]);
        let mut dx = vec![0.0; m * k];
        gemm::gemm_backward_data(m, n, k, slice(&dy), slice(&weight), &mut dx);
        wrap(dx, &[m, k])
    }

    fn linear_dw(x: FlexTensor, dy: FlexTensor) -> FlexTensor {
        let (x, dy) = (dense(x), dense(dy));
        let (m, n, k) = (dims(&dy)[0], dims(&dy)[1], dims(&x)[1]);
        let mut dw = vec![0.0; n * k];
        gemm::gemm_backward_weight(m, n, k, slice(&x), slice(&dy), &mut dw);
        wrap(dw, &[n, k])
    }
}
