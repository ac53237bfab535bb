//! Preprocessing against PIL, torchvision and timm: fixtures by `tools/golden/preprocess.py`.

use std::path::{Path, PathBuf};

use headstart::image::{self, Interp, Key, Pipeline, RgbImage, color, geometry};
use headstart_kernels::{Level, jpeg};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    // The workspace root is two levels up; a crate that links the fixtures beside itself works too.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let roots = [here.join("../../fixtures/preprocess"), here.join("fixtures/preprocess")];
    roots.iter().find(|root| root.is_dir()).expect("fixtures/preprocess is in the repository").join(name)
}

fn cases(kind: &str) -> (Value, Vec<Value>) {
    let text = std::fs::read_to_string(fixture("cases.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let list = all[kind].as_array().unwrap().clone();
    (all, list)
}

fn picture(value: &Value) -> RgbImage {
    image::decode(fixture(value.as_str().unwrap())).unwrap()
}

/// Returns the largest difference and the share of values that are equal.
fn compare(got: &RgbImage, want: &RgbImage) -> (u8, f64) {
    assert_eq!(got.dimensions(), want.dimensions());
    let differences: Vec<u8> = got.iter().zip(want.iter()).map(|(a, b)| a.abs_diff(*b)).collect();
    let equal = differences.iter().filter(|&&d| d == 0).count() as f64 / differences.len() as f64;
    (differences.into_iter().max().unwrap(), equal)
}

#[test]
fn evaluation_pipelines_equal_torchvision_and_timm_to_one_grey_level() {
    for case in cases("pipelines").1 {
        let pipeline: Pipeline = case["pipeline"].as_str().unwrap().parse().unwrap();
        let input = picture(&case["input"]);
        let got = pipeline.pixels(&input, Key::default()).into_owned();
        let (worst, equal) = compare(&got, &picture(&case["expected"]));
        println!("{case}: {worst} {equal:.4}");
        // The box has a sharp edge: where a pixel's centre falls on it, rounding decides about a whole pixel.
        let sharp = case["pipeline"].as_str().unwrap().contains("box");
        assert!(worst <= 1 || sharp, "{case}: off by {worst} grey levels, {equal:.4} of the values equal");
        assert!(equal > 0.88, "{case}: only {equal:.4} of the values equal");
    }
}

#[test]
fn operations_equal_pil() {
    let (all, list) = cases("operations");
    let input = picture(&all["operations_input"]);
    for case in list {
        let value = case["value"].as_f64().unwrap();
        let (mut got, (w, h)) = (input.clone(), input.dimensions());
        let factor = value as f32;
        let moved = |matrix| geometry::affine(&input, matrix, Interp::Nearest, [0; 3]);
        match case["op"].as_str().unwrap() {
            "brightness" => color::brightness(&mut got, factor),
            "contrast" => color::contrast(&mut got, factor),
            "saturation" => color::saturation(&mut got, factor),
            "hue" => color::hue(&mut got, factor),
            "sharpness" => color::sharpness(&mut got, factor),
            "posterize" => color::posterize(&mut got, value as u32),
            "solarize" => color::solarize(&mut got, factor),
            "autocontrast" => {
                color::contrast(&mut got, 0.4);
                color::autocontrast(&mut got);
            }
            "equalize" => color::equalize(&mut got),
            "shear_x" => got = moved(geometry::shear_x(value)),
            "shear_y" => got = moved(geometry::shear_y(value)),
            "translate_x" => got = moved(geometry::translation(value as i32, 0)),
            "translate_y" => got = moved(geometry::translation(0, value as i32)),
            "rotate" => got = moved(geometry::rotation(w, h, value)),
            "rotate_bilinear" => {
                got = geometry::affine(&input, geometry::rotation(w, h, value), Interp::Bilinear, [0; 3]);
            }
            other => panic!("no operation `{other}` here"),
        }
        let (worst, equal) = compare(&got, &picture(&case["expected"]));
        println!("{case}: {worst} {equal:.4}");
        // A nearest-pixel move may choose the other neighbour where a centre falls on an edge.
        assert!(worst <= 1 || equal > 0.999, "{case}: off by {worst}, {equal:.4} of the values equal");
        assert!(equal > 0.95, "{case}: {equal:.4} of the values equal");
    }
}

#[test]
fn files_decode_as_in_pil() {
    for case in cases("files").1 {
        let (worst, equal) = compare(&picture(&case["file"]), &picture(&case["expected"]));
        println!("{case}: {worst} {equal:.4}");
        let tolerance = case["tolerance"].as_u64().unwrap();
        assert!(u64::from(worst) <= tolerance, "{case}: off by {worst}, {equal:.4} of the values equal");
    }
}

#[test]
fn jpeg_files_decode_to_the_same_bytes_at_every_level() {
    let mut ours = 0;
    for case in cases("files").1 {
        let name = case["file"].as_str().unwrap();
        let bytes = std::fs::read(fixture(name)).unwrap();
        if !bytes.starts_with(b"\xFF\xD8") {
            continue;
        }
        for level in Level::available() {
            match jpeg::decode_at(level, &bytes).unwrap() {
                // The camera's orientation is the caller's affair.
                Some(_) if name == "turned.jpg" => {}
                Some(picture) => {
                    assert_eq!(picture.rgb, self::picture(&case["expected"]).into_raw(), "{name} at {level}");
                    ours += 1;
                }
                None => assert_eq!(name, "cmyk.jpg", "left to another decoder"),
            }
        }
    }
    assert!(ours >= 15, "{ours} files");
}

#[test]
fn a_cut_jpeg_is_refused_wherever_it_ends() {
    for name in ["420_odd.jpg", "progressive.jpg", "restarts.jpg", "cmyk.jpg"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        for end in 4..whole.len() {
            let error = image::decode_bytes(&whole[..end], name).unwrap_err().to_string();
            assert!(error.contains("truncated") || error.contains("damaged"), "{name} cut at {end}: {error}");
        }
    }
}

/// Damaged files met in public data sets, where the checkout has them.
#[test]
fn damaged_files_from_the_wild_are_called_by_their_names() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let roots = ["../../../shared/assets/data_corrupt", "../../shared/assets/data_corrupt"];
    let Some(root) = roots.iter().map(|root| here.join(root)).find(|root| root.is_dir()) else { return };
    for (name, want) in [
        ("SYNTHETIC_empty.jpg", "empty file (0 bytes)"),
        ("SYNTHETIC_truncated_0013035.jpg", "truncated"),
        ("lfs_pointer_image_06734.jpg", "a Git LFS pointer"),
        ("DS_Store_from_a_class_root", "not a picture format"),
    ] {
        let error = image::check(root.join(name)).unwrap_err().to_string();
        assert!(error.contains(want) && error.contains(name), "{error}");
    }
    assert!(image::check(root.join("valid_gif_in_class_folder_imageNotFound.gif")).is_ok());
}
