//! Keys of recipes beyond phases and rates: each does what its name says, and a run that was stopped ends in the same bits.

use std::cell::Cell;

use burn::Tensor;
use burn::tensor::Device;
use headstart::Error;
use headstart::data::{Dataset, SplitConfig};
use headstart::error::Result;
use headstart::models::layers::Map;
use headstart::models::tap::Tap;
use headstart::models::{ModelOptions, Network, host_values};
use headstart::session::photos;
use headstart::synth::write_flowers;
use headstart::train::lr_find::{LrFind, lr_find};
use headstart::train::observer::{Event, Observer, Silent};
use headstart::train::prefix::{CacheLimits, FeatureCache};
use headstart::train::reinit::reinit;
use headstart::train::{Job, Outcome, Recipe, fit};

const PIPES: &str = "train = \"random_resized_crop(32, scale=0.5..1) | flip_lr(0.5) | normalize(imagenet)\"\n\
                     eval = \"resize_short(36, bilinear) | center_crop(32) | normalize(imagenet)\"\n";

fn start() -> Network {
    Network::new("headstart_nano", &ModelOptions::new(5), &Device::flex()).unwrap().init(3)
}

/// Drawn flowers in a folder of their own.
struct Setup {
    folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_flowers(&folder.path().join("photos"), 5, 3, 1, 48).unwrap();
        Self { folder }
    }

    /// Hands a job for `recipe` to `f`.
    fn with<T>(
        &self,
        recipe: &Recipe,
        checkpoint: Option<&str>,
        resume: bool,
        f: impl FnOnce(&Job) -> T,
    ) -> T {
        let root = self.folder.path();
        let data = Dataset::open(root.join("photos"), &SplitConfig::default()).unwrap();
        let part =
            |samples, pipeline: &str, name| photos(samples, pipeline, 7, recipe.batch_size, name).unwrap();
        let job = Job {
            recipe,
            train: &part(&data.train, &recipe.train, "train"),
            val: &part(&data.val, &recipe.eval, "val"),
            unlabeled: None,
            key: "test".into(),
            checkpoint: checkpoint.map(|name| root.join(name)),
            resume,
            every: None,
            limits: CacheLimits { memory: 1 << 30, disk: 1 << 30, folder: root.to_path_buf() },
        };
        f(&job)
    }

    fn run(&self, recipe: &str) -> Outcome {
        let recipe = Recipe::parse(&format!("{recipe}\n"), "test").unwrap();
        self.with(&recipe, None, false, |job| fit(job, start(), &mut Silent)).unwrap()
    }
}

fn head(keys: &str) -> String {
    format!("{PIPES}{keys}\n[[phase]]\nepochs = 3\ntrainable = [\"head\"]\nlr = 0.05\n")
}

fn tail(keys: &str) -> String {
    format!(
        "{PIPES}{keys}\n[[phase]]\nepochs = 4\ntrainable = [\"layer4\", \"head\"]\nbatch_norm = \"train\"\nlr = 1e-3\n"
    )
}

