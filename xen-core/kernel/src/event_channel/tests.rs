//! Ports and the 2-level ABI.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use hypercall_abi::event_channel::{TWO_LEVEL_CHANNELS, status};
use hypercall_abi::xen::virq;
use hypercall_abi::{DomainId, Error};
use machine::address::GuestFrame;

use crate::testing::{self, TestDomain, TestKernel};
use crate::vcpu::stop;

const PENDING: usize = 2048;
const MASK: usize = 2560;

fn setting() -> (TestKernel, TestDomain, TestDomain) {
    let kernel = testing::kernel();
    let control = testing::domain(&kernel, 0, 2, 0);
    let guest = testing::domain(&kernel, 1, 2, 4);
    (kernel, control, guest)
}

fn pending(domain: &TestDomain, port: u32) -> bool {
    domain
        .shared_info
        .load_u64(PENDING + port as usize / 64 * 8)
        .unwrap()
        & (1 << (port % 64))
        != 0
}

fn set_mask(domain: &TestDomain, port: u32) {
    domain
        .shared_info
        .fetch_or_u64(MASK + port as usize / 64 * 8, 1 << (port % 64))
        .unwrap();
}

/// What the guest's upcall handler does first: take the flag and the selector.
fn take_upcall(domain: &TestDomain, vcpu: usize) -> (bool, u64) {
    let upcall = domain.shared_info.fetch_and_u8(vcpu * 64, 0).unwrap() != 0;
    (
        upcall,
        domain.shared_info.fetch_and_u64(vcpu * 64 + 8, 0).unwrap(),
    )
}

fn take_pending(domain: &TestDomain, port: u32) {
    domain
        .shared_info
        .fetch_and_u64(PENDING + port as usize / 64 * 8, !(1 << (port % 64)))
        .unwrap();
}

/// A channel between the two, with what binding raised taken away: (control's port, guest's port).
fn channel(kernel: &TestKernel, control: &TestDomain, guest: &TestDomain) -> (u32, u32) {
    let theirs = kernel.allocate_unbound(guest, control.id).unwrap();
    let ours = kernel.bind_interdomain(control, guest, theirs).unwrap();
    take_pending(control, ours);
    take_upcall(control, 0);
    (ours, theirs)
}

#[test]
fn ports_are_given_from_the_lowest_and_used_again() {
    let (kernel, _, guest) = setting();
    for expected in 1..=70 {
        assert_eq!(kernel.allocate_unbound(&guest, DomainId(0)), Ok(expected));
    }
    kernel.close_port(&guest, 65).unwrap();
    kernel.close_port(&guest, 3).unwrap();
    assert_eq!(kernel.allocate_unbound(&guest, DomainId(0)), Ok(3));
    assert_eq!(kernel.allocate_unbound(&guest, DomainId(0)), Ok(65));
    assert_eq!(kernel.allocate_unbound(&guest, DomainId(0)), Ok(71));
}

#[test]
fn nobody_gets_more_ports_than_allowed() {
    let kernel = testing::kernel();
    let few = crate::domain::DomainConfig {
        max_event_port: 5,
        ..testing::configuration(1, false)
    };
    let few = testing::domain_with(&kernel, 1, &few, 0);
    let many = crate::domain::DomainConfig {
        max_event_port: u32::MAX,
        ..testing::configuration(1, false)
    };
    let many = testing::domain_with(&kernel, 2, &many, 0);
    for (domain, last) in [(&few, 5), (&many, TWO_LEVEL_CHANNELS - 1)] {
        for port in 1..=last {
            assert_eq!(kernel.allocate_unbound(domain, DomainId(0)), Ok(port));
        }
        assert_eq!(kernel.allocate_unbound(domain, DomainId(0)), Err(Error::ENOSPC));
        assert_eq!(kernel.bind_ipi(domain, 0), Err(Error::ENOSPC));
        assert_eq!(kernel.bind_virq(domain, virq::TIMER, 0), Err(Error::ENOSPC));
        kernel.close_port(domain, 4).unwrap();
        assert_eq!(kernel.bind_virq(domain, virq::TIMER, 0), Ok(4));
    }
}

