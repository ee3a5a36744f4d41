//! Parameters of hardware-assisted domains.

use crate::DomainId;
use crate::buffer::Arguments;
use crate::error::Result;
use crate::hypervisor::Hypervisor;
use hypercall_abi::hvm::{Param, op, param};
use hypercall_abi::hypercall::number;

/// A parameter that domain and toolstack share.
#[doc(alias = "HVM_PARAM_STORE_PFN")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HvmParameter {
    /// Frame of the store ring.
    StoreFrame = param::STORE_PFN as isize,
    /// Port of the store ring.
    StorePort = param::STORE_EVTCHN as isize,
    /// Frame of the device model's request ring.
    RequestFrame = param::IOREQ_PFN as isize,
    /// Frame of the device model's buffered request ring.
    BufferedRequestFrame = param::BUFIOREQ_PFN as isize,
    /// How missed timer ticks are made up for.
    TimerMode = param::TIMER_MODE as isize,
    /// Address of the identity page table for CPUs that cannot run guests without paging.
    IdentityPageTable = param::IDENT_PT as isize,
    /// Frame of the console ring.
    ConsoleFrame = param::CONSOLE_PFN as isize,
    /// Port of the console ring.
    ConsolePort = param::CONSOLE_EVTCHN as isize,
    /// Frame of the paging ring.
    PagingRingFrame = param::PAGING_RING_PFN as isize,
    /// Frame of the monitor ring.
    MonitorRingFrame = param::MONITOR_RING_PFN as isize,
    /// Frame of the sharing ring.
    SharingRingFrame = param::SHARING_RING_PFN as isize,
    /// What a triple fault counts as: a [`crate::ShutdownReason`]'s number.
    TripleFaultReason = param::TRIPLE_FAULT_REASON as isize,
}

impl Hypervisor {
    /// Sets a parameter.
    #[doc(alias = "HVMOP_set_param")]
    pub fn set_parameter(&self, domain: DomainId, parameter: HvmParameter, value: u64) -> Result<()> {
        self.parameter_call("set HVM parameter", op::SET_PARAM, domain, parameter, value)
            .map(drop)
    }

    /// Reads a parameter.
    #[doc(alias = "HVMOP_get_param")]
    pub fn parameter(&self, domain: DomainId, parameter: HvmParameter) -> Result<u64> {
        self.parameter_call("get HVM parameter", op::GET_PARAM, domain, parameter, 0)
    }

    fn parameter_call(
        &self,
        operation: &'static str,
        command: u32,
        domain: DomainId,
        parameter: HvmParameter,
        value: u64,
    ) -> Result<u64> {
        let request = Param {
            domain,
            _padding: 0,
            index: parameter as u32,
            value,
        };
        self.with_arguments(Arguments::room_for::<Param>(1), |arguments| {
            let placed = arguments.place(&request);
            // SAFETY: both sub-operations take this structure, which holds no addresses.
            unsafe { self.call(operation, number::HVM_OP, &[command.into(), placed.address]) }?;
            Ok(arguments.get(placed).value)
        })
    }
}
