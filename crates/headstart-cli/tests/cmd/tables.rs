//! Tables of labels and numbers, from a manifest to a network in use.

use headstart::synth::write_flower_tables;

use super::*;

/// One phase: the head, on cached features.
const HEAD: &str = r#"
batch_size = 16
optimizer = "adamw(weight_decay=0.01)"
[[phase]]
name = "head"
epochs = 12
trainable = ["head"]
lr = 1e-2
schedule = "cosine"
"#;

fn place(train: usize, val: usize) -> Place {
    let place = Place { dir: tempfile::tempdir().unwrap() };
    write_flower_tables(&place.path("flowers"), train, val, 1, 64).unwrap();
    fs::write(place.path("head.toml"), HEAD).unwrap();
    place
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn labels_are_learned_and_named_by_every_command() {
    let place = place(240, 80);
    let fit = |out| ["fit", "flowers/labels.csv", "--recipe", "head.toml", "--size", "64", "--out", out];
    let said = place.json(&fit("run"));
    assert_eq!(said["task"], "multilabel");
    // Chance is the share of pictures with a label, 0.24 on the mean.
    assert!(number(&said["map"]) > 0.4, "{said}");
    let labels = said["per_label"].as_array().unwrap();
    assert!(labels.len() >= 11 && labels.iter().any(|l| l["label"] == "several"), "{said}");
    assert!(said["map_interval95"][0].as_f64() < said["map"].as_f64());
    for file in ["bundle/labels.txt", "labels.png", "curves.png", "report.html"] {
        assert!(place.path("run").join(file).is_file(), "{file}");
    }
    place.whole_page(
        "run",
        &["Label by label", "How often a label is there", "missed <b>", "photos all right"],
    );
    let lines = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    assert!(lines.lines().count() == 12 && lines.contains("\"map\":") && !lines.contains("top1"), "{lines}");
    let maps: Vec<f64> =
        lines.lines().map(|l| number(&serde_json::from_str::<Value>(l).unwrap()["map"])).collect();
    let best = said["best_epoch"].as_u64().unwrap() as usize - 1;
    assert!(maps.iter().all(|m| *m <= maps[best]), "{maps:?} {best}");
    assert!((maps[best] - number(&said["map"])).abs() < 1e-9);

    let seen = place.json(&["evaluate", "run", "flowers/labels.csv"]);
    assert_eq!((&seen["map"], &seen["micro_f1"]), (&said["map"], &said["micro_f1"]));
    assert!(place.good(&["evaluate", "run", "flowers/labels.csv"]).contains("threshold"));
    // The same labels as a column each.
    let table = fs::read_to_string(place.path("flowers/labels.csv")).unwrap();
    let names: Vec<&str> = labels.iter().map(|l| l["label"].as_str().unwrap()).collect();
    let hot = table.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        let flags = names.iter().map(|n| if fields[1].split('|').any(|l| l == *n) { ",1" } else { ",0" });
        format!("{}{},{}\n", fields[0], flags.collect::<String>(), fields[2])
    });
    let hot = format!("file_name,{},split\n{}", names.join(","), hot.collect::<String>());
    fs::write(place.path("flowers/hot.csv"), hot).unwrap();
    assert_eq!(place.json(&["evaluate", "run", "flowers/hot.csv"])["map"], said["map"]);

    let shown = place.json(&["predict", "run", "flowers/0241.jpg", "flowers/0242.jpg"]);
    let first = shown["predictions"][0]["labels"].as_array().unwrap();
    assert!(first.windows(2).all(|w| number(&w[0]["score"]) >= number(&w[1]["score"])), "{shown}");
    place.json(&["embed", "flowers/labels.csv", "--bundle", "run", "--output", "e.safetensors"]);
    let dict = headstart::weights::read(&place.path("e.safetensors")).unwrap();
    assert_eq!(dict.get("targets").unwrap().shape, [320, labels.len()]);
    let sweep = ["lr-find", "flowers/labels.csv", "--size", "32", "--steps", "20", "--out", "lr"];
    assert!(place.json(&sweep)["suggestions"]["valley"].is_number());
    // Rare labels that weigh more, mixing, smoothing and the other losses run too.
    let keys = "class_weights = true\nlabel_smoothing = 0.1\nmixup = 0.2\n";
    for (name, keys) in [("a", keys), ("b", "loss = \"asymmetric\"\n"), ("c", "focal = 2.0\n")] {
        fs::write(place.path("head.toml"), format!("{keys}{}", HEAD.replace("= 12", "= 1"))).unwrap();
        place.json(&fit(name));
    }
}

