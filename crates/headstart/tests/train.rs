//! Training keeps its promises: it learns, leaves frozen weights alone, repeats to the bit, and resumes.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use headstart::error::Result;
use headstart::models::{ModelOptions, Network};
use headstart::synth::write_flowers;
use headstart::train::observer::{EpochRecord, Event, Observer, Silent};
use headstart::train::prefix::CacheLimits;
use headstart::train::{Job, Outcome, Photos, Recipe, fit};

/// A small picture set: two of the five species.
fn files(root: &Path, part: &str) -> Vec<(PathBuf, usize)> {
    let mut found = Vec::new();
    for (label, class) in ["daisy", "tulip"].iter().enumerate() {
        let mut paths: Vec<_> =
            std::fs::read_dir(root.join(part).join(class)).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        found.extend(paths.into_iter().map(|p| (p, label)));
    }
    found
}

struct Setup {
    folder: tempfile::TempDir,
    recipe: Recipe,
}

impl Setup {
    fn new(recipe: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_flowers(folder.path(), 8, 4, 1, 48).unwrap();
        Self { folder, recipe: Recipe::parse(recipe, "test").unwrap() }
    }

    fn run(
        &self,
        checkpoint: Option<&str>,
        resume: bool,
        memory: u64,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        self.fit(start(), checkpoint, resume, memory, observer)
    }

    fn fit(
        &self,
        network: Network,
        checkpoint: Option<&str>,
        resume: bool,
        memory: u64,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let root = self.folder.path();
        let pipeline = |text: &str| text.parse().unwrap();
        let train = Photos::new(files(root, "train"), pipeline(&self.recipe.train), 7, 8, "train");
        let val = Photos::new(files(root, "val"), pipeline(&self.recipe.eval), 7, 8, "val");
        let job = Job {
            recipe: &self.recipe,
            train: &train,
            val: &val,
            unlabeled: None,
            key: "test".into(),
            checkpoint: checkpoint.map(|name| root.join(name)),
            resume,
            every: None,
            limits: CacheLimits { memory, disk: 1 << 30, folder: root.to_path_buf() },
        };
        fit(&job, network, observer)
    }
}

fn start() -> Network {
    Network::new("headstart_nano", &ModelOptions::new(2), &Device::flex()).unwrap().init(3)
}

const PIPES: &str = "train = \"random_resized_crop(32, scale=0.5..1) | flip_lr(0.5) | normalize(imagenet)\"\n\
                     eval = \"resize_short(36, bilinear) | center_crop(32) | normalize(imagenet)\"\nbatch_size = 8\n";

fn two_phases() -> String {
    format!(
        "{PIPES}views = 2\n[[phase]]\nepochs = 2\ntrainable = [\"head\"]\nlr = 1e-2\n\
         [[phase]]\nepochs = 3\ntrainable = [\"layer4\", \"head\"]\nbatch_norm = \"train\"\nlr = {{ head = 1e-3, stem = 1e-4 }}\n"
    )
}

#[test]
fn a_small_set_is_learned_by_heart() {
    let eval = "resize_short(36, bilinear) | center_crop(32) | normalize(imagenet)";
    let setup = Setup::new(&format!(
        "train = \"{eval}\"\neval = \"{eval}\"\nbatch_size = 8\noptimizer = \"adamw\"\n[[phase]]\nepochs = 30\ntrainable = [\"all\"]\nbatch_norm = \"train\"\nlr = 3e-3\n"
    ));
    let outcome = setup.run(None, false, 1 << 30, &mut Silent).unwrap();
    let last = outcome.history.last().unwrap();
    assert!(last.train_loss < 0.1 && outcome.history[0].train_loss > 0.4, "{:?}", outcome.history);
}

