//! Whether a training step fits into memory, measured before the first one.
//!
//! A failed allocation ends a Rust program, and a system out of memory kills it without a word, so the question has to be
//! asked beforehand. The tail of the network runs forward on two batches of few pictures; the difference in allocated bytes is what
//! a picture keeps alive until the backward pass. The sum is a lower bound (the backward pass adds to it): what exceeds
//! all memory surely does not fit and is refused, what exceeds the memory free now is told.

use burn::module::Module;
use burn::tensor::Device;
use std::collections::BTreeSet;

use super::groups::{apply, resolve};
use super::loss::targets;
use super::photos::Batch;
use super::prefix;
use super::step::Lesson;
use super::{Photos, Recipe};
use crate::error::{Error, Result};
use crate::machine::Memory;
use crate::models::layers::is_cpu;
use crate::models::{Network, frozen};

/// What a step needs at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Bytes that do not depend on the batch: weights, their gradients and copies, the optimizer's memory.
    pub fixed: u64,
    /// Bytes a picture of the batch.
    pub picture: u64,
}

impl Need {
    /// Returns the bytes of a step on `pictures`.
    pub fn of(&self, pictures: usize) -> u64 {
        self.fixed + self.picture * pictures as u64
    }
}

/// Sizes of the two batches that are compared. BatchNorm in training wants at least two.
const FEW: [usize; 2] = [2, 4];

/// Measures what the largest phase needs; `None` where the allocator does not tell or every phase trains the head alone.
pub fn measure(recipe: &Recipe, network: &Network, train: &Photos) -> Result<Option<Need>> {
    // What the allocator tells is about the CPU's memory.
    if !is_cpu(&network.device()) {
        return Ok(None);
    }
    let head = network.groups().len() - 1;
    let mut firsts = BTreeSet::new();
    for phase in &recipe.phases {
        firsts.insert(phase.set(network)?.first_group);
    }
    // What comes later in the network is part of what comes earlier.
    let Some(first) = firsts.into_iter().next().filter(|f| *f < head) else { return Ok(None) };
    if train.len() < FEW[1] || crate::allocated_bytes().is_none() {
        return Ok(None);
    }
    let names: Vec<String> = network.groups()[first..].iter().map(|g| g.name.clone()).collect();
    let set = resolve(&names, super::groups::BatchNormPolicy::Train, network)?;
    let (device, plain) = (Device::flex().autodiff(), Device::flex());
    // Not the caller's: a forward pass must not move its running statistics.
    let tail = apply(&set, Network::new(network.row().name, network.options(), &plain)?.train());
    let base = frozen(network);
    let picks: Vec<usize> = (0..FEW[1]).collect();
    let batch = train.shuffled(&picks, FEW[1], 0).next().expect("one batch")?;
    let half = super::half::applies(recipe, network, first);
    let kept = |n: usize| {
        let x = batch.x[..batch.x.len() / batch.n * n].to_vec();
        let input = prefix::run(&base, first, Batch { x, n, ..batch }, &plain).to_device(&device);
        let before = crate::allocated_bytes().unwrap_or(0);
        let goal = targets(&vec![0; n], network.options().num_classes, 0.0);
        let loss = Lesson { first, input, half, goal, weights: None, focal: None }.loss(&tail);
        let after = crate::allocated_bytes().unwrap_or(0);
        drop(loss);
        after.saturating_sub(before)
    };
    // The first run packs weights and fills buffers that stay.
    kept(FEW[0]);
    let (few, more) = (kept(FEW[0]), kept(FEW[1]));
    let picture = more.saturating_sub(few) / (FEW[1] - FEW[0]) as u64 + (batch.x.len() / batch.n * 4) as u64;
    let bytes = |trained: bool| {
        let all = network.params().into_iter().filter(|p| !trained || set.params.contains(&p.name));
        all.map(|p| 4 * p.shape.iter().product::<usize>() as u64).sum::<u64>()
    };
    // Live, best and checkpointed weights; gradients and two moments of what trains.
    Ok(Some(Need { fixed: 3 * bytes(false) + 3 * bytes(true), picture }))
}

/// Refuses a batch that surely does not fit; says so if it may not.
pub fn judge(need: Need, batch: usize, memory: Memory) -> Result<Option<String>> {
    let wanted = need.of(batch);
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1_u64 << 30) as f64);
    let fits = (memory.total.saturating_sub(need.fixed) / 2 / need.picture.max(1)) as usize;
    let what = format!("a step on {batch} pictures needs at least {}", gib(wanted));
    if wanted > memory.total {
        return Err(Error::BadRecipe {
            place: "batch_size".into(),
            what: format!("{what}, this process may use {}", gib(memory.total)),
            hint: match fits {
                0 | 1 => "choose a smaller network or smaller pictures with `--size`".into(),
                fits => format!(
                    "try `--batch-size {fits}`; `accumulate` in the recipe makes one step of several batches"
                ),
            },
        });
    }
    Ok((wanted > memory.free).then(|| format!("{what}, {} are free now: it may not fit", gib(memory.free))))
}

/// Measures and judges a recipe on this machine.
pub fn check(recipe: &Recipe, network: &Network, train: &Photos) -> Result<Option<String>> {
    let Some(memory) = Memory::now() else { return Ok(None) };
    match measure(recipe, network, train)? {
        Some(need) => judge(need, recipe.batch_size.min(train.len()), memory),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_surely_does_not_fit_is_refused() {
        let need = Need { fixed: 1 << 30, picture: 100 << 20 };
        let memory = Memory { total: 8 << 30, free: 2 << 30 };
        assert_eq!(judge(need, 4, memory).unwrap(), None);
        assert!(judge(need, 32, memory).unwrap().unwrap().contains("4.1 GiB, 2.0 GiB are free now"));
        let error = judge(need, 128, memory).unwrap_err();
        assert!(
            error.to_string().contains("needs at least 13.5 GiB, this process may use 8.0 GiB"),
            "{error}"
        );
        assert!(error.hints()[0].contains("--batch-size 35"), "{:?}", error.hints());
    }
}
