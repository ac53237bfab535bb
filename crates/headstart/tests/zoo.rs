//! What the zoo says of itself: multiply-adds against published figures, the page docs/zoo.md, the use of every family.

use burn::tensor::{Device, Tensor, TensorData};
use headstart::bundle::{exchange_dialect, state_dict};
use headstart::data::{Dataset, SplitConfig};
use headstart::models::layers::{Map, plainly};
use headstart::models::tap::Tap;
use headstart::models::{Dialect, ModelOptions, Network, frozen, host_values, macs, rows};
use headstart::pretrained::{self, HeadRule};
use headstart::session::photos;
use headstart::synth::write_flowers;
use headstart::train::observer::Silent;
use headstart::train::prefix::CacheLimits;
use headstart::train::{Job, Recipe, fit};
use headstart::weights::{Entry, StateDict};

/// Network, side, published multiply-adds in 10⁹: `_ops` in the metadata of torchvision 0.29's weights.
const PUBLISHED: &[(&str, usize, f64)] = &[
    ("resnet18", 224, 1.814),
    ("resnet50", 224, 4.089),
    ("resnext50_32x4d", 224, 4.23),
    ("wide_resnet50_2", 224, 11.398),
    ("alexnet", 224, 0.714),
    ("vgg11", 224, 7.609),
    ("vgg19_bn", 224, 19.632),
    ("mobilenetv2_100", 224, 0.301),
    ("mobilenet_v3_small", 224, 0.057),
    ("mobilenet_v3_large", 224, 0.217),
    ("efficientnet_b0", 224, 0.386),
    ("efficientnet_b1", 240, 0.687),
    ("efficientnet_v2_s", 384, 8.366),
    ("convnext_tiny", 224, 4.456),
    ("convnext_large", 224, 34.361),
    ("vit_base_patch16_224", 224, 17.564),
    ("vit_large_patch32_224", 224, 15.378),
    ("swinv2_tiny_window8_256", 256, 5.94),
    ("swinv2_base_window8_256", 256, 20.325),
    ("regnety_004", 224, 0.402),
    ("regnety_008_tv", 224, 0.834),
    ("regnety_016", 224, 1.612),
    ("regnety_032", 224, 3.176),
    ("regnety_080_tv", 224, 8.473),
    ("densenet121", 224, 2.834),
    ("densenet161", 224, 7.728),
];

