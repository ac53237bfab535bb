//! First convolutions for pictures of other than three channels.

use burn::tensor::Device;

use crate::error::{Error, Result};
use crate::models::spec::Row;
use crate::models::{ModelOptions, Network, all_dialects};
use crate::weights::{Entry, StateDict};

/// Most channels a picture may have; no photo has more, raw tensors might.
const MOST: usize = 64;

/// Adapts weights to a network for another number of channels and says so. Weights that have that number stay.
///
/// The rule is timm's (`adapt_input_conv`): the sum of the three for one channel, so that a grey picture gives what it gave in
/// colours; for more, red, green, blue, red, … scaled by 3 over their number.
pub(super) fn adapt(weights: &mut StateDict, row: &Row, options: &ModelOptions) -> Result<Option<String>> {
    let channels = options.in_chans;
    if !(1..=MOST).contains(&channels) {
        return Err(Error::BadModel {
            what: format!("pictures of {channels} channels"),
            hint: "`--in-chans 1` is grey, 3 colours, 4 colours with opacity".into(),
        });
    }
    if channels == 3 || weights.is_empty() {
        return Ok(None);
    }
    let network = Network::new(row.name, options, &Device::flex())?;
    let name = format!("{}.weight", network.first_conv());
    let mut names = all_dialects(&network).into_iter().map(|dialect| network.foreign(dialect, &name));
    // Weights without it are another network's, which loading them says.
    let Some((name, entry)) = names.find_map(|n| weights.get(&n).map(|e| (n.clone(), e))) else {
        return Ok(None);
    };
    match entry.shape[..] {
        [_, found, ..] if found == channels => Ok(None),
        [_, 3, _, _] => {
            let adapted = converted(entry, channels);
            weights.insert(&*name, adapted);
            let how = if channels == 1 { "the sum of its three" } else { "its three in turn, scaled" };
            Ok(Some(format!("the first convolution (`{name}`) takes {channels} channels: {how}")))
        }
        _ => Err(Error::BadWeights {
            path: weights.source.clone(),
            reason: format!("`{name}` is {:?}, made for neither 3 nor {channels} channels", entry.shape),
            hint: "choose `--in-chans` as the weights have it".into(),
        }),
    }
}

fn converted(entry: &Entry, channels: usize) -> Entry {
    let [outputs, _, h, w] = entry.shape[..] else { unreachable!("a convolution's shape was matched") };
    let (values, plane) = (entry.to_f32(), h * w);
    let mut adapted = Vec::with_capacity(outputs * channels * plane);
    for filter in values.chunks_exact(3 * plane) {
        if channels == 1 {
            let at = |c: usize, i: usize| filter[c * plane + i];
            adapted.extend((0..plane).map(|i| at(0, i) + at(1, i) + at(2, i)));
        } else {
            let scale = 3.0 / channels as f32;
            let planes = (0..channels).flat_map(|c| &filter[c % 3 * plane..][..plane]);
            adapted.extend(planes.map(|v| v * scale));
        }
    }
    Entry::from_f32(&[outputs, channels, h, w], &adapted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_timm_s() {
        // Two filters of 1×2; expected values of timm 1.0's `adapt_input_conv`.
        let entry = Entry::from_f32(&[2, 3, 1, 2], &[1., 2., 3., 4., 5., 6., -1., 0., 2., 8., 4., 16.]);
        assert_eq!(converted(&entry, 1).to_f32(), [9., 12., 5., 24.]);
        let four = [0.75, 1.5, 2.25, 3., 3.75, 4.5, 0.75, 1.5, -0.75, 0., 1.5, 6., 3., 12., -0.75, 0.];
        assert_eq!(converted(&entry, 4).to_f32(), four);
        assert_eq!(converted(&entry, 4).shape, [2, 4, 1, 2]);
    }

    #[test]
    fn weights_are_adapted_once_and_others_refused() {
        let (row, _) = crate::models::find("resnet18").unwrap();
        let options = |in_chans| ModelOptions { in_chans, ..ModelOptions::new(2) };
        let mut weights = StateDict::new("r18.safetensors");
        weights.insert("conv1.weight", Entry::from_f32(&[1, 3, 1, 1], &[1., 2., 3.]));
        assert_eq!(adapt(&mut weights, row, &options(3)).unwrap(), None);
        let note = adapt(&mut weights, row, &options(1)).unwrap().unwrap();
        assert!(note.contains("`conv1.weight`") && note.contains("sum"), "{note}");
        assert_eq!(weights.get("conv1.weight").unwrap().to_f32(), [6.0]);
        assert_eq!(adapt(&mut weights, row, &options(1)).unwrap(), None);
        let error = adapt(&mut weights, row, &options(4)).unwrap_err().to_string();
        assert!(error.contains("neither 3 nor 4 channels"), "{error}");
        assert!(adapt(&mut weights, row, &options(0)).is_err());
    }
}