#[test]
fn binding_needs_an_unbound_port_that_waits_for_the_binder() {
    let (kernel, control, guest) = setting();
    let other = testing::domain(&kernel, 2, 1, 0);
    let port = kernel.allocate_unbound(&guest, DomainId(0)).unwrap();
    for wrong in [0, port + 1, 64, u32::MAX] {
        assert_eq!(
            kernel.bind_interdomain(&control, &guest, wrong),
            Err(Error::EINVAL)
        );
    }
    assert_eq!(kernel.bind_interdomain(&other, &guest, port), Err(Error::EINVAL));
    let ours = kernel.bind_interdomain(&control, &guest, port).unwrap();
    assert!(
        pending(&control, ours),
        "what was sent before the binding may be lost: look once"
    );
    assert_eq!(take_upcall(&control, 0), (true, 1));
    assert!(!pending(&guest, port));
    assert_eq!(
        kernel.bind_interdomain(&control, &guest, port),
        Err(Error::EINVAL),
        "bound already"
    );
}

#[test]
fn a_send_sets_the_bit_the_selector_and_the_upcall_once() {
    let (kernel, control, guest) = setting();
    let (ours, theirs) = channel(&kernel, &control, &guest);
    kernel.send_event(&control, ours).unwrap();
    assert!(pending(&guest, theirs));
    assert_eq!(take_upcall(&guest, 0), (true, 1));
    kernel.send_event(&control, ours).unwrap();
    assert_eq!(
        take_upcall(&guest, 0),
        (false, 0),
        "pending already: announced already"
    );
    take_pending(&guest, theirs);
    kernel.send_event(&control, ours).unwrap();
    assert_eq!(take_upcall(&guest, 0), (true, 1));
    kernel.send_event(&guest, theirs).unwrap();
    assert!(pending(&control, ours), "and the other way");
}

#[test]
fn a_masked_port_waits_for_its_unmasking() {
    let (kernel, control, guest) = setting();
    let (ours, theirs) = channel(&kernel, &control, &guest);
    set_mask(&guest, theirs);
    kernel.send_event(&control, ours).unwrap();
    assert!(pending(&guest, theirs));
    assert_eq!(take_upcall(&guest, 0), (false, 0));
    kernel.unmask_port(&guest, theirs).unwrap();
    assert_eq!(take_upcall(&guest, 0), (true, 1));
    kernel.unmask_port(&guest, theirs).unwrap();
    assert_eq!(take_upcall(&guest, 0), (false, 0), "was not masked");
    assert_eq!(
        kernel.unmask_port(&guest, 60),
        Ok(()),
        "a closed port is left alone"
    );
    assert_eq!(kernel.unmask_port(&guest, 5000), Err(Error::EINVAL));
}

#[test]
fn what_cannot_be_sent() {
    let (kernel, _, guest) = setting();
    let unbound = kernel.allocate_unbound(&guest, DomainId(0)).unwrap();
    let timer = kernel.bind_virq(&guest, virq::TIMER, 0).unwrap();
    assert_eq!(kernel.send_event(&guest, unbound), Ok(()), "nobody there");
    assert_eq!(kernel.send_event(&guest, timer), Err(Error::EINVAL));
    for wrong in [0, timer + 1, 64, u32::MAX] {
        assert_eq!(kernel.send_event(&guest, wrong), Err(Error::EINVAL));
    }
}

#[test]
fn a_domain_may_talk_to_itself() {
    let (kernel, _, guest) = setting();
    let first = kernel.allocate_unbound(&guest, guest.id).unwrap();
    let second = kernel.bind_interdomain(&guest, &guest, first).unwrap();
    take_pending(&guest, second);
    kernel.send_event(&guest, first).unwrap();
    assert!(pending(&guest, second));
    kernel.send_event(&guest, second).unwrap();
    assert!(pending(&guest, first));
    let shares = Arc::strong_count(&guest);
    kernel.close_port(&guest, first).unwrap();
    assert_eq!(
        kernel.port_status(&guest, second).unwrap().status,
        status::UNBOUND
    );
    assert_eq!(Arc::strong_count(&guest), shares - 2);
}

