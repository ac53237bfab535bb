//! From the integer sum of a channel to the byte of its output: the weights' scales and what they fold.

use super::Quant;
use super::quant::to_byte;
use crate::Act;

/// A layer's weights as bytes, and what turns its sums into outputs.
pub(super) struct Channels {
    /// `OIHW`.
    pub weight: Vec<i8>,
    /// Per output channel: where the integer sum starts, `-zero * Σ weights`.
    pub start: Vec<i32>,
    /// Output steps per unit of the sum.
    pub scale: Vec<f32>,
    /// The bias in output steps, and the output's zero.
    pub bias: Vec<f32>,
}

impl Channels {
    /// Rounds `weight` to -127..=127 with a scale per channel.
    pub(super) fn new(
        c_out: usize,
        weight: &[f32],
        bias: Option<&[f32]>,
        input: Quant,
        output: Quant,
    ) -> Self {
        input.check();
        output.check();
        let per_channel = weight.len() / c_out.max(1);
        assert!(per_channel <= 1 << 16, "{per_channel} products overflow a sum");
        let mut channels =
            Self { weight: Vec::with_capacity(weight.len()), start: vec![], scale: vec![], bias: vec![] };
        for (c, weight) in weight.chunks_exact(per_channel.max(1)).enumerate() {
            let largest = weight.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
            assert!(largest.is_finite(), "a weight of channel {c} is not finite");
            let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            let from = channels.weight.len();
            channels.weight.extend(weight.iter().map(|w| (w / scale).round_ties_even() as i8));
            let sum: i32 = channels.weight[from..].iter().map(|w| i32::from(*w)).sum();
            channels.start.push(-i32::from(input.zero) * sum);
            channels.scale.push(input.scale * scale / output.scale);
            let bias = bias.map_or(0.0, |b| b[c]);
            channels.bias.push(bias / output.scale + f32::from(output.zero));
        }
        channels
    }

    /// What channels `from..from + count` need after their sums.
    pub(super) fn finish(
        &self,
        from: usize,
        count: usize,
        output: Quant,
        residual: Option<Quant>,
        act: Act,
    ) -> Finish<'_> {
        Finish {
            start: &self.start[from..][..count],
            scale: &self.scale[from..][..count],
            bias: &self.bias[from..][..count],
            residual: residual.map_or((0, 0.0), |r| (i32::from(r.zero), r.scale / output.scale)),
            limits: output.limits(act),
        }
    }
}

/// A slice of [`Channels`] with the residual's zero and ratio of steps, and the limits of the output.
#[derive(Clone, Copy)]
pub(super) struct Finish<'a> {
    pub start: &'a [i32],
    pub scale: &'a [f32],
    pub bias: &'a [f32],
    pub residual: (i32, f32),
    pub limits: [f32; 2],
}

impl Finish<'_> {
    /// The output of channel `c`: the operations, and their order, that every level repeats.
    #[inline(always)]
    pub(super) fn byte(&self, c: usize, sum: i32, residual: Option<u8>) -> u8 {
        let mut v = sum as f32 * self.scale[c] + self.bias[c];
        if let Some(r) = residual {
            v += (i32::from(r) - self.residual.0) as f32 * self.residual.1;
        }
        to_byte(v, self.limits)
    }
}
