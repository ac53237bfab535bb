//! A network: backbone, head, and the names and groups everything else speaks in.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use burn::Tensor;
use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, TensorData};

use super::head::Head;
use super::layers::{DropPath, Linears, Map, is_cpu};
use super::spec::{Group, Row};
use super::tap::Tap;
use super::{Backbone, Dialect, Flow, ModelOptions, find, init, parts};
use crate::error::{Error, Result};

/// A backbone with its head.
///
/// Clones share their BatchNorm layers' running statistics, as Burn's `RunningState` does; [`frozen`]
/// gives a copy that nothing else moves.
#[derive(Module, Debug)]
pub struct Network {
    backbone: Backbone,
    head: Head,
    #[module(skip)]
    info: Arc<Info>,
}

#[derive(Debug)]
struct Info {
    row: &'static Row,
    options: ModelOptions,
    groups: Vec<Group>,
}

/// One tensor of a network: a parameter, or a buffer such as a running mean.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamInfo {
    /// Name in the checkpoint.
    pub name: String,
    /// Shape, in PyTorch's order.
    pub shape: Vec<usize>,
    /// Whether training changes it now.
    pub trainable: bool,
    /// Whether it is a buffer, which no gradient reaches.
    pub buffer: bool,
}

impl Network {
    /// Builds the network called `name` (a tag is ignored) with all parameters zero.
    pub fn new(name: &str, options: &ModelOptions, device: &Device) -> Result<Self> {
        let (row, _) = find(name)?;
        let (backbone, row) = Backbone::build(row.name, options, device).expect("every row builds");
        let head = Head::new(&options.head, row.num_features, options.num_classes, device);
        let mut groups = backbone.groups();
        groups.push(Group::new("head", &[backbone.classifier()]));
        let info = Arc::new(Info { row, options: options.clone(), groups });
        Ok(Self { backbone, head, info })
    }

    /// Draws every parameter anew from `seed`.
    pub fn init(self, seed: u64) -> Self {
        self.init_where(seed, &|_| true)
    }

    /// Draws the tensors `wanted` names, with the values [`Network::init`] gives them, and keeps the others.
    pub fn init_where(self, seed: u64, wanted: &dyn Fn(&str) -> bool) -> Self {
        let fan_in: BTreeMap<String, usize> = self
            .params()
            .iter()
            .filter(|p| p.shape.len() == 2)
            .map(|p| (p.name.trim_end_matches("weight").to_string(), p.shape[1]))
            .collect();
        let grey = (self.options().in_chans == 1).then(|| format!("{}.weight", self.first_conv()));
        self.assign(&mut |name, shape| {
            let inputs = fan_in.get(name.trim_end_matches("bias")).copied();
            wanted(name).then(|| init::draw(name, shape, inputs, grey.as_deref() == Some(name), seed))
        })
    }

