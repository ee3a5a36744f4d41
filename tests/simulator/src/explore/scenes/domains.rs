//! Domains that are stopped, let go, and taken apart while others work on them.

use hypercall_abi::domctl::{self, Domctl};
use hypercall_abi::event_channel::{AllocUnbound, BindIpi, op as event};
use hypercall_abi::hypercall::number;
use hypercall_abi::memory::{MemoryReservation, op as memory};
use hypercall_abi::vcpu::op as vcpu;
use hypercall_abi::{DomainId, GuestHandle};
use kernel::testing::{self, TestKernel};
use machine::sync::atomic::Ordering;

use super::{Kernel, PAGES, begin, domain, succeeded, until_begin};
use crate::explore::{Act, Cast};

const ARGUMENT: u64 = 0x1000;
const SECOND: u64 = 0x2000;
const LIST: u64 = 0x3000;
/// The domain that others work on.
const GUEST: DomainId = DomainId(1);
/// A number that guests share: the other one is up again.
const UP: usize = 1;

/// One vCPU takes another one down, and up again at once.
pub fn down_and_up(kernel: &Kernel) -> Cast {
    let domain = domain(kernel, GUEST.0, 2);
    let mut cast = Cast::default();
    let call = |operation: u32| Act::Call(number::VCPU_OP, [u64::from(operation), 1, 0, 0, 0, 0]);
    let say = Act::Do(Box::new(|sight| sight.flags.set(UP, 1)));
    cast.add(
        &domain,
        0,
        vec![
            until_begin(),
            call(vcpu::DOWN),
            succeeded(),
            call(vcpu::UP),
            succeeded(),
            say,
        ],
    );
    let go_on = Act::Until(Box::new(|sight| sight.flags.get(UP) != 0));
    cast.add(&domain, 1, vec![begin(), go_on]);
    cast
}

/// A toolstack's one vCPU destroys a guest; its other one does something with that guest, which may be refused. With `more`
/// pages than are taken back in one stretch, that end comes in several, and begins while the other is at work.
fn destroy_beside(kernel: &Kernel, more: u64, call: Act) -> Cast {
    let [first, second] = if more == 0 {
        [begin(), until_begin()]
    } else {
        [until_begin(), begin()]
    };
    let control = testing::vcpu(&domain(kernel, 0, 2), 0);
    let control = control.domain();
    let guest = domain(kernel, GUEST.0, 1);
    for frame in 2 * PAGES..2 * PAGES + more {
        testing::populate(kernel, &guest, frame);
    }
    guest.max_pages.store(16 * PAGES, Ordering::SeqCst);
    let destroy = Domctl::new(domctl::op::DESTROY_DOMAIN, GUEST);
    testing::poke(control, ARGUMENT, &destroy);
    let mut cast = Cast::default();
    let destroy = Act::Call(number::DOMCTL, [ARGUMENT, 0, 0, 0, 0, 0]);
    cast.add(control, 0, vec![first, destroy, succeeded()]);
    cast.add(control, 1, vec![second, call]);
    cast.outcome = Some(|kernel: &TestKernel| match kernel.domains.get(GUEST) {
        None => Ok(()),
        Some(_) => Err("domains: one that was destroyed is still there".into()),
    });
    cast
}

fn reservation(number_of_extents: u64, list: u64) -> MemoryReservation {
    MemoryReservation {
        extent_start: GuestHandle::new(list),
        number_of_extents,
        domain: GUEST,
        ..MemoryReservation::default()
    }
}

fn on_memory(operation: u32) -> Act {
    Act::Call(number::MEMORY_OP, [u64::from(operation), SECOND, 0, 0, 0, 0])
}

fn control(kernel: &TestKernel) -> testing::TestDomain {
    kernel.domains.get(DomainId(0)).expect("a scene with a toolstack")
}

pub fn destroy_and_populate(kernel: &Kernel) -> Cast {
    populate_beside(kernel, 0)
}

pub fn destroy_in_pieces_and_populate(kernel: &Kernel) -> Cast {
    populate_beside(kernel, 48 * PAGES)
}

fn populate_beside(kernel: &Kernel, more: u64) -> Cast {
    let cast = destroy_beside(kernel, more, on_memory(memory::POPULATE_PHYSMAP));
    testing::poke(&control(kernel), SECOND, &reservation(1, LIST));
    // Below what is taken back last.
    testing::poke(&control(kernel), LIST, &PAGES);
    cast
}

pub fn destroy_and_claim(kernel: &Kernel) -> Cast {
    let cast = destroy_beside(kernel, 0, on_memory(memory::CLAIM_PAGES));
    testing::poke(&control(kernel), SECOND, &reservation(8 * PAGES, 0));
    cast
}

pub fn destroy_and_open(kernel: &Kernel) -> Cast {
    let allocate = [u64::from(event::ALLOC_UNBOUND), SECOND, 0, 0, 0, 0];
    let cast = destroy_beside(kernel, 0, Act::Call(number::EVENT_CHANNEL_OP, allocate));
    let request = AllocUnbound {
        domain: GUEST,
        remote_domain: DomainId(0),
        port: 0,
    };
    testing::poke(&control(kernel), SECOND, &request);
    cast
}

/// A domain with more ports than are closed at once.
pub fn many_ports_end(kernel: &Kernel) -> Cast {
    const PORTS: u32 = 67;
    let cast = destroy_beside(kernel, 0, Act::Exit);
    let guest = kernel.domains.get(GUEST).expect("made above");
    for _ in 0..PORTS {
        let request = BindIpi { vcpu: 0, port: 0 };
        let vcpu = testing::vcpu(&guest, 0);
        let call = number::EVENT_CHANNEL_OP;
        let (result, _) = testing::hypercall_with(kernel, &vcpu, call, event::BIND_IPI, request);
        assert_eq!(result, 0);
    }
    cast
}
