//! `hvm_op`: parameters of hardware-assisted guests, and how their vCPUs are told of events.

use machine::sync::atomic::Ordering;

use hypercall_abi::hvm::{EventUpcallVector, GetTime, Param, op, param};
use hypercall_abi::sched::shutdown;
use hypercall_abi::{DomainId, Error};
use machine::Machine;

use super::{Answer, Call, DONE};
use crate::domain::{HVM_PARAMETERS, VcpuHandle};

/// `hvm_op(op, argument)`.
pub fn handle<M: Machine>(call: &mut Call<'_, M>) -> Answer {
    let [operation, argument, ..] = call.arguments;
    match operation as u32 {
        op::SET_PARAM => set_param(call, argument),
        op::GET_PARAM => get_param(call, argument),
        op::SET_EVTCHN_UPCALL_VECTOR => set_upcall_vector(call, argument),
        op::FLUSH_TLBS if argument != 0 => Err(Error::EINVAL),
        op::FLUSH_TLBS => {
            call.machine().flush(call.domain().physmap.root());
            DONE
        }
        op::GET_TIME => {
            let now = call.machine().now();
            call.write(argument, &GetTime { now })?;
            DONE
        }
        // Page tables are the guest's own business under nested paging; Linux asks once and is content.
        _ => Err(Error::ENOSYS),
    }
}

fn index_of(request: &Param) -> Result<usize, Error> {
    let index = request.index as usize;
    // The table has holes, too.
    if index >= HVM_PARAMETERS || matches!(request.index, 3 | 7 | 8) {
        Err(Error::EINVAL)
    } else {
        Ok(index)
    }
}

fn get_param<M: Machine>(call: &mut Call<'_, M>, argument: u64) -> Answer {
    let mut request: Param = call.read(argument)?;
    let index = index_of(&request)?;
    let target = call.target(request.domain)?;
    let own = request.domain == DomainId::SELF || target.id == call.domain().id;
    // What a guest may know of itself.
    let readable = matches!(
        request.index,
        param::CALLBACK_IRQ
            | param::VM86_TSS
            | param::VM86_TSS_SIZED
            | param::STORE_PFN
            | param::STORE_EVTCHN
            | param::CONSOLE_PFN
            | param::CONSOLE_EVTCHN
            | param::ALTP2M
            | param::VM_GENERATION_ID_ADDR
            | param::TRIPLE_FAULT_REASON
    );
    if own && !readable {
        return Err(Error::EPERM);
    }
    request.value = target.hvm_parameters.lock()[index];
    call.write(argument, &request)?;
    DONE
}

fn set_param<M: Machine>(call: &mut Call<'_, M>, argument: u64) -> Answer {
    let request: Param = call.read(argument)?;
    let index = index_of(&request)?;
    let target = call.target(request.domain)?;
    let own = target.id == call.domain().id;
    if !own && target.is_dying() {
        return Err(Error::EINVAL);
    }
    // Of its own, a guest sets how it is called and where it found things; all else is its toolstack's.
    let settable = matches!(
        request.index,
        param::CALLBACK_IRQ
            | param::VM86_TSS
            | param::VM86_TSS_SIZED
            | param::STORE_EVTCHN
            | param::CONSOLE_EVTCHN
            | param::VM_GENERATION_ID_ADDR
    );
    if own && !settable {
        return Err(Error::EPERM);
    }
    match request.index {
        param::CALLBACK_IRQ => {
            call.kernel.set_callback(&target, request.value);
            return DONE;
        }
        param::TRIPLE_FAULT_REASON if request.value > u64::from(shutdown::MAX) => return Err(Error::EINVAL),
        // Views of memory that differ by vCPU, nested virtualisation and other hypervisors' interfaces are not offered:
        // only "off" is accepted.
        param::ALTP2M | param::NESTED_HVM | param::VIRIDIAN if request.value != 0 => {
            return Err(Error::EOPNOTSUPP);
        }
        // Once told, they stay.
        param::IOREQ_PFN | param::BUFIOREQ_PFN | param::IOREQ_SERVER_PFN | param::NR_IOREQ_SERVER_PAGES => {
            let mut parameters = target.hvm_parameters.lock();
            if parameters[index] != 0 && parameters[index] != request.value {
                return Err(Error::EEXIST);
            }
            parameters[index] = request.value;
            return DONE;
        }
        _ => {}
    }
    target.hvm_parameters.lock()[index] = request.value;
    DONE
}

fn set_upcall_vector<M: Machine>(call: &mut Call<'_, M>, argument: u64) -> Answer {
    /// Vectors below are exceptions'.
    const FIRST_VECTOR: u8 = 16;
    let request: EventUpcallVector = call.read(argument)?;
    if request.vector < FIRST_VECTOR {
        return Err(Error::EINVAL);
    }
    let target = VcpuHandle::new(call.domain(), request.vcpu).ok_or(Error::ENOENT)?;
    target.upcall_vector.store(request.vector, Ordering::Release);
    // An event that came before the vector did would otherwise never be told.
    if target.upcall_pending() {
        target.lapic.post(request.vector);
        call.kernel.unblock(&target);
    }
    DONE
}

#[cfg(test)]
mod tests;