#[test]
fn numbers_are_learned_and_come_in_their_own_units() {
    let place = place(240, 80);
    let fit = |columns, out| {
        [
            "fit",
            "flowers/numbers.csv",
            "--targets",
            columns,
            "--recipe",
            "head.toml",
            "--size",
            "64",
            "--out",
            out,
        ]
    };
    let said = place.json(&fit("radius,count", "run"));
    assert_eq!((said["task"].as_str(), said["per_target"].as_array().unwrap().len()), (Some("regress"), 2));
    let radius = &said["per_target"][0];
    assert_eq!(radius["target"], "radius");
    // Always saying the mean is an R² of 0.
    assert!(number(&radius["r2"]) > 0.1 && number(&said["r2"]) > 0.1, "{said}");
    assert!(
        number(&radius["mae"]) < number(&radius["rmse"])
            && number(&radius["rmse"]) < number(&radius["train_std"])
    );
    assert!(place.path("run/scatter.png").is_file());
    place.whole_page(
        "run",
        &["Predicted and true", "90 % are within", ", truly <b>", "deviations over 2 targets"],
    );

    let seen = place.json(&["evaluate", "run", "flowers/numbers.csv"]);
    assert_eq!(seen["per_target"], said["per_target"]);
    // What `predict` says of a picture and what the table holds are in the same units.
    let files: Vec<String> = (240..320).map(|i| format!("flowers/{i:04}.jpg")).collect();
    let args: Vec<&str> = ["predict", "run"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let table = fs::read_to_string(place.path("flowers/numbers.csv")).unwrap();
    let truth: Vec<f64> =
        table.lines().skip(241).map(|l| l.split(',').nth(1).unwrap().parse().unwrap()).collect();
    let shown = place.json(&args);
    let values = shown["predictions"].as_array().unwrap().iter().map(|p| number(&p["values"]["radius"]));
    let mae = values.zip(&truth).map(|(p, t)| (p - t).abs()).sum::<f64>() / truth.len() as f64;
    assert!((mae - number(&radius["mae"])).abs() < 1e-4, "{mae} {radius}");
    assert!(place.good(&["predict", "run", &files[0]]).contains("radius 0."));

    // Other tools know nothing of scales: an exported network answers in the targets' units.
    place.good(&["export", "run", "--to", "safetensors", "--out", "exported"]);
    let outputs = |weights: &str, out: &str| {
        let args = [
            "forward",
            "--model",
            "headstart_nano",
            "--weights",
            weights,
            "--input",
            "x.npy",
            "--output",
            out,
        ];
        place.good(&args);
        headstart::npy::read(&place.path(out)).unwrap().1
    };
    headstart::npy::write(&place.path("x.npy"), &[1, 3, 64, 64], &[0.5; 3 * 64 * 64]).unwrap();
    let (inside, exported) =
        (outputs("run/bundle/model.safetensors", "a.npy"), outputs("exported/model.safetensors", "b.npy"));
    for (target, (z, y)) in said["per_target"].as_array().unwrap().iter().zip(inside.iter().zip(exported)) {
        let wanted = number(&target["train_mean"]) + number(&target["train_std"]) * f64::from(*z);
        assert!((f64::from(y) - wanted).abs() < 1e-4, "{y} {wanted}");
    }
    // A bundle that contradicts itself is refused.
    let card = fs::read_to_string(place.path("run/bundle/bundle.json")).unwrap();
    fs::write(place.path("run/bundle/bundle.json"), card.replace("\"regress\"", "\"multilabel\"")).unwrap();
    place
        .refused(&["predict", "run", &files[0]], &["0 thresholds and 2 scales for 2 outputs of multi-label"]);

    // One target: the number that decides is the error in the target's own unit.
    let text = HEAD.replace("= 12", "= 3");
    fs::write(place.path("head.toml"), format!("loss = \"huber(delta=0.5)\"\npatience = 2\n{text}")).unwrap();
    let one = place.good(&fit("radius", "one"));
    assert!(one.starts_with("RMSE 0."), "{one}");
    let lines = fs::read_to_string(place.path("one/metrics.jsonl")).unwrap();
    assert!(lines.contains("\"rmse\":[0.") && lines.contains("\"r2\":"), "{lines}");
}

#[test]
fn advice_for_labels_and_numbers_is_a_probe_and_a_recipe_that_runs() {
    let place = place(200, 40);
    let said = place.json(&["advise", "flowers/labels.csv", "--size", "64"]);
    assert_eq!((said["score"].as_str(), said["pictures"].as_u64()), (Some("mAP"), Some(200)));
    let (probe, chance) = (number(&said["probe"]), number(&said["chance"]));
    assert!(probe > chance + 0.1 && said["recipe"].as_str().unwrap().contains("[[phase]]"), "{said}");
    let numbers = ["advise", "flowers/numbers.csv", "--targets", "radius", "--size", "64"];
    let text = place.command(&numbers).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("expected R²") && text.contains("random weights"), "{text}");
    let fit =
        ["fit", "flowers/labels.csv", "--size", "64", "--recipe", "auto", "--epochs", "1", "--out", "run"];
    place.json(&fit);
    let advice: Value = serde_json::from_slice(&fs::read(place.path("run/advice.json")).unwrap()).unwrap();
    assert_eq!((&advice["choice"], &advice["probe"]), (&said["choice"], &said["probe"]));
}

