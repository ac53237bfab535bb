//! Files that PyTorch wrote, read without PyTorch: bit for bit, and without running anything.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use headstart::Error;
use headstart::weights::{self, Dtype, StateDict};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints").join(name)
}

fn expected(group: &str) -> StateDict {
    let all = weights::read(&fixture("expected.safetensors")).unwrap();
    let mut dict = StateDict::new("");
    for (name, entry) in all.into_tensors() {
        if let Some(name) = name.strip_prefix(&format!("{group}.")) {
            dict.insert(name, entry);
        }
    }
    assert!(!dict.is_empty());
    dict
}

fn check(file: &str, group: &str) -> StateDict {
    let (found, expected) = (weights::read(&fixture(file)).unwrap(), expected(group));
    let sorted = |dict: &StateDict| {
        let mut names: Vec<String> = dict.names().map(String::from).collect();
        names.sort();
        names
    };
    assert_eq!(sorted(&found), sorted(&expected), "{file}: {:?}", found.notes);
    for (name, entry) in expected.iter() {
        assert_eq!(found.get(name), Some(entry), "{file}: {name}");
    }
    found
}

#[test]
fn state_dicts_are_read_from_every_container() {
    for file in ["zip.pth", "legacy.pth", "protocol4.pth"] {
        let dict = check(file, "tiny");
        assert_eq!(dict.notes, [""; 0], "{file}");
        assert_eq!(dict.names().next(), Some("conv1.weight"), "the order is the file's");
        assert_eq!(dict.get("bn1.num_batches_tracked").unwrap().dtype, Dtype::I64);
    }
}

#[test]
fn training_checkpoints_are_unwrapped_and_say_so() {
    for (file, group, notes) in [
        ("parallel.pth", "tiny", &["`module.`"][..]),
        ("averaged.pth", "tiny", &["n_averaged", "`module.`"]),
        ("timm.pth.tar", "raw", &["`state_dict`"]),
        ("timm_ema.pth.tar", "tiny", &["`state_dict_ema`; the file also holds `state_dict`", "`module.`"]),
        ("torchvision_legacy.pth", "tiny", &["`model`", "`_orig_mod.`"]),
        ("net.pth", "tiny", &["`net`", "`module.`"]),
        ("module.pt", "tiny", &[]),
    ] {
        let dict = check(file, group);
        assert_eq!(dict.notes.len(), notes.len(), "{file}: {:?}", dict.notes);
        for (note, part) in dict.notes.iter().zip(notes) {
            assert!(note.contains(part), "{file}: {note}");
        }
    }
}

#[test]
fn the_weights_of_a_torchscript_program_are_read_and_the_program_left_alone() {
    for file in ["script.pt", "traced.pt"] {
        let dict = check(file, "tiny");
        assert_eq!(dict.notes, [""; 0], "{file}");
    }
}

#[test]
fn types_and_strides_are_read_bit_for_bit() {
    check("odd_zip.pth", "odd");
    let legacy = weights::read(&fixture("odd_legacy.pth")).unwrap();
    assert!(legacy.notes[0].contains("`complex`"), "{:?}", legacy.notes);
    for (name, entry) in expected("odd").iter().filter(|(name, _)| *name != "u16") {
        assert_eq!(legacy.get(name), Some(entry), "{name}");
    }
}

#[test]
fn hostile_pickles_do_not_run() {
    let trace = Path::new("/tmp/headstart-evil-was-run");
    let _ = std::fs::remove_file(trace);
    check("evil.pth", "tiny");
    let poisoned = weights::read(&fixture("evil_weight.pth")).unwrap();
    assert!(!poisoned.contains("conv1.weight") && poisoned.contains("fc.weight"));
    assert!(poisoned.notes[0].contains("system"), "{:?}", poisoned.notes);
    let error = weights::read(&fixture("evil_plain.pkl")).unwrap_err().to_string();
    assert!(error.contains("not one that PyTorch wrote"), "{error}");
    assert!(!trace.exists());
}

#[test]
fn small_files_cannot_claim_to_be_huge() {
    for (file, reason) in [("bomb_expanded.pth", "far larger"), ("bomb_shared.pth", "refers to itself")] {
        let error = weights::read(&fixture(file)).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn files_cut_anywhere_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.pth");
    for file in ["zip.pth", "legacy.pth", "timm.pth.tar", "odd_legacy.pth", "expected.safetensors"] {
        std::fs::copy(fixture(file), &path).unwrap();
        // Shortening one file is far quicker than writing thousands.
        let cut = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        for length in (0..cut.metadata().unwrap().len()).rev() {
            cut.set_len(length).unwrap();
            let result = weights::read(&path);
            assert!(matches!(result, Err(Error::BadWeights { .. })), "{file} at {length}: {result:?}");
        }
    }
}

#[test]
fn damaged_files_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.pth");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for file in ["odd_zip.pth", "odd_legacy.pth", "module.pt", "expected.safetensors"] {
        let whole = std::fs::read(fixture(file)).unwrap();
        std::fs::write(&path, &whole).unwrap();
        let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let mut put = |at: usize, byte: u8| {
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(&[byte]).unwrap();
        };
        for _ in 0..1500 {
            let places: Vec<usize> = (0..=random() % 4).map(|_| random() as usize % whole.len()).collect();
            places.iter().for_each(|&at| put(at, random() as u8));
            let _ = weights::read(&path);
            places.iter().for_each(|&at| put(at, whole[at]));
        }
    }
}

#[test]
fn other_files_are_named_for_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    for (content, reason) in [
        (&b""[..], "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "LFS pointer"),
        (b"  <!DOCTYPE html><html>", "web page"),
        (b"PK\x05\x06 and no more", "neither"),
        (b"hello", "neither"),
    ] {
        let path = dir.path().join("x.pth");
        std::fs::write(&path, content).unwrap();
        let error = weights::read(&path).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert!(!error.hints().is_empty());
    }
    assert!(matches!(weights::read(&dir.path().join("absent.pth")), Err(Error::NotFound { .. })));
}

#[test]
fn what_was_read_can_be_saved_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let dict = check("odd_zip.pth", "odd");
    weights::safetensors::write(&path, &dict).unwrap();
    let back = weights::read(dir.path()).unwrap();
    assert_eq!(back.len(), dict.len());
    for (name, entry) in dict.iter() {
        assert_eq!(back.get(name), Some(entry));
    }
}
