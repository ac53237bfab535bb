//! Where in a picture an output of the network comes from.

use super::gallery::{ClassMap, Gallery};
use crate::error::Result;
use crate::models::layers::Map;
use crate::models::tap::Tap;
use crate::models::{Network, frozen, values};
use crate::train::Photos;

/// Adds class activation maps (Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016) where
/// they are exact: the head is linear in the mean of the last map, which is checked for every picture.
pub fn add_maps(network: &Network, val: &Photos, gallery: &mut Gallery) -> Result<()> {
    if !network.options().head.is_linear() {
        return Ok(());
    }
    let network = frozen(network);
    let classifier = network.classifier();
    let head = network.state_of(&|name| name.starts_with(classifier));
    let part =
        |end: &str| head.iter().find(|(name, ..)| name.ends_with(end)).map(|(_, _, values)| values.clone());
    let (Some(weight), Some(bias)) = (part(".weight"), part(".bias")) else { return Ok(()) };
    let last = network.groups()[network.groups().len() - 2].name.clone();
    for shown in gallery.worst.iter_mut().chain(&mut gallery.best) {
        let batch = val.shuffled(&[shown.picture], 1, 0).next().expect("one picture")?;
        let mut tap = Tap::keep(&[&last]);
        let x = Map::from_nhwc(batch.tensor(&network.device()));
        let logits = values(&network.forward(x, &mut tap));
        let Some(map) = tap.values(&last) else { return Ok(()) };
        let [_, channels, height, width] = map.dims();
        let output = shown.output;
        if weight.len() != bias.len() * channels {
            return Ok(());
        }
        let map =
            class_map(&values(&map), &weight[output * channels..(output + 1) * channels], height, width);
        let score = map.values.iter().sum::<f32>() / map.values.len() as f32 + bias[output];
        if (score - logits[output]).abs() > 1e-3 * (1.0 + logits[output].abs()) {
            return Ok(());
        }
        shown.map = Some(map);
    }
    Ok(())
}

/// Weighs the channels of a map `[c, h, w]`.
fn class_map(map: &[f32], weights: &[f32], height: usize, width: usize) -> ClassMap {
    let mut values = vec![0.0; height * width];
    for (channel, weight) in map.chunks_exact(height * width).zip(weights) {
        values.iter_mut().zip(channel).for_each(|(v, x)| *v += weight * x);
    }
    ClassMap { height, width, values }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::super::gallery::Shown;
    use super::*;
    use crate::image::Pipeline;
    use crate::models::ModelOptions;

    #[test]
    fn maps_add_up_to_the_score_and_show_the_class() {
        let dir = tempfile::tempdir().unwrap();
        crate::synth::write_flowers(dir.path(), 2, 1, 1, 64).unwrap();
        let file = std::fs::read_dir(dir.path().join("train/daisy")).unwrap().next().unwrap().unwrap().path();
        let pipeline: Pipeline =
            "resize_short(64, bilinear) | center_crop(64) | normalize(imagenet)".parse().unwrap();
        let val = Photos::new(vec![(file, 0)], pipeline, 0, 1, "x");
        let network = Network::new("headstart_nano", &ModelOptions::new(2), &Device::flex()).unwrap().init(3);
        for output in 0..2 {
            let mut gallery =
                Gallery { worst: vec![Shown { picture: 0, output, loss: 0.0, map: None }], best: vec![] };
            add_maps(&network, &val, &mut gallery).unwrap();
            let map = gallery.worst[0].map.as_ref().expect("a linear head after the mean has maps");
            assert_eq!((map.height, map.width), (2, 2));
        }
    }
}
