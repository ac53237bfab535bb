//! Preprocessing as data: a pipeline is one line of text, and the same line trains, evaluates and ships.
//!
//! ```text
//! resize_short(256, bilinear) | center_crop(224) | normalize(imagenet)
//! random_resized_crop(224, bicubic) | flip_lr(0.5) | rand_augment(2, 9) | normalize(imagenet) | erasing(0.25)
//! ```
//!
//! Deterministic operations equal torchvision's on a PIL image; the text form is in `parse.rs`.

use std::borrow::Cow;

use ::image::RgbImage;

use super::augment::{self, Jitter};
use super::geometry;
use super::key::Key;
use super::resize::{self, Interp, Rect};
use crate::error::{Error, Result};

/// One step of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// Gives pictures 1 channel (grey), 3 or 4 (with opacity); stands before all else.
    Channels {
        /// How many.
        n: u32,
    },
    /// Resizes the shorter side, keeping the shape: torchvision's `Resize(n)`.
    ResizeShort {
        /// The shorter side.
        size: u32,
        /// The filter.
        interp: Interp,
        /// Whether the other side is rounded as in timm's `ResizeKeepRatio`, not cut off as in torchvision.
        rounds: bool,
    },
    /// Resizes the longer side, keeping the shape: timm's `border` mode.
    ResizeLong {
        /// The longer side.
        size: u32,
        /// The filter.
        interp: Interp,
    },
    /// Resizes both sides, whatever the shape: timm's `squash` mode.
    Resize {
        /// Height.
        height: u32,
        /// Width.
        width: u32,
        /// The filter.
        interp: Interp,
    },
    /// Cuts out the centre; paints what is missing.
    CenterCrop {
        /// Side of the square.
        size: u32,
        /// Colour of what is missing.
        fill: [u8; 3],
        /// Whether an odd margin is split with the smaller part first, as by integer division; torchvision rounds to even.
        floors: bool,
    },
    /// Adds a border on all four sides.
    Pad {
        /// Width of the border.
        border: u32,
        /// Its colour.
        fill: [u8; 3],
    },
    /// Cuts a random window and resizes it: the usual training crop.
    RandomResizedCrop {
        /// Side of the resulting square.
        size: u32,
        /// Least and greatest share of the area.
        scale: [f32; 2],
        /// Least and greatest width over height.
        ratio: [f32; 2],
        /// The filter.
        interp: Interp,
    },
    /// Cuts a square at a random place.
    RandomCrop {
        /// Its side.
        size: u32,
    },
    /// Mirrors left and right with probability `p`.
    FlipLr {
        /// The probability.
        p: f32,
    },
    /// Mirrors top and bottom with probability `p`.
    FlipUd {
        /// The probability.
        p: f32,
    },
    /// Turns by a random angle in `± degrees`.
    Rotate {
        /// The largest angle.
        degrees: f32,
        /// `Nearest` or `Bilinear`.
        interp: Interp,
    },
    /// Changes brightness, contrast, saturation and hue in random order.
    ColorJitter(Jitter),
    /// RandAugment: `n` operations at level `m` of 30.
    RandAugment {
        /// How many.
        n: u32,
        /// How strong.
        m: u32,
    },
    /// TrivialAugment-Wide: one operation at a random level.
    TrivialAugment,
    /// Subtracts the mean and divides by the standard deviation, channel by channel on a 0–1 scale.
    Normalize {
        /// Means.
        mean: [f32; 3],
        /// Standard deviations.
        std: [f32; 3],
    },
    /// Sets a random rectangle to the mean with probability `p`; stands after `normalize`.
    Erasing {
        /// The probability.
        p: f32,
    },
}

/// A checked sequence of [`Op`]s; `Display` and `FromStr` are its one-line text form.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pipeline {
    pub(super) ops: Vec<Op>,
}