#[test]
fn multiply_adds_are_those_published() {
    let mut wrong = Vec::new();
    for (name, size, published) in PUBLISHED {
        let found = macs(name, *size).unwrap() as f64 / 1e9;
        println!("{name:26} {found:8.3} {published:8.3}");
        if (found / published - 1.0).abs() > 0.02 {
            wrong.push((name, found, published));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_page_of_the_zoo_lists_the_registry() {
    let path = format!("{}/../../docs/zoo.md", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(path).expect("docs/zoo.md");
    let listed: Vec<&str> = page.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next()).collect();
    let names: Vec<&str> = rows().iter().map(|r| r.name).collect();
    assert_eq!(listed, names, "`headstart models --markdown > docs/zoo.md` makes the page");
}

/// One small member of each family.
const FAMILIES: &[&str] = &[
    "headstart_nano",
    "seresnet18",
    "alexnet",
    "vgg11",
    "mobilenetv2_100",
    "mobilenetv3_small_100",
    "efficientnet_b0",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "swinv2_tiny_window8_256",
    "resnet50_clip",
    "regnety_004",
    "densenet121",
    "coatnet_nano_rw_224",
];

#[test]
fn a_fit_of_every_family_leaves_frozen_tensors_alone() {
    let folder = tempfile::tempdir().unwrap();
    write_flowers(&folder.path().join("photos"), 2, 1, 1, 80).unwrap();
    let data = Dataset::open(folder.path().join("photos"), &SplitConfig::default()).unwrap();
    for name in FAMILIES {
        let net = Network::new(name, &ModelOptions::new(5), &Device::flex()).unwrap().init(1);
        let (side, last) = (net.row().min_size, net.default_tap().to_string());
        let pipe = format!("resize_short({side}, bilinear) | center_crop({side}) | normalize(imagenet)");
        let text = format!(
            "train = \"{pipe}\"\neval = \"{pipe}\"\nbatch_size = 4\n[[phase]]\nepochs = 1\n\
             trainable = [\"{last}\", \"head\"]\nbatch_norm = \"train\"\nlr = 1e-3\n"
        );
        let recipe = Recipe::parse(&text, "test").unwrap();
        let part = |samples, name| photos(samples, &pipe, 7, 4, name).unwrap();
        let job = Job {
            recipe: &recipe,
            train: &part(&data.train, "train"),
            val: &part(&data.val, "val"),
            key: "test".into(),
            checkpoint: None,
            resume: false,
            every: None,
            unlabeled: None,
            limits: CacheLimits { memory: 1 << 30, disk: 1 << 30, folder: folder.path().to_path_buf() },
        };
        let before = net.state();
        let trained = fit(&job, net, &mut Silent).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(trained.history.iter().all(|e| e.train_loss.is_finite()), "{name}");
        let (mut frozen, mut moved) = (0, 0);
        for ((key, _, before), (_, _, after)) in before.into_iter().zip(trained.network.state()) {
            let group = &trained.network.groups()[trained.network.group_of(&key)].name;
            if *group == last || group == "head" {
                moved += usize::from(before != after);
            } else {
                frozen += 1;
                let same = before.iter().zip(&after).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{name}: frozen `{key}` moved");
            }
        }
        assert!(frozen > 0 && moved > 2, "{name}: {frozen} frozen, {moved} moved");

        // What a bundle holds is read back, and has the shapes that timm's networks have.
        let (net, dialect) = (&trained.network, exchange_dialect(&trained.network));
        let dict = state_dict(net, dialect, None);
        let fresh = Network::new(name, &ModelOptions::new(5), &Device::flex()).unwrap();
        let (again, _) =
            pretrained::load(fresh, &dict, HeadRule::Keep).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(again.state(), net.state(), "{name}");
        for param in net.params().iter().filter(|_| dialect == Dialect::Own) {
            assert_eq!(dict.get(&param.name).unwrap().shape, param.shape, "{name} {}", param.name);
        }
    }
}

#[test]
fn weights_of_another_network_name_their_own() {
    let device = Device::flex();
    let other = Network::new("resnet34", &ModelOptions::new(1000), &device).unwrap();
    for name in FAMILIES.iter().filter(|name| **name != "vgg11") {
        let mut dict = StateDict::new("other.safetensors");
        for (key, shape, values) in Network::new(name, &ModelOptions::new(7), &device).unwrap().state() {
            dict.insert(key, Entry::from_f32(&shape, &values));
        }
        let found = pretrained::fitting(&dict);
        assert!(found.contains(name), "{name} is not among {found:?}");
        let error = pretrained::load(other.clone(), &dict, HeadRule::Replace).unwrap_err();
        let wanted = format!("--model {}", found[0]);
        assert!(error.hints().iter().any(|hint| hint.contains(&wanted)), "{:?}", error.hints());
    }
}

#[test]
fn pictures_of_one_channel_or_four_go_through_every_family() {
    let device = Device::flex();
    for name in FAMILIES {
        for in_chans in [1, 4] {
            let options = ModelOptions { in_chans, ..ModelOptions::new(3) };
            let net = frozen(&Network::new(name, &options, &device).unwrap().init(1));
            let first =
                net.params().into_iter().find(|p| p.name == format!("{}.weight", net.first_conv())).unwrap();
            assert_eq!(first.shape[1], in_chans, "{name}");
            let side = net.row().min_size;
            let values =
                (0..side * side * in_chans).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect::<Vec<_>>();
            let run = || {
                let x = TensorData::new(values.clone(), [1, side, side, in_chans]);
                host_values(&net.forward(Map::from_nhwc(Tensor::from_data(x, &device)), &mut Tap::off()))
            };
            let (fast, reference) = (run(), plainly(run));
            let largest = reference.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            for (a, b) in fast.iter().zip(&reference) {
                assert!(
                    (a - b).abs() <= 1e-4 * largest,
                    "{name}, {in_chans} channels: {fast:?} {reference:?}"
                );
            }
        }
    }
}
