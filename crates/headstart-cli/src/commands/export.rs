//! `headstart export`: a bundle for other tools.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use headstart::bundle::{Bundle, exchange_dialect, state_dict};
use headstart::error::{Error, Result};
use headstart::models::Dialect;
use headstart::weights::{self, safetensors};
use serde_json::json;

use super::Output;
use crate::args::Export;

pub fn export(a: &Export, io: Output) -> Result<ExitCode> {
    let bundle = Bundle::open(&a.bundle)?;
    let same = |p: &Path| p.canonicalize().ok();
    if same(&a.out).is_some_and(|out| same(&bundle.path) == Some(out)) {
        return Err(Error::BadData {
            place: "--out".into(),
            what: format!("the bundle itself, `{}`,", bundle.path.display()),
            hint: "name another folder".into(),
        });
    }
    let network = &bundle.in_units();
    if !network.options().head.is_linear() {
        return Err(Error::BadModel {
            what: format!("the head `{}` has no counterpart in {}", network.options().head, a.names),
            hint: "train with `--head linear` for other tools, or use the bundle with Headstart".into(),
        });
    }
    let dialect = match a.names.as_str() {
        "torchvision" if network.dialects().contains(&Dialect::Torchvision) => Dialect::Torchvision,
        "torchvision" => Dialect::Own,
        _ => exchange_dialect(network),
    };
    // Tensors keep the bytes they have in the bundle, half precision included.
    let source = weights::read(&bundle.path.join("model.safetensors"))?;
    let dict = state_dict(network, dialect, Some(&source));
    fs::create_dir_all(&a.out).map_err(Error::write(&a.out))?;
    safetensors::write(&a.out.join("model.safetensors"), &dict)?;
    for name in ["config.json", "labels.txt"] {
        let (from, to) = (bundle.path.join(name), a.out.join(name));
        let text = fs::read(&from).map_err(Error::read(&from))?;
        weights::write_atomically(&to, |out| out.write_all(&text))?;
    }
    let files = ["model.safetensors", "config.json", "labels.txt"];
    io.show(
        || json!({"out": a.out, "files": files, "tensors": dict.len()}),
        || {
            println!("{} tensors in `{}`", dict.len(), a.out.display());
            if a.names == "timm" {
                println!("load with timm.create_model(\"local-dir:{}\", pretrained=True)", a.out.display());
            }
        },
    );
    Ok(ExitCode::SUCCESS)
}
