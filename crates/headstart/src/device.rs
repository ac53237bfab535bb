//! Where networks run: the devices that `--device` names, looked for and opened.
//!
//! The CPU runs the kernels of this project, every other device Burn's own operations. A [`Network`] is on one device,
//! and whatever runs it brings the pictures there; so opening a device and putting a network on it is all there is to
//! choosing one.
//!
//! [`Network`]: crate::models::Network

use std::fmt;
use std::str::FromStr;

use burn::Tensor;
use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device};

use crate::error::{Error, Result};
use crate::fast::Precision;

/// A device by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceSpec {
    /// The CPU.
    #[default]
    Cpu,
    /// The first graphics card that CUDA finds, else that wgpu finds, else the CPU.
    Auto,
    /// A graphics card by CUDA, counted from 0.
    Cuda(usize),
    /// A graphics card by wgpu (Vulkan, Metal or DirectX), in the order in which wgpu lists them; its first choice if
    /// none is given.
    Wgpu(Option<usize>),
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Auto => f.write_str("auto"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu(None) => f.write_str("wgpu"),
            Self::Wgpu(Some(index)) => write!(f, "wgpu:{index}"),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index)),
            None => (text, None),
        };
        let index = index
            .map(|i| i.parse::<u16>().map(usize::from).map_err(|_| format!("`{i}` is no number of a device")))
            .transpose()?;
        match (name, index) {
            ("cpu", None) => Ok(Self::Cpu),
            ("auto", None) => Ok(Self::Auto),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            ("wgpu", index) => Ok(Self::Wgpu(index)),
            ("cpu" | "auto", Some(_)) => Err(format!("`{name}` takes no number")),
            _ => Err("a device is `cpu`, `cuda`, `cuda:1`, `wgpu`, `wgpu:1` or `auto`".into()),
        }
    }
}

impl DeviceSpec {
    /// Opens the device and has it add two numbers, so that a missing driver shows before the work.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            Self::Auto => {
                Ok(found().into_iter().find_map(|spec| spec.open().ok()).unwrap_or_else(Device::flex))
            }
            Self::Cuda(index) => self.checked(cuda::open(index)?),
            Self::Wgpu(index) => self.checked(wgpu::open(index)?),
        }
    }

    fn checked(self, device: Device) -> Result<Device> {
        let add = || Tensor::<1>::ones([2], &device).add_scalar(1.0).try_into_data();
        let refused = |reason: String| unusable(self, &reason, "see docs/gpu.md for what it needs");
        match quietly(add) {
            Ok(Ok(data)) if data.as_slice::<f32>().is_ok_and(|v| v == [2.0, 2.0]) => Ok(device),
            Ok(Ok(data)) => Err(refused(format!("it says that 1 + 1 is {data}"))),
            Ok(Err(error)) => Err(refused(error.to_string())),
            Err(panic) => Err(refused(panic)),
        }
    }
}

/// The graphics cards of this machine that this program can use, the best way to each first. Graphics drivers that
/// work on the CPU are not listed: the CPU itself is faster.
pub fn found() -> Vec<DeviceSpec> {
    [cuda::list(), wgpu::list()].concat()
}

/// Names a device as reports do: `cpu`, `cuda:0 (NVIDIA …)`.
pub fn describe(device: &Device) -> String {
    match device.clone().without_autodiff().as_dispatch() {
        DispatchDevice::Flex(_) => "cpu".into(),
        #[cfg(any(feature = "cuda", feature = "wgpu"))]
        DispatchDevice::Cube(cube) => {
            let name = device.identity().map_or(String::new(), |i| format!(" ({})", i.name));
            format!("{}{name}", label(cube))
        }
        #[allow(unreachable_patterns)]
        other => format!("{other:?}"),
    }
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn label(cube: &burn::backend::CubeDevice) -> String {
    use burn::backend::CubeDevice;
    match cube {
        #[cfg(feature = "cuda")]
        CubeDevice::Cuda(device) => format!("cuda:{}", device.index),
        #[cfg(feature = "wgpu")]
        CubeDevice::Wgpu(_) => "wgpu".into(),
        #[allow(unreachable_patterns)]
        other => format!("{other:?}"),
    }
}

/// Waits until a device has done all it was asked to.
pub fn wait_for(device: &Device) -> Result<()> {
    device.sync().map_err(|e| failed(&e))
}

/// Fetches a number from its device.
pub fn number(x: Tensor<1>) -> Result<f64> {
    x.try_into_scalar::<f32>().map(f64::from).map_err(|e| failed(&e))
}

fn failed(error: &dyn fmt::Display) -> Error {
    Error::Training {
        reason: format!("the device failed: {error}"),
        hint: "a smaller `--batch-size` needs less of its memory".into(),
    }
}

/// Says which number formats a device cannot work in.
pub fn check_precision(device: &Device, precision: Precision) -> Result<()> {
    let cpu = crate::models::layers::is_cpu(device);
    let what = match precision {
        Precision::Int8 if !cpu => format!("int8 runs on the CPU only, not on {}", describe(device)),
        Precision::Bf16 if !cpu && !device.supports_dtype(DType::BF16) => {
            format!("{} does not calculate in bf16", describe(device))
        }
        _ => return Ok(()),
    };
    let hint = "take `f32`, or `--device cpu`".into();
    Err(Error::BadRecipe { place: "precision".into(), what, hint })
}

fn unusable(spec: DeviceSpec, reason: &str, hint: &str) -> Error {
    Error::BadRecipe {
        place: format!("--device {spec}"),
        what: reason.to_string(),
        hint: format!("{hint}; `--device cpu` works everywhere, `--device auto` takes what there is"),
    }
}

#[cfg(not(all(feature = "cuda", feature = "wgpu")))]
fn not_built(spec: DeviceSpec, feature: &str) -> Error {
    let hint = format!("build it with `cargo build --release --features {feature}`");
    unusable(spec, &format!("this program was built without {feature}"), &hint)
}

/// Runs `f`; a panic becomes its message and is not printed: drivers that are missing or too old panic inside Burn.
fn quietly<T>(f: impl FnOnce() -> T) -> std::result::Result<T, String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
    std::panic::set_hook(hook);
    found.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the driver failed");
        text.lines().next().unwrap_or_default().to_string()
    })
}