    /// Returns the registry row.
    pub fn row(&self) -> &'static Row {
        self.info.row
    }

    /// Returns what it was built with.
    pub fn options(&self) -> &ModelOptions {
        &self.info.options
    }

    /// Lists the groups from stem to head; the head is always the last.
    pub fn groups(&self) -> &[Group] {
        &self.info.groups
    }

    /// Returns the index of the group that owns a checkpoint name.
    pub fn group_of(&self, key: &str) -> usize {
        let found = self.info.groups.iter().position(|g| g.owns(key));
        found.unwrap_or_else(|| panic!("no group of {} owns `{key}`", self.info.row.name))
    }

    /// Returns the checkpoint's name for the classifier.
    pub fn classifier(&self) -> &'static str {
        self.backbone.classifier()
    }

    /// Tells whether something in it belongs to one picture size and is resampled for others.
    pub fn fixed_size(&self) -> bool {
        self.backbone.fixed_size()
    }

    /// Returns the checkpoint's name for the first convolution, the one that sees the picture.
    pub fn first_conv(&self) -> String {
        let first = self.params().into_iter().find(|p| p.shape.len() == 4 && self.group_of(&p.name) == 0);
        layer_of(&first.expect("every network starts with a convolution").name).to_string()
    }

    /// Returns the tap of the last feature map, the usual one to look at.
    pub fn default_tap(&self) -> &str {
        let mut names = self.info.groups.iter().rev().map(|g| g.name.as_str());
        names.find(|n| !["head", "pre_logits"].contains(n)).expect("a group with maps")
    }

    /// Says which sizes work when `height × width` does not.
    pub fn check_size(&self, height: usize, width: usize) -> Result<()> {
        let min = self.info.row.min_size;
        if height >= min && width >= min {
            return Ok(());
        }
        Err(Error::BadModel {
            what: format!("{} cannot take pictures of {height}×{width}", self.info.row.name),
            hint: format!("it takes any size from {min}×{min} up; choose one with `--size`"),
        })
    }

    /// Returns the device its tensors are on, without autodiff.
    pub fn device(&self) -> Device {
        let found = self.devices().into_iter().next();
        found.expect("a network has tensors").without_autodiff()
    }

    /// Moves it to another device. Clones share running statistics, which move along.
    pub fn on(self, device: &Device) -> Self {
        if self.device() == *device { self } else { self.fork(device) }
    }

    /// Tells whether the groups from `first` on can be trained in bf16. On the CPU those are convolutions, BatchNorm and
    /// pooling, while linear layers and the head are trained in f32; elsewhere only the head is.
    pub fn trains_half(&self, first: usize) -> bool {
        if !is_cpu(&self.device()) {
            return first + 1 < self.groups().len();
        }
        self.backbone.trains_half()
            && self.params().iter().any(|p| p.shape.len() == 4 && self.group_of(&p.name) >= first)
    }

    /// Turns pictures into logits `[N, classes]`.
    pub fn forward(&self, x: Map, tap: &mut Tap) -> Tensor<2> {
        self.run(0..self.groups().len(), Flow::Map(x), tap).flat()
    }

    /// Turns pictures into embeddings `[N, num_features]`: everything before the head.
    pub fn embed(&self, x: Map, tap: &mut Tap) -> Tensor<2> {
        self.run(0..self.groups().len() - 1, Flow::Map(x), tap).flat()
    }

    /// Runs a range of groups; what a frozen prefix computed once, the rest goes on from.
    pub fn run(&self, range: Range<usize>, x: Flow, tap: &mut Tap) -> Flow {
        let (first, x) = if tap.is_off() { parts::run(self, &range, x) } else { (range.start, x) };
        (first..range.end).fold(x, |x, index| self.run_group(index, x, tap))
    }

    /// Runs one group.
    pub(super) fn run_group(&self, index: usize, x: Flow, tap: &mut Tap) -> Flow {
        if index == self.groups().len() - 1 {
            Flow::Flat(self.head.forward(x.flat()))
        } else {
            self.backbone.run_group(index, x, tap)
        }
    }

    /// Turns a module path into the checkpoint's name.
    pub(crate) fn key(&self, path: &[String]) -> String {
        match path[0].as_str() {
            // `backbone.ResNet.conv1.weight`: the second part is the enum's variant.
            "backbone" => self.backbone.key(&path[2..].join(".")),
            _ => self.head.key(&path[1..].join("."), self.classifier()),
        }
    }

    /// Lists the backbone's linear layers by checkpoint name.
    pub(super) fn linears(&mut self) -> Linears<'_> {
        let names = self.backbone.clone();
        // Only whole tensors have names.
        let name = |path: &str| names.key(&format!("{path}.weight")).trim_end_matches(".weight").to_string();
        self.backbone.linears().into_iter().map(|(path, layer)| (name(&path), layer)).collect()
    }

    /// Sets stochastic depth: in training the last block's branches are left out for a share `rate` of the pictures,
    /// earlier ones' less often, the first one's never, in even steps. `None` if the network has no such branches.
    pub fn with_drop_path(mut self, rate: f64) -> Option<Self> {
        let mut blocks = self.backbone.drop_paths();
        let last = blocks.len().checked_sub(1)?.max(1);
        for (i, block) in blocks.iter_mut().enumerate() {
            **block = DropPath::new(rate * i as f64 / last as f64);
        }
        Some(self)
    }

    /// Lists the foreign dialects this network's checkpoints come in.
    pub fn dialects(&self) -> &'static [Dialect] {
        self.backbone.dialects()
    }

    /// Turns a checkpoint name into a foreign dialect's.
    pub fn foreign(&self, dialect: Dialect, key: &str) -> String {
        if dialect == Dialect::Own { key.to_string() } else { self.backbone.foreign(dialect, key) }
    }

    /// Returns the shape a foreign dialect gives a tensor.
    pub fn foreign_shape(&self, dialect: Dialect, key: &str, shape: &[usize]) -> Vec<usize> {
        if dialect == Dialect::Own {
            shape.to_vec()
        } else {
            self.backbone.foreign_shape(dialect, key, shape)
        }
    }

    /// Lists every tensor in execution order.
    pub fn params(&self) -> Vec<ParamInfo> {
        let mut list = Vec::new();
        self.each(&mut |name, shape, trainable, _| {
            let buffer = is_buffer(&name);
            list.push(ParamInfo { name, shape, trainable: trainable && !buffer, buffer });
        });
        list
    }

    /// Copies out every tensor: name, shape, values.
    pub fn state(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let mut list = Vec::new();
        self.each(&mut |name, shape, _, values| list.push((name, shape, values())));
        list
    }

    /// Copies out the tensors `wanted` names: name, shape, values.
    pub fn state_of(&self, wanted: &dyn Fn(&str) -> bool) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let mut list = Vec::new();
        self.each(&mut |name, shape, _, values| {
            if wanted(&name) {
                list.push((name, shape, values()));
            }
        });
        list
    }

    /// Feeds the names and values of the tensors that `wanted` picks by name to a hash.
    pub(crate) fn hash_into(&self, hash: &mut impl sha2::Digest, wanted: impl Fn(&str) -> bool) {
        for (name, _, values) in self.state_of(&wanted) {
            hash.update(name);
            values.iter().for_each(|v| hash.update(v.to_le_bytes()));
        }
    }

    fn each(&self, f: &mut EachFn<'_>) {
        self.visit(&mut Walk { network: self, path: Vec::new(), f });
    }

    /// Replaces the values `f` returns for a name and shape; `None` keeps them.
    pub fn assign(self, f: &mut AssignFn<'_>) -> Self {
        let names = self.clone();
        self.map(&mut Assign { network: &names, path: Vec::new(), f })
    }

    /// Decides by name which parameters train (`trains`) and which BatchNorm layers, named without
    /// their last part, normalise by batch statistics (`batch_stats`). Layers that act differently in
    /// training, such as dropout, follow the latter with the name of their group.
    pub fn set_trainable(self, trains: &dyn Fn(&str) -> bool, batch_stats: &dyn Fn(&str) -> bool) -> Self {
        let names = self.clone();
        self.map(&mut Thaw { network: &names, path: Vec::new(), trains, batch_stats })
    }
}

