//! Scheduling and shutdown (`sched.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomainId, GuestHandle, event_channel::Port};

/// Sub-operations of `sched_op`.
pub mod op {
    /// Let others run.
    #[doc(alias = "SCHEDOP_yield")]
    pub const YIELD: u32 = 0;
    /// Wait for an event, with upcalls enabled.
    #[doc(alias = "SCHEDOP_block")]
    pub const BLOCK: u32 = 1;
    /// Stop the own domain ([`super::Shutdown`]).
    #[doc(alias = "SCHEDOP_shutdown")]
    pub const SHUTDOWN: u32 = 2;
    /// Wait for one of some ports ([`super::Poll`]).
    #[doc(alias = "SCHEDOP_poll")]
    pub const POLL: u32 = 3;
    /// Stop another domain ([`super::RemoteShutdown`]).
    #[doc(alias = "SCHEDOP_remote_shutdown")]
    pub const REMOTE_SHUTDOWN: u32 = 4;
    /// Say the reason of a shutdown that is under way ([`super::Shutdown`]).
    #[doc(alias = "SCHEDOP_shutdown_code")]
    pub const SHUTDOWN_CODE: u32 = 5;
    /// Set, feed or stop a watchdog ([`super::Watchdog`]).
    #[doc(alias = "SCHEDOP_watchdog")]
    pub const WATCHDOG: u32 = 6;
    /// Pin the vCPU for a moment, for dom0 ([`super::PinOverride`]).
    #[doc(alias = "SCHEDOP_pin_override")]
    pub const PIN_OVERRIDE: u32 = 7;
}

/// Argument of [`op::SHUTDOWN`] and [`op::SHUTDOWN_CODE`].
#[doc(alias = "sched_shutdown")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Shutdown {
    /// See [`shutdown`].
    pub reason: u32,
}

/// Argument of [`op::POLL`].
#[doc(alias = "sched_poll")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Poll {
    /// The ports.
    pub ports: GuestHandle<Port>,
    /// How many.
    #[doc(alias = "nr_ports")]
    pub number_of_ports: u32,
    /// Padding: zero.
    pub _padding: u32,
    /// System time in ns; zero waits without end.
    pub timeout: u64,
}

/// Argument of [`op::REMOTE_SHUTDOWN`].
#[doc(alias = "sched_remote_shutdown")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RemoteShutdown {
    /// Whom.
    #[doc(alias = "domain_id")]
    pub domain: DomainId,
    /// Padding: zero.
    pub _padding: u16,
    /// See [`shutdown`].
    pub reason: u32,
}

/// Argument of [`op::WATCHDOG`].
#[doc(alias = "sched_watchdog")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Watchdog {
    /// Zero makes a new one.
    pub id: u32,
    /// Seconds; zero stops it.
    pub timeout: u32,
}

/// Argument of [`op::PIN_OVERRIDE`].
#[doc(alias = "sched_pin_override")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PinOverride {
    /// Which CPU; negative undoes it.
    #[doc(alias = "pcpu")]
    pub physical_cpu: i32,
}

/// Why a domain stopped.
pub mod shutdown {
    /// It is done.
    #[doc(alias = "SHUTDOWN_poweroff")]
    pub const POWEROFF: u32 = 0;
    /// It wants to start again.
    #[doc(alias = "SHUTDOWN_reboot")]
    pub const REBOOT: u32 = 1;
    /// It is ready to be saved.
    #[doc(alias = "SHUTDOWN_suspend")]
    pub const SUSPEND: u32 = 2;
    /// It says that it broke, or it did.
    #[doc(alias = "SHUTDOWN_crash")]
    pub const CRASH: u32 = 3;
    /// Nobody fed its watchdog.
    #[doc(alias = "SHUTDOWN_watchdog")]
    pub const WATCHDOG: u32 = 4;
    /// It wants its state reset and to go on.
    #[doc(alias = "SHUTDOWN_soft_reset")]
    pub const SOFT_RESET: u32 = 5;
    /// The highest reason.
    #[doc(alias = "SHUTDOWN_MAX")]
    pub const MAX: u32 = 5;
}
