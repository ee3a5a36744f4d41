//! `event_channel_op`: a sub-operation, and its structure in the caller's memory.

use hypercall_abi::event_channel::{
    AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, Close, ExpandArray, InitControl,
    Port, Reset, Send, SetPriority, Status, Unmask, fifo, op,
};
use hypercall_abi::{DomainId, Error};
use machine::Machine;
use machine::address::GuestFrame;
use zerocopy::{Immutable, IntoBytes};

use super::{Answer, Call, DONE, Outcome};

/// Decode and route.
///
/// # Errors
/// ENOSYS for unknown operations, EFAULT, and what each operation says.
pub fn handle<M: Machine>(call: &mut Call<'_, M>) -> Answer {
    let [operation, argument, ..] = call.arguments;
    match operation as u32 {
        // First, and nothing else: this is the one that counts.
        op::SEND => {
            let Send { port } = call.read(argument)?;
            call.kernel
                .on_behalf_of(call.vcpu, || call.kernel.send_event(call.domain(), port))?;
        }
        op::UNMASK => {
            let Unmask { port } = call.read(argument)?;
            call.kernel.unmask_port(call.domain(), port)?;
        }
        op::ALLOC_UNBOUND => return alloc_unbound(call, argument),
        op::BIND_INTERDOMAIN => return bind_interdomain(call, argument),
        op::BIND_VIRQ => {
            let mut request: BindVirq = call.read(argument)?;
            request.port = call.kernel.bind_virq(call.domain(), request.virq, request.vcpu)?;
            return answer_port(call, argument, &request, request.port);
        }
        op::BIND_IPI => {
            let mut request: BindIpi = call.read(argument)?;
            request.port = call.kernel.bind_ipi(call.domain(), request.vcpu)?;
            return answer_port(call, argument, &request, request.port);
        }
        op::BIND_PIRQ => {
            // Physical interrupts reach a domain through its interrupt controllers: it has no PIRQ of any number.
            let _: BindPirq = call.read(argument)?;
            return Err(Error::EINVAL);
        }
        op::CLOSE => {
            let Close { port } = call.read(argument)?;
            call.kernel.close_port(call.domain(), port)?;
        }
        op::STATUS => return port_status(call, argument),
        op::BIND_VCPU => {
            let BindVcpu { port, vcpu } = call.read(argument)?;
            call.kernel.bind_vcpu(call.domain(), port, vcpu)?;
        }
        op::RESET => return reset(call, argument),
        op::INIT_CONTROL => {
            let mut request: InitControl = call.read(argument)?;
            let frame = GuestFrame(request.control_frame);
            call.kernel
                .init_control(call.domain(), request.vcpu, frame, request.offset)?;
            request.link_bits = fifo::LINK_BITS as u8;
            call.write(argument, &request)?;
        }
        op::EXPAND_ARRAY => {
            let ExpandArray { array_frame } = call.read(argument)?;
            call.kernel.expand_array(call.domain(), GuestFrame(array_frame))?;
        }
        op::SET_PRIORITY => {
            let SetPriority { port, priority } = call.read(argument)?;
            call.kernel.set_priority(call.domain(), port, priority)?;
        }
        _ => return Err(Error::ENOSYS),
    }
    DONE
}

fn alloc_unbound<M: Machine>(call: &mut Call<'_, M>, argument: u64) -> Answer {
    let mut request: AllocUnbound = call.read(argument)?;
    let target = call.target(request.domain)?;
    let remote = if request.remote_domain == DomainId::SELF {
        call.domain().id
    } else {
        request.remote_domain
    };
    request.port = call.kernel.allocate_unbound(&target, remote)?;
    let written = call.write(argument, &request);
    if written.is_err() {
        let _ = call.kernel.close_port(&target, request.port);
    }
    written?;
    DONE
}

fn bind_interdomain<M: Machine>(call: &mut Call<'_, M>, argument: u64) -> Answer {
    let mut request: BindInterdomain = call.read(argument)?;
    // Anyone may bind to anyone: that the port waits for the caller is the authority.
    let remote = match request.remote_domain {
        DomainId::SELF => call.domain().clone(),
        id => call.kernel.domains.get(id).ok_or(Error::ESRCH)?,
    };
    request.local_port = call
        .kernel
        .bind_interdomain(call.domain(), &remote, request.remote_port)?;
    answer_port(call, argument, &request, request.local_port)
}

/// Write the answer that holds a new port; a port that its owner will never learn of is closed again.
fn answer_port<M: Machine, T: IntoBytes + Immutable>(
    call: &Call<'_, M>,
    argument: u64,
    answer: &T,
    port: Port,
) -> Answer {
    let written = call.write(argument, answer);
    if written.is_err() {
        let _ = call.kernel.close_port(call.domain(), port);
    }
    written?;
    DONE
}

