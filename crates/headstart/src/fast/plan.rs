//! A frozen part of a network as a list of steps in bf16 or 8-bit integers.
//!
//! A [`Plan`] is made from a [`Capture`]. It takes pictures a few at a time, so that what one step makes is
//! still in the caches when the next reads it, and reuses the memory of results that nobody needs any more:
//! `lots.rs` decides both.

use headstart_kernels::conv::ConvShape;
use headstart_kernels::half::{self, PackedConvHalf, PackedDepthwiseHalf, bf16};
use headstart_kernels::int8::{self, PackedConvInt8, PackedDepthwiseInt8, Quant};
use headstart_kernels::pool::{self, PoolShape};
use serde::{Deserialize, Serialize};

use super::capture::{Capture, Op, Step};
use super::lots::{self, Place, Stretch};
use super::{Act, ConvGeometry, PoolGeometry};

/// The number format of a frozen part; bf16 also that of the maps which the rest trains on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats with f32's range and 8 bits of precision; sums in f32.
    Bf16,
    /// Bytes, scaled to the ranges seen on a few of the pictures; sums in integers.
    Int8,
}

impl Precision {
    /// Returns its name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }
}

/// A network, or its first part, ready to run in a narrow format.
pub struct Plan(Kind);

enum Kind {
    Half(Program<Half>),
    Int8(Program<Int8>),
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Kind::Half(_) => "Plan(bf16)",
            Kind::Int8(_) => "Plan(int8)",
        })
    }
}

impl Plan {
    /// Rounds and packs the weights of what was captured. `None` for [`Precision::F32`], which needs no plan.
    pub fn new(capture: &Capture, precision: Precision) -> Option<Self> {
        match precision {
            Precision::F32 => None,
            Precision::Bf16 => Some(Self(Kind::Half(Program::new(capture)))),
            Precision::Int8 => Some(Self(Kind::Int8(Program::new(capture)))),
        }
    }

    /// Runs pictures `x`, `[n, h, w, c]` as they were captured; returns the last result and its rows, columns
    /// and channels.
    pub fn run(&mut self, x: &[f32]) -> (Vec<f32>, [usize; 3]) {
        match &mut self.0 {
            Kind::Half(program) => program.run(x),
            Kind::Int8(program) => program.run(x),
        }
    }
}

/// A number format with the kernels that work in it.
trait Format {
    type Value: Copy + Default;
    type Layer;

    /// The format of a result with values in this range.
    fn quant(range: (f32, f32)) -> Quant;
    fn pack(shape: &ConvShape, weight: &[f32], bias: &[f32], from: Quant, to: Quant) -> Self::Layer;
    fn narrow(x: &[f32], to: Quant, y: &mut [Self::Value]);
    fn widen(x: &[Self::Value], from: Quant, y: &mut [f32]);
    fn conv(
        shape: &ConvShape,
        x: &[Self::Value],
        layer: &Self::Layer,
        residual: Option<(&[Self::Value], Quant)>,
        act: Act,
        y: &mut [Self::Value],
    );
    fn max_pool(shape: &PoolShape, x: &[Self::Value], y: &mut [Self::Value]);
    fn avg_pool(from: Quant, shape: [usize; 4], out: [usize; 2], x: &[Self::Value], y: &mut [f32]);
}

struct Half;
struct Int8;

enum HalfLayer {
    Dense(PackedConvHalf),
    Depthwise(PackedDepthwiseHalf),
}

enum Int8Layer {
    Dense(PackedConvInt8),
    Depthwise(PackedDepthwiseInt8),
}

impl Format for Half {
    type Value = u16;
    type Layer = HalfLayer;

    fn quant(_: (f32, f32)) -> Quant {
        Quant { scale: 1.0, zero: 0 }
    }

    fn pack(shape: &ConvShape, weight: &[f32], bias: &[f32], _: Quant, _: Quant) -> HalfLayer {
        if shape.is_depthwise() {
            HalfLayer::Depthwise(PackedDepthwiseHalf::new(shape, weight, Some(bias)))
        } else {
            HalfLayer::Dense(PackedConvHalf::new(shape, weight, Some(bias)))
        }
    }

    fn narrow(x: &[f32], _: Quant, y: &mut [u16]) {
        bf16::from_f32(x, y);
    }

    fn widen(x: &[u16], _: Quant, y: &mut [f32]) {
        bf16::to_f32(x, y);
    }