#[test]
fn closing_one_end_lets_the_other_wait_for_the_same_domain() {
    let (kernel, control, guest) = setting();
    let (ours, theirs) = channel(&kernel, &control, &guest);
    kernel.send_event(&guest, theirs).unwrap();
    kernel.close_port(&control, ours).unwrap();
    assert!(
        !pending(&control, ours),
        "what waited is not for the port's next use"
    );
    assert_eq!(kernel.close_port(&control, ours), Err(Error::EINVAL));
    let left = kernel.port_status(&guest, theirs).unwrap();
    assert_eq!(
        (left.status, left.remote_domain()),
        (status::UNBOUND, DomainId(0))
    );
    assert_eq!(kernel.send_event(&guest, theirs), Ok(()));
    assert_eq!(kernel.bind_interdomain(&control, &guest, theirs), Ok(ours));
}

#[test]
fn virtual_interrupts_of_a_vcpu() {
    let (kernel, _, guest) = setting();
    assert_eq!(kernel.bind_virq(&guest, virq::COUNT, 0), Err(Error::EINVAL));
    assert_eq!(kernel.bind_virq(&guest, virq::TIMER, 2), Err(Error::ENOENT));
    let first = kernel.bind_virq(&guest, virq::TIMER, 0).unwrap();
    let second = kernel.bind_virq(&guest, virq::TIMER, 1).unwrap();
    assert_eq!(kernel.bind_virq(&guest, virq::TIMER, 1), Err(Error::EEXIST));
    kernel.send_virq(&guest, 1, virq::TIMER);
    assert!(pending(&guest, second) && !pending(&guest, first));
    assert_eq!(take_upcall(&guest, 1), (true, 1));
    assert_eq!(take_upcall(&guest, 0), (false, 0));
    kernel.send_virq(&guest, 1, virq::DEBUG);
    kernel.send_virq(&guest, 9, virq::TIMER);
    assert_eq!(take_upcall(&guest, 1), (false, 0), "not bound");
    kernel.close_port(&guest, second).unwrap();
    kernel.send_virq(&guest, 1, virq::TIMER);
    assert!(!pending(&guest, second));
    assert_eq!(kernel.bind_virq(&guest, virq::TIMER, 1), Ok(second));
    let answer = kernel.port_status(&guest, second).unwrap();
    assert_eq!(
        (answer.status, answer.interrupt(), answer.vcpu),
        (status::VIRQ, virq::TIMER, 1)
    );
}

#[test]
fn virtual_interrupts_of_the_machine_go_to_the_initial_domain() {
    let (kernel, control, guest) = setting();
    assert_eq!(
        kernel.bind_virq(&control, virq::DOMAIN_EXCEPTION, 1),
        Err(Error::EINVAL)
    );
    let ours = kernel.bind_virq(&control, virq::DOMAIN_EXCEPTION, 0).unwrap();
    let theirs = kernel.bind_virq(&guest, virq::DOMAIN_EXCEPTION, 0).unwrap();
    kernel.bind_vcpu(&control, ours, 1).unwrap();
    kernel.send_global_virq(virq::DOMAIN_EXCEPTION);
    assert!(pending(&control, ours));
    assert_eq!(take_upcall(&control, 1), (true, 1), "the vCPU it was moved to");
    assert!(!pending(&guest, theirs));
    kernel.close_port(&control, ours).unwrap();
    assert_eq!(kernel.bind_virq(&control, virq::DOMAIN_EXCEPTION, 0), Ok(ours));
    kernel.send_global_virq(virq::CONSOLE);
}

#[test]
fn ports_move_between_vcpus_if_they_are_bound_to_none() {
    let (kernel, control, guest) = setting();
    let (ours, theirs) = channel(&kernel, &control, &guest);
    kernel.bind_vcpu(&guest, theirs, 1).unwrap();
    kernel.send_event(&control, ours).unwrap();
    assert_eq!(
        (take_upcall(&guest, 0), take_upcall(&guest, 1)),
        ((false, 0), (true, 1))
    );
    assert_eq!(kernel.bind_vcpu(&guest, theirs, 2), Err(Error::ENOENT));
    let ipi = kernel.bind_ipi(&guest, 1).unwrap();
    let timer = kernel.bind_virq(&guest, virq::TIMER, 1).unwrap();
    for fixed in [ipi, timer, 0, 50, 500] {
        assert_eq!(
            kernel.bind_vcpu(&guest, fixed, 0),
            Err(Error::EINVAL),
            "port {fixed}"
        );
    }
}

