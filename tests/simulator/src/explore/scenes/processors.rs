//! Processors that take on vCPUs, go idle, and serve timers, while others change what they look at.

use hypercall_abi::domctl::{self, Domctl, VcpuAffinity, affinity_flag};
use hypercall_abi::event_channel::{BindVirq, op as event};
use hypercall_abi::hypercall::number;
use hypercall_abi::vcpu::{SetPeriodicTimer, op as vcpu};
use hypercall_abi::xen::{ControlBitmap, virq};
use hypercall_abi::{DomainId, GuestHandle};
use kernel::testing;
use kernel::vcpu::stop;
use machine::sync::atomic::Ordering;

use super::{Kernel, begin, domain, send_event, send_interrupt, succeeded, took, until_begin};
use crate::explore::{Act, Cast};

const VECTOR: u8 = 0x41;
const ARGUMENT: u64 = 0x1000;
const SECOND: u64 = 0x2000;
const BITMAP: u64 = 0x2800;
/// A number that guests share: the one that was woken has run.
const RAN: usize = 1;
/// Another: when a timer is to fire.
const DEADLINE: usize = 2;

/// A vCPU that sleeps, and is woken by one that keeps its processor; a third one's processor goes idle.
pub fn idle_and_wake(kernel: &Kernel) -> Cast {
    let waker = domain(kernel, 1, 2);
    let other = domain(kernel, 2, 1);
    waker.vcpus[1].stops.fetch_or(stop::BLOCKED, Ordering::SeqCst);
    let mut cast = Cast::default();
    let ran = Act::Until(Box::new(|sight| sight.flags.get(RAN) != 0));
    cast.add(&waker, 0, vec![until_begin(), send_interrupt(1, VECTOR), ran]);
    let say = Act::Do(Box::new(|sight| sight.flags.set(RAN, 1)));
    cast.add(&waker, 1, vec![Act::HaltUntil(took(VECTOR)), say]);
    cast.add(&other, 0, vec![begin(), Act::Exit]);
    cast
}

/// A toolstack pins a vCPU that it has just woken to a processor, while another takes it on.
pub fn move_and_take(kernel: &Kernel) -> Cast {
    let control = domain(kernel, 0, 1);
    let guest = domain(kernel, 1, 1);
    guest.vcpus[0].stops.fetch_or(stop::BLOCKED, Ordering::SeqCst);
    // The channel by which it is woken.
    guest.vcpus[0].upcall_vector.store(VECTOR, Ordering::SeqCst);
    channel(kernel, &control, &guest, ARGUMENT);
    let mut request = Domctl::new(domctl::op::SET_VCPU_AFFINITY, guest.id);
    request.set_view(&VcpuAffinity {
        vcpu: 0,
        flags: affinity_flag::HARD,
        hard: ControlBitmap {
            bitmap: GuestHandle::new(BITMAP),
            nr_bits: 2,
            ..ControlBitmap::default()
        },
        ..VcpuAffinity::default()
    });
    testing::poke(&control, SECOND, &request);
    // The processor on which the toolstack runs.
    testing::poke(&control, BITMAP, &1u8);
    let mut cast = Cast::default();
    let pin = Act::Call(number::DOMCTL, [SECOND, 0, 0, 0, 0, 0]);
    cast.add(
        &control,
        0,
        vec![
            Act::Exit,
            begin(),
            send_event(ARGUMENT),
            succeeded(),
            pin,
            succeeded(),
        ],
    );
    cast.add(&guest, 0, vec![Act::HaltUntil(took(VECTOR))]);
    cast
}

/// A channel between two domains; the argument of the call by which the first one sends lies at `address`.
fn channel(kernel: &Kernel, from: &testing::TestDomain, to: &testing::TestDomain, address: u64) {
    use hypercall_abi::event_channel::{AllocUnbound, BindInterdomain};
    let offer = AllocUnbound {
        domain: DomainId::SELF,
        remote_domain: from.id,
        port: 0,
    };
    let call = number::EVENT_CHANNEL_OP;
    let (result, offered) =
        testing::hypercall_with(kernel, &testing::vcpu(to, 0), call, event::ALLOC_UNBOUND, offer);
    assert_eq!(result, 0);
    let bind = BindInterdomain {
        remote_domain: to.id,
        _padding: 0,
        remote_port: offered.port,
        local_port: 0,
    };
    let (result, bound) = testing::hypercall_with(
        kernel,
        &testing::vcpu(from, 0),
        call,
        event::BIND_INTERDOMAIN,
        bind,
    );
    assert_eq!(result, 0);
    testing::poke(from, address, &bound.local_port);
}

/// A vCPU sleeps until its timer fires; another sets that timer anew at the same moment.
pub fn expire_and_set(kernel: &Kernel) -> Cast {
    /// Nanoseconds before the deadline at which others get ready.
    const SOON: u64 = 10_000;
    let domain = domain(kernel, 1, 2);
    domain.vcpus[1].upcall_vector.store(VECTOR, Ordering::SeqCst);
    let bind = BindVirq {
        virq: virq::TIMER,
        vcpu: 1,
        port: 0,
    };
    let (result, _) = testing::hypercall_with(
        kernel,
        &testing::vcpu(&domain, 1),
        number::EVENT_CHANNEL_OP,
        event::BIND_VIRQ,
        bind,
    );
    assert_eq!(result, 0);
    let period = SetPeriodicTimer { period_ns: 1_000_000 };
    testing::poke(&domain, ARGUMENT, &period);
    let set = || {
        let arguments = [u64::from(vcpu::SET_PERIODIC_TIMER), 1, ARGUMENT, 0, 0, 0];
        Act::Call(number::VCPU_OP, arguments)
    };
    let late = |before: u64| {
        Act::Until(Box::new(move |sight| {
            let deadline = u64::from(sight.flags.get(DEADLINE));
            deadline != 0 && sight.now() + before >= deadline
        }))
    };
    let mut cast = Cast::default();
    cast.add(&domain, 0, vec![late(SOON), begin(), late(0), set(), succeeded()]);
    let say = Act::Do(Box::new(|sight| {
        // A millisecond from the start: it fits.
        sight.flags.set(DEADLINE, sight.next_deadline() as u32);
    }));
    let sleep = Act::HaltUntil(took(VECTOR));
    cast.add(&domain, 1, vec![set(), succeeded(), say, sleep]);
    cast
}