/// The largest difference of any two numbers.
fn difference(a: &Network, b: &Network) -> f32 {
    let pairs = a.state().into_iter().zip(b.state());
    pairs.flat_map(|(a, b)| a.2.into_iter().zip(b.2)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn two_accumulated_batches_are_one_of_twice_the_size() {
    let setup = Setup::new();
    let one = setup.run(&head("batch_size = 8\noptimizer = \"sgd\""));
    let two = setup.run(&head("batch_size = 4\naccumulate = 2\noptimizer = \"sgd\""));
    assert!(difference(&one.network, &two.network) < 1e-5, "{}", difference(&one.network, &two.network));
    let small = setup.run(&head("batch_size = 4\noptimizer = \"sgd\""));
    assert!(difference(&one.network, &small.network) > 1e-3);
}

#[test]
fn a_moving_average_without_memory_is_the_weights_and_with_it_is_not() {
    let setup = Setup::new();
    let plain = setup.run(&tail("batch_size = 8"));
    let none = setup.run(&tail("batch_size = 8\nema = 0.0"));
    let some = setup.run(&tail("batch_size = 8\nema = 0.99"));
    assert!(difference(&plain.network, &none.network) < 1e-6);
    assert!(difference(&plain.network, &some.network) > 1e-4);
    for ((name, _, before), (_, _, after)) in start().state().into_iter().zip(some.network.state()) {
        assert_eq!(before != after, name.starts_with("layer4") || name.starts_with("fc"), "{name}");
    }
}

#[test]
fn the_way_back_leads_to_the_start() {
    let setup = Setup::new();
    let back = setup.run(&tail("batch_size = 8\nwise = 0.0"));
    for ((name, _, before), (_, _, after)) in start().state().into_iter().zip(back.network.state()) {
        assert_eq!(before != after, name.starts_with("fc"), "{name}");
    }
    assert!(back.notes[0].starts_with("0 % of the backbone's way"), "{:?}", back.notes);
    let soup = setup.run(&tail("batch_size = 8\naverage = \"last(2)\""));
    assert!(soup.notes[0].starts_with("the average of epochs 3, 4 reaches "), "{:?}", soup.notes);
    // Whether taken or not, what is delivered is no worse than the best epoch.
    assert!(soup.notes[0].contains("is taken") || soup.notes[0].contains("is not taken"));
}

#[test]
fn stochastic_depth_trains_otherwise_and_answers_alike() {
    let setup = Setup::new();
    let plain = setup.run(&tail("batch_size = 8"));
    let none = setup.run(&tail("batch_size = 8\ndrop_path = 0.0"));
    let some = setup.run(&tail("batch_size = 8\ndrop_path = 0.5"));
    let again = setup.run(&tail("batch_size = 8\ndrop_path = 0.5"));
    assert_eq!(difference(&plain.network, &none.network), 0.0);
    assert!(difference(&plain.network, &some.network) > 1e-4);
    assert_eq!(difference(&some.network, &again.network), 0.0);
    // Every branch is there again, on autodiff too.
    let x = || Map::from_nhwc(Tensor::ones([2, 32, 32, 3], &Device::flex().autodiff()));
    let [a, b] = [(); 2].map(|()| host_values(&some.network.forward(x(), &mut Tap::off())));
    assert_eq!(a, b);
    let text = tail("batch_size = 8\ndrop_path = 0.1").replace("layer4", "pre_logits");
    let recipe = Recipe::parse(&text, "test").unwrap();
    let alexnet = Network::new("alexnet", &ModelOptions::new(5), &Device::flex()).unwrap();
    let error = setup.with(&recipe, None, false, |job| fit(job, alexnet, &mut Silent)).unwrap_err();
    assert!(error.to_string().contains("alexnet has no residual branches"), "{error}");
    let error = Recipe::parse(&tail("drop_path = 1.0"), "test").unwrap_err();
    assert!(error.to_string().contains("`drop_path = 1` is not in [0, 1)"), "{error}");
}

#[test]
fn stages_that_start_anew_are_drawn_and_others_kept() {
    let trained = start()
        .assign(&mut |name, shape| name.ends_with("running_var").then(|| vec![2.0; shape.iter().product()]));
    let fresh = reinit(trained.clone(), &["layer4".to_string()], 9).unwrap();
    let drawn = start().init(9);
    let states = fresh.state().into_iter().zip(trained.state()).zip(drawn.state());
    for (((name, _, now), (_, _, before)), (_, _, drawn)) in states {
        assert_eq!(now, if name.starts_with("layer4") { drawn } else { before }, "{name}");
    }
    assert!(reinit(start(), &["layer9".to_string()], 9).unwrap_err().to_string().contains("reinit"));
}

#[test]
fn gradual_unfreezing_is_written_out_as_phases() {
    let phase = "[[phase]]\nname = \"thaw\"\nepochs = 6\ntrainable = [\"layer3.1\", \"layer4\", \"head\"]\nlr = 1e-3\nlayer_decay = 0.5\nunfreeze_every = 2\n";
    let mut recipe =
        Recipe::parse(&format!("{PIPES}{}", phase.replace("layer3.1", "layer3.0")), "test").unwrap();
    recipe.expand(&start()).unwrap();
    let found: Vec<_> =
        recipe.phases.iter().map(|p| (p.name.as_str(), p.epochs, p.trainable.len())).collect();
    assert_eq!(found[..2], [("thaw + head", 2, 1), ("thaw + layer4", 2, 2)]);
    assert_eq!((found[2].0, found[2].1), ("thaw + layer3", 2));
    assert_eq!(recipe.phases[1].trainable, ["head", "layer4"]);
    let rates = recipe.phases[1].rates(&start()).unwrap();
    assert_eq!(rates[rates.len() - 3..], [2.5e-4, 5e-4, 1e-3]);
    let mut short = Recipe::parse(
        &format!("{PIPES}{}", phase.replace("= 6", "= 5").replace("layer3.1", "layer3")),
        "test",
    )
    .unwrap();
    let error = short.expand(&start()).unwrap_err();
    assert!(error.hints()[0].contains("`epochs = 6`"), "{error} {:?}", error.hints());
}

/// Asks to stop after so many steps of phases; a sweep comes before its phase starts.
struct Stopper {
    left: Cell<usize>,
    started: bool,
}

impl Observer for Stopper {
    fn event(&mut self, event: Event<'_>) {
        self.started |= matches!(event, Event::PhaseStarted { .. });
        if self.started && matches!(event, Event::Step { .. }) {
            self.left.set(self.left.get().saturating_sub(1));
        }
    }

    fn wants_to_stop(&self) -> bool {
        self.left.get() == 0
    }
}

#[test]
fn a_stopped_run_goes_on_within_the_epoch_and_ends_in_the_same_bits() {
    let setup = Setup::new();
    let text = format!(
        "{PIPES}batch_size = 4\naccumulate = 2\nema = 0.9\nfocal = 2.0\ndrop_path = 0.4\nsampler = \"balanced\"\naverage = \"best(2)\"\nwise = 0.7\nviews = 2\n\
         head = \"bn | linear\"\n[[phase]]\nname = \"a\"\nepochs = 2\ntrainable = [\"head\"]\nlr = 1e-2\nlr_find = true\n\
         [[phase]]\nname = \"b\"\nepochs = 3\ntrainable = [\"layer4\", \"head\"]\nbatch_norm = \"train\"\nlr = 1e-3\nschedule = \"one_cycle(mom_high=0.95)\"\n"
    );
    // No dropout: its generator belongs to the device, which the tests of this process share.
    let recipe = Recipe::parse(&text, "test").unwrap();
    let options = ModelOptions { head: recipe.head.parse().unwrap(), ..ModelOptions::new(5) };
    let start = || Network::new("headstart_nano", &options, &Device::flex()).unwrap().init(3);
    let run = |name: &str, resume, observer: &mut dyn Observer| -> Result<Outcome> {
        setup.with(&recipe, Some(name), resume, |job| fit(job, start(), observer))
    };
    let whole = run("whole", false, &mut Silent).unwrap();
    assert_eq!(whole.found.len(), 1);
    // 25 pictures make six batches and one that is left out: thirty in five epochs.
    for steps in [2, 3, 6, 9, 14, 18, 27] {
        let name = format!("stopped-{steps}");
        match run(&name, false, &mut Stopper { left: steps.into(), started: false }) {
            Err(Error::Interrupted { checkpoint: Some(path) }) if path.exists() => {
                let resumed = run(&name, true, &mut Silent).unwrap();
                assert!(resumed.network.state() == whole.network.state(), "stopped after {steps} steps");
                assert_eq!((resumed.best_epoch, resumed.found), (whole.best_epoch, whole.found.clone()));
            }
            other => panic!("after {steps} steps: {:?}", other.map(|o| o.history)),
        }
    }
}

#[test]
fn a_sweep_leaves_every_bit_as_it_was() {
    let setup = Setup::new();
    let recipe = Recipe::parse(&tail("batch_size = 8"), "test").unwrap();
    let sweep = |settings| {
        setup.with(&recipe, None, false, |job| {
            lr_find(job, &recipe.phases[0], start(), &mut FeatureCache::default(), settings, &mut Silent)
        })
    };
    let (network, found) = sweep(LrFind::default()).unwrap();
    assert!(network.state() == start().state());
    assert!(found.exploded && found.points.len() > 30, "{} points", found.points.len());
    assert!((found.points[1].lr / found.points[0].lr - 1.202_264).abs() < 1e-5);
    let valley = found.suggestions.valley.unwrap();
    assert!((1e-6..1.0).contains(&valley), "{valley}");
    let (_, again) = sweep(LrFind::default()).unwrap();
    assert_eq!(again.points, found.points);
    assert!(sweep(LrFind { start: 1.0, end: 0.1, ..LrFind::default() }).is_err());
}

#[test]
fn every_recipe_of_the_repository_parses() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        headstart::train::Recipe::open(file.to_str().unwrap()).unwrap();
    }
}
