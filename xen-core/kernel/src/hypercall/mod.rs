//! Hypercalls: one file per family, each call in three steps: decode, authorise, act.
//!
//! A handler copies its arguments once, refuses everything refusable before it changes anything, and then acts. Long
//! work is cut into bounded pieces: a handler that has spent its time rewrites its arguments to what is left and answers
//! [`Outcome::Restart`]; the guest then executes the same instruction again, with interrupts and other vCPUs served in
//! between.

use alloc::sync::Arc;
use machine::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::hypercall::{NUMBERS, number};
use hypercall_abi::{DomainId, Error};
use machine::virtual_cpu::{CodeSize, PagingState, VirtualCpu, register};
use machine::{Machine, Nanoseconds};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::Kernel;
use crate::domain::{Domain, VcpuHandle};
use crate::guest_memory::GuestMemory;

pub mod console_io;
pub mod domctl;
pub mod event_channel_op;
pub mod grant_table_op;
pub mod hvm_op;
pub mod memory_op;
pub mod multicall;
pub mod physdev_op;
pub mod platform_op;
pub mod sched_op;
pub mod sysctl;
pub mod vcpu_op;
pub mod vm_assist;
pub mod xen_version;

/// How long one stretch of a long operation may take before it is cut: a scheduling latency that guests bear.
const STRETCH: Nanoseconds = 500_000;

/// What a hypercall came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done, with this result.
    Value(u64),
    /// Not done: the arguments were rewritten to what is left, and the guest executes the instruction again.
    Restart,
}

/// A handler's answer. Errors become their negated number.
pub type Answer = Result<Outcome, Error>;

/// Success without a value.
pub const DONE: Answer = Ok(Outcome::Value(0));

/// A hypercall under way: who calls, and with what.
pub struct Call<'a, M: Machine> {
    /// The hypervisor.
    pub kernel: &'a Kernel<M>,
    /// The calling vCPU.
    pub vcpu: &'a VcpuHandle<M>,
    /// How the caller's addresses are translated.
    pub paging: PagingState,
    /// The arguments; rewritten for [`Outcome::Restart`].
    pub arguments: [u64; 6],
    /// When this stretch began.
    pub started: Nanoseconds,
}