#[cfg(feature = "cuda")]
mod cuda {
    use burn::tensor::{Device, DeviceType};

    use super::{DeviceSpec, quietly, unusable};
    use crate::error::Result;

    pub fn list() -> Vec<DeviceSpec> {
        // Asks for the driver before it is loaded: none is no device.
        let count = quietly(|| Device::enumerate(DeviceType::Cuda).into_vec().len()).unwrap_or(0);
        (0..count).map(DeviceSpec::Cuda).collect()
    }

    pub fn open(index: usize) -> Result<Device> {
        let spec = DeviceSpec::Cuda(index);
        match list().len() {
            0 => Err(unusable(
                spec,
                "no NVIDIA driver or no card is here",
                "`nvidia-smi` shows what the driver sees",
            )),
            n if index >= n => {
                let what =
                    format!("this machine has {n} card{}, counted from 0", if n == 1 { "" } else { "s" });
                Err(unusable(spec, &what, "`nvidia-smi` lists them"))
            }
            _ => Ok(Device::cuda(index)),
        }
    }
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use burn::tensor::Device;

    use super::{DeviceSpec, not_built};
    use crate::error::Result;

    pub fn list() -> Vec<DeviceSpec> {
        Vec::new()
    }

    pub fn open(index: usize) -> Result<Device> {
        Err(not_built(DeviceSpec::Cuda(index), "cuda"))
    }
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use burn::backend::{CubeDevice, DispatchDevice, WgpuDeviceKind};
    use burn::tensor::{Device, DeviceKind, DeviceType};

    use super::{DeviceSpec, quietly, unusable};
    use crate::error::Result;

    fn all() -> Vec<Device> {
        quietly(|| Device::enumerate(DeviceType::Wgpu).into_vec()).unwrap_or_default()
    }

    /// Tells whether it is a driver that works on the CPU.
    fn is_software(device: &Device) -> bool {
        match device.as_dispatch() {
            DispatchDevice::Cube(CubeDevice::Wgpu(device)) => device.kind == WgpuDeviceKind::Cpu,
            _ => false,
        }
    }

    pub fn list() -> Vec<DeviceSpec> {
        let cards = all().into_iter().enumerate().filter(|(_, device)| !is_software(device));
        cards.map(|(i, _)| DeviceSpec::Wgpu(Some(i))).collect()
    }

    pub fn open(index: Option<usize>) -> Result<Device> {
        let (spec, mut all) = (DeviceSpec::Wgpu(index), all());
        if all.is_empty() {
            let hint = "on Linux it needs a Vulkan driver; `vulkaninfo --summary` shows what is there";
            return Err(unusable(spec, "no graphics driver is here", hint));
        }
        match index {
            None => Ok(Device::wgpu(DeviceKind::DefaultDevice)),
            Some(index) if index < all.len() => Ok(all.swap_remove(index)),
            Some(_) => {
                let n = all.len();
                let what = format!("wgpu finds {n} device{}, counted from 0", if n == 1 { "" } else { "s" });
                Err(unusable(spec, &what, "take one of them"))
            }
        }
    }
}

#[cfg(not(feature = "wgpu"))]
mod wgpu {
    use burn::tensor::Device;

    use super::{DeviceSpec, not_built};
    use crate::error::Result;

    pub fn list() -> Vec<DeviceSpec> {
        Vec::new()
    }

    pub fn open(index: Option<usize>) -> Result<Device> {
        Err(not_built(DeviceSpec::Wgpu(index), "wgpu"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for text in ["cpu", "auto", "cuda:0", "cuda:3", "wgpu", "wgpu:1"] {
            assert_eq!(text.parse::<DeviceSpec>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceSpec::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "auto:1", "CUDA"] {
            assert!(text.parse::<DeviceSpec>().is_err(), "`{text}` was taken");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        for spec in [DeviceSpec::Cpu, DeviceSpec::default()] {
            assert_eq!(describe(&spec.open().unwrap()), "cpu");
        }
        assert!(describe(&DeviceSpec::Auto.open().unwrap()).len() > 2);
    }

    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    #[test]
    fn a_missing_feature_is_named() {
        for (text, feature) in [("cuda", "cuda"), ("wgpu:1", "wgpu")] {
            let error = text.parse::<DeviceSpec>().unwrap().open().unwrap_err();
            assert!(error.to_string().contains(&format!("without {feature}")), "{error}");
            assert!(error.hints()[0].contains(&format!("--features {feature}")), "{:?}", error.hints());
        }
        assert_eq!((found(), describe(&DeviceSpec::Auto.open().unwrap())), (vec![], "cpu".into()));
    }

    #[test]
    fn formats_a_device_lacks_are_refused() {
        use crate::models::layers::plainly;
        let cpu = Device::flex();
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            check_precision(&cpu, precision).unwrap();
        }
        let error = plainly(|| check_precision(&cpu, Precision::Int8)).unwrap_err();
        assert!(error.to_string().contains("int8 runs on the CPU only"), "{error}");
    }
}
