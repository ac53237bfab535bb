//! Tests of the text form: every pipeline survives printing and reading; slips are pointed at.

use proptest::prelude::*;

use super::augment::Jitter;
use super::resize::Interp;
use super::transform::{Op, Pipeline};
use crate::error::Error;

fn any_interp() -> impl Strategy<Value = Interp> {
    prop::sample::select(Interp::NAMES.map(|(_, interp)| interp).to_vec())
}

fn any_range(most: f32) -> impl Strategy<Value = [f32; 2]> {
    (0.001..most, 0.001..most).prop_map(|(a, b)| [a.min(b), a.max(b)])
}

fn any_pixel_op() -> impl Strategy<Value = Op> {
    let side = 1u32..2000;
    let p = 0.0f32..=1.0;
    prop_oneof![
        (side.clone(), any_interp(), any::<bool>()).prop_map(|(size, interp, rounds)| Op::ResizeShort {
            size,
            interp,
            rounds
        }),
        (side.clone(), any_interp()).prop_map(|(size, interp)| Op::ResizeLong { size, interp }),
        (side.clone(), side.clone(), any_interp()).prop_map(|(height, width, interp)| Op::Resize {
            height,
            width,
            interp
        }),
        (side.clone(), any::<[u8; 3]>(), any::<bool>()).prop_map(|(size, fill, floors)| Op::CenterCrop {
            size,
            fill,
            floors
        }),
        (side.clone(), any::<[u8; 3]>()).prop_map(|(border, fill)| Op::Pad { border, fill }),
        (side.clone(), any_range(1.0), any_range(9.0), any_interp())
            .prop_map(|(size, scale, ratio, interp)| Op::RandomResizedCrop { size, scale, ratio, interp }),
        side.prop_map(|size| Op::RandomCrop { size }),
        p.clone().prop_map(|p| Op::FlipLr { p }),
        p.clone().prop_map(|p| Op::FlipUd { p }),
        (0.0f32..360.0, any_interp()).prop_map(|(degrees, interp)| Op::Rotate { degrees, interp }),
        (p.clone(), p.clone(), p, 0.0f32..=0.5).prop_map(|(brightness, contrast, saturation, hue)| {
            Op::ColorJitter(Jitter { brightness, contrast, saturation, hue })
        }),
        (0u32..5, 0u32..=30).prop_map(|(n, m)| Op::RandAugment { n, m }),
        Just(Op::TrivialAugment),
    ]
}

fn any_pipeline() -> impl Strategy<Value = Pipeline> {
    let statistics = (prop::array::uniform3(-1.0f32..1.0), prop::array::uniform3(0.001f32..2.0));
    (
        prop::collection::vec(any_pixel_op(), 1..6),
        prop::option::of(statistics),
        prop::option::of(0.0f32..=1.0),
    )
        .prop_map(|(mut ops, statistics, erasing)| {
            if let Some((mean, std)) = statistics {
                ops.push(Op::Normalize { mean, std });
                ops.extend(erasing.map(|p| Op::Erasing { p }));
            }
            Pipeline::new(ops).expect("built in the allowed order")
        })
}

proptest! {
    #[test]
    fn printing_and_reading_gives_the_same_pipeline(pipeline in any_pipeline()) {
        let text = pipeline.to_string();
        prop_assert_eq!(&text.parse::<Pipeline>().unwrap(), &pipeline, "{}", text);
        let json = serde_json::to_string(&pipeline).unwrap();
        prop_assert_eq!(serde_json::from_str::<Pipeline>(&json).unwrap(), pipeline);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z_ (),;|=.#0-9é-]{0,60}") {
        let _ = text.parse::<Pipeline>();
    }
}

#[test]
fn arguments_may_be_named_and_defaults_left_out() {
    let same = |a: &str, b: &str| assert_eq!(a.parse::<Pipeline>().unwrap(), b.parse::<Pipeline>().unwrap());
    same("resize_short(256)", " resize_short( interp=bilinear , size=256 ) ");
    same(
        "random_resized_crop(224, bicubic)",
        "random_resized_crop(224, scale=0.08..1, ratio=.75..1.3333334, bicubic)",
    );
    same("flip_lr | rand_augment", "flip_lr(0.5) | rand_augment(2, 9)");
    same("normalize(0.5; 0.5)", "normalize(inception)");
}

#[test]
fn slips_are_pointed_at() {
    let slip = |text: &str| match text.parse::<Pipeline>() {
        Err(Error::BadRecipe { place, what, hint }) => format!("{place}: {what}; {hint}"),
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(
        slip("resize_short(256) | centre_crop(224)"),
        "transform, column 21: no operation is called `centre_crop`; did you mean `center_crop`?"
    );
    assert_eq!(
        slip("resize_short(256, bicubik)"),
        "transform, column 19: no filter is called `bicubik`; did you mean `bicubic`?"
    );
    assert_eq!(slip("flip_lr(2)"), "transform, column 9: `p` cannot be `2`; give a number from 0 to 1");
    assert_eq!(
        slip("flip_lr(0.5, 3)"),
        "transform, column 14: `flip_lr` takes no further argument `3`; leave it out"
    );
    assert!(slip("center_crop()").contains("`size` is missing"));
    assert!(slip("center_crop(224").contains("no closing"));
    assert!(slip("a||b").contains("column 1"));
    assert!(slip("normalize(0.5,0.5; 1)").contains("not three numbers"));
    assert!(slip("random_resized_crop(10, scale=1..0.5)").contains("`scale` cannot be"));
    assert!(slip("").contains("missing"));
}
