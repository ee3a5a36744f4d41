//! `domctl`: what the toolstack does to one domain. Privileged callers only, interface version 0x15.

mod bitmap;
mod domain;
mod hardware;
mod hvm_context;
mod scheduler;
mod vcpu;

use alloc::sync::Arc;

use hypercall_abi::Error;
use hypercall_abi::domctl::{Domctl, INTERFACE_VERSION, op};
use machine::Machine;

use super::{Answer, Call, DONE};
use crate::domain::Domain;

pub(super) use bitmap::write_bitmap;
pub(super) use domain::info_of;
pub(super) use hardware::{ROOM_FOR_MSRS, write_leaves};

/// What a sub-operation wants done with its argument structure.
pub(super) enum Reply {
    /// Nothing to say beyond success.
    Nothing,
    /// The structure was changed: copy it back.
    Structure,
    /// There is more to do: the guest executes the call again.
    Again,
}

/// A sub-operation's result.
pub(super) type Handled = Result<Reply, Error>;

/// `domctl(argument)`.
pub fn handle<M: Machine>(call: &mut Call<'_, M>) -> Answer {
    call.require_privilege()?;
    let address = call.arguments[0];
    let mut request: Domctl = call.read(address)?;
    if request.interface_version != INTERFACE_VERSION {
        return Err(Error::EACCES);
    }
    let handled = match request.command {
        op::CREATE_DOMAIN => domain::create(call, &mut request),
        op::GET_DOMAIN_INFO => domain::get_info(call, &mut request),
        _ => {
            // By its number: "self" means nothing here.
            let target = call.kernel.domains.get(request.domain).ok_or(Error::ESRCH)?;
            with_target(call, &mut request, &target)
        }
    };
    match handled {
        Ok(Reply::Nothing) => DONE,
        Ok(Reply::Again) => Ok(super::Outcome::Restart),
        Ok(Reply::Structure) => {
            call.write(address, &request)?;
            DONE
        }
        Err(error) => Err(error),
    }
}

fn with_target<M: Machine>(call: &Call<'_, M>, request: &mut Domctl, target: &Arc<Domain<M>>) -> Handled {
    match request.command {
        op::DESTROY_DOMAIN => domain::destroy(call, target),
        op::PAUSE_DOMAIN => domain::pause(call, target),
        op::UNPAUSE_DOMAIN => domain::unpause(call, target),
        op::MAX_VCPUS => domain::max_vcpus(call, target, request),
        op::MAX_MEMORY => domain::max_memory(target, request),
        op::SET_DOMAIN_HANDLE => domain::set_handle(target, request),
        op::SET_NODE_AFFINITY => domain::set_node_affinity(call, request),
        op::GET_NODE_AFFINITY => domain::get_node_affinity(call, request),
        op::SCHEDULER_OP => scheduler::parameters(call, target, request),
        op::SET_PAGING_MEMPOOL_SIZE => domain::set_paging_pool(target, request),
        op::GET_PAGING_MEMPOOL_SIZE => domain::get_paging_pool(target, request),
        op::SET_VCPU_AFFINITY => vcpu::set_affinity(call, target, request),
        op::GET_VCPU_AFFINITY => vcpu::get_affinity(call, target, request),
        op::GET_VCPU_INFO => vcpu::info(call, target, request),
        op::SEND_TRIGGER => vcpu::trigger(call, target, request),
        op::GET_HVM_CONTEXT => hvm_context::get(call, target, request),
        op::SET_HVM_CONTEXT => hvm_context::set(call, target, request),
        op::SET_CPU_POLICY => hardware::set_cpu_policy(call, target, request),
        op::GET_CPU_POLICY => hardware::get_cpu_policy(call, target, request),
        op::SET_TSC_INFO => hardware::set_tsc(call, target, request),
        op::GET_TSC_INFO => hardware::get_tsc(call, target, request),
        op::GET_ADDRESS_SIZE => hardware::address_size(request),
        // Register frames in PV's form are no HVM guest's; the machine's state goes through the HVM context.
        op::SET_VCPU_CONTEXT | op::GET_VCPU_CONTEXT => Err(Error::EOPNOTSUPP),
        _ => Err(Error::ENOSYS),
    }
}

#[cfg(test)]
mod tests;
