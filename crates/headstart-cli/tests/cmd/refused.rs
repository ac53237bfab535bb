//! What cannot work: exit code 2, a message that names the place, a hint, and nothing harmed.

use std::time::{Duration, Instant};

use headstart::image::RgbImage;

use super::*;

/// Writes small pictures, one a path below `root`.
fn draw(root: &Path, files: &[&str]) {
    for (i, file) in files.iter().enumerate() {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let shade = (i * 40) as u8;
        RgbImage::from_fn(20, 20, |x, y| [shade, (x * 9) as u8, (y * 9) as u8].into()).save(path).unwrap();
    }
}

/// A picture whose header claims 30 000 × 30 000 pixels.
fn bomb(path: &Path) {
    RgbImage::new(4, 4).save(path).unwrap();
    let mut png = fs::read(path).unwrap();
    for at in [16, 20] {
        png[at..at + 4].copy_from_slice(&30_000_u32.to_be_bytes());
    }
    let crc = png[12..29].iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 })
    });
    png[29..33].copy_from_slice(&(!crc).to_be_bytes());
    fs::write(path, png).unwrap();
}

const FOUR: [&str; 6] =
    ["train/a/1.png", "train/a/2.png", "train/b/1.png", "train/b/2.png", "val/a/1.png", "val/b/1.png"];

#[test]
fn data_that_makes_no_classifier_is_refused_and_the_old_bundle_stays() {
    let place = Place::new();
    place.good(&Place::fit("photos", "run"));
    let before = contents(&place.path("run"));
    for data in ["empty", "stranger", "blank", "blind"] {
        draw(&place.path(data), &FOUR);
    }
    draw(&place.path("one"), &["train/a/1.png", "train/a/2.png", "val/a/3.png"]);
    draw(&place.path("single"), &["train/a/1.png"]);
    draw(&place.path("pair"), &["a/1.png", "b/1.png"]);
    draw(&place.path("stranger"), &["val/c/1.png"]);
    fs::create_dir_all(place.path("empty/train/c")).unwrap();
    fs::create_dir_all(place.path("nothing")).unwrap();
    for file in &FOUR[..2] {
        fs::write(place.path("blank").join(file), "").unwrap();
    }
    for file in &FOUR[4..] {
        fs::write(place.path("blind").join(file), "").unwrap();
    }
    fs::write(place.path("list.csv"), "file,breed\nphotos/x.jpg,a\n").unwrap();
    let cases: [(&str, &[&str]); 10] = [
        ("nowhere", &["`nowhere` does not exist", "hint: check the spelling"]),
        ("nothing", &["no picture in `nothing`", "hint: put pictures into"]),
        ("empty", &["`train/c` holds no picture in `empty`", "hint: add pictures"]),
        ("one", &["only one class (`a`) in `one`", "hint: a classifier needs two"]),
        ("single", &["only one picture in `single`", "hint: give at least two"]),
        ("stranger", &["`val` has classes", "`c` in `stranger`", "hint: the classes are `a`, `b`"]),
        ("blank", &["class `a` can be read", "blank/train/a/1.png", "empty file (0 bytes)", "hint: replace"]),
        ("blind", &["no readable picture to validate on in `blind`", "hint: give every class two"]),
        (
            "pair",
            &["no readable picture to validate on in `pair`", "hint: give every class two", "split.csv"],
        ),
        ("list.csv", &["list.csv:1", "hint: call it `label`"]),
    ];
    for (data, words) in cases {
        place.refused(&Place::fit(data, "run"), words);
        place.refused(&Place::fit(data, "fresh"), words);
        assert!(!place.path("fresh/bundle").exists(), "{data}");
        // The division of the data is the only thing that may have been added.
        let _ = fs::remove_file(place.path("run/split.csv"));
        let _ = fs::remove_file(place.path("fresh/split.csv"));
        assert!(contents(&place.path("run")) == before, "{data} harmed the run that was there");
    }
}