    fn conv(
        shape: &ConvShape,
        x: &[u16],
        layer: &HalfLayer,
        residual: Option<(&[u16], Quant)>,
        act: Act,
        y: &mut [u16],
    ) {
        let residual = residual.map(|(r, _)| r);
        match layer {
            HalfLayer::Dense(layer) => half::forward_half(shape, x, layer, residual, act, y),
            HalfLayer::Depthwise(layer) => {
                let own = if residual.is_some() { Act::None } else { act };
                half::depthwise_forward(shape, x, layer, own, y);
                if let Some(residual) = residual {
                    half::add_act(act, y, residual);
                }
            }
        }
    }

    fn max_pool(shape: &PoolShape, x: &[u16], y: &mut [u16]) {
        pool::max_forward(shape, x, y, None);
    }

    fn avg_pool(_: Quant, shape: [usize; 4], out: [usize; 2], x: &[u16], y: &mut [f32]) {
        pool::adaptive_avg_forward(shape, out, x, y);
    }
}

impl Format for Int8 {
    type Value = u8;
    type Layer = Int8Layer;

    fn quant((low, high): (f32, f32)) -> Quant {
        Quant::of_range(low, high)
    }

    fn pack(shape: &ConvShape, weight: &[f32], bias: &[f32], from: Quant, to: Quant) -> Int8Layer {
        if shape.is_depthwise() {
            Int8Layer::Depthwise(PackedDepthwiseInt8::new(shape, weight, Some(bias), from, to))
        } else {
            Int8Layer::Dense(PackedConvInt8::new(shape, weight, Some(bias), from, to))
        }
    }

    fn narrow(x: &[f32], to: Quant, y: &mut [u8]) {
        int8::quantise(to, x, y);
    }

    fn widen(x: &[u8], from: Quant, y: &mut [f32]) {
        int8::dequantise(from, x, y);
    }

    fn conv(
        shape: &ConvShape,
        x: &[u8],
        layer: &Int8Layer,
        residual: Option<(&[u8], Quant)>,
        act: Act,
        y: &mut [u8],
    ) {
        match layer {
            Int8Layer::Dense(layer) => int8::forward_int8(shape, x, layer, residual, act, y),
            Int8Layer::Depthwise(layer) => {
                assert!(residual.is_none(), "no network adds a residual to a depthwise layer");
                int8::depthwise_forward(shape, x, layer, act, y);
            }
        }
    }

    fn max_pool(shape: &PoolShape, x: &[u8], y: &mut [u8]) {
        int8::max_forward(shape, x, y);
    }

    fn avg_pool(from: Quant, shape: [usize; 4], out: [usize; 2], x: &[u8], y: &mut [f32]) {
        int8::adaptive_avg_forward(from, shape, out, x, y);
    }
}

/// The steps with packed weights, and memory for some pictures.
struct Program<F: Format> {
    steps: Vec<Ready<F>>,
    stretches: Vec<Stretch>,
    /// Size and format of each result; the first is the pictures.
    results: Vec<([usize; 3], Quant)>,
    /// Which memory holds each result.
    places: Vec<Place>,
    memory: Vec<Vec<F::Value>>,
}

struct Ready<F: Format> {
    input: usize,
    work: Work<F>,
}

enum Work<F: Format> {
    Conv { layer: F::Layer, geometry: ConvGeometry, residual: Option<usize>, act: Act, c_out: usize },
    MaxPool(PoolGeometry),
    AvgPool([usize; 2]),
}

/// Pictures that go through all steps before the next do.
const LOT: usize = 16;

/// Pictures `from..from + n` of a lot.
#[derive(Clone, Copy)]
struct Part {
    from: usize,
    n: usize,
}

impl<F: Format> Program<F> {
    fn new(capture: &Capture) -> Self {
        let first = (capture.size, F::quant(capture.range));
        let results: Vec<_> = std::iter::once(first)
            .chain(capture.steps.iter().map(|step| (step.size, F::quant(step.range))))
            .collect();
        let steps = capture.steps.iter().enumerate().map(|(i, step)| ready(step, &results, i + 1)).collect();
        let stretches = lots::stretches(capture.size, &capture.steps, size_of::<F::Value>(), LOT);
        let places = lots::places(&capture.steps, &stretches);
        let count = places.iter().map(|place| place.memory + 1).max().unwrap_or(0);
        let memory = (0..count).map(|_| Vec::new()).collect();
        Self { steps, stretches, results, places, memory }
    }

