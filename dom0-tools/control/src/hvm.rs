//! Parameters of hardware-assisted domains.

use crate::DomainId;
use crate::buffer::Arguments;
use crate::error::Result;
use crate::hypervisor::{Hypervisor, Number};
use crate::layout::HvmParam;

const SET: u64 = 0;
const GET: u64 = 1;

/// A parameter that domain and toolstack share.
#[doc(alias = "HVM_PARAM_STORE_PFN")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HvmParameter {
    /// Frame of the store ring.
    StoreFrame = 1,
    /// Port of the store ring.
    StorePort = 2,
    /// Frame of the device model's request ring.
    RequestFrame = 5,
    /// Frame of the device model's buffered request ring.
    BufferedRequestFrame = 6,
    /// How missed timer ticks are made up for.
    TimerMode = 10,
    /// Address of the identity page table for CPUs that cannot run guests without paging.
    IdentityPageTable = 12,
    /// Frame of the console ring.
    ConsoleFrame = 17,
    /// Port of the console ring.
    ConsolePort = 18,
    /// Frame of the paging ring.
    PagingRingFrame = 27,
    /// Frame of the monitor ring.
    MonitorRingFrame = 28,
    /// Frame of the sharing ring.
    SharingRingFrame = 29,
    /// What a triple fault counts as: a [`crate::ShutdownReason`]'s number.
    TripleFaultReason = 31,
}

impl Hypervisor {
    /// Sets a parameter.
    #[doc(alias = "HVMOP_set_param")]
    pub fn set_parameter(&self, domain: DomainId, parameter: HvmParameter, value: u64) -> Result<()> {
        self.parameter_call("set HVM parameter", SET, domain, parameter, value)
            .map(drop)
    }

    /// Reads a parameter.
    #[doc(alias = "HVMOP_get_param")]
    pub fn parameter(&self, domain: DomainId, parameter: HvmParameter) -> Result<u64> {
        self.parameter_call("get HVM parameter", GET, domain, parameter, 0)
    }

    fn parameter_call(
        &self,
        operation: &'static str,
        command: u64,
        domain: DomainId,
        parameter: HvmParameter,
        value: u64,
    ) -> Result<u64> {
        let request = HvmParam {
            domain: domain.0,
            pad: 0,
            index: parameter as u32,
            value,
        };
        self.with_arguments(Arguments::room_for::<HvmParam>(1), |arguments| {
            let placed = arguments.place(&request);
            // SAFETY: both sub-operations take this structure, which holds no addresses.
            unsafe { self.call(operation, Number::HvmOp, &[command, placed.address]) }?;
            Ok(arguments.get(placed).value)
        })
    }
}
