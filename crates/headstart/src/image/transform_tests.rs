//! Tests of running a pipeline: torch's arithmetic, streams by key, the order of operations.

use ::image::{Rgb, RgbImage};

use super::key::Key;
use super::resize::Interp;
use super::transform::Pipeline;
use super::usual::CropMode;

fn picture() -> RgbImage {
    RgbImage::from_fn(90, 60, |x, y| Rgb([(x * 2) as u8, (y * 4) as u8, (x * y % 255) as u8]))
}

fn run(text: &str, key: Key) -> Vec<f32> {
    let pipeline: Pipeline = text.parse().unwrap();
    let (h, w) = pipeline.output_size().unwrap();
    let mut out = vec![f32::NAN; h * w * 3];
    pipeline.apply(&picture(), key, &mut out);
    out
}

#[test]
fn a_random_pipeline_depends_on_its_key_alone() {
    let text = "random_resized_crop(24) | flip_lr(0.5) | color_jitter(0.4, 0.4, 0.4, 0.1) | rotate(10) \
                | rand_augment(2, 9) | trivial_augment | normalize(imagenet) | erasing(0.5)";
    let key = Key { seed: 1, epoch: 2, sample: 3 };
    let first = run(text, key);
    assert_eq!(first, run(text, key));
    assert_ne!(first, run(text, Key { epoch: 3, ..key }));
    assert!(first.iter().all(|v| v.is_finite()));
}

#[test]
fn cropping_while_resizing_equals_cropping_after() {
    let fused: Pipeline = "resize_short(40, bicubic) | center_crop(31)".parse().unwrap();
    let apart: Pipeline = "resize_short(40, bicubic) | flip_lr(0) | center_crop(31)".parse().unwrap();
    let (a, b) = (picture(), picture());
    let (a, b) = (fused.pixels(&a, Key::default()), apart.pixels(&b, Key::default()));
    assert!(a.iter().zip(b.iter()).all(|(a, b)| a.abs_diff(*b) <= 1));
}

#[test]
fn normalising_follows_torch() {
    let out = run("resize(60, 90) | normalize(imagenet)", Key::default());
    let p = picture().get_pixel(5, 7).0;
    let want = (f32::from(p[1]) / 255.0 - 0.456) / 0.224;
    assert_eq!(out[(7 * 90 + 5) * 3 + 1], want);
    let plain = run("center_crop(8)", Key::default());
    assert!(plain.iter().all(|v| (0.0..=1.0).contains(v)));
}

#[test]
fn known_output_sizes_are_told_and_others_are_not() {
    let size = |text: &str| text.parse::<Pipeline>().unwrap().output_size();
    assert_eq!(size("resize_short(256) | center_crop(224) | normalize(imagenet)"), Some((224, 224)));
    assert_eq!(size("resize(10, 20) | pad(2) | flip_lr(0.5)"), Some((14, 24)));
    assert_eq!(size("resize_short(256) | normalize(imagenet)"), None);
}

#[test]
fn timm_s_crop_modes_become_pipelines() {
    let text = |mode| Pipeline::timm_eval(240, 0.8, mode, Interp::Bicubic, [0.5; 3], [0.5; 3]).to_string();
    assert_eq!(
        text(CropMode::Center),
        "resize_short(300, bicubic) | center_crop(240) | normalize(inception)"
    );
    assert!(text(CropMode::Squash).starts_with("resize(300, 300, bicubic) | center_crop(240) |"));
    assert!(
        text(CropMode::Border).starts_with("resize_long(300, bicubic) | center_crop(240, fill=#808080) |")
    );
}

#[test]
fn a_picture_smaller_than_a_random_crop_is_padded() {
    assert_eq!(run("random_crop(100)", Key::default()).len(), 30_000);
}

#[test]
fn the_order_is_checked() {
    for text in ["erasing(0.1) | normalize(imagenet)", "normalize(imagenet) | flip_lr(0.5)", "erasing(1)"] {
        assert!(text.parse::<Pipeline>().is_err(), "{text}");
    }
}
