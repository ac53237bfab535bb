//! Weights meet network: which tensors fit, under which dialect's names, and what is left over.

use std::collections::{BTreeSet, HashSet};

use crate::error::{Error, Result};
use crate::models::spec::Row;
use crate::models::{Dialect, Network, is_buffer, rows};
use crate::weights::{LoadReport, Misshapen, StateDict, looks_like};

/// What may stay unfilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadRule {
    /// The head must be filled too.
    Keep,
    /// The head is new: the file's classifier is left out, whatever its shape.
    Replace,
}

/// Fills `network` from `dict`; anything missing, left over or misshapen, the replaced head apart, is
/// an error that says what the weights look like.
pub fn load(network: Network, dict: &StateDict, head: HeadRule) -> Result<(Network, LoadReport)> {
    let dialect = best_dialect(&network, dict);
    let params = network.params();
    let classifier = network.groups().last().expect("a head").clone();
    let mut report = LoadReport { notes: dict.notes.clone(), ..LoadReport::default() };
    let mut used = HashSet::new();
    for param in &params {
        let foreign = network.foreign(dialect, &param.name);
        let replaced = head == HeadRule::Replace && classifier.owns(&param.name);
        match dict.get(&foreign) {
            _ if replaced => {}
            None => report.missing.push(foreign),
            Some(entry) => {
                used.insert(foreign.clone());
                // A 1×1 or full-size convolution and a linear layer hold the same numbers in the same order. Under own names
                // ones at the end may come and go: bundles of ConvNeXt and MobileNetV3 were once written so.
                let fits = whole_axes(&entry.shape) == whole_axes(&param.shape)
                    || (dialect != Dialect::Own && entry.numel() == param.shape.iter().product::<usize>());
                if fits {
                    report.applied.push(param.name.clone());
                } else {
                    let (found, wanted) = (entry.shape.clone(), param.shape.clone());
                    report.misshapen.push(Misshapen { name: foreign, found, wanted });
                }
            }
        }
    }
    let old_head = network.foreign(dialect, network.classifier());
    let mut left_out = Vec::new();
    for name in dict.names() {
        let of_head = name.strip_prefix(&old_head).is_some_and(|rest| rest.starts_with('.'));
        if name.ends_with("num_batches_tracked") || used.contains(name) {
            continue;
        }
        if head == HeadRule::Replace && of_head {
            left_out.push(name.to_string());
        } else {
            report.unused.push(name.to_string());
        }
    }
    if !report.is_complete() {
        return Err(mismatch(&network, dict, &report));
    }
    if let Some(old) = left_out.iter().find_map(|n| dict.get(n).filter(|e| e.shape.len() == 2)) {
        report.notes.push(format!(
            "the classifier for {} classes (`{old_head}`) is replaced by a new head for {}",
            old.shape[0],
            network.options().num_classes
        ));
    }
    let names = network.clone();
    let applied: HashSet<&str> = report.applied.iter().map(String::as_str).collect();
    let network = network.assign(&mut |name, _| {
        applied
            .contains(name)
            .then(|| dict.get(&names.foreign(dialect, name)).expect("checked above").to_f32())
    });
    Ok((network, report))
}

/// The shape without axes of one at its end.
fn whole_axes(shape: &[usize]) -> &[usize] {
    let kept = shape.iter().rposition(|n| *n != 1).map_or(0, |last| last + 1);
    &shape[..kept]
}

/// Finds whose names the file uses: the dialect with the most hits.
fn best_dialect(network: &Network, dict: &StateDict) -> Dialect {
    let params = network.params();
    let hits = |dialect: Dialect| {
        params.iter().filter(|p| dict.contains(&network.foreign(dialect, &p.name))).count()
    };
    let mut best = (hits(Dialect::Own), Dialect::Own);
    for dialect in network.dialects() {
        let found = hits(*dialect);
        if found > best.0 {
            best = (found, *dialect);
        }
    }
    best.1
}

/// Names the networks with exactly as many parameters as the weights, whatever the number of classes.
pub fn fitting(dict: &StateDict) -> Vec<&'static str> {
    let learned = |name: &str| !is_buffer(name) && !name.ends_with("relative_coords_table");
    let kept = || dict.iter().filter(|(name, entry)| entry.dtype.is_float() && learned(name));
    let total: usize = kept().map(|(_, entry)| entry.numel()).sum();
    // A classifier is a matrix, or a convolution of one by one; which one does not matter.
    let matrices: BTreeSet<(usize, usize)> = kept()
        .filter(|(_, e)| e.shape.len() >= 2 && e.numel() == e.shape[0] * e.shape[1])
        .map(|(_, e)| (e.shape[1], e.shape[0]))
        .collect();
    let fits = |row: &Row| {
        let classes = matrices.range((row.num_features, 0)..=(row.num_features, usize::MAX)).map(|m| m.1);
        classes
            .into_iter()
            .any(|n| total + 1000 * (row.num_features + 1) == row.params + n * (row.num_features + 1))
    };
    rows().into_iter().filter(|row| fits(row)).map(|row| row.name).collect()
}

fn mismatch(network: &Network, dict: &StateDict, report: &LoadReport) -> Error {
    let model = network.row().name;
    let hint = match (looks_like(dict), &fitting(dict)[..]) {
        (family, [first, ..]) if *first != model => {
            let family = family.map_or(String::new(), |f| format!(" look like {f} and"));
            format!("these weights{family} have as many parameters as {first}: `--model {first}`")
        }
        // "ResNet-D (timm names)" starts with the family's name; rows are spelled in small letters.
        (Some(family), _) if !family.to_lowercase().split(' ').next().is_some_and(|f| model.contains(f)) => {
            format!("these weights look like {family}; choose the network with `--model`")
        }
        _ => format!("`headstart describe {model}` lists the names and shapes it expects"),
    };
    Error::WeightsMismatch {
        path: dict.source.clone(),
        model: model.into(),
        summary: report.sentence(),
        hint,
    }
}
