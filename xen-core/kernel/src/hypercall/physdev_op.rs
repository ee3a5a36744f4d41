//! `physdev_op`: physical devices, interrupts as PIRQs, PCI.
//!
//! None of it is offered. Interrupt lines reach the initial domain through the I/O APIC that it sees, and no guest has
//! PIRQs. PCI functions are not handed to guests, so that there is nothing to register them for: Linux reports each
//! function it finds, and takes "not implemented" to mean that the hypervisor keeps no list.

use hypercall_abi::Error;
use machine::Machine;

use super::{Answer, Call};

/// Refuse.
///
/// # Errors
/// ENOSYS, always.
pub fn handle<M: Machine>(_call: &mut Call<'_, M>) -> Answer {
    Err(Error::ENOSYS)
}