impl<'a, M: Machine> Call<'a, M> {
    /// The calling domain.
    pub fn domain(&self) -> &'a Arc<Domain<M>> {
        self.vcpu.domain()
    }

    /// The machine.
    pub fn machine(&self) -> &'a M {
        &self.kernel.machine
    }

    /// The caller's memory.
    pub fn memory(&self) -> GuestMemory<'a, M> {
        GuestMemory::new(&self.vcpu.domain().physmap, self.paging)
    }

    /// Copy a structure from the caller.
    ///
    /// # Errors
    /// EFAULT.
    pub fn read<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, Error> {
        let mut value = T::new_zeroed();
        self.memory().read(address, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copy a structure to the caller.
    ///
    /// # Errors
    /// EFAULT.
    pub fn write<T: IntoBytes + Immutable>(&self, address: u64, value: &T) -> Result<(), Error> {
        self.memory().write(address, value.as_bytes())
    }

    /// Copy element `index` of an array from the caller.
    ///
    /// # Errors
    /// EFAULT.
    pub fn read_element<T: FromBytes + IntoBytes>(&self, address: u64, index: u64) -> Result<T, Error> {
        self.read(element::<T>(address, index)?)
    }

    /// Copy element `index` of an array to the caller.
    ///
    /// # Errors
    /// EFAULT.
    pub fn write_element<T: IntoBytes + Immutable>(
        &self,
        address: u64,
        index: u64,
        value: &T,
    ) -> Result<(), Error> {
        self.write(element::<T>(address, index)?, value)
    }

    /// Whether this stretch has lasted long enough that the call should restart.
    pub fn spent(&self) -> bool {
        self.machine().now().saturating_sub(self.started) > STRETCH
    }

    /// The domain that `id` names for this caller: itself, or any if it is privileged. Nothing is authorised by a mere
    /// look-up of oneself; of others, only the privileged domain gets a handle.
    ///
    /// # Errors
    /// EPERM for another's domain without privilege, ESRCH when there is none.
    pub fn target(&self, id: DomainId) -> Result<Arc<Domain<M>>, Error> {
        let caller = self.domain();
        if id == DomainId::SELF || id == caller.id {
            return Ok(caller.clone());
        }
        if !caller.privileged {
            return Err(Error::EPERM);
        }
        self.kernel.domains.get(id).ok_or(Error::ESRCH)
    }

    /// Refuse those who are not privileged.
    ///
    /// # Errors
    /// EPERM.
    pub fn require_privilege(&self) -> Result<(), Error> {
        if self.domain().privileged {
            Ok(())
        } else {
            Err(Error::EPERM)
        }
    }
}

fn element<T>(address: u64, index: u64) -> Result<u64, Error> {
    index
        .checked_mul(size_of::<T>() as u64)
        .and_then(|offset| address.checked_add(offset))
        .ok_or(Error::EFAULT)
}

/// Counts of hypercalls and of those refused as not implemented, by number.
pub struct Statistics {
    calls: [AtomicU64; NUMBERS],
    refused: [AtomicU64; NUMBERS],
}

impl Default for Statistics {
    fn default() -> Self {
        Statistics {
            calls: [const { AtomicU64::new(0) }; NUMBERS],
            refused: [const { AtomicU64::new(0) }; NUMBERS],
        }
    }
}

impl Statistics {
    fn count(&self, number: u64, answer: &Answer) {
        // Numbers past the table share its last entry, which names no hypercall.
        let index = (number as usize).min(NUMBERS - 1);
        self.calls[index].fetch_add(1, Ordering::Relaxed);
        if matches!(answer, Err(Error::ENOSYS | Error::EOPNOTSUPP)) {
            self.refused[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often a hypercall was made, and how often refused as not implemented.
    pub fn of(&self, number: usize) -> (u64, u64) {
        let read =
            |table: &[AtomicU64; NUMBERS]| table.get(number).map_or(0, |count| count.load(Ordering::Relaxed));
        (read(&self.calls), read(&self.refused))
    }
}

/// Route a hypercall to its family.
pub fn dispatch<M: Machine>(call: &mut Call<'_, M>, number: u64) -> Answer {
    let answer = match number {
        number::MEMORY_OP => memory_op::handle(call),
        number::XEN_VERSION => xen_version::handle(call),
        number::CONSOLE_IO => console_io::handle(call),
        number::GRANT_TABLE_OP => grant_table_op::handle(call),
        number::VM_ASSIST => vm_assist::handle(call),
        number::VCPU_OP => vcpu_op::handle(call),
        number::SCHED_OP => sched_op::handle(call),
        number::EVENT_CHANNEL_OP => event_channel_op::handle(call),
        number::PHYSDEV_OP => physdev_op::handle(call),
        number::HVM_OP => hvm_op::handle(call),
        number::SYSCTL => sysctl::handle(call),
        number::DOMCTL => domctl::handle(call),
        number::PLATFORM_OP => platform_op::handle(call),
        number::MULTICALL => multicall::handle(call),
        _ => Err(Error::ENOSYS),
    };
    call.kernel.statistics.hypercalls.count(number, &answer);
    answer
}

/// The value that a guest finds in its result register.
pub fn result_value(answer: Answer) -> Option<u64> {
    match answer {
        Ok(Outcome::Value(value)) => Some(value),
        Ok(Outcome::Restart) => None,
        Err(error) => Some(error.as_result() as u64),
    }
}

const ARGUMENT_REGISTERS: [usize; 6] = [
    register::RDI,
    register::RSI,
    register::RDX,
    register::R10,
    register::R8,
    register::R9,
];

/// A hypercall instruction: from the guest's registers and back.
pub fn enter<M: Machine>(kernel: &Kernel<M>, vcpu: &VcpuHandle<M>, context: &mut M::Vcpu) {
    let paging = context.paging();
    // Guests' user programs have no business here; kernels call on their behalf.
    if paging.privilege != 0 {
        context.registers_mut().general[register::RAX] = Error::EPERM.as_result() as u64;
        context.advance();
        return;
    }
    // 32-bit callers use other layouts of every structure, which we do not offer.
    if context.code_size() != CodeSize::SixtyFour {
        context.registers_mut().general[register::RAX] = Error::ENOSYS.as_result() as u64;
        kernel.statistics.hypercalls.count(u64::MAX, &Err(Error::ENOSYS));
        context.advance();
        return;
    }
    let registers = context.registers().general;
    let mut call = Call {
        kernel,
        vcpu,
        paging,
        arguments: ARGUMENT_REGISTERS.map(|index| registers[index]),
        started: kernel.machine.now(),
    };
    let answer = dispatch(&mut call, registers[register::RAX]);
    let arguments = call.arguments;
    match result_value(answer) {
        Some(value) => {
            context.registers_mut().general[register::RAX] = value;
            context.advance();
        }
        None => {
            let general = &mut context.registers_mut().general;
            for (index, argument) in ARGUMENT_REGISTERS.iter().zip(arguments) {
                general[*index] = argument;
            }
        }
    }
}

#[cfg(test)]
mod random_tests;
