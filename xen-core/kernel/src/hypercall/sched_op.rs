//! `sched_op`: yield, block, poll, shut down.

use machine::sync::atomic::Ordering;

use hypercall_abi::Error;
use hypercall_abi::sched::{Poll, RemoteShutdown, Shutdown, op};
use machine::Machine;

use super::{Answer, Call, DONE};
use crate::vcpu::stop;

/// Ports that one poll may name: Xen's limit.
const MOST_PORTS: u32 = 128;
/// [`crate::vcpu::Vcpu::polling`] for several ports.
const SEVERAL: u32 = u32::MAX;

/// `sched_op(op, argument)`.
pub fn handle<M: Machine>(call: &mut Call<'_, M>) -> Answer {
    let [operation, argument, ..] = call.arguments;
    match operation as u32 {
        op::YIELD => {
            call.kernel.yield_now(call.vcpu);
            DONE
        }
        op::BLOCK => {
            call.kernel.block(call.vcpu);
            DONE
        }
        op::SHUTDOWN => {
            let request: Shutdown = call.read(argument)?;
            call.kernel.shutdown_domain(call.domain(), request.reason as u8);
            DONE
        }
        op::SHUTDOWN_CODE => {
            let request: Shutdown = call.read(argument)?;
            let mut lifecycle = call.domain().lifecycle.lock();
            // The first reason told counts, and only for a shutdown to come.
            lifecycle.shutdown_code.get_or_insert(request.reason as u8);
            DONE
        }
        op::REMOTE_SHUTDOWN => {
            let request: RemoteShutdown = call.read(argument)?;
            call.require_privilege()?;
            let target = call.kernel.domains.get(request.domain).ok_or(Error::ESRCH)?;
            call.kernel.shutdown_domain(&target, request.reason as u8);
            DONE
        }
        op::POLL => poll(call, argument),
        // The watchdog is not there yet; nobody may believe that one watches.
        _ => Err(Error::ENOSYS),
    }
}

fn poll<M: Machine>(call: &mut Call<'_, M>, argument: u64) -> Answer {
    let request: Poll = call.read(argument)?;
    if request.number_of_ports > MOST_PORTS {
        return Err(Error::EINVAL);
    }
    let (vcpu, domain) = (call.vcpu, call.domain());
    // First say what we wait for, then look: whoever sends meanwhile finds us waiting.
    let first: u32 = if request.number_of_ports == 1 {
        call.read(request.ports.address())?
    } else {
        0
    };
    let polling = if request.number_of_ports == 1 {
        first.wrapping_add(1)
    } else {
        SEVERAL
    };
    vcpu.polling.store(polling, Ordering::SeqCst);
    vcpu.stops.fetch_or(stop::POLLING, Ordering::SeqCst);
    let give_up = || {
        vcpu.polling.store(0, Ordering::SeqCst);
        vcpu.stops.fetch_and(!stop::POLLING, Ordering::SeqCst);
    };
    for index in 0..u64::from(request.number_of_ports) {
        let answer = call
            .read_element::<u32>(request.ports.address(), index)
            .and_then(|port| call.kernel.is_pending(domain, port));
        match answer {
            Ok(false) => {}
            Ok(true) => {
                give_up();
                return DONE;
            }
            Err(error) => {
                give_up();
                return Err(error);
            }
        }
    }
    // An interrupt that waits ends the poll too.
    if call.kernel.has_work(vcpu) {
        give_up();
        return DONE;
    }
    // Without a timeout, none that an earlier poll left may end this one.
    call.kernel.change_deadlines(vcpu, |deadlines| {
        deadlines.poll = (request.timeout != 0).then_some(request.timeout);
    });
    DONE
}

#[cfg(test)]
mod tests;
