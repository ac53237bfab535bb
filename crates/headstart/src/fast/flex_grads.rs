//! The gradients on Flex tensors.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::DType;
use headstart_kernels::norm::{self, Norm};
use headstart_kernels::{act, buffer, conv, pool};

use super::flex::{conv_shape, dense, dims, linear_shape, pool_shape, slice, with_width, wrap};
use super::real::{Real, by_format, tensor, values};
use super::{Act, ConvGeometry, FastGrads, NormGrads, NormGradsWanted, PoolGeometry, SavedNorm};

impl FastGrads for Flex {
    fn conv_dx(x: &[usize], weight: FlexTensor, dy: FlexTensor, geometry: ConvGeometry) -> FlexTensor {
        let (weight, dy) = (dense(weight), dense(dy));
        let shape = conv_shape(x, &dims(&weight), geometry);
        by_format!(dy, T => {
            let mut dx = buffer(shape.x_len());
            T::conv_dx(&shape, values(&dy), slice(&weight), &mut dx);
            tensor::<T>(dx, x)
        })
    }

    fn conv_dw(x: FlexTensor, weight: &[usize], dy: FlexTensor, geometry: ConvGeometry) -> FlexTensor {
        let (x, dy) = (dense(x), dense(dy));
        let shape = conv_shape(&dims(&x), weight, geometry);
        let mut dw = buffer(shape.w_len());
        by_format!(x, T => T::conv_dw(&shape, values(&x), values(&dy), &mut dw));
        wrap(dw, weight)
    }

    fn channel_sum(dy: FlexTensor) -> FlexTensor {
        let dy = dense(dy);
        let c = *dims(&dy).last().expect("gradients have channels");
        let mut sums = buffer(c);
        by_format!(dy, T => norm::channel_sums(values::<T>(&dy), &mut sums));
        wrap(sums, &[c])
    }

    fn act_backward(y: FlexTensor, dy: FlexTensor, act: Act) -> FlexTensor {
        let (y, dy) = (dense(y), dense(dy));
        by_format!(y, T => {
            let mut masked = values::<T>(&dy).to_vec();
            act::backward(act, values(&y), &mut masked);
            tensor(masked, &dims(&y))
        })
    }

    fn norm_backward(saved: SavedNorm<Self>, dy: FlexTensor, want: NormGradsWanted) -> NormGrads<Self> {
        let SavedNorm { x, y, scale, shift, mean, var, plan } = saved;
        let (x, y, dy) = (dense(x), y.map(dense), dense(dy));
        let [scale, shift, mean, var] = [scale, shift, mean, var].map(dense);
        by_format!(x, T => {
            let (c, len) = (slice(&scale).len(), values::<T>(&x).len());
            let params = Norm {
                mean: slice(&mean),
                var: slice(&var),
                gamma: slice(&scale),
                beta: slice(&shift),
                eps: plan.eps,
            };
            let mut dx = want.x.then(|| buffer(len));
            let mut dresidual = want.residual.then(|| buffer(len));
            let [mut dgamma, mut dbeta] = [(); 2].map(|()| want.affine.then(|| buffer(c)));
            let grads = norm::NormGrads {
                dx: dx.as_deref_mut(),
                dgamma: dgamma.as_deref_mut(),
                dbeta: dbeta.as_deref_mut(),
                dresidual: dresidual.as_deref_mut(),
            };
            let run = if plan.batch_stats { norm::backward_train } else { norm::backward_frozen };
            run(&params, plan.act, values::<T>(&x), y.as_ref().map(values), values(&dy), grads);
            let shape = dims(&x);
            NormGrads {
                x: dx.map(|v| tensor(v, &shape)),
                scale: dgamma.map(|v| wrap(v, &[c])),
                shift: dbeta.map(|v| wrap(v, &[c])),
                residual: dresidual.map(|v| tensor(v, &shape)),
            }
        })
    }

    fn max_pool_winners(x: FlexTensor, geometry: PoolGeometry) -> (FlexTensor, Arc<Vec<u8>>) {
        let x = dense(x);
        let shape = pool_shape(&dims(&x), geometry);
        let [h, w] = shape.output();
        by_format!(x, T => {
            let mut y = buffer(shape.n * h * w * shape.c);
            let mut winners = vec![0; y.len()];
            pool::max_forward(&shape, values::<T>(&x), &mut y, Some(&mut winners));
            (tensor(y, &[shape.n, h, w, shape.c]), Arc::new(winners))
        })
    }

    fn max_pool_dx(x: &[usize], geometry: PoolGeometry, winners: &[u8], dy: FlexTensor) -> FlexTensor {
        let dy = dense(dy);
        by_format!(dy, T => {
            let mut dx = buffer(x.iter().product());
            pool::max_backward(&pool_shape(x, geometry), winners, values::<T>(&dy), &mut dx);
            tensor(dx, x)
        })
    }

    fn avg_pool_dx(x: &[usize], format: DType, dy: FlexTensor) -> FlexTensor {
        let dy = dense(dy);
        let size = [dims(&dy)[1], dims(&dy)[2]];
        let maps = [x[0], x[1], x[2], x[3]];
        fn run<T: Real>(maps: [usize; 4], size: [usize; 2], dy: &[f32]) -> FlexTensor {
            let mut dx = buffer(maps.iter().product());
            pool::adaptive_avg_backward(maps, size, dy, &mut dx);
            tensor::<T>(dx, &maps)
        }
        if format == DType::BF16 {
            run::<u16>(maps, size, slice(&dy))
        } else {
            run::<f32>(maps, size, slice(&dy))
        }
    }

    fn linear_dx(weight: FlexTensor, dy: FlexTensor) -> FlexTensor {
        let (weight, dy) = (dense(weight), dense(dy));
        let layer = linear_shape(&dims(&dy), [dims(&weight)[0], dims(&weight)[1]]);
        let mut dx = buffer(layer.x_len());
        conv::backward_data(&layer, slice(&dy), slice(&weight), &mut dx);
        wrap(dx, &with_width(dims(&dy), layer.c_in))
    }

    fn linear_dw(x: FlexTensor, dy: FlexTensor, want_bias: bool) -> (FlexTensor, Option<FlexTensor>) {
        let (x, dy) = (dense(x), dense(dy));
        let size = [&dy, &x].map(|t| *dims(t).last().expect("rows have a width"));
        let layer = linear_shape(&dims(&x), size);
        let mut dw = buffer(layer.w_len());
        let mut db = want_bias.then(|| buffer(layer.c_out));
        conv::backward_weight_and_bias(&layer, slice(&x), slice(&dy), &mut dw, db.as_deref_mut());
        (wrap(dw, &size), db.map(|db| wrap(db, &[layer.c_out])))
    }
}