#[test]
fn a_stopped_run_of_numbers_ends_in_the_same_bytes() {
    let place = place(40, 16);
    let text =
        HEAD.replace("trainable = [\"head\"]", "trainable = [\"layer4\", \"head\"]").replace("1e-2", "1e-3");
    fs::write(place.path("tail.toml"), text.replace("= 12", "= 4")).unwrap();
    let fit =
        |out| ["fit", "flowers/numbers.csv", "--recipe", "tail.toml", "--size", "32", "-q", "--out", out];
    place.good(&fit("whole"));
    let checkpoint = place.path("run/checkpoint.safetensors");
    let mut run = place.command(&fit("run")).stdout(std::process::Stdio::null()).spawn().unwrap();
    while !checkpoint.exists() && run.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    place.good(&[&fit("run")[..], &["--resume"]].concat());
    let model = |out: &str| fs::read(place.path(out).join("bundle/model.safetensors")).unwrap();
    assert!(model("run") == model("whole"), "a resumed run gives other bytes");
    let other = [&fit("run")[..], &["--resume", "--targets", "count"]].concat();
    place.refused(&other, &["another recipe, data set"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let place = place(20, 10);
    let fit = |data, more: &[&'static str]| {
        [&["fit", data, "--recipe", "head.toml", "--size", "32", "--out", "run"], more].concat()
    };
    fs::write(place.path("flowers/bad.csv"), "file_name,age\n0000.jpg,1\n0001.jpg,old\n0002.jpg,3\n")
        .unwrap();
    place.refused(
        &fit("flowers/bad.csv", &[]),
        &["`old` in column `age` is not a number in `flowers/bad.csv:3`", "hint: "],
    );
    place.refused(
        &fit("flowers/numbers.csv", &["--targets", "size"]),
        &["no column is called `size`", "`radius`"],
    );
    place.refused(&fit("flowers/numbers.csv", &["--task", "count"]), &["`regress`"]);
    let balanced = format!("sampler = \"balanced\"\n{HEAD}");
    fs::write(place.path("balanced.toml"), balanced).unwrap();
    let args = ["fit", "flowers/labels.csv", "--recipe", "balanced.toml", "--size", "32"];
    place.refused(&args, &["has no meaning for multi-label classification", "hint: ", "class_weights"]);
}

#[test]
fn tables_are_audited_and_studied_like_folders() {
    let place = place(80, 20);
    // A label taken from every sixth of its pictures, and a copy that says something else.
    let table = fs::read_to_string(place.path("flowers/labels.csv")).unwrap();
    let with = |line: &&str| line.contains("daisy");
    let spoilt: Vec<&str> = table.lines().filter(with).step_by(6).collect();
    let mut text = spoilt.iter().fold(table.clone(), |text, line| {
        text.replace(line, &line.replace("daisy|", "").replace("|daisy", "").replace("daisy", ""))
    });
    fs::copy(place.path("flowers/0001.jpg"), place.path("flowers/copy.jpg")).unwrap();
    text += "copy.jpg,several,val\n";
    fs::write(place.path("flowers/spoilt.csv"), text).unwrap();
    let said = |args: &[&str]| -> Value {
        let (code, found) = trusted::audit(&place, args);
        assert_eq!(code, Some(1), "{found}");
        found
    };
    let found = said(&["flowers/spoilt.csv", "--out", "audit", "--fix-suspects"]);
    assert_eq!(found["task"], "multilabel");
    let suspects = found["suspects"].as_array().unwrap();
    let doubted = |line: &&str| {
        let file = line.split(',').next().unwrap();
        suspects.iter().any(|s| s["file"] == file && s["suggested"] == "with daisy")
    };
    // The last lost its only species; the others are still said to show several flowers.
    assert!(spoilt.iter().filter(|l| doubted(l)).count() >= 2, "{spoilt:?} {suspects:?}");
    let copies = &found["duplicates"][0];
    assert_eq!((&copies["labels_differ"], &copies["files"][1]["class"]), (&json!(true), &json!("several")));
    let list = fs::read_to_string(place.path("audit/leave-out.csv")).unwrap();
    let mut files: Vec<&str> = list.lines().skip(1).map(|l| l.split(',').next().unwrap()).collect();
    let all = files.len();
    files.sort_unstable();
    files.dedup();
    assert!(files.len() == all && files.contains(&"copy.jpg"), "{list}");
    assert!(
        fs::read_to_string(place.path("audit/audit.html"))
            .unwrap()
            .contains("<h2 id=\"classes-h\">Labels</h2>")
    );

    let numbers = fs::read_to_string(place.path("flowers/numbers.csv")).unwrap();
    let (file, truth) = numbers.lines().nth(1).unwrap().split_once(',').unwrap();
    fs::copy(place.path("flowers").join(file), place.path("flowers/twin.jpg")).unwrap();
    fs::write(place.path("flowers/more.csv"), format!("{numbers}twin.jpg,1{truth}\n")).unwrap();
    let found = said(&["flowers/more.csv", "--no-features"]);
    assert_eq!(found["task"], "regress");
    assert_eq!(found["findings"][0]["kind"], "two_labels", "{found}");

    let study = [
        "study",
        "flowers/labels.csv",
        "flowers/numbers.csv",
        "--recipe",
        "head.toml",
        "--seeds",
        "0",
        "--size",
        "64",
    ];
    let rows = place.json(&[&study[..], &["--out", "study"]].concat())["rows"].clone();
    assert_eq!((&rows[0]["measure"], number(&rows[0]["score"]) > 0.2), (&json!("mAP"), true), "{rows}");
    assert!(rows[1]["measure"].as_str().unwrap().starts_with("RMSE"), "{rows}");
    let table = fs::read_to_string(place.path("study/study.md")).unwrap();
    assert!(table.contains("| labels, mAP |") && table.contains("| numbers, RMSE"), "{table}");
}
