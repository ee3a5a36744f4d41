//! Event channels by the two-level bitmaps of the shared page.

use core::mem::offset_of;

use hypercall_abi::event_channel::{self, AllocUnbound, Close, Port, Send};
use hypercall_abi::hypercall::number::{EVENT_CHANNEL_OP, SCHED_OP};
use hypercall_abi::sched::{self, Poll};
use hypercall_abi::xen::SharedInfo;
use hypercall_abi::{DomainId, GuestHandle};

use super::{bare, checked};
use crate::front::Error;
use crate::ring::SharedMemory;

/// Ports that the bitmaps have room for.
const PORTS: Port = 4096;

pub fn open(to: DomainId) -> Result<Port, Error> {
    let mut request = AllocUnbound {
        domain: DomainId::SELF,
        remote_domain: to,
        ..AllocUnbound::default()
    };
    let result = bare::operate(EVENT_CHANNEL_OP, event_channel::op::ALLOC_UNBOUND, &mut request);
    checked("alloc_unbound", result)?;
    Ok(request.port)
}

pub fn close(port: Port) {
    // One that is closed already is what was wanted.
    bare::operate(EVENT_CHANNEL_OP, event_channel::op::CLOSE, &mut Close { port });
}

pub fn send(port: Port) {
    // Whom it does not reach is gone, which the store tells.
    bare::operate(EVENT_CHANNEL_OP, event_channel::op::SEND, &mut Send { port });
}

/// Takes a port's pending bit. Selectors and the vCPU's flag are left as they are: nobody here looks at them.
pub fn take(shared: &SharedMemory, port: Port) -> bool {
    if port >= PORTS {
        return false;
    }
    let word = offset_of!(SharedInfo, evtchn_pending) + port as usize / 32 * 4;
    let bit = 1 << (port % 32);
    shared.clear_bits(word, bit) & bit != 0
}

/// Ports that one poll may name.
const POLLED: usize = 64;

/// Sleeps until one of the ports is pending, or until a moment of the system time in nanoseconds.
pub fn wait(ports: &[Port], until: u64) {
    let ports = &ports[..ports.len().min(POLLED)];
    let mut request = Poll {
        ports: GuestHandle::new(ports.as_ptr() as u64),
        number_of_ports: ports.len() as u32,
        // Zero would wait without end.
        timeout: until.max(1),
        ..Poll::default()
    };
    // The ports are read only, while they are borrowed. An error is an early return.
    bare::operate(SCHED_OP, sched::op::POLL, &mut request);
}