#[test]
fn damaged_photos_are_left_out_and_counted_or_refused() {
    let place = Place::new();
    let class = fs::read_dir(place.path("photos/train")).unwrap().next().unwrap().unwrap().path();
    fs::write(class.join("zero.jpg"), "").unwrap();
    fs::write(class.join("lfs.jpg"), "version https://git-lfs.github.com/spec/v1\noid sha256:17\nsize 3\n")
        .unwrap();
    bomb(&class.join("bomb.png"));
    let started = Instant::now();
    let strict = [&Place::fit("photos", "strict")[..], &["--strict"]].concat();
    let bad = ["zero.jpg: empty file", "lfs.jpg: a Git LFS pointer", "bomb.png: too large: 30000 × 30000"];
    place.refused(&strict, &[&bad[..], &["3 of the pictures in `photos`", "hint: repair"]].concat());
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(!place.path("strict/bundle").exists());
    let fit = place.json(&Place::fit("photos", "run"));
    assert_eq!((fit["train_pictures"].as_u64(), fit["unreadable"].as_array().unwrap().len()), (Some(30), 3));
    let said = place.good(&[&Place::fit("photos", "run")[..], &["-q"]].concat());
    assert!(said.matches("left out `").count() == 3, "{said}");
    let embedded = place.json(&["embed", "photos", "--bundle", "run", "--output", "e.npy"]);
    assert_eq!(
        (embedded["pictures"].as_u64(), embedded["unreadable"].as_array().unwrap().len()),
        (Some(45), 3)
    );
    let (good, zero, bomb) = (class.join("000.jpg"), class.join("zero.jpg"), class.join("bomb.png"));
    let files = [&good, &zero, &bomb].map(|p| p.to_str().unwrap());
    let output = place.command(&["predict", "run", files[1], files[2], files[0]]).output().unwrap();
    check_refused(&output, &["predict"], &["zero.jpg`: empty file", "bomb.png`: too large"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("000.jpg: "), "one bad file costs the others");
}

#[test]
fn recipes_and_options_that_say_nonsense_are_refused() {
    let place = Place::new();
    let recipe = |name: &str, from: &str, to: &str| {
        assert!(HEAD.contains(from));
        fs::write(place.path(name), HEAD.replace(from, to)).unwrap();
    };
    recipe("typo.toml", "batch_size = 8", "batch_size = 8\nveiws = 3");
    recipe("type.toml", "epochs = 2", "epochs = \"two\"");
    recipe("syntax.toml", "[[phase]]", "[[phase");
    recipe("none.toml", "epochs = 2", "epochs = 0");
    recipe("group.toml", "[\"head\"]", "[\"heed\"]");
    recipe("rate.toml", "1e-2", "{ heed = 1e-3 }");
    recipe("pipeline.toml", "batch_size = 8", "train = \"resize_shrt({size}) | center_crop({size})\"");
    recipe("size.toml", "batch_size = 8", "eval = \"resize_short(32) | normalize(imagenet)\"");
    recipe("decay.toml", "lr = 1e-2", "lr = 1e-2\nlayer_decay = 2");
    recipe("thaw.toml", "lr = 1e-2", "lr = 1e-2\nunfreeze_every = 3");
    recipe("anew.toml", "batch_size = 8", "batch_size = 8\nreinit = [\"layer44\"]");
    recipe("sampler.toml", "batch_size = 8", "batch_size = 8\nsampler = \"balancd\"");
    recipe("schedule.toml", "lr = 1e-2", "lr = 1e-2\nschedule = \"cosin\"");
    let second = "lr = 1e-2\n[[phase]]\nname = \"late\"\nepochs = 1\ntrainable = [\"layer9\"]\nlr = 1e-3";
    recipe("late.toml", "lr = 1e-2", second);
    let cases: [(&str, &[&str]); 16] = [
        ("typo.toml", &["typo.toml:3:1: unknown field `veiws`", "hint: did you mean `views`?"]),
        ("type.toml", &["type.toml:5:10"]),
        ("syntax.toml", &["syntax.toml:3:"]),
        ("none.toml", &["none.toml: the phases have no epoch", "hint: "]),
        ("group.toml", &["phase `head`: trainable: `heed` matches nothing", "hint: did you mean `head`?"]),
        ("rate.toml", &["phase `head`: lr: `heed` matches nothing", "hint: did you mean `head`?"]),
        (
            "pipeline.toml",
            &["pipeline.toml:2:1: train: ", "`resize_shrt`", "hint: did you mean `resize_short`?"],
        ),
        ("decay.toml", &["decay.toml:8:1: `layer_decay = 2` is not in 0.01 to 1", "hint: 0.75 is usual"]),
        (
            "thaw.toml",
            &["phase `head`: 2 epochs are too few to thaw one group", "hint: give it `epochs = 3`"],
        ),
        ("anew.toml", &["reinit: ", "`layer44` matches nothing", "hint: did you mean `layer4`?"]),
        ("sampler.toml", &["sampler.toml:3:11: unknown variant `balancd`", "hint: did you mean `balanced`?"]),
        ("size.toml", &["leaves pictures in different sizes", "hint: "]),
        (
            "schedule.toml",
            &["schedule.toml:8:1: schedule: unknown word `cosin`", "hint: did you mean `cosine`?"],
        ),
        // Found before the first phase is trained.
        ("late.toml", &["phase `late`: trainable: `layer9` matches nothing", "hint: "]),
        ("haed", &["no recipe is called `haed`", "hint: did you mean `head`?"]),
        ("lost.toml", &["`lost.toml` does not exist", "hint: "]),
    ];
    for (name, words) in cases {
        place.refused(&["fit", "photos", "--recipe", name, "--size", "32", "--out", "run"], words);
        assert!(
            !place.path("run/bundle").exists() && !place.path("run/checkpoint.safetensors").exists(),
            "{name}"
        );
    }
    let options: [(&[&str], &[&str]); 13] = [
        (&["--head", "relu"], &["head: `relu` must end in", "hint: a head is"]),
        (&["--head", "linear(9999999999) | linear"], &["`9999999999` is not a width", "hint: "]),
        (&["--epochs", "0"], &["no epoch", "hint: "]),
        (&["--batch-size", "0"], &["`batch_size` is 0", "hint: "]),
        (&["--lr", "nan"], &["not positive", "hint: "]),
        (&["--lr", "1e30"], &["the loss is", "hint: lower the rate"]),
        (&["--freeze", "layerX"], &["--freeze: ", "`layerX` matches nothing", "hint: "]),
        (&["--freeze", "all"], &["--freeze: nothing is left to train", "hint: freeze less"]),
        (&["--size", "8"], &["cannot take pictures of 8×8", "hint: it takes any size from 32×32"]),
        (&["--interpolation", "foo"], &["`foo` is not a resampling filter", "hint: "]),
        (&["--pad-type", "foo"], &["`foo` is not a padding", "hint: "]),
        (&["--resume"], &["no checkpoint to resume from in `run2`", "hint: drop `--resume`"]),
        (&["--model", "resnet1"], &["no model is called `resnet1`", "hint: did you mean `resnet18`"]),
    ];
    for (option, words) in options {
        let out = if option == ["--resume"] { "run2" } else { "run" };
        let base: Vec<&str> = Place::fit("photos", out)
            .into_iter()
            .filter(|a| option[0] != "--size" || !["--size", "32"].contains(a))
            .collect();
        place.refused(&[&base[..], option].concat(), words);
        assert!(!place.path("run/bundle").exists() && !place.path("run2").exists(), "{option:?}");
    }
    place.refused(&["describe", "resnet1"], &["hint: did you mean `resnet18`"]);
    place.refused(&["describe", "headstart_nano", "--classes", "100000000000"], &["--classes", "hint: "]);
    place.refused(&["pretrain", "--minutes", "nan", "--out", "w.safetensors"], &["--minutes", "hint: "]);
    place.refused(&["pull", "resnet18"], &["resnet18-f37072fd.pth", "hint: fetch it once"]);
    let json = place.command(&["describe", "resnet1", "--json"]).output().unwrap();
    let document: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json.status.code() == Some(2) && document["error"].as_str().unwrap().contains("resnet1"));
}

