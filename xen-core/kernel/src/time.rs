//! Time as guests see it: the clock in `vcpu_info`, the wall clock in the shared info page.

/// The wall clock at system time 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock {
    /// Seconds since 1970.
    pub seconds: u64,
    /// Nanoseconds.
    pub nanoseconds: u32,
}

impl WallClock {
    /// As the machine's clock had it.
    pub fn at_boot(seconds: u64) -> Self {
        WallClock { seconds, nanoseconds: 0 }
    }
}
