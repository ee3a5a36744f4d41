//! `sched_op`: yielding, waiting, and the end.

use hypercall_abi::event_channel::Port;
use hypercall_abi::hypercall::number::SCHED_OP;
use hypercall_abi::sched::{PinOverride, Poll, RemoteShutdown, Shutdown, Watchdog, op, shutdown};
use hypercall_abi::{DomainId, GuestHandle};

use super::Maker;

const NO_OPERATION: u32 = 8;

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let ends = maker.deadly != 0 && maker.numbers.chance(1, maker.deadly / 8 + 1);
    let operation = maker.numbers.weighted(&[
        (op::YIELD, 30),
        (op::BLOCK, 12),
        (op::POLL, 50),
        (op::SHUTDOWN_CODE, 2),
        (op::REMOTE_SHUTDOWN, 2),
        (op::WATCHDOG, 2),
        (op::PIN_OVERRIDE, 1),
        (NO_OPERATION, 1),
    ]);
    let operation = match operation {
        _ if ends => op::SHUTDOWN,
        // Only the privileged domain can do that, and it seldom comes here.
        _ if maker.knowledge.privileged && !maker.in_list && maker.numbers.chance(1, 16) => {
            op::REMOTE_SHUTDOWN
        }
        // In a list, an earlier call could change what it finds in memory.
        op::REMOTE_SHUTDOWN if maker.knowledge.privileged && maker.in_list => op::YIELD,
        other => other,
    };
    let argument = match operation {
        op::POLL => poll(maker),
        op::SHUTDOWN | op::SHUTDOWN_CODE => {
            let valid = maker.numbers.below(u64::from(shutdown::MAX) + 1) as u32;
            let reason = maker.number32(valid);
            maker.structure(&Shutdown { reason })
        }
        op::REMOTE_SHUTDOWN => remote_shutdown(maker),
        op::WATCHDOG => maker.structure(&Watchdog { id: 0, timeout: 30 }),
        op::PIN_OVERRIDE => maker.structure(&PinOverride { physical_cpu: 0 }),
        _ => maker.zero(),
    };
    maker.call(SCHED_OP, operation, &[u64::from(operation), argument]);
}

/// Always somebody else: the end of the privileged domain is the end of the machine. The structure goes where nobody but
/// this vCPU writes.
fn remote_shutdown(maker: &mut Maker<'_>) -> u64 {
    let valid = maker.peer();
    let domain = match maker.domain(valid) {
        id if maker.knowledge.privileged && id == maker.knowledge.id => DomainId::INVALID,
        // Now and then only, or no domain would get old.
        _ if maker.knowledge.privileged && !maker.numbers.chance(1, 4) => DomainId::INVALID,
        other => other,
    };
    let request = RemoteShutdown {
        domain,
        _padding: 0,
        reason: maker.number32(shutdown::REBOOT),
    };
    let address = maker.scratch_end(size_of::<RemoteShutdown>() as u64);
    maker.request.strict = true;
    maker.request.writes.put(address, &request);
    address
}

fn poll(maker: &mut Maker<'_>) -> u64 {
    const MOST: usize = 128;
    let length = if maker.numbers.chance(1, 2) {
        1
    } else {
        maker.numbers.length(MOST)
    };
    let mut ports: heapless::Vec<Port, MOST> = heapless::Vec::new();
    for _ in 0..length {
        let valid = maker
            .knowledge
            .ports
            .pick(maker.numbers)
            .map_or(1, |own| own.port);
        let port = maker.port(valid);
        // There is room: the length is bounded.
        let _ = ports.push(port);
    }
    let list = maker.array(&ports);
    let valid = maker.now + maker.numbers.below(1 << 20);
    let timeout = if maker.numbers.chance(1, 16) {
        0
    } else {
        maker.number(valid)
    };
    let number_of_ports = if maker.wrong() {
        maker.numbers.pick(&[129, 128, u32::MAX, 0])
    } else {
        length as u32
    };
    maker.structure(&Poll {
        ports: GuestHandle::new(list),
        number_of_ports,
        _padding: 0,
        timeout,
    })
}
