//! Writing down what a frozen part of a network does, so that it can be done in another number format.
//!
//! While [`capture`] runs a network on the CPU, every folded convolution and pooling reports itself: its
//! folded weights, which earlier result it read, and the range of what it made. Models need not know. An
//! operation that is not written down leaves a result that nobody knows, and what reads it is a stray.

use std::cell::RefCell;

use burn::Tensor;
use burn::backend::flex::FlexTensor;

use super::flex::plain;
use super::{Act, ConvGeometry, PoolGeometry};

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// An operation, with all it needs but its input.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A convolution with folded weight `OIHW` and bias; `residual` is added before the activation.
    Conv {
        weight: Vec<f32>,
        bias: Vec<f32>,
        geometry: ConvGeometry,
        residual: Option<usize>,
        act: Act,
    },
    MaxPool(PoolGeometry),
    /// To this height and width; its result stays in f32.
    AvgPool([usize; 2]),
}

/// An operation in its place. Result 0 is the pictures; step `i` makes result `i + 1`.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub op: Op,
    pub input: usize,
    /// Rows, columns, channels of what it makes.
    pub size: [usize; 3],
    /// Least and greatest value seen in what it made.
    pub range: (f32, f32),
}

/// What a network did with a batch of pictures.
#[derive(Clone, Debug)]
pub struct Capture {
    pub(crate) steps: Vec<Step>,
    /// Rows, columns, channels of the pictures, and their range.
    pub(crate) size: [usize; 3],
    pub(crate) range: (f32, f32),
}

struct Recorder {
    /// The results, held so that no other takes their address.
    known: Vec<FlexTensor>,
    capture: Capture,
    stray: bool,
}

/// Runs `work` on pictures `x [N, H, W, C]` and returns what it did, if all of it is understood: `work` must end in
/// the last result that was written down; `None` from it is a result of another kind.
pub fn capture(x: Tensor<4>, work: impl FnOnce(Tensor<4>) -> Option<Tensor<4>>) -> Option<Capture> {
    let [_, h, w, c] = x.dims();
    let start = plain(x.clone().into_dispatch())?;
    let range = range(start.as_slice::<f32>()?);
    let capture = Capture { steps: Vec::new(), size: [h, w, c], range };
    RECORDER.set(Some(Recorder { known: vec![start], capture, stray: false }));
    let end = work(x).and_then(|y| plain(y.into_dispatch()));
    let recorder = RECORDER.take()?;
    let last = recorder.find(&end?)?;
    (!recorder.stray && last > 0 && last == recorder.capture.steps.len()).then_some(recorder.capture)
}

impl Capture {
    /// Widens the ranges by those of the same network on other pictures.
    pub fn widen(&mut self, other: &Capture) {
        let join = |a: (f32, f32), b: (f32, f32)| (a.0.min(b.0), a.1.max(b.1));
        self.range = join(self.range, other.range);
        for (step, other) in self.steps.iter_mut().zip(&other.steps) {
            step.range = join(step.range, other.range);
        }
    }
}

impl Recorder {
    fn find(&self, tensor: &FlexTensor) -> Option<usize> {
        let data = tensor.data_arc();
        self.known.iter().position(|known| std::sync::Arc::ptr_eq(&known.data_arc(), &data))
    }

    /// Tells whether `x` has result `i` as the maps it was noted as: a linear layer sees pictures as pixels of one map, and
    /// what was averaged is no longer in the narrow format.
    fn has_maps(&self, i: usize, x: &FlexTensor) -> bool {
        let shape = |x: &FlexTensor| x.layout().shape().to_vec();
        let (size, averaged) = match i.checked_sub(1).map(|step| &self.capture.steps[step]) {
            None => (self.capture.size, false),
            Some(step) => (step.size, matches!(step.op, Op::AvgPool(_))),
        };
        !averaged && shape(x) == [vec![shape(&self.known[0])[0]], size.to_vec()].concat()
    }
}

/// Takes down an operation from `x` to `y [N, H, W, C]`, if anybody listens. `op` gets the place of the
/// residual among the results.
pub(super) fn note(
    x: &FlexTensor,
    residual: Option<&FlexTensor>,
    y: &FlexTensor,
    op: impl FnOnce(Option<usize>) -> Op,
) {
    RECORDER.with_borrow_mut(|recorder| {
        let Some(recorder) = recorder else { return };
        let from = recorder.find(x).filter(|i| recorder.has_maps(*i, x));
        let with = residual.map(|r| recorder.find(r));
        let (Some(input), false, Some(values)) = (from, with == Some(None), y.as_slice::<f32>()) else {
            recorder.stray = true;
            return;
        };
        let dims = y.layout().shape().to_vec();
        let size = [dims[1], dims[2], dims[3]];
        recorder.capture.steps.push(Step { op: op(with.flatten()), input, size, range: range(values) });
        recorder.known.push(y.clone());
    });
}

/// Tells whether somebody listens.
pub(crate) fn listening() -> bool {
    RECORDER.with_borrow(Option::is_some)
}

fn range(values: &[f32]) -> (f32, f32) {
    values.iter().fold((0.0, 0.0), |(low, high), v| (v.min(low), v.max(high)))
}
