//! Named intermediate results: what hooks are elsewhere.
//!
//! A forward pass offers each interesting map by name; a [`Tap`] that wants it keeps it, as values
//! or, with [`Tap::grads`], as a zero leaf added at that point, whose gradient after `backward()` is
//! that of the score with respect to the map. The latter works on wholly frozen networks too.

use std::time::{Duration, Instant};

use burn::Tensor;

use super::layers::{Map, Tokens};

/// Collects the intermediates whose names were asked for.
#[derive(Debug, Default)]
pub struct Tap {
    wanted: Vec<String>,
    with_grads: bool,
    kept: Vec<(String, Seen)>,
    clock: Option<Clock>,
}

/// How long it took from each point to the next.
#[derive(Debug)]
struct Clock {
    last: Instant,
    laps: Vec<(String, Duration)>,
}

/// One kept intermediate.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The values at that point.
    pub map: Map,
    /// The leaf whose gradient is that of the map; only with [`Tap::grads`].
    pub leaf: Option<Map>,
}

impl Tap {
    /// Wants nothing; costs two checks a point.
    pub fn off() -> Self {
        Self::default()
    }

    /// Tells whether it wants nothing.
    pub(super) fn is_off(&self) -> bool {
        self.wanted.is_empty() && self.clock.is_none()
    }

    /// Keeps the values of the named points.
    pub fn keep<S: AsRef<str>>(names: &[S]) -> Self {
        Self { wanted: names.iter().map(|n| n.as_ref().to_string()).collect(), ..Self::default() }
    }

    /// Keeps values and makes gradients available; the input must be on an autodiff device.
    pub fn grads<S: AsRef<str>>(names: &[S]) -> Self {
        Self { with_grads: true, ..Self::keep(names) }
    }

    /// Takes the time between points; exact on the CPU, where operations run at once.
    pub fn clock() -> Self {
        Self { clock: Some(Clock { last: Instant::now(), laps: Vec::new() }), ..Self::default() }
    }

    /// Returns how long it took to reach each point from the one before, and from the last one until now.
    pub fn laps(self) -> Vec<(String, Duration)> {
        let Some(Clock { last, mut laps }) = self.clock else { return Vec::new() };
        laps.push(("rest".into(), last.elapsed()));
        laps
    }

    /// Offers `x` under `name` and returns what the forward pass goes on with.
    pub fn at(&mut self, name: &str, x: Map) -> Map {
        if let Some(clock) = &mut self.clock {
            clock.laps.push((name.to_string(), clock.last.elapsed()));
            clock.last = Instant::now();
        }
        if self.wanted.is_empty() || !self.wanted.iter().any(|w| w == name) {
            return x;
        }
        let (x, leaf) = if self.with_grads {
            let leaf = x.zero_leaf();
            (x.plus(leaf.clone()), Some(leaf))
        } else {
            (x, None)
        };
        self.kept.push((name.to_string(), Seen { map: x.clone(), leaf }));
        x
    }

    /// Offers the cells of `x` as a map, as [`Tap::at`] does.
    pub fn tokens(&mut self, name: &str, x: Tokens) -> Tokens {
        if !self.wanted.iter().any(|w| w == name) {
            return x;
        }
        let seen = self.at(name, x.clone().into_map());
        if self.with_grads { x.with_map(seen) } else { x }
    }

    /// Returns the kept intermediate of that name.
    pub fn get(&self, name: &str) -> Option<&Seen> {
        self.kept.iter().find(|(n, _)| n == name).map(|(_, seen)| seen)
    }

    /// Returns the values of the kept intermediate as `[N, C, H, W]`.
    pub fn values(&self, name: &str) -> Option<Tensor<4>> {
        self.get(name).map(|seen| seen.map.clone().into_nchw())
    }

    /// Returns the wanted names that never came by.
    pub fn missed(&self) -> Vec<&str> {
        self.wanted.iter().filter(|w| self.get(w).is_none()).map(String::as_str).collect()
    }
}
