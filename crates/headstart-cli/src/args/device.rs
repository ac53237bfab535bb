//! Where the network runs.

use headstart::device::DeviceSpec;

#[derive(Clone, Debug, clap::Args)]
pub struct DeviceArgs {
    /// Where the network runs: `cpu`, `cuda`, `cuda:1`, `wgpu`, `wgpu:1`, or `auto`: the first graphics card there is,
    /// else the CPU.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub device: DeviceSpec,
}
