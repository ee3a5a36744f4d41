//! Operations on a domain's own vCPUs (`vcpu.h`): bring-up, timers, runstate accounting, registered areas.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Sub-operations of `vcpu_op`; the second argument is the vCPU's number.
pub mod op {
    /// Give it a start state ([`crate::hvm::VcpuContext`]).
    #[doc(alias = "VCPUOP_initialise")]
    pub const INITIALISE: u32 = 0;
    /// Let it run.
    #[doc(alias = "VCPUOP_up")]
    pub const UP: u32 = 1;
    /// Take it offline.
    #[doc(alias = "VCPUOP_down")]
    pub const DOWN: u32 = 2;
    /// Returns 1 while it is online.
    #[doc(alias = "VCPUOP_is_up")]
    pub const IS_UP: u32 = 3;
    /// Where its time went ([`super::RunstateInfo`]).
    #[doc(alias = "VCPUOP_get_runstate_info")]
    pub const GET_RUNSTATE_INFO: u32 = 4;
    /// Keep that up to date in guest memory ([`super::RegisterMemoryArea`]).
    #[doc(alias = "VCPUOP_register_runstate_memory_area")]
    pub const REGISTER_RUNSTATE_MEMORY_AREA: u32 = 5;
    /// Start the periodic timer ([`super::SetPeriodicTimer`]).
    #[doc(alias = "VCPUOP_set_periodic_timer")]
    pub const SET_PERIODIC_TIMER: u32 = 6;
    /// Stop it.
    #[doc(alias = "VCPUOP_stop_periodic_timer")]
    pub const STOP_PERIODIC_TIMER: u32 = 7;
    /// Set the one-shot timer ([`super::SetSingleshotTimer`]).
    #[doc(alias = "VCPUOP_set_singleshot_timer")]
    pub const SET_SINGLESHOT_TIMER: u32 = 8;
    /// Cancel it.
    #[doc(alias = "VCPUOP_stop_singleshot_timer")]
    pub const STOP_SINGLESHOT_TIMER: u32 = 9;
    /// Move its vcpu_info into guest memory ([`super::RegisterVcpuInfo`]).
    #[doc(alias = "VCPUOP_register_vcpu_info")]
    pub const REGISTER_VCPU_INFO: u32 = 10;
    /// Send it an NMI.
    #[doc(alias = "VCPUOP_send_nmi")]
    pub const SEND_NMI: u32 = 11;
    /// The physical CPU under it, for a pinned dom0 ([`super::GetPhysicalId`]).
    #[doc(alias = "VCPUOP_get_physid")]
    pub const GET_PHYSICAL_ID: u32 = 12;
    /// Keep its time in guest memory too ([`super::RegisterMemoryArea`]).
    #[doc(alias = "VCPUOP_register_vcpu_time_memory_area")]
    pub const REGISTER_VCPU_TIME_MEMORY_AREA: u32 = 13;
}

/// Where a vCPU's time went.
#[doc(alias = "vcpu_runstate_info")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RunstateInfo {
    /// See [`runstate`].
    pub state: i32,
    /// Padding: zero.
    pub _padding: u32,
    /// System time in ns when it entered that state; top bit: [`RUNSTATE_UPDATE`].
    pub state_entry_time: u64,
    /// Nanoseconds spent in each state.
    pub time: [u64; 4],
}

/// Set in [`RunstateInfo::state_entry_time`] while the hypervisor writes the area, if the domain asked for it.
#[doc(alias = "XEN_RUNSTATE_UPDATE")]
pub const RUNSTATE_UPDATE: u64 = 1 << 63;

/// Values of [`RunstateInfo::state`].
pub mod runstate {
    /// On a CPU.
    #[doc(alias = "RUNSTATE_running")]
    pub const RUNNING: i32 = 0;
    /// Waits for a CPU.
    #[doc(alias = "RUNSTATE_runnable")]
    pub const RUNNABLE: i32 = 1;
    /// Waits for an event.
    #[doc(alias = "RUNSTATE_blocked")]
    pub const BLOCKED: i32 = 2;
    /// Paused, down or not started.
    #[doc(alias = "RUNSTATE_offline")]
    pub const OFFLINE: i32 = 3;
}

/// Argument of [`op::REGISTER_RUNSTATE_MEMORY_AREA`] and, with the same layout, of
/// [`op::REGISTER_VCPU_TIME_MEMORY_AREA`].
#[doc(alias = "vcpu_register_runstate_memory_area")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegisterMemoryArea {
    /// Guest-virtual address.
    #[doc(alias = "addr")]
    pub address: u64,
}

/// Argument of [`op::SET_PERIODIC_TIMER`].
#[doc(alias = "vcpu_set_periodic_timer")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetPeriodicTimer {
    /// Nanoseconds between ticks.
    pub period_ns: u64,
}

/// Argument of [`op::SET_SINGLESHOT_TIMER`].
#[doc(alias = "vcpu_set_singleshot_timer")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetSingleshotTimer {
    /// System time in ns.
    pub timeout_abs_ns: u64,
    /// [`SINGLESHOT_FUTURE`] or zero.
    pub flags: u32,
    /// Padding: zero.
    pub _padding: u32,
}

/// Flag of [`SetSingleshotTimer`]: answer `ETIME` when the time has passed already.
#[doc(alias = "VCPU_SSHOTTMR_future")]
pub const SINGLESHOT_FUTURE: u32 = 1 << 0;

/// Argument of [`op::REGISTER_VCPU_INFO`].
#[doc(alias = "vcpu_register_vcpu_info")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegisterVcpuInfo {
    /// Guest frame.
    #[doc(alias = "mfn")]
    pub guest_frame: u64,
    /// Byte in it.
    pub offset: u32,
    /// Reserved: zero.
    #[doc(alias = "rsvd")]
    pub _reserved: u32,
}

/// Argument of [`op::GET_PHYSICAL_ID`].
#[doc(alias = "vcpu_get_physid")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetPhysicalId {
    /// Out: APIC ID in the low half, ACPI ID in the high half.
    #[doc(alias = "phys_id")]
    pub physical_id: u64,
}
