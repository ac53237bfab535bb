//! Sizes of a layer.

/// The shape of a convolution layer and of the map it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Images.
    pub n: usize,
    /// Input rows.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Input channels, of all groups.
    pub c_in: usize,
    /// Output channels, of all groups.
    pub c_out: usize,
    /// Kernel rows.
    pub kh: usize,
    /// Kernel columns.
    pub kw: usize,
    /// Rows and columns from one output pixel to the next.
    pub stride: [usize; 2],
    /// Rows of zeros at the top and bottom, columns at the left and right.
    pub pad: [usize; 4],
    /// Groups; both channel counts are multiples of it.
    pub groups: usize,
}

impl ConvShape {
    /// Returns the rows of the output.
    pub fn out_h(&self) -> usize {
        out_len(self.h + self.pad[0] + self.pad[1], self.kh, self.stride[0])
    }

    /// Returns the columns of the output.
    pub fn out_w(&self) -> usize {
        out_len(self.w + self.pad[2] + self.pad[3], self.kw, self.stride[1])
    }

    /// Returns the floats of the input, `[n, h, w, c_in]`.
    pub fn x_len(&self) -> usize {
        self.n * self.h * self.w * self.c_in
    }

    /// Returns the floats of the output, `[n, out_h, out_w, c_out]`.
    pub fn y_len(&self) -> usize {
        self.n * self.out_h() * self.out_w() * self.c_out
    }

    /// Returns the floats of the weight, `[c_out, c_in / groups, kh, kw]`.
    pub fn w_len(&self) -> usize {
        self.c_out * self.group_in() * self.kh * self.kw
    }

    pub(crate) fn group_in(&self) -> usize {
        self.c_in / self.groups
    }

    pub(crate) fn group_out(&self) -> usize {
        self.c_out / self.groups
    }

    /// Tells whether every channel has a filter of its own: the layers of [`crate::depthwise`].
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.c_in && self.c_in == self.c_out
    }

    /// Tells whether each output pixel is made of the input pixel in its place.
    pub(crate) fn is_pixelwise(&self) -> bool {
        [self.kh, self.kw] == [1, 1] && self.stride == [1, 1] && self.pad == [0; 4]
    }

    pub(crate) fn check(&self) {
        assert!(self.groups > 0, "a convolution has at least one group");
        assert!(
            self.c_in.is_multiple_of(self.groups) && self.c_out.is_multiple_of(self.groups),
            "{} -> {} channels do not divide into {} groups",
            self.c_in,
            self.c_out,
            self.groups
        );
        assert!(self.kh > 0 && self.kw > 0 && self.stride[0] > 0 && self.stride[1] > 0, "{self:?}");
    }
}

fn out_len(padded: usize, kernel: usize, stride: usize) -> usize {
    if padded < kernel { 0 } else { (padded - kernel) / stride + 1 }
}
