//! The machine a program runs on: its name in reports, and how much memory is left.

use std::fs;

use serde::Serialize;

/// What a report says about a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The processor, as the system names it.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Bytes of memory this process may use in all; none where the system does not tell.
    pub memory: Option<u64>,
    /// The operating system and architecture.
    pub system: String,
}

impl Machine {
    /// Describes this machine.
    pub fn here() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
        Self {
            cpu: name.map_or("an unnamed processor".into(), |(_, name)| name.trim().to_string()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: Memory::now().map(|m| m.total),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What this process may use in all.
    pub total: u64,
    /// What is left now.
    pub free: u64,
}

impl Memory {
    /// Asks the system: the machine's memory within the limits of control group and process. `None` outside Linux.
    pub fn now() -> Option<Self> {
        let machine = of_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let group = |limit: &str, used: &str| Some((number(limit)?, number(used)?));
        let groups = [
            group("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
            group(
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.usage_in_bytes",
            ),
            address_space(),
        ];
        let within = |m: Self, (limit, used): (u64, u64)| Self {
            total: m.total.min(limit),
            free: m.free.min(limit.saturating_sub(used)),
        };
        Some(groups.into_iter().flatten().fold(machine, within))
    }
}

fn of_meminfo(text: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    Some(Memory { total: bytes("MemTotal")?, free: bytes("MemAvailable")? })
}

/// Limit and use of address space, as `ulimit -v` sets it.
fn address_space() -> Option<(u64, u64)> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|l| l.strip_prefix("Max address space"))?;
    let limit = line.split_whitespace().next()?.parse().ok()?;
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().next()?.parse().ok()?;
    Some((limit, pages * 4096))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_numbers_are_read() {
        let text = "MemTotal:       24000000 kB\nMemFree:   1 kB\nMemAvailable:   20000000 kB\n";
        assert_eq!(of_meminfo(text), Some(Memory { total: 24_000_000 << 10, free: 20_000_000 << 10 }));
        assert_eq!(of_meminfo("MemFree: 1 kB\n"), None);
        if cfg!(target_os = "linux") {
            let now = Memory::now().unwrap();
            assert!(now.free <= now.total && now.total > 1 << 20, "{now:?}");
        }
        assert!(Machine::here().cores > 0);
    }
}