#[test]
fn frozen_tensors_keep_every_bit() {
    let setup = Setup::new(&format!(
        "{PIPES}[[phase]]\nepochs = 2\ntrainable = [\"layer4.0.conv2\", \"head\"]\nbatch_norm = \"train\"\nlr = 1e-2\n"
    ));
    let outcome = setup.run(None, false, 1 << 30, &mut Silent).unwrap();
    for ((name, _, before), (_, _, after)) in start().state().into_iter().zip(outcome.network.state()) {
        let trains = name.starts_with("layer4.0.conv2") || name.starts_with("fc");
        assert_eq!(before == after, !trains, "{name}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_wherever_features_are_kept() {
    let setup = Setup::new(&two_phases());
    let memory = setup.run(None, false, 1 << 30, &mut Silent).unwrap().network.state();
    let disk = setup.run(None, false, 0, &mut Silent).unwrap().network.state();
    assert_eq!(memory, disk);
}

/// Dies after a number of epochs, as a killed process would.
struct Killer {
    epochs: usize,
}

impl Observer for Killer {
    fn event(&mut self, event: Event<'_>) {
        if let Event::EpochEnded(EpochRecord { epoch, .. }) = event
            && epoch + 1 == self.epochs
        {
            panic!("killed");
        }
    }
}

#[test]
fn a_killed_run_resumes_to_the_same_bits() {
    let setup = Setup::new(&two_phases());
    let whole = setup.run(Some("whole"), false, 1 << 30, &mut Silent).unwrap();
    for epochs in 1..5 {
        let name = format!("killed-{epochs}");
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            setup.run(Some(&name), false, 1 << 30, &mut Killer { epochs })
        }));
        assert!(killed.is_err(), "the run was not killed after epoch {epochs}");
        let resumed = setup.run(Some(&name), true, 1 << 30, &mut Silent).unwrap();
        assert_eq!(resumed.network.state(), whole.network.state(), "resumed after epoch {epochs}");
        assert_eq!(resumed.best_epoch, whole.best_epoch);
    }
}

/// The tail on bf16 maps: other bits than in f32, a loss close by, and the same bits after a kill.
#[test]
fn bf16_trains_the_rest_and_resumes_to_the_same_bits() {
    let wide = Setup::new(&two_phases()).run(None, false, 1 << 30, &mut Silent).unwrap();
    let setup = Setup::new(&format!("precision = \"bf16\"\n{}", two_phases()));
    let whole = setup.run(Some("whole"), false, 1 << 30, &mut Silent).unwrap();
    let loss = |outcome: &Outcome| outcome.history.last().unwrap().train_loss;
    assert!((loss(&whole) / loss(&wide) - 1.0).abs() < 0.15, "{} in f32, {}", loss(&wide), loss(&whole));
    assert_ne!(whole.network.state(), wide.network.state());
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        setup.run(Some("killed"), false, 1 << 30, &mut Killer { epochs: 4 })
    }));
    assert!(killed.is_err());
    let resumed = setup.run(Some("killed"), true, 1 << 30, &mut Silent).unwrap();
    assert_eq!(resumed.network.state(), whole.network.state());
}

/// Collects what the user is told.
#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Note(text) = event {
            self.0.push(text.to_string());
        }
    }
}

#[test]
fn layers_that_train_in_f32_whatever_is_asked_say_so() {
    let phase = "[[phase]]\nepochs = 1\ntrainable = [\"all\"]\nlr = 1e-3\n";
    let setup = Setup::new(&format!("precision = \"bf16\"\n{PIPES}{phase}"));
    let notes = |model: &str| {
        let mut notes = Notes::default();
        let network = Network::new(model, &ModelOptions::new(2), &Device::flex()).unwrap().init(3);
        setup.fit(network, None, false, 1 << 30, &mut notes).unwrap();
        notes.0
    };
    assert_eq!(notes("headstart_nano"), [""; 0]);
    let told = notes("mobilenetv3_small_100");
    assert!(told.iter().any(|n| n.contains("mobilenetv3_small_100 from stem on trains in f32")), "{told:?}");
}

#[test]
fn an_empty_match_is_an_error_with_a_suggestion() {
    let setup = Setup::new(&format!("{PIPES}[[phase]]\nepochs = 1\ntrainable = [\"layer5\"]\nlr = 1e-2\n"));
    let error = setup.run(None, false, 1 << 30, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("`layer5` matches nothing"), "{error}");
    assert!(error.hints()[0].contains("layer"), "{:?}", error.hints());
}