fn port_status<M: Machine>(call: &mut Call<'_, M>, argument: u64) -> Answer {
    let request: Status = call.read(argument)?;
    let target = call.target(request.domain)?;
    let answer = call.kernel.port_status(&target, request.port)?;
    call.write(
        argument,
        &Status {
            domain: request.domain,
            ..answer
        },
    )?;
    DONE
}

fn reset<M: Machine>(call: &mut Call<'_, M>, argument: u64) -> Answer {
    let Reset { domain } = call.read(argument)?;
    let target = call.target(domain)?;
    // Another's events are swept away only while it stands still.
    let paused = target
        .toolstack_pauses
        .load(machine::sync::atomic::Ordering::SeqCst)
        != 0;
    if !alloc::sync::Arc::ptr_eq(&target, call.domain()) && !paused {
        return Err(Error::EINVAL);
    }
    loop {
        if call.kernel.reset_ports(&target) {
            return DONE;
        }
        if call.spent() {
            // What is left are the ports still open: the same arguments.
            return Ok(Outcome::Restart);
        }
    }
}

#[cfg(test)]
mod tests {
    use hypercall_abi::event_channel::status;
    use hypercall_abi::hypercall::number::EVENT_CHANNEL_OP;
    use hypercall_abi::xen::virq;

    use super::*;
    use crate::testing::{self, TestKernel, TestVcpu, hypercall, hypercall_with};

    fn setting() -> (TestKernel, TestVcpu, TestVcpu) {
        let kernel = testing::kernel();
        let control = testing::vcpu(&testing::domain(&kernel, 0, 2, 8), 0);
        let guest = testing::vcpu(&testing::domain(&kernel, 1, 2, 8), 0);
        (kernel, control, guest)
    }

    fn error(error: Error) -> i64 {
        error.as_result()
    }

    #[test]
    fn a_channel_from_allocation_to_event() {
        let (kernel, control, guest) = setting();
        let request = AllocUnbound {
            domain: DomainId::SELF,
            remote_domain: DomainId(0),
            port: 0,
        };
        let (result, answer) = hypercall_with(&kernel, &guest, EVENT_CHANNEL_OP, op::ALLOC_UNBOUND, request);
        assert_eq!((result, answer.port), (0, 1));

        let request = BindInterdomain {
            remote_domain: DomainId(1),
            remote_port: 1,
            ..BindInterdomain::default()
        };
        let (result, answer) =
            hypercall_with(&kernel, &control, EVENT_CHANNEL_OP, op::BIND_INTERDOMAIN, request);
        assert_eq!((result, answer.local_port), (0, 1));

        assert!(!guest.upcall_pending());
        let (result, _) = hypercall_with(&kernel, &control, EVENT_CHANNEL_OP, op::SEND, Send { port: 1 });
        assert_eq!(result, 0);
        assert!(guest.upcall_pending());

        let request = Status {
            domain: DomainId::SELF,
            port: 1,
            ..Status::default()
        };
        let (result, answer) = hypercall_with(&kernel, &guest, EVENT_CHANNEL_OP, op::STATUS, request);
        assert_eq!((result, answer.status), (0, status::INTERDOMAIN));
        assert_eq!((answer.remote_domain(), answer.remote_port()), (DomainId(0), 1));
        assert_eq!(answer.domain, DomainId::SELF);

        let (result, _) = hypercall_with(&kernel, &guest, EVENT_CHANNEL_OP, op::CLOSE, Close { port: 1 });
        assert_eq!(result, 0);
        let (result, _) = hypercall_with(&kernel, &control, EVENT_CHANNEL_OP, op::SEND, Send { port: 1 });
        assert_eq!(result, 0, "unbound now: sent to nobody");
    }

    #[test]
    fn only_the_privileged_may_act_on_others() {
        let (kernel, control, guest) = setting();
        let for_control = AllocUnbound {
            domain: DomainId(0),
            remote_domain: DomainId(1),
            port: 0,
        };
        let (result, _) = hypercall_with(&kernel, &guest, EVENT_CHANNEL_OP, op::ALLOC_UNBOUND, for_control);
        assert_eq!(result, error(Error::EPERM));
        let (result, _) = hypercall_with(
            &kernel,
            &guest,
            EVENT_CHANNEL_OP,
            op::STATUS,
            Status {
                domain: DomainId(0),
                port: 1,
                ..Status::default()
            },
        );
        assert_eq!(result, error(Error::EPERM));
        let (result, _) = hypercall_with(
            &kernel,
            &guest,
            EVENT_CHANNEL_OP,
            op::RESET,
            Reset { domain: DomainId(0) },
        );
        assert_eq!(result, error(Error::EPERM));

        let for_guest = AllocUnbound {
            domain: DomainId(1),
            remote_domain: DomainId::SELF,
            port: 0,
        };
        let (result, answer) =
            hypercall_with(&kernel, &control, EVENT_CHANNEL_OP, op::ALLOC_UNBOUND, for_guest);
        assert_eq!((result, answer.port), (0, 1));
        let nobody = AllocUnbound {
            domain: DomainId(9),
            remote_domain: DomainId(1),
            port: 0,
        };
        let (result, _) = hypercall_with(&kernel, &control, EVENT_CHANNEL_OP, op::ALLOC_UNBOUND, nobody);
        assert_eq!(result, error(Error::ESRCH));
        let (result, _) = hypercall_with(
            &kernel,
            &control,
            EVENT_CHANNEL_OP,
            op::RESET,
            Reset { domain: DomainId(1) },
        );
        assert_eq!(result, error(Error::EINVAL), "not while it runs");
        guest
            .domain()
            .toolstack_pauses
            .store(1, machine::sync::atomic::Ordering::SeqCst);
        let (result, _) = hypercall_with(
            &kernel,
            &control,
            EVENT_CHANNEL_OP,
            op::RESET,
            Reset { domain: DomainId(1) },
        );
        assert_eq!(result, 0);
    }