impl Pipeline {
    /// Checks the order of the operations: pixels first, then `normalize`, then `erasing`.
    pub fn new(ops: Vec<Op>) -> Result<Self> {
        let normalize = ops.iter().position(|op| matches!(op, Op::Normalize { .. }));
        for (at, op) in ops.iter().enumerate() {
            let (what, hint) = match op {
                Op::Erasing { .. } if normalize.is_none_or(|n| at < n) => (
                    "`erasing` stands before `normalize`",
                    "it paints the mean, so write it after `normalize(…)`",
                ),
                Op::Normalize { .. } if normalize != Some(at) => {
                    ("`normalize` appears twice", "keep the one your weights were trained with")
                }
                Op::Normalize { .. } | Op::Erasing { .. } => continue,
                Op::Channels { .. } if at > 0 => {
                    ("`channels` is not the first operation", "write it in front of the others")
                }
                Op::Channels { n } if ![1, 3, 4].contains(n) => {
                    ("pictures have 1, 3 or 4 channels", "grey, colours, or colours with opacity")
                }
                Op::RandAugment { .. } | Op::TrivialAugment if ops[0] == (Op::Channels { n: 4 }) => (
                    "it knows three colours and no fourth channel",
                    "crops, flips, `rotate`, `color_jitter` and `erasing` do",
                ),
                _ if normalize.is_some_and(|n| at > n) => (
                    "only `erasing` may follow `normalize`",
                    "move `normalize(…)` behind the other operations",
                ),
                _ => continue,
            };
            return Err(Error::BadRecipe {
                place: format!("transform, operation {} (`{op}`)", at + 1),
                what: what.into(),
                hint: hint.into(),
            });
        }
        Ok(Pipeline { ops })
    }

    /// Returns the operations in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Tells whether two epochs may see different pixels.
    pub fn is_random(&self) -> bool {
        self.ops.iter().any(|op| op.is_random())
    }

    /// Returns (height, width) of the result, if every picture gets the same.
    pub fn output_size(&self) -> Option<(usize, usize)> {
        self.ops.iter().fold(None, |size, op| op.output_size(size)).map(|(w, h)| (h as usize, w as usize))
    }

    /// Runs the operations on 8-bit pixels, those before `normalize`.
    ///
    /// Operation number `i` draws from `key.stream(i)`.
    pub fn pixels<'a>(&self, image: &'a RgbImage, key: Key) -> Cow<'a, RgbImage> {
        let mut image = Cow::Borrowed(image);
        let mut at = 0;
        while let Some(op) = self.ops.get(at) {
            if let (Some(full), Some(&Op::CenterCrop { size, floors, .. })) =
                (op.resized(image.dimensions()), self.ops.get(at + 1))
                && full.0 >= size
                && full.1 >= size
            {
                let offset = |have| resize::center_offset(have, size, floors);
                let corner = (offset(full.0), offset(full.1));
                let region = Rect { x: corner.0, y: corner.1, width: size, height: size };
                let interp = op.interp();
                image = Cow::Owned(resize::resize_region(&image, Rect::whole(&image), full, region, interp));
                at += 2;
                continue;
            }
            op.on_pixels(&mut image, key, at as u64);
            at += 1;
        }
        image
    }

    /// Runs the whole pipeline into `out`, `[height][width][channels]` of [`Pipeline::output_size`].
    ///
    /// Without a `normalize` the values are 0 to 1. Panics if `out` has another length.
    pub fn apply(&self, image: &RgbImage, key: Key, out: &mut [f32]) {
        self.fill(image, None, key, out);
    }

    /// Runs what follows `normalize`.
    pub(super) fn erase(&self, out: &mut [f32], (width, height): (u32, u32), key: Key) {
        for (at, op) in self.ops.iter().enumerate() {
            if let Op::Erasing { p } = *op {
                let mut rng = key.stream(at as u64);
                if rng.chance(p) {
                    augment::erase(out, width, height, &mut rng);
                }
            }
        }
    }

    /// Returns mean and standard deviation: (0, 1) if nothing normalises.
    pub fn normalization(&self) -> ([f32; 3], [f32; 3]) {
        let found = self.ops.iter().find_map(|op| match *op {
            Op::Normalize { mean, std } => Some((mean, std)),
            _ => None,
        });
        found.unwrap_or(([0.0; 3], [1.0; 3]))
    }
}

impl Op {
    /// Tells whether two epochs may see different pixels.
    pub fn is_random(&self) -> bool {
        !matches!(
            self,
            Op::Channels { .. }
                | Op::ResizeShort { .. }
                | Op::ResizeLong { .. }
                | Op::Resize { .. }
                | Op::CenterCrop { .. }
                | Op::Pad { .. }
                | Op::Normalize { .. }
        )
    }

