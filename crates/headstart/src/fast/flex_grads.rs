//! The gradients on Flex tensors.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use headstart_kernels::norm::{self, Norm};
use headstart_kernels::{act, buffer, conv, depthwise, gemm, pool};

use super::flex::{conv_shape, dense, dims, pool_shape, slice, wrap};
use super::{Act, ConvGeometry, FastGrads, NormGrads, NormGradsWanted, PoolGeometry, SavedNorm};

impl FastGrads for Flex {
    fn conv_dx(x: &[usize], weight: FlexTensor, dy: FlexTensor, geometry: ConvGeometry) -> FlexTensor {
        let (weight, dy) = (dense(weight), dense(dy));
        let shape = conv_shape(x, &dims(&weight), geometry);
        let mut dx = buffer(shape.x_len());
        if shape.is_depthwise() {
            depthwise::backward_data(&shape, slice(&dy), slice(&weight), &mut dx);
        } else {
            conv::backward_data(&shape, slice(&dy), slice(&weight), &mut dx);
        }
        wrap(dx, x)
    }

    fn conv_dw(x: FlexTensor, weight: &[usize], dy: FlexTensor, geometry: ConvGeometry) -> FlexTensor {
        let (x, dy) = (dense(x), dense(dy));
        let shape = conv_shape(&dims(&x), weight, geometry);
        let mut dw = buffer(shape.w_len());
        if shape.is_depthwise() {
            depthwise::backward_weight(&shape, slice(&x), slice(&dy), &mut dw);
        } else {
            conv::backward_weight(&shape, slice(&x), slice(&dy), &mut dw);
        }
        wrap(dw, weight)
    }

    fn channel_sum(dy: FlexTensor) -> FlexTensor {
        let dy = dense(dy);
        let c = *dims(&dy).last().expect("gradients have channels");
        let mut sums = buffer(c);
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
        let maybe = |wanted: bool, len: usize| wanted.then(|| buffer(len));
        let mut dx = maybe(want.x, len);
        let mut dresidual = maybe(want.residual, len);
        let mut dgamma = maybe(want.affine, c);
        let mut dbeta = maybe(want.affine, c);
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
        let mut y = buffer(shape.n * h * w * shape.c);
        let mut winners = vec![0; y.len()];
        pool::max_forward(&shape, slice(&x), &mut y, Some(&mut winners));
        (wrap(y, &[shape.n, h, w, shape.c]), Arc::new(winners))
    }

    fn max_pool_dx(x: &[usize], geometry: PoolGeometry, winners: &[u8], dy: FlexTensor) -> FlexTensor {
        let dy = dense(dy);
        let mut dx = buffer(x.iter().product());
        pool::max_backward(&pool_shape(x, geometry), winners, slice(&dy), &mut dx);
        wrap(dx, x)
    }

    fn avg_pool_dx(x: &[usize], dy: FlexTensor) -> FlexTensor {
        let dy = dense(dy);
        let size = [dims(&dy)[1], dims(&dy)[2]];
        let mut dx = buffer(x.iter().product());
        pool::adaptive_avg_backward([x[0], x[1], x[2], x[3]], size, slice(&dy), &mut dx);
        wrap(dx, x)
    }

    fn linear_dx(weight: FlexTensor, dy: FlexTensor) -> FlexTensor {
        let (weight, dy) = (dense(weight), dense(dy));
        let (m, n, k) = (dims(&dy)[0], dims(&dy)[1], dims(&weight)[1]);
        let mut dx = buffer(m * k);
        gemm::gemm_backward_data(m, n, k, slice(&dy), slice(&weight), &mut dx);
        wrap(dx, &[m, k])
    }

    fn linear_dw(x: FlexTensor, dy: FlexTensor) -> FlexTensor {
        let (x, dy) = (dense(x), dense(dy));
        let (m, n, k) = (dims(&dy)[0], dims(&dy)[1], dims(&x)[1]);
        let mut dw = buffer(n * k);
        gemm::gemm_backward_weight(m, n, k, slice(&x), slice(&dy), &mut dw);
        wrap(dw, &[n, k])
    }
}