    fn run(&mut self, x: &[f32]) -> (Vec<f32>, [usize; 3]) {
        let each = self.len(0);
        let (size, _) = self.results[self.results.len() - 1];
        let out_len: usize = size.iter().product();
        let mut out = headstart_kernels::buffer(x.len() / each * out_len);
        for (x, out) in x.chunks(LOT * each).zip(out.chunks_mut(LOT * out_len)) {
            self.lot(x, out);
        }
        (out, size)
    }

    /// Values of a result for one picture.
    fn len(&self, result: usize) -> usize {
        self.results[result].0.iter().product()
    }

    /// Where in its memory a result has a part of the lot.
    fn span(&self, result: usize, part: Part) -> std::ops::Range<usize> {
        let from = if self.places[result].whole { part.from } else { 0 };
        from * self.len(result)..(from + part.n) * self.len(result)
    }

    fn result(&self, result: usize, part: Part) -> (&[F::Value], Quant) {
        let memory = &self.memory[self.places[result].memory];
        (&memory[self.span(result, part)], self.results[result].1)
    }

    fn lot(&mut self, x: &[f32], out: &mut [f32]) {
        let n = x.len() / self.len(0);
        let mut pictures = self.take(0, n);
        F::narrow(x, self.results[0].1, &mut pictures[..x.len()]);
        self.memory[self.places[0].memory] = pictures;
        let out_len = out.len() / n;
        for index in 0..self.stretches.len() {
            let Stretch { first, end, few } = self.stretches[index];
            for from in (0..n).step_by(few) {
                let part = Part { from, n: few.min(n - from) };
                for step in first..end {
                    self.step(step, part, n, &mut out[from * out_len..(from + part.n) * out_len]);
                }
            }
        }
    }

    /// Does step `index` for a part of a lot of `lot` pictures; the last step writes `out`.
    fn step(&mut self, index: usize, part: Part, lot: usize, out: &mut [f32]) {
        let (result, last) = (index + 1, index + 1 == self.steps.len());
        let mut memory = self.take(result, if self.places[result].whole { lot } else { part.n });
        let y = &mut memory[self.span(result, part)];
        let step = &self.steps[index];
        let ([h, w, c], _) = self.results[step.input];
        let (x, from) = self.result(step.input, part);
        let maps = [part.n, h, w, c];
        match &step.work {
            Work::Conv { layer, geometry, residual, act, c_out } => {
                let residual = residual.map(|r| self.result(r, part));
                F::conv(&geometry.shape(maps, *c_out), x, layer, residual, *act, y);
            }
            Work::MaxPool(geometry) => F::max_pool(&geometry.shape(maps), x, y),
            Work::AvgPool(size) if last => F::avg_pool(from, maps, *size, x, out),
            Work::AvgPool(size) => {
                let mut mean = vec![0.0; y.len()];
                F::avg_pool(from, maps, *size, x, &mut mean);
                F::narrow(&mean, self.results[result].1, y);
            }
        }
        if last && !matches!(step.work, Work::AvgPool(_)) {
            F::widen(y, self.results[result].1, out);
        }
        self.memory[self.places[result].memory] = memory;
    }

    /// Takes the memory of a result out, large enough for `n` pictures.
    fn take(&mut self, result: usize, n: usize) -> Vec<F::Value> {
        let mut memory = std::mem::take(&mut self.memory[self.places[result].memory]);
        let len = n * self.len(result);
        if memory.len() < len {
            memory.resize(len, F::Value::default());
        }
        memory
    }
}

fn ready<F: Format>(step: &Step, results: &[([usize; 3], Quant)], result: usize) -> Ready<F> {
    let (size, from) = results[step.input];
    let work = match &step.op {
        Op::Conv { weight, bias, geometry, residual, act } => {
            let shape = geometry.shape([1, size[0], size[1], size[2]], bias.len());
            let layer = F::pack(&shape, weight, bias, from, results[result].1);
            Work::Conv { layer, geometry: *geometry, residual: *residual, act: *act, c_out: bias.len() }
        }
        Op::MaxPool(geometry) => Work::MaxPool(*geometry),
        Op::AvgPool(size) => Work::AvgPool(*size),
    };
    Ready { input: step.input, work }
}