#[test]
fn weights_that_do_not_fit_and_places_that_cannot_be_written_are_refused() {
    let place = Place::new();
    place.good(&Place::fit("photos", "run"));
    let nano = fs::read(place.path("run/bundle/model.safetensors")).unwrap();
    fs::write(place.path("nano.safetensors"), &nano).unwrap();
    fs::write(place.path("cut.safetensors"), &nano[..100_000]).unwrap();
    fs::write(place.path("page.pth"), "<html>404</html>").unwrap();
    let with = |weights, model, words: &[&str]| {
        let args = [&Place::fit("photos", "new")[..], &["--weights", weights, "--model", model]].concat();
        place.refused(&args, words);
        assert!(!place.path("new/bundle").exists());
    };
    with(
        "nano.safetensors",
        "vgg11",
        &["nano.safetensors` do not fit `vgg11`", "hint: these weights look like ResNet"],
    );
    with(
        "nano.safetensors",
        "resnet18",
        &[
            "do not fit `resnet18`",
            "conv1.weight",
            "as many parameters as headstart_nano: `--model headstart_nano`",
        ],
    );
    with(
        "cut.safetensors",
        "headstart_nano",
        &["cut.safetensors` is not a usable", "cut short", "hint: download it again"],
    );
    with("page.pth", "headstart_nano", &["page.pth` is not a usable", "web page", "hint: "]);
    with("lost.safetensors", "headstart_nano", &["`lost.safetensors` does not exist", "hint: "]);
    let unnamed = [&Place::fit("photos", "new")[..], &["--weights", "nano.safetensors"]].concat();
    place.refused(
        &unnamed,
        &[
            "nano.safetensors` does not say which network",
            "hint: it has as many parameters as headstart_nano: add `--model headstart_nano`",
        ],
    );

    let below = "head.toml/run";
    place.refused(&Place::fit("photos", below), &["cannot write `head.toml/run`", "hint: a file is where"]);
    place.refused(
        &["embed", "photos", "--output", "head.toml/e.npy"],
        &["head.toml/e.npy", "hint: a file is where"],
    );
    place.refused(
        &["embed", "photos", "--output", "e.txt"],
        &["unknown ending in `e.txt`", "hint: end the output"],
    );
    assert_eq!(fs::read_to_string(place.path("head.toml")).unwrap(), HEAD);
    let before = contents(&place.path("run"));
    for out in ["run/bundle", "run/../run/bundle/"] {
        place.refused(
            &["export", "run", "--to", "safetensors", "--out", out],
            &["--out", "hint: name another"],
        );
    }
    assert!(contents(&place.path("run")) == before, "an export must not eat its bundle");
}

