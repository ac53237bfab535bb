//! Which pixels an output of a pool reads.

/// A pooling window over a map: sizes in pixels, padding on all four sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Images.
    pub n: usize,
    /// Input rows.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Step down and right.
    pub stride: [usize; 2],
    /// Padding above and below, left and right; at most half the window.
    pub pad: [usize; 2],
}

impl PoolShape {
    /// Returns the output's height and width, rounded down as PyTorch does by default.
    pub fn output(&self) -> [usize; 2] {
        let size = |len: usize, axis: usize| {
            let (kernel, pad) = (self.kernel[axis], self.pad[axis]);
            assert!(kernel >= 1 && self.stride[axis] >= 1 && 2 * pad <= kernel, "not a pool: {self:?}");
            assert!(len + 2 * pad >= kernel, "the window is larger than the map: {self:?}");
            (len + 2 * pad - kernel) / self.stride[axis] + 1
        };
        [size(self.h, 0), size(self.w, 1)]
    }

    /// Returns the windows of each axis.
    pub(crate) fn windows(&self) -> [Vec<Window>; 2] {
        let [oh, ow] = self.output();
        let axis = |count: usize, len: usize, axis: usize| {
            let (kernel, pad) = (self.kernel[axis], self.pad[axis]);
            let window = |i: usize| {
                let from = i * self.stride[axis];
                Window {
                    start: from.saturating_sub(pad),
                    end: (from + kernel - pad).min(len),
                    skipped: pad.saturating_sub(from),
                    padded: (from + kernel).min(len + 2 * pad) - from,
                }
            };
            (0..count).map(window).collect()
        };
        [axis(oh, self.h, 0), axis(ow, self.w, 1)]
    }

    pub(super) fn map(&self) -> Map {
        Map { n: self.n, h: self.h, w: self.w, c: self.c }
    }
}

/// The pixels `start..end` of one axis that an output reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Padding before `start`.
    pub(super) skipped: usize,
    /// Pixels with padding.
    pub(super) padded: usize,
}

/// The size of a map.
#[derive(Clone, Copy)]
pub(super) struct Map {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
}

impl Map {
    pub fn len(&self) -> usize {
        self.n * self.h * self.w * self.c
    }
}

/// Cuts an axis into windows that tile it, as PyTorch's `AdaptiveAvgPool2d`.
pub(crate) fn adaptive(len: usize, out: usize) -> Vec<Window> {
    assert!(len >= 1 && out >= 1, "an adaptive pool from {len} to {out} pixels");
    let window = |i: usize| {
        let (start, end) = (i * len / out, ((i + 1) * len).div_ceil(out));
        Window { start, end, skipped: 0, padded: end - start }
    };
    (0..out).map(window).collect()
}

/// Counts the pixels under a window of each axis, those of the padding too where `padded`.
pub(super) fn pixels(row: &Window, column: &Window, padded: bool) -> usize {
    let size = |w: &Window| if padded { w.padded } else { w.end - w.start };
    size(row) * size(column)
}

/// For each pixel of an axis, the outputs whose windows hold it.
pub(super) fn readers(windows: &[Window], len: usize) -> Vec<Vec<usize>> {
    let reads = |i: usize, o: &usize| (windows[*o].start..windows[*o].end).contains(&i);
    (0..len).map(|i| (0..windows.len()).filter(|o| reads(i, o)).collect()).collect()
}