/// Returns the network as inference sees it: no autodiff, running statistics, no dropout.
pub fn frozen(network: &Network) -> Network {
    network.valid()
}

/// Tells buffers from parameters by name.
pub(crate) fn is_buffer(name: &str) -> bool {
    name.ends_with("running_mean") || name.ends_with("running_var")
}

/// Returns the layer a tensor belongs to: its name without the last part.
pub(crate) fn layer_of(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(layer, _)| layer)
}

/// Gives new values for a name and shape, or keeps the old.
type AssignFn<'a> = dyn FnMut(&str, &[usize]) -> Option<Vec<f32>> + 'a;

type EachFn<'a> = dyn FnMut(String, Vec<usize>, bool, &dyn Fn() -> Vec<f32>) + 'a;

/// Copies a tensor's values to the host, row by row.
pub fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.clone().into_data().convert::<f32>().try_into_vec().expect("converted to f32")
}

struct Walk<'a, 'b> {
    network: &'a Network,
    path: Vec<String>,
    f: &'a mut EachFn<'b>,
}

impl ModuleVisitor for Walk<'_, '_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let name = self.network.key(&self.path);
        (self.f)(name, tensor.dims().to_vec(), tensor.is_require_grad(), &|| values(&tensor));
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}

struct Assign<'a, 'b> {
    network: &'a Network,
    path: Vec<String>,
    f: &'a mut AssignFn<'b>,
}

impl ModuleMapper for Assign<'_, '_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape().to_vec();
        let Some(new) = (self.f)(&self.network.key(&self.path), &shape) else { return param };
        let trains = param.val().is_require_grad();
        param.map(|old| {
            let fresh = Tensor::<D>::from_data(TensorData::new(new, shape), &old.device());
            if old.is_autodiff() { fresh.set_require_grad(trains) } else { fresh }
        })
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}

struct Thaw<'a> {
    network: &'a Network,
    path: Vec<String>,
    trains: &'a dyn Fn(&str) -> bool,
    batch_stats: &'a dyn Fn(&str) -> bool,
}

impl ModuleMapper for Thaw<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.network.key(&self.path);
        if is_buffer(&name) { param } else { param.set_require_grad((self.trains)(&name)) }
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        let name = self.network.key(&self.path);
        flag.with_value((self.batch_stats)(layer_of(&name)))
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}