#[test]
fn an_ipi_notifies_its_vcpu() {
    let (kernel, _, guest) = setting();
    assert_eq!(kernel.bind_ipi(&guest, 2), Err(Error::ENOENT));
    let port = kernel.bind_ipi(&guest, 1).unwrap();
    kernel.send_event(&guest, port).unwrap();
    assert_eq!(take_upcall(&guest, 1), (true, 1));
    let answer = kernel.port_status(&guest, port).unwrap();
    assert_eq!((answer.status, answer.vcpu), (status::IPI, 1));
}

#[test]
fn every_vcpu_has_its_word_of_every_bitmap() {
    let kernel = testing::kernel();
    let config = crate::domain::DomainConfig {
        max_event_port: u32::MAX,
        ..testing::configuration(1, false)
    };
    let guest = testing::domain_with(&kernel, 1, &config, 0);
    for _ in 1..TWO_LEVEL_CHANNELS {
        kernel.bind_ipi(&guest, 0).unwrap();
    }
    for port in [1, 63, 64, 4032, 4095] {
        kernel.send_event(&guest, port).unwrap();
        assert!(pending(&guest, port));
        assert_eq!(take_upcall(&guest, 0), (true, 1 << (port / 64)));
    }
}

#[test]
fn a_poll_ends_with_its_event_even_a_masked_one() {
    let (kernel, control, guest) = setting();
    let (ours, theirs) = channel(&kernel, &control, &guest);
    set_mask(&guest, theirs);
    let poller = &guest.vcpus[1];
    let begin = |polling: u32| {
        take_pending(&guest, theirs);
        poller.polling.store(polling, Ordering::SeqCst);
        poller.stops.fetch_or(stop::POLLING, Ordering::SeqCst);
        kernel.send_event(&control, ours).unwrap();
        poller.stops.load(Ordering::SeqCst) & stop::POLLING != 0
    };
    assert!(!begin(theirs + 1));
    assert!(!begin(u32::MAX));
    assert!(begin(theirs + 2), "another port");
    assert_eq!(kernel.is_pending(&guest, theirs), Ok(true));
    assert_eq!(kernel.is_pending(&guest, theirs + 1), Ok(false));
    assert_eq!(kernel.is_pending(&guest, 64), Err(Error::EINVAL));
}

#[test]
fn status_knows_each_state() {
    let (kernel, control, guest) = setting();
    let (_, theirs) = channel(&kernel, &control, &guest);
    let waiting = kernel.allocate_unbound(&guest, DomainId(7)).unwrap();
    assert_eq!(kernel.port_status(&guest, 0).unwrap().status, status::CLOSED);
    assert_eq!(kernel.port_status(&guest, 63).unwrap().status, status::CLOSED);
    assert_eq!(kernel.port_status(&guest, 64).unwrap_err(), Error::EINVAL);
    let answer = kernel.port_status(&guest, waiting).unwrap();
    assert_eq!(
        (answer.status, answer.remote_domain()),
        (status::UNBOUND, DomainId(7))
    );
    let answer = kernel.port_status(&guest, theirs).unwrap();
    assert_eq!(
        (answer.status, answer.remote_domain(), answer.remote_port()),
        (status::INTERDOMAIN, DomainId(0), 1)
    );
}