    #[test]
    fn a_port_whose_number_cannot_be_told_is_not_kept() {
        let (kernel, _, guest) = setting();
        // The request can be read, but the page is read-only: the answer faults.
        let page = machine::address::GuestFrame(3);
        let address = page.address().0;
        testing::poke(
            guest.domain(),
            address,
            &BindVirq {
                virq: virq::TIMER,
                vcpu: 0,
                port: 0,
            },
        );
        let read_only = machine::stage_two::Permissions::READ_ONLY;
        guest
            .domain()
            .physmap
            .protect(&kernel.machine, page, read_only)
            .unwrap();
        let arguments = [u64::from(op::BIND_VIRQ), address];
        assert_eq!(
            hypercall(&kernel, &guest, EVENT_CHANNEL_OP, &arguments),
            error(Error::EFAULT)
        );
        let request = BindVirq {
            virq: virq::TIMER,
            vcpu: 0,
            port: 0,
        };
        let (result, answer) = hypercall_with(&kernel, &guest, EVENT_CHANNEL_OP, op::BIND_VIRQ, request);
        assert_eq!(
            (result, answer.port),
            (0, 1),
            "neither the interrupt nor the port is taken"
        );
    }

    #[test]
    fn unknown_operations_and_bad_pointers() {
        let (kernel, _, guest) = setting();
        assert_eq!(
            hypercall(&kernel, &guest, EVENT_CHANNEL_OP, &[14, 0]),
            error(Error::ENOSYS)
        );
        for operation in 0..=13 {
            let result = hypercall(&kernel, &guest, EVENT_CHANNEL_OP, &[operation, 0x7000_0000]);
            assert_eq!(result, error(Error::EFAULT), "operation {operation}");
        }
        let (result, _) = hypercall_with(
            &kernel,
            &guest,
            EVENT_CHANNEL_OP,
            op::BIND_PIRQ,
            BindPirq::default(),
        );
        assert_eq!(result, error(Error::EINVAL));
    }

    #[test]
    fn a_reset_of_many_ports_restarts_until_it_is_done() {
        let (kernel, _, guest) = setting();
        for _ in 0..1000 {
            kernel.allocate_unbound(guest.domain(), DomainId(0)).unwrap();
        }
        testing::poke(
            guest.domain(),
            0,
            &Reset {
                domain: DomainId::SELF,
            },
        );
        assert_eq!(
            hypercall(&kernel, &guest, EVENT_CHANNEL_OP, &[u64::from(op::RESET), 0]),
            0
        );
        assert_eq!(kernel.allocate_unbound(guest.domain(), DomainId(0)), Ok(1));
    }

    #[test]
    fn the_fifo_operations_reach_the_guest() {
        let (kernel, _, guest) = setting();
        let request = InitControl {
            control_frame: 1,
            offset: 64,
            vcpu: 0,
            ..InitControl::default()
        };
        let (result, answer) = hypercall_with(&kernel, &guest, EVENT_CHANNEL_OP, op::INIT_CONTROL, request);
        assert_eq!((result, answer.link_bits), (0, 17));
        let (result, _) = hypercall_with(
            &kernel,
            &guest,
            EVENT_CHANNEL_OP,
            op::EXPAND_ARRAY,
            ExpandArray { array_frame: 2 },
        );
        assert_eq!(result, 0);
        let (_, answer) = hypercall_with(
            &kernel,
            &guest,
            EVENT_CHANNEL_OP,
            op::BIND_VIRQ,
            BindVirq {
                virq: virq::TIMER,
                vcpu: 0,
                port: 0,
            },
        );
        let request = SetPriority {
            port: answer.port,
            priority: 0,
        };
        let (result, _) = hypercall_with(&kernel, &guest, EVENT_CHANNEL_OP, op::SET_PRIORITY, request);
        assert_eq!(result, 0);
        kernel.send_virq(guest.domain(), 0, virq::TIMER);
        let ready: u32 = testing::peek(guest.domain(), 4096 + 64);
        assert_eq!(ready, 1, "queue 0 has something");
        assert!(guest.upcall_pending());
    }
}
