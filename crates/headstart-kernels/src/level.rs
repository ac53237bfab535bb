//! Which instruction set the kernels use on this machine.
//!
//! Chosen once per process: the best the CPU has, or what `HEADSTART_CPU` asks for
//! (`scalar`, `avx2`, `avx512`) when the CPU has it. Tests force a level per call.

use std::fmt;
use std::sync::OnceLock;

/// An instruction-set level, from the portable oracle to the widest vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Portable Rust: the specification every other level is tested against.
    Scalar,
    /// AVX2 with FMA: 8 floats a vector.
    Avx2,
    /// AVX-512F/BW/VL/DQ: 16 floats a vector.
    Avx512,
}

impl Level {
    /// Names the level as `HEADSTART_CPU` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    /// Lists the levels this CPU can run, narrowest first.
    pub fn available() -> Vec<Level> {
        [Level::Scalar, Level::Avx2, Level::Avx512].into_iter().filter(|l| l.is_supported()).collect()
    }

    /// Tells whether this CPU can run the level.
    pub fn is_supported(self) -> bool {
        match self {
            Level::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                Level::Avx2.is_supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Tells whether the level multiplies bf16 pairs in hardware on this CPU.
    pub fn has_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Level::Avx512 && self.is_supported() && is_x86_feature_detected!("avx512bf16");
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Tells whether the level multiplies groups of four bytes in hardware on this CPU.
    pub fn has_vnni(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Level::Avx512 && self.is_supported() && is_x86_feature_detected!("avx512vnni");
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Returns the level of this process. An unknown or unsupported `HEADSTART_CPU` falls back to
    /// the widest supported level not above it, so a forced run never crashes.
    pub fn current() -> Level {
        static CURRENT: OnceLock<Level> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let asked = match std::env::var("HEADSTART_CPU").as_deref() {
                Ok("scalar") => Level::Scalar,
                Ok("avx2") => Level::Avx2,
                _ => Level::Avx512,
            };
            Level::available().into_iter().rfind(|l| *l <= asked).unwrap_or(Level::Scalar)
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_is_always_there_and_current_is_supported() {
        assert_eq!(Level::available()[0], Level::Scalar);
        assert!(Level::current().is_supported());
    }
}