    /// Returns (width, height) after a plain resize of a picture of `size`; `None` for other operations.
    fn resized(&self, (width, height): (u32, u32)) -> Option<(u32, u32)> {
        match *self {
            Op::ResizeShort { size, rounds, .. } => {
                Some(resize::short_side_size(width, height, size, rounds))
            }
            Op::ResizeLong { size, .. } => Some(resize::long_side_size(width, height, size)),
            Op::Resize { width, height, .. } => Some((width, height)),
            _ => None,
        }
    }

    fn interp(&self) -> Interp {
        match *self {
            Op::ResizeShort { interp, .. }
            | Op::ResizeLong { interp, .. }
            | Op::Resize { interp, .. }
            | Op::RandomResizedCrop { interp, .. }
            | Op::Rotate { interp, .. } => interp,
            _ => Interp::default(),
        }
    }

    /// Returns (width, height) after the operation, given it before, where it is known.
    fn output_size(&self, before: Option<(u32, u32)>) -> Option<(u32, u32)> {
        match *self {
            Op::Resize { width, height, .. } => Some((width, height)),
            Op::CenterCrop { size, .. } | Op::RandomResizedCrop { size, .. } | Op::RandomCrop { size } => {
                Some((size, size))
            }
            Op::Pad { border, .. } => before.map(|(w, h)| (w + 2 * border, h + 2 * border)),
            Op::ResizeShort { .. } | Op::ResizeLong { .. } => before.and_then(|size| self.resized(size)),
            _ => before,
        }
    }

    fn on_pixels(&self, image: &mut Cow<'_, RgbImage>, key: Key, at: u64) {
        let (width, height) = image.dimensions();
        let mut rng = key.stream(at);
        match *self {
            Op::ResizeShort { interp, .. } | Op::ResizeLong { interp, .. } | Op::Resize { interp, .. } => {
                let (w, h) = self.resized((width, height)).expect("a resize has a size");
                // Equal sizes are left alone, as torchvision does.
                if (w, h) != (width, height) {
                    *image = Cow::Owned(resize::resize(image, w, h, interp));
                }
            }
            Op::CenterCrop { size, fill, floors } => {
                *image = Cow::Owned(resize::center_crop(image, size, size, fill, floors))
            }
            Op::Pad { border, fill } => {
                *image = Cow::Owned(resize::center_crop(
                    image,
                    width + 2 * border,
                    height + 2 * border,
                    fill,
                    false,
                ));
            }
            Op::RandomResizedCrop { size, scale, ratio, interp } => {
                let window = augment::random_window(width, height, scale, ratio, &mut rng);
                let all = Rect { x: 0, y: 0, width: size, height: size };
                *image = Cow::Owned(resize::resize_region(image, window, (size, size), all, interp));
            }
            Op::RandomCrop { size } => {
                if width < size || height < size {
                    *image = Cow::Owned(resize::center_crop(
                        image,
                        width.max(size),
                        height.max(size),
                        [0; 3],
                        false,
                    ));
                }
                let y = rng.below((image.height() - size) as usize + 1) as u32;
                let x = rng.below((image.width() - size) as usize + 1) as u32;
                *image = Cow::Owned(resize::crop(image, Rect { x, y, width: size, height: size }));
            }
            Op::FlipLr { p } if rng.chance(p) => geometry::flip_lr(image.to_mut()),
            Op::FlipUd { p } if rng.chance(p) => geometry::flip_ud(image.to_mut()),
            Op::Rotate { degrees, interp } => {
                *image = Cow::Owned(augment::rotate(image, degrees, interp, &mut rng));
            }
            Op::ColorJitter(jitter) => augment::color_jitter(image.to_mut(), jitter, &mut rng),
            Op::RandAugment { n, m } => augment::rand_augment(image.to_mut(), n, m, &mut rng),
            Op::TrivialAugment => augment::trivial_augment(image.to_mut(), &mut rng),
            Op::Channels { .. }
            | Op::FlipLr { .. }
            | Op::FlipUd { .. }
            | Op::Normalize { .. }
            | Op::Erasing { .. } => {}
        }
    }
}