#[test]
fn the_end_of_a_domain_leaves_nothing_behind() {
    let (kernel, control, guest) = setting();
    let shares = (Arc::strong_count(&control), Arc::strong_count(&guest));
    let mut ours = Vec::new();
    for _ in 0..100 {
        ours.push(channel(&kernel, &control, &guest).0);
    }
    kernel.bind_virq(&guest, virq::TIMER, 0).unwrap();
    let waiting = kernel.allocate_unbound(&guest, control.id).unwrap();
    kernel.init_control(&guest, 0, GuestFrame(0), 0).unwrap();
    assert!(!kernel.close_all_ports(&guest), "in bounded pieces");
    assert_eq!(
        kernel.bind_interdomain(&control, &guest, waiting),
        Err(Error::EINVAL)
    );
    while !kernel.close_all_ports(&guest) {}
    assert_eq!((Arc::strong_count(&control), Arc::strong_count(&guest)), shares);
    for port in ours {
        assert_eq!(
            kernel.port_status(&control, port).unwrap().status,
            status::UNBOUND
        );
        assert_eq!(kernel.send_event(&control, port), Ok(()));
    }
    assert_eq!(kernel.allocate_unbound(&guest, control.id), Err(Error::EINVAL));
    assert_eq!(kernel.bind_virq(&guest, virq::TIMER, 0), Err(Error::EINVAL));
    let (page, _) = guest.physmap.get(GuestFrame(0)).unwrap();
    assert_eq!(
        page.count(),
        2,
        "the map's and this one: the control block is let go"
    );
    kernel.send_virq(&guest, 0, virq::TIMER);
}

#[test]
fn an_ended_domain_of_the_same_number_is_told_apart() {
    let (kernel, control, guest) = setting();
    let (ours, theirs) = channel(&kernel, &control, &guest);
    // Its number is given again while it still holds ports.
    kernel.domains.remove(guest.id);
    let newcomer = testing::domain(&kernel, 1, 1, 0);
    assert_eq!(kernel.allocate_unbound(&newcomer, control.id), Ok(theirs));
    kernel.send_event(&control, ours).unwrap();
    assert!(pending(&guest, theirs) && !pending(&newcomer, theirs));
    // Channels between the two equals: locked in one order from both sides.
    let port = kernel.allocate_unbound(&newcomer, guest.id).unwrap();
    let other = kernel.bind_interdomain(&guest, &newcomer, port).unwrap();
    kernel.close_port(&newcomer, port).unwrap();
    kernel.close_port(&guest, other).unwrap();
}

/// Senders and a receiver on real threads: an event that is sent is seen, or the sender waits for ever.
#[test]
fn racing_senders_lose_nothing() {
    const ROUNDS: usize = 3000;
    let (kernel, control, guest) = setting();
    let channels = [
        channel(&kernel, &guest, &control),
        channel(&kernel, &guest, &control),
    ];
    let done = core::sync::atomic::AtomicUsize::new(0);
    let seen = channels.map(|_| core::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for (index, (from, _)) in channels.iter().enumerate() {
            let (kernel, guest, seen, done) = (&kernel, &guest, &seen, &done);
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    kernel.send_event(guest, *from).unwrap();
                    while seen[index].load(Ordering::SeqCst) < round {
                        std::thread::yield_now();
                    }
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        while done.load(Ordering::SeqCst) < channels.len() {
            let (upcall, selector) = take_upcall(&control, 0);
            if !upcall {
                std::thread::yield_now();
                continue;
            }
            assert_eq!(selector & !1, 0);
            for (index, (_, port)) in channels.iter().enumerate() {
                if pending(&control, *port) {
                    take_pending(&control, *port);
                    seen[index].fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    });
}

/// One side sends while the other closes and binds again: nothing sticks, and both ends agree when it is over.
#[test]
fn racing_closes_and_sends_end_consistent() {
    let (kernel, control, guest) = setting();
    let (ours, theirs) = channel(&kernel, &control, &guest);
    std::thread::scope(|scope| {
        let (kernel, control, guest) = (&kernel, &control, &guest);
        let sender = scope.spawn(move || {
            for _ in 0..20_000 {
                let _ = kernel.send_event(guest, theirs);
            }
        });
        scope.spawn(move || {
            while !sender.is_finished() {
                kernel.close_port(control, ours).unwrap();
                assert_eq!(kernel.bind_interdomain(control, guest, theirs), Ok(ours));
            }
        });
    });
    let answer = kernel.port_status(&guest, theirs).unwrap();
    assert_eq!((answer.status, answer.remote_port()), (status::INTERDOMAIN, ours));
    kernel.close_port(&guest, theirs).unwrap();
    kernel.close_port(&control, ours).unwrap();
    assert_eq!(Arc::strong_count(&control), 2, "ours and the table's");
}
