//! What libjpeg reads for us: the header and the quantised coefficients.

use std::ffi::{c_int, c_ulong};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::{mem, ptr, slice};

use mozjpeg_sys as ffi;

/// Coefficients of 8 × 8 samples, rows from low to high vertical frequency.
pub(super) type Block = [i16; 64];

/// What the components are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Colors {
    Grey,
    /// Luma, blue difference, red difference.
    Ycc,
    Other,
}

/// Extent of one component.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    /// Sampling factors, across and down.
    pub(super) sampling: (usize, usize),
    /// Samples that belong to the picture.
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) blocks_across: usize,
    pub(super) blocks_down: usize,
}

/// An open file. Its methods unwind with libjpeg's message where the file is broken: call them within [`caught`].
pub(super) struct File<'a> {
    libjpeg: Box<ffi::jpeg_decompress_struct>,
    /// libjpeg has a pointer to it.
    _errors: Box<ffi::jpeg_error_mgr>,
    /// libjpeg's array of each component, once [`File::read`] has filled them.
    arrays: Vec<*mut ffi::jvirt_barray_control>,
    bytes: PhantomData<&'a [u8]>,
}

/// A message of libjpeg on its way up.
struct Complaint(String);

/// Runs `f`; a broken file comes back as libjpeg's message, any other panic goes on.
pub(super) fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| match panic.downcast::<Complaint>() {
        Ok(complaint) => complaint.0,
        Err(panic) => resume_unwind(panic),
    })
}

/// Leaves libjpeg with its message: it expects this function not to return.
extern "C-unwind" fn fail(common: &mut ffi::jpeg_common_struct) {
    type Declared = unsafe extern "C-unwind" fn(&mut ffi::jpeg_common_struct, &[u8; 80]);
    type Written = unsafe extern "C-unwind" fn(&mut ffi::jpeg_common_struct, &mut [u8; 80]);
    let mut text = [0; 80];
    // SAFETY: `err` is the manager of `File::open`. Its `format_message` writes a C string of at most 80 bytes into what the
    // binding declares as read only; the types differ in that alone.
    unsafe {
        if let Some(format) = (*common.err).format_message {
            mem::transmute::<Declared, Written>(format)(common, &mut text);
        }
    }
    let end = text.iter().position(|&c| c == 0).unwrap_or(text.len());
    resume_unwind(Box::new(Complaint(String::from_utf8_lossy(&text[..end]).into_owned())));
}

/// Warnings are not for the terminal.
extern "C-unwind" fn ignore(_: &mut ffi::jpeg_common_struct, _: c_int) {}

impl<'a> File<'a> {
    /// Reads the header.
    pub(super) fn open(bytes: &'a [u8]) -> Self {
        // SAFETY: both are C structs of numbers and pointers that libjpeg expects zeroed and fills; the boxes stay where they are.
        let mut file = unsafe {
            let mut errors = Box::new(mem::zeroed::<ffi::jpeg_error_mgr>());
            ffi::jpeg_std_error(&mut errors);
            errors.error_exit = Some(fail);
            errors.emit_message = Some(ignore);
            let mut libjpeg = Box::new(mem::zeroed::<ffi::jpeg_decompress_struct>());
            libjpeg.common.err = ptr::from_mut(&mut *errors);
            ffi::jpeg_create_decompress(&mut *libjpeg);
            Self { libjpeg, _errors: errors, arrays: Vec::new(), bytes: PhantomData }
        };
        // SAFETY: `file` borrows the bytes for as long as libjpeg reads them.
        unsafe {
            ffi::jpeg_mem_src(&mut file.libjpeg, bytes.as_ptr(), bytes.len() as c_ulong);
            ffi::jpeg_read_header(&mut file.libjpeg, 1);
        }
        file
    }

    /// Returns width and height in pixels.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.libjpeg.image_width as usize, self.libjpeg.image_height as usize)
    }

    pub(super) fn colors(&self) -> Colors {
        match self.libjpeg.jpeg_color_space {
            ffi::J_COLOR_SPACE::JCS_GRAYSCALE => Colors::Grey,
            ffi::J_COLOR_SPACE::JCS_YCbCr => Colors::Ycc,
            _ => Colors::Other,
        }
    }

    pub(super) fn grids(&self) -> Vec<Grid> {
        let (width, height) = self.size();
        let of = |extent: usize, factor: c_int, most: c_int| {
            (extent * factor as usize).div_ceil(most as usize) // as libjpeg rounds `downsampled_width`
        };
        self.components()
            .iter()
            .map(|c| Grid {
                sampling: (c.h_samp_factor as usize, c.v_samp_factor as usize),
                width: of(width, c.h_samp_factor, self.libjpeg.max_h_samp_factor),
                height: of(height, c.v_samp_factor, self.libjpeg.max_v_samp_factor),
                blocks_across: c.width_in_blocks as usize,
                blocks_down: c.height_in_blocks as usize,
            })
            .collect()
    }

    fn components(&self) -> &[ffi::jpeg_component_info] {
        // SAFETY: `jpeg_read_header` has allocated as many, and checked their factors to be 1 to 4.
        unsafe { slice::from_raw_parts(self.libjpeg.comp_info, self.libjpeg.num_components as usize) }
    }

    /// Reads the whole file's coefficients, every scan of a progressive one.
    pub(super) fn read(&mut self) {
        // SAFETY: the header has been read; libjpeg returns one array a component, or unwinds.
        unsafe {
            let arrays = ffi::jpeg_read_coefficients(&mut self.libjpeg);
            self.arrays = slice::from_raw_parts(arrays, self.libjpeg.num_components as usize).to_vec();
        }
    }

    /// Returns what each coefficient of a component is to be multiplied by, after [`File::read`].
    pub(super) fn quantizers(&self, component: usize) -> [u16; 64] {
        // SAFETY: null, or the table that libjpeg keeps from the component's first scan until it is destroyed.
        let table = unsafe { self.components()[component].quant_table.as_ref() };
        // A component without any scan has all its coefficients zero.
        table.map_or([0; 64], |table| table.quantval)
    }

    /// Returns a row of blocks, after [`File::read`].
    pub(super) fn blocks(&mut self, component: usize, row: usize) -> &[Block] {
        let info = &self.components()[component];
        let (across, down) = (info.width_in_blocks as usize, info.height_in_blocks as usize);
        assert!(row < down, "row {row} of {down}");
        // SAFETY: the array is this component's, at least `down` rows of at least `across` blocks; the row stays in memory until
        // the next call, which needs the borrow to have ended.
        unsafe {
            let access = (*self.libjpeg.common.mem).access_virt_barray.expect("libjpeg's own memory manager");
            let rows = access(&mut self.libjpeg.common, self.arrays[component], row as u32, 1, 0);
            slice::from_raw_parts(*rows, across)
        }
    }
}

impl Drop for File<'_> {
    fn drop(&mut self) {
        // SAFETY: created in `open`, destroyed once.
        unsafe { ffi::jpeg_destroy_decompress(&mut self.libjpeg) }
    }
}