#[test]
fn a_damaged_bundle_is_named() {
    let place = Place::new();
    place.good(&Place::fit("photos", "run"));
    let (card, model) = (place.path("run/bundle/bundle.json"), place.path("run/bundle/model.safetensors"));
    let (text, bytes) = (fs::read_to_string(&card).unwrap(), fs::read(&model).unwrap());
    let json: Value = serde_json::from_str(&text).unwrap();
    let with = |key: &str, value: Value| {
        let mut json = json.clone();
        json[key] = value;
        json.to_string()
    };
    let cases = [
        ("{".to_string(), vec!["`run`", "`bundle.json`", "hint: "]),
        (with("pipeline", "normalize(imagenet)".into()), vec!["`run`", "different sizes"]),
        (with("pipeline", "resize(".into()), vec!["`run`", "`bundle.json`"]),
        (with("pipeline", "resize_short(8) | center_crop(8)".into()), vec!["`run`", "8×8"]),
        (with("head", "relu".into()), vec!["`run`", "`relu`"]),
        (with("model", "resnet1".into()), vec!["`run`", "`resnet1`"]),
        (with("model", "resnet18".into()), vec!["run/bundle/model.safetensors", "resnet18"]),
        (with("temperature", 0.into()), vec!["`run`", "temperature"]),
        (with("classes", Value::Array(vec![])), vec!["`run`", "class"]),
        (with("version", 9.into()), vec!["`run`", "version 9"]),
        (with("colour", 9.into()), vec!["`run`", "`colour`"]),
    ];
    let photo = "photos/val";
    for (damaged, words) in &cases {
        fs::write(&card, damaged).unwrap();
        place.refused(&["evaluate", "run", "photos"], words);
        place.refused(&["predict", "run", photo], words);
        place.refused(&["export", "run", "--to", "safetensors", "--out", "exported"], words);
    }
    assert!(!place.path("exported").exists());
    fs::write(&card, text).unwrap();
    fs::write(&model, &bytes[..bytes.len() / 2]).unwrap();
    place.refused(&["evaluate", "run", "photos"], &["run/bundle/model.safetensors", "cut short"]);
    fs::remove_file(&model).unwrap();
    place.refused(&["predict", "run", photo], &["model.safetensors` does not exist"]);
    fs::remove_file(&card).unwrap();
    place.refused(&["predict", "run", photo], &["`run`", "no `bundle.json`"]);
    place.refused(&["predict", "nowhere", photo], &["`nowhere` does not exist"]);
}

#[test]
fn a_step_in_a_format_the_layers_do_not_have_is_refused() {
    let place = Place::new();
    for (model, precision) in [("headstart_nano", "int8"), ("seresnet18", "bf16")] {
        let words = [model, precision, "hint: "];
        place.refused(&["bench", "step", "--model", model, "--precision", precision, "--size", "32"], &words);
    }
}
