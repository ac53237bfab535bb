//! `headstart forward`: raw tensors in and out.

use std::process::ExitCode;

use burn::Tensor;
use burn::tensor::TensorData;
use headstart::device::describe;
use headstart::error::{Error, Result};
use headstart::models::layers::Map;
use headstart::models::tap::Tap;
use headstart::models::{frozen, host_values};
use headstart::npy;
use headstart::sources::{Backbone, Wanted};
use serde_json::json;

use super::Output;
use crate::args::Forward;
use crate::render::progress::Bars;

pub fn forward(a: &Forward, io: Output) -> Result<ExitCode> {
    let backbone = Backbone::open(&Wanted::from(&a.model), &mut Bars::new(io.quiet))?;
    let device = a.device.open(io)?;
    let (network, _) = backbone.on(&device).whole()?;
    let network = frozen(&network);
    let (shape, values) = npy::read(&a.input)?;
    let channels = network.options().in_chans;
    let [n, c, h, w] = shape[..] else {
        return Err(misshapen(a, &shape, channels));
    };
    if c != channels {
        return Err(misshapen(a, &shape, channels));
    }
    network.check_size(h, w)?;
    let x = Tensor::<4>::from_data(TensorData::new(values, [n, c, h, w]), &device);
    let mut tap = Tap::keep(&a.tap);
    let logits = network.forward(Map::from_nhwc(x.permute([0, 2, 3, 1])), &mut tap);
    if let Some(missed) = tap.missed().first() {
        return Err(Error::BadModel {
            what: format!("{} has no intermediate called `{missed}`", network.row().name),
            hint: "taps are named like groups and blocks: `layer4`, `layer4.1`".into(),
        });
    }
    npy::write(&a.output, &logits.dims(), &host_values(&logits))?;
    for name in &a.tap {
        let values = tap.values(name).expect("none was missed");
        npy::write(&a.output.with_extension(format!("{name}.npy")), &values.dims(), &host_values(&values))?;
    }
    io.show(
        || json!({"shape": logits.dims(), "output": a.output, "device": describe(&device)}),
        || {
            println!("{:?} in `{}`", logits.dims(), a.output.display());
        },
    );
    Ok(ExitCode::SUCCESS)
}

fn misshapen(a: &Forward, shape: &[usize], channels: usize) -> Error {
    Error::BadData {
        place: a.input.display().to_string(),
        what: format!("a tensor of shape {shape:?}"),
        hint: format!("the input must be float32 of shape [N, {channels}, H, W]"),
    }
}
