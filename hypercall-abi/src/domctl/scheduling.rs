//! Scheduling parameters.

use crate::GuestHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Schedulers.
pub mod scheduler {
    /// Credit.
    #[doc(alias = "XEN_SCHEDULER_CREDIT")]
    pub const CREDIT: u32 = 5;
    /// Credit 2, Xen's default.
    #[doc(alias = "XEN_SCHEDULER_CREDIT2")]
    pub const CREDIT2: u32 = 6;
    /// Avionics.
    #[doc(alias = "XEN_SCHEDULER_ARINC653")]
    pub const ARINC653: u32 = 7;
    /// Real time.
    #[doc(alias = "XEN_SCHEDULER_RTDS")]
    pub const RTDS: u32 = 8;
    /// One vCPU per CPU.
    #[doc(alias = "XEN_SCHEDULER_NULL")]
    pub const NULL: u32 = 9;
}

/// Payload of [`super::op::SCHEDULER_OP`].
#[doc(alias = "xen_domctl_scheduler_op")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedulerOp {
    /// See [`scheduler`].
    #[doc(alias = "sched_id")]
    pub scheduler: u32,
    /// See [`scheduler_command`].
    #[doc(alias = "cmd")]
    pub command: u32,
    /// [`SchedCredit`], [`SchedCredit2`], [`SchedRtds`] or [`SchedVcpus`]; the null scheduler has none.
    #[doc(alias = "u")]
    pub parameters: [u64; 2],
}

/// Values of [`SchedulerOp::command`].
pub mod scheduler_command {
    /// Set the domain's.
    #[doc(alias = "XEN_DOMCTL_SCHEDOP_putinfo")]
    pub const PUT_INFO: u32 = 0;
    /// Read the domain's.
    #[doc(alias = "XEN_DOMCTL_SCHEDOP_getinfo")]
    pub const GET_INFO: u32 = 1;
    /// Set vCPUs'.
    #[doc(alias = "XEN_DOMCTL_SCHEDOP_putvcpuinfo")]
    pub const PUT_VCPU_INFO: u32 = 2;
    /// Read vCPUs'.
    #[doc(alias = "XEN_DOMCTL_SCHEDOP_getvcpuinfo")]
    pub const GET_VCPU_INFO: u32 = 3;
}

/// Parameters of the credit scheduler.
#[doc(alias = "xen_domctl_sched_credit")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedCredit {
    /// Share of the CPUs; 256 is usual.
    pub weight: u16,
    /// Most per cent of a CPU; zero for no limit.
    pub cap: u16,
}

/// Parameters of the credit 2 scheduler.
#[doc(alias = "xen_domctl_sched_credit2")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedCredit2 {
    /// Share of the CPUs; 256 is usual.
    pub weight: u16,
    /// Most per cent of a CPU; zero for no limit.
    pub cap: u16,
}

/// Parameters of the real-time scheduler.
#[doc(alias = "xen_domctl_sched_rtds")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedRtds {
    /// Microseconds.
    pub period: u32,
    /// Microseconds.
    pub budget: u32,
    /// [`SCHED_RTDS_EXTRA`] or zero.
    pub flags: u32,
}

/// Flag of [`SchedRtds`]: may use spare time.
#[doc(alias = "XEN_DOMCTL_SCHEDRT_extra")]
pub const SCHED_RTDS_EXTRA: u32 = 1 << 0;

/// Parameters for vCPUs (the anonymous member `v` of the union).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedVcpus {
    /// Their parameters.
    pub vcpus: GuestHandle<SchedVcpu>,
    /// In: length of the array; out: entries done.
    #[doc(alias = "nr_vcpus")]
    pub number_of_vcpus: u32,
    /// Padding: zero.
    #[doc(alias = "padding")]
    pub _padding: u32,
}

/// A vCPU's scheduling parameters.
#[doc(alias = "xen_domctl_schedparam_vcpu")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedVcpu {
    /// [`SchedCredit`], [`SchedCredit2`] or [`SchedRtds`].
    #[doc(alias = "u")]
    pub parameters: [u32; 3],
    /// Which vCPU.
    #[doc(alias = "vcpuid")]
    pub vcpu: u32,
}
