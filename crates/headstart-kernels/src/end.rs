//! How a frozen layer ends: what its sums go through before anybody reads them.

use crate::{Act, Curve, Level, curve};

/// The last thing a layer does to its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Clamps them, in the registers they are summed in.
    Clamp(Act),
    /// Bends them, while what a task has written is still in its cache.
    Curve(Curve),
}

impl From<Act> for End {
    fn from(act: Act) -> Self {
        Self::Clamp(act)
    }
}

impl From<Curve> for End {
    fn from(curve: Curve) -> Self {
        Self::Curve(curve)
    }
}

impl End {
    /// The part done in registers.
    pub(crate) fn act(self) -> Act {
        match self {
            Self::Clamp(act) => act,
            Self::Curve(_) => Act::None,
        }
    }

    /// The part done to what was written.
    #[inline]
    pub(crate) fn finish(self, level: Level, written: &mut [f32]) {
        if let Self::Curve(curve) = self {
            curve::values(level, curve, written);
        }
    }
}
