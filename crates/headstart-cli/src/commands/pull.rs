//! `headstart pull` and `headstart cache`.

use std::process::ExitCode;

use headstart::error::Result;
use headstart::sources;
use headstart::weights::{Cache, Env, Kind};
use serde_json::json;

use super::Output;
use crate::args::{CacheArgs, Pull};
use crate::render::progress::Bars;
use crate::render::table;

pub fn pull(a: &Pull, io: Output) -> Result<ExitCode> {
    let path = sources::pull(&a.name, &mut Bars::new(io.quiet))?;
    io.show(|| json!({"name": a.name, "path": path}), || println!("{}", path.display()));
    Ok(ExitCode::SUCCESS)
}

pub fn cache(a: &CacheArgs, io: Output) -> Result<ExitCode> {
    let cache = Cache::new(Env::from_process());
    if let Some(name) = &a.remove {
        let freed = cache.remove(name)?;
        io.show(|| json!({"removed": name, "bytes": freed}), || println!("removed `{name}`, {freed} bytes"));
        return Ok(ExitCode::SUCCESS);
    }
    let list = cache.list()?;
    let kind = |k: Kind| if k == Kind::Hub { "hub" } else { "torchvision" };
    let document = || {
        let entries = list
            .iter()
            .map(|c| json!({"name": c.name, "kind": kind(c.kind), "bytes": c.bytes, "path": c.path}));
        json!({ "cached": entries.collect::<Vec<_>>() })
    };
    io.show(document, || {
        if list.is_empty() {
            println!(
                "nothing is cached in `{}` or `{}`",
                cache.env().torch_cache.display(),
                cache.env().hub_cache.display()
            );
            return;
        }
        let rows: Vec<Vec<String>> = (list.iter())
            .map(|c| {
                vec![
                    c.name.clone(),
                    kind(c.kind).into(),
                    table::count(c.bytes as usize),
                    c.path.display().to_string(),
                ]
            })
            .collect();
        table::print(&["name", "kind", "bytes", "path"], &[false, false, true, false], &rows);
    });
    Ok(ExitCode::SUCCESS)
}
