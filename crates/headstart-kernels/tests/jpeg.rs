//! Damaged JPEG files: whatever libjpeg makes of them is a picture of the header's size, the same at every level, or its error.
//! That whole files decode to PIL's bytes is tested by the `headstart` crate, which can read the pictures to compare with.

use std::path::Path;

use headstart_kernels::{Level, jpeg};

#[test]
fn a_file_cut_or_spoilt_anywhere_is_a_picture_or_an_error() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/preprocess");
    for name in ["420_odd.jpg", "422_narrow.jpg", "440.jpg", "progressive.jpg", "restarts.jpg", "grey.jpg"] {
        let whole = std::fs::read(folder.join(name)).unwrap();
        let mut errors = 0;
        for at in 0..whole.len() {
            let mut files = vec![whole[..at].to_vec()];
            for bits in [0x01, 0x80, 0xFF] {
                files.push(whole.clone());
                files.last_mut().unwrap()[at] ^= bits;
            }
            for file in files {
                let mut found = Level::available().into_iter().map(|level| jpeg::decode_at(level, &file));
                match found.next().unwrap() {
                    Ok(Some(picture)) => {
                        assert_eq!(
                            picture.rgb.len(),
                            picture.width * picture.height * 3,
                            "{name}, byte {at}"
                        );
                        for other in found {
                            assert_eq!(other.unwrap().unwrap().rgb, picture.rgb, "{name}, byte {at}");
                        }
                    }
                    Ok(None) => {}
                    Err(said) => {
                        assert!(!said.is_empty());
                        errors += 1;
                    }
                }
            }
        }
        assert!(errors > 0, "{name}");
    }
}
