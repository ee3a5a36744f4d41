//! The FIFO ABI, against a guest that follows it and against guests that do not.

use alloc::collections::BTreeSet;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hypercall_abi::event_channel::fifo as abi;
use hypercall_abi::xen::virq;
use hypercall_abi::{DomainId, Error};
use machine::Machine;
use machine::address::{GuestFrame, Order};
use machine::memory::{FrameReference, FrameUse};
use machine::stage_two::{EntryKind, Permissions};

use crate::domain::DomainConfig;
use crate::testing::{self, TestDomain, TestKernel};

const PENDING: u32 = 1 << abi::PENDING;
const MASKED: u32 = 1 << abi::MASKED;
const LINKED: u32 = 1 << abi::LINKED;

/// Guest frames of the control blocks (one for each vCPU, from here) and of the event words.
const CONTROL: u64 = 0;
const ARRAY: u64 = 8;
const PAGES: u64 = 16;

/// The guest's side, as its kernel would have it.
struct Guest {
    domain: TestDomain,
    controls: Vec<FrameReference>,
    array: Vec<FrameReference>,
    heads: Vec<[u32; 16]>,
}

impl Guest {
    /// A domain whose vCPUs all have control blocks, with so many pages of event words.
    fn new(kernel: &TestKernel, id: u16, vcpus: u32, pages: u64) -> Guest {
        let config = DomainConfig {
            max_event_port: u32::MAX,
            ..testing::configuration(vcpus, id == 0)
        };
        let domain = testing::domain_with(kernel, id, &config, PAGES);
        let page = |frame| domain.physmap.get(GuestFrame(frame)).unwrap().0;
        let controls = (0..u64::from(vcpus)).map(|vcpu| page(CONTROL + vcpu)).collect();
        let array = (0..8).map(|index| page(ARRAY + index)).collect();
        for vcpu in 0..vcpus {
            kernel
                .init_control(&domain, vcpu, GuestFrame(CONTROL + u64::from(vcpu)), 0)
                .unwrap();
        }
        for index in 0..pages {
            kernel.expand_array(&domain, GuestFrame(ARRAY + index)).unwrap();
        }
        Guest {
            domain,
            controls,
            array,
            heads: vec![[0; 16]; vcpus as usize],
        }
    }

    fn place(&self, port: u32) -> (&FrameReference, usize) {
        (&self.array[(port / 1024) as usize], (port % 1024) as usize * 4)
    }

    fn word(&self, port: u32) -> u32 {
        let (page, offset) = self.place(port);
        page.load_u32(offset).unwrap()
    }

    fn set(&self, port: u32, bits: u32) {
        let (page, offset) = self.place(port);
        page.fetch_or_u32(offset, bits).unwrap();
    }

    fn clear(&self, port: u32, bits: u32) -> u32 {
        let (page, offset) = self.place(port);
        page.fetch_and_u32(offset, !bits).unwrap()
    }

    fn take_upcall(&self, vcpu: usize) -> bool {
        self.domain.shared_info.fetch_and_u8(vcpu * 64, 0).unwrap() != 0
    }

    /// Take all events off a vCPU's queues, in order.
    fn take(&mut self, vcpu: usize) -> Vec<u32> {
        let mut taken = Vec::new();
        let mut ready = self.controls[vcpu].fetch_and_u32(0, 0).unwrap();
        while ready != 0 {
            let queue = ready.trailing_zeros();
            if let Some(port) = self.take_one(vcpu, queue, &mut ready) {
                taken.push(port);
            }
            ready |= self.controls[vcpu].fetch_and_u32(0, 0).unwrap();
        }
        taken
    }

    fn take_one(&mut self, vcpu: usize, queue: u32, ready: &mut u32) -> Option<u32> {
        let mut port = self.heads[vcpu][queue as usize];
        if port == 0 {
            port = self.controls[vcpu].load_u32(8 + queue as usize * 4).unwrap();
        }
        let next = self.clear(port, LINKED | abi::LINK_MASK) & abi::LINK_MASK;
        if next == 0 {
            *ready &= !(1 << queue);
        }
        self.heads[vcpu][queue as usize] = next;
        let deliver = self.word(port) & (PENDING | MASKED) == PENDING;
        deliver.then(|| {
            self.clear(port, PENDING);
            port
        })
    }
}

fn ipis(kernel: &TestKernel, guest: &Guest, vcpu: u32, count: usize) -> Vec<u32> {
    (0..count)
        .map(|_| kernel.bind_ipi(&guest.domain, vcpu).unwrap())
        .collect()
}

#[test]
fn events_come_in_the_order_they_were_sent() {
    let kernel = testing::kernel();
    let mut guest = Guest::new(&kernel, 1, 1, 1);
    let ports = ipis(&kernel, &guest, 0, 5);
    for index in [3, 0, 4, 3, 1] {
        kernel.send_event(&guest.domain, ports[index]).unwrap();
    }
    assert!(guest.take_upcall(0));
    assert_eq!(guest.take(0), [ports[3], ports[0], ports[4], ports[1]]);
    assert_eq!(guest.take(0), []);
    kernel.send_event(&guest.domain, ports[1]).unwrap();
    assert!(
        guest.take_upcall(0),
        "the tail that was taken is not linked on to"
    );
    assert_eq!(guest.take(0), [ports[1]]);
}

#[test]
fn one_upcall_announces_a_queue() {
    let kernel = testing::kernel();
    let mut guest = Guest::new(&kernel, 1, 1, 1);
    let ports = ipis(&kernel, &guest, 0, 3);
    kernel.send_event(&guest.domain, ports[0]).unwrap();
    assert!(guest.take_upcall(0));
    kernel.send_event(&guest.domain, ports[1]).unwrap();
    kernel.send_event(&guest.domain, ports[0]).unwrap();
    assert!(!guest.take_upcall(0));
    assert_eq!(guest.take(0), [ports[0], ports[1]]);
}

#[test]
fn urgent_queues_are_read_first() {
    let kernel = testing::kernel();
    let mut guest = Guest::new(&kernel, 1, 1, 1);
    let ports = ipis(&kernel, &guest, 0, 3);
    kernel.set_priority(&guest.domain, ports[2], 0).unwrap();
    kernel.set_priority(&guest.domain, ports[0], 15).unwrap();
    for port in &ports {
        kernel.send_event(&guest.domain, *port).unwrap();
    }
    assert_eq!(guest.controls[0].load_u32(0).unwrap(), 1 << 0 | 1 << 7 | 1 << 15);
    assert_eq!(guest.take(0), [ports[2], ports[1], ports[0]]);
}

#[test]
fn a_masked_event_is_queued_when_it_is_unmasked() {
    let kernel = testing::kernel();
    let mut guest = Guest::new(&kernel, 1, 1, 1);
    let port = ipis(&kernel, &guest, 0, 1)[0];
    guest.set(port, MASKED);
    kernel.send_event(&guest.domain, port).unwrap();
    assert_eq!(guest.word(port), PENDING | MASKED);
    assert!(!guest.take_upcall(0));
    assert_eq!(kernel.is_pending(&guest.domain, port), Ok(true));
    kernel.unmask_port(&guest.domain, port).unwrap();
    assert!(guest.take_upcall(0));
    assert_eq!(guest.take(0), [port]);
    // Masked while it is queued: the guest takes it off and leaves it pending.
    kernel.send_event(&guest.domain, port).unwrap();
    guest.set(port, MASKED);
    assert_eq!(guest.take(0), []);
    guest.clear(port, MASKED);
    kernel.unmask_port(&guest.domain, port).unwrap();
    assert_eq!(guest.take(0), [port]);
}

#[test]
fn an_event_that_moves_takes_its_old_queues_tail_along() {
    let kernel = testing::kernel();
    let mut guest = Guest::new(&kernel, 1, 2, 1);
    let control = testing::domain(&kernel, 0, 1, 0);
    let moving = kernel.allocate_unbound(&guest.domain, control.id).unwrap();
    let sender = kernel.bind_interdomain(&control, &guest.domain, moving).unwrap();
    let staying = ipis(&kernel, &guest, 0, 1)[0];
    kernel.send_event(&control, sender).unwrap();
    assert_eq!(guest.take(0), [moving]);
    // It was the last of vCPU 0's queue, and now joins vCPU 1's: nothing may be linked on to it there.
    kernel.bind_vcpu(&guest.domain, moving, 1).unwrap();
    kernel.send_event(&control, sender).unwrap();
    kernel.send_event(&guest.domain, staying).unwrap();
    assert_eq!(guest.word(moving) & abi::LINK_MASK, 0);
    assert!(guest.take_upcall(0) && guest.take_upcall(1));
    assert_eq!((guest.take(0), guest.take(1)), (vec![staying], vec![moving]));
    // Moved while it is queued: it comes where it was, and next time where it is sent to.
    kernel.send_event(&control, sender).unwrap();
    kernel.bind_vcpu(&guest.domain, moving, 0).unwrap();
    kernel.send_event(&control, sender).unwrap();
    assert_eq!((guest.take(0), guest.take(1)), (vec![], vec![moving]));
    kernel.send_event(&control, sender).unwrap();
    assert_eq!((guest.take(0), guest.take(1)), (vec![moving], vec![]));
}

#[test]
fn events_wait_for_the_page_of_their_word() {
    let kernel = testing::kernel();
    let mut guest = Guest::new(&kernel, 1, 1, 0);
    let ports = ipis(&kernel, &guest, 0, 1030);
    kernel.send_event(&guest.domain, ports[2]).unwrap();
    kernel.send_event(&guest.domain, ports[1026]).unwrap();
    assert!(!guest.take_upcall(0));
    assert_eq!(kernel.is_pending(&guest.domain, ports[2]), Ok(true));
    kernel.expand_array(&guest.domain, GuestFrame(ARRAY)).unwrap();
    assert!(guest.take_upcall(0));
    assert_eq!(guest.take(0), [ports[2]]);
    kernel.expand_array(&guest.domain, GuestFrame(ARRAY + 1)).unwrap();
    assert_eq!(guest.take(0), [ports[1026]]);
}

#[test]
fn events_of_the_old_abi_come_over() {
    let kernel = testing::kernel();
    let domain = testing::domain(&kernel, 1, 1, PAGES);
    let port = kernel.bind_ipi(&domain, 0).unwrap();
    let idle = kernel.bind_ipi(&domain, 0).unwrap();
    kernel.send_event(&domain, port).unwrap();
    kernel.init_control(&domain, 0, GuestFrame(CONTROL), 0).unwrap();
    kernel.expand_array(&domain, GuestFrame(ARRAY)).unwrap();
    assert_eq!(kernel.is_pending(&domain, port), Ok(true));
    assert_eq!(kernel.is_pending(&domain, idle), Ok(false));
    assert_eq!(
        testing::peek::<u32>(&domain, (CONTROL << 12) + 8 + 7 * 4),
        port,
        "head of queue 7"
    );
}

#[test]
fn events_wait_for_the_control_block_of_their_vcpu() {
    let kernel = testing::kernel();
    let domain = testing::domain(&kernel, 1, 2, PAGES);
    kernel.init_control(&domain, 0, GuestFrame(CONTROL), 0).unwrap();
    kernel.expand_array(&domain, GuestFrame(ARRAY)).unwrap();
    let port = kernel.bind_ipi(&domain, 1).unwrap();
    kernel.send_event(&domain, port).unwrap();
    assert_eq!(
        testing::peek::<u32>(&domain, (ARRAY << 12) + u64::from(port) * 4),
        PENDING
    );
    kernel
        .init_control(&domain, 1, GuestFrame(CONTROL + 1), 64)
        .unwrap();
    assert_eq!(
        testing::peek::<u32>(&domain, ((CONTROL + 1) << 12) + 64 + 8 + 7 * 4),
        port
    );
    assert!(domain.vcpus[1].upcall_pending());
}

#[test]
fn places_that_are_refused() {
    let kernel = testing::kernel();
    let domain = testing::domain(&kernel, 1, 2, PAGES);
    let control = |vcpu, frame, offset| kernel.init_control(&domain, vcpu, GuestFrame(frame), offset);
    assert_eq!(
        kernel.expand_array(&domain, GuestFrame(ARRAY)),
        Err(Error::EOPNOTSUPP),
        "still 2-level"
    );
    assert_eq!(control(2, CONTROL, 0), Err(Error::ENOENT));
    assert_eq!(control(0, CONTROL, 4), Err(Error::EINVAL));
    assert_eq!(
        control(0, CONTROL, 4096 - 64),
        Err(Error::EINVAL),
        "leaves its page"
    );
    assert_eq!(control(0, CONTROL, u32::MAX - 7), Err(Error::EINVAL));
    for hole in [PAGES, 1 << 40, u64::MAX] {
        assert_eq!(control(0, hole, 0), Err(Error::EINVAL));
    }
    let read_only = GuestFrame(3);
    domain
        .physmap
        .protect(&kernel.machine, read_only, Permissions::READ_ONLY)
        .unwrap();
    assert_eq!(control(0, read_only.0, 0), Err(Error::EINVAL));
    // Another domain's page, mapped: its owner could not take it back.
    let foreign = kernel
        .machine
        .memory()
        .allocate(9, FrameUse::Ram, Order::PAGE)
        .unwrap();
    domain
        .physmap
        .insert(
            GuestFrame(100),
            foreign,
            Permissions::READ_WRITE,
            EntryKind::Foreign,
        )
        .unwrap();
    assert_eq!(control(0, 100, 0), Err(Error::EINVAL));
    assert_eq!(control(0, CONTROL, 4096 - 72), Ok(()));
    assert_eq!(control(0, CONTROL, 0), Err(Error::EINVAL), "it has one");
    assert_eq!(kernel.expand_array(&domain, GuestFrame(100)), Err(Error::EINVAL));
    for _ in 0..128 {
        assert_eq!(kernel.expand_array(&domain, GuestFrame(ARRAY)), Ok(()));
    }
    assert_eq!(
        kernel.expand_array(&domain, GuestFrame(ARRAY)),
        Err(Error::ENOSPC)
    );
}

#[test]
fn priorities_that_are_refused() {
    let kernel = testing::kernel();
    let two_level = testing::domain(&kernel, 1, 1, 0);
    let port = kernel.bind_ipi(&two_level, 0).unwrap();
    assert_eq!(kernel.set_priority(&two_level, port, 0), Err(Error::ENOSYS));
    let guest = Guest::new(&kernel, 2, 1, 1);
    let port = ipis(&kernel, &guest, 0, 1)[0];
    assert_eq!(kernel.set_priority(&guest.domain, port, 16), Err(Error::EINVAL));
    assert_eq!(
        kernel.set_priority(&guest.domain, port + 1, 0),
        Err(Error::EACCES)
    );
    assert_eq!(kernel.set_priority(&guest.domain, 64, 0), Err(Error::EINVAL));
}

#[test]
fn a_port_whose_word_is_still_queued_is_not_given_again() {
    let kernel = testing::kernel();
    let mut guest = Guest::new(&kernel, 1, 1, 1);
    let ports = ipis(&kernel, &guest, 0, 2);
    kernel.send_event(&guest.domain, ports[0]).unwrap();
    kernel.close_port(&guest.domain, ports[0]).unwrap();
    assert_eq!(guest.word(ports[0]), LINKED, "not pending, but in the queue");
    assert_eq!(kernel.bind_ipi(&guest.domain, 0), Ok(ports[1] + 1));
    assert_eq!(guest.take(0), []);
    assert_eq!(kernel.bind_ipi(&guest.domain, 0), Ok(ports[0]));
}

#[test]
fn more_ports_than_two_levels_have() {
    let kernel = testing::kernel();
    let mut guest = Guest::new(&kernel, 1, 1, 5);
    let last = *ipis(&kernel, &guest, 0, 5000).last().unwrap();
    assert_eq!(last, 5000);
    kernel.send_event(&guest.domain, last).unwrap();
    assert_eq!(guest.take(0), [last]);
    // Back in the 2-level ABI ports past its bitmaps cannot be.
    while !kernel.reset_ports(&guest.domain) {}
    assert_eq!(kernel.bind_ipi(&guest.domain, 0), Ok(1));
    kernel.notify_port(&guest.domain, last);
}

#[test]
fn a_reset_gives_the_pages_back() {
    let kernel = testing::kernel();
    let guest = Guest::new(&kernel, 1, 2, 2);
    ipis(&kernel, &guest, 1, 100);
    assert_eq!(
        (guest.controls[1].count(), guest.array[1].count()),
        (3, 3),
        "the map's, the channels' and this test's"
    );
    while !kernel.reset_ports(&guest.domain) {}
    assert_eq!((guest.controls[1].count(), guest.array[1].count()), (2, 2));
    let port = kernel.bind_virq(&guest.domain, virq::TIMER, 1).unwrap();
    kernel.send_virq(&guest.domain, 1, virq::TIMER);
    assert_eq!(guest.word(port) & PENDING, 0, "2-level again");
    assert!(guest.domain.vcpus[1].upcall_pending());
    assert_eq!(
        kernel.init_control(&guest.domain, 0, GuestFrame(CONTROL), 0),
        Ok(()),
        "and once more"
    );
}

#[test]
fn pages_are_let_go_with_the_domain() {
    let kernel = testing::kernel();
    let before = kernel.machine.memory().free_frames();
    let guest = Guest::new(&kernel, 1, 2, 2);
    ipis(&kernel, &guest, 1, 100);
    while !kernel.close_all_ports(&guest.domain) {}
    kernel.domains.remove(guest.domain.id);
    drop(guest);
    assert_eq!(kernel.machine.memory().free_frames(), before);
}

/// A guest writes garbage over all its words and control blocks between all operations: only it suffers.
#[test]
fn garbage_in_the_guests_pages_hurts_nobody_else() {
    let kernel = testing::kernel();
    let mut well_behaved = Guest::new(&kernel, 0, 1, 1);
    let hostile = Guest::new(&kernel, 1, 2, 2);
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut channels = Vec::new();
    for _ in 0..8 {
        let theirs = kernel.allocate_unbound(&hostile.domain, DomainId(0)).unwrap();
        let ours = kernel
            .bind_interdomain(&well_behaved.domain, &hostile.domain, theirs)
            .unwrap();
        channels.push((ours, theirs));
    }
    well_behaved.take(0);
    for _ in 0..20_000 {
        let page = match random() % 4 {
            0 => &hostile.controls[(random() % 2) as usize],
            _ => &hostile.array[(random() % 2) as usize],
        };
        page.store_u32((random() % 32) as usize * 4, random() as u32)
            .unwrap();
        let (ours, theirs) = channels[(random() % 8) as usize];
        let _ = match random() % 6 {
            0 => kernel.unmask_port(&hostile.domain, theirs),
            1 => kernel.set_priority(&hostile.domain, theirs, (random() % 17) as u32),
            2 => kernel.bind_vcpu(&hostile.domain, theirs, (random() % 3) as u32),
            3 => kernel.send_event(&hostile.domain, theirs),
            _ => kernel.send_event(&well_behaved.domain, ours),
        };
    }
    // The others' events still come.
    well_behaved.take(0);
    let sent: BTreeSet<u32> = channels.iter().map(|channel| channel.0).collect();
    for (_, theirs) in &channels {
        kernel.send_event(&hostile.domain, *theirs).unwrap();
    }
    assert_eq!(well_behaved.take(0).into_iter().collect::<BTreeSet<u32>>(), sent);
    while !kernel.close_all_ports(&hostile.domain) {}
}

/// A tail that the guest says is linked to nowhere, to itself, to ports without words.
#[test]
fn links_are_written_and_never_followed() {
    let kernel = testing::kernel();
    let guest = Guest::new(&kernel, 1, 1, 1);
    let ports = ipis(&kernel, &guest, 0, 3);
    kernel.send_event(&guest.domain, ports[0]).unwrap();
    for link in [ports[0], abi::LINK_MASK, 0] {
        let (page, offset) = guest.place(ports[0]);
        page.store_u32(offset, PENDING | LINKED | link).unwrap();
        let (page, offset) = guest.place(ports[1]);
        page.store_u32(offset, 0).unwrap();
        kernel.send_event(&guest.domain, ports[1]).unwrap();
        assert_eq!(guest.word(ports[1]), PENDING | LINKED);
        // As if the guest had never taken it off, the next is linked on to what was appended last.
        kernel.send_event(&guest.domain, ports[2]).unwrap();
        let (page, offset) = guest.place(ports[2]);
        page.store_u32(offset, 0).unwrap();
    }
}

/// Senders, a mover and a receiver on real threads.
#[test]
fn racing_senders_and_queues_lose_nothing() {
    const ROUNDS: usize = 3000;
    let kernel = testing::kernel();
    let mut guest = Guest::new(&kernel, 1, 2, 1);
    let control = testing::domain(&kernel, 0, 1, 0);
    let channels: Vec<(u32, u32)> = (0..3)
        .map(|_| {
            let theirs = kernel.allocate_unbound(&guest.domain, control.id).unwrap();
            (
                kernel.bind_interdomain(&control, &guest.domain, theirs).unwrap(),
                theirs,
            )
        })
        .collect();
    let domain = guest.domain.clone();
    let seen: Vec<AtomicUsize> = channels.iter().map(|_| AtomicUsize::new(0)).collect();
    let done = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (index, (ours, _)) in channels.iter().enumerate() {
            let (kernel, control, seen, done) = (&kernel, &control, &seen, &done);
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    kernel.send_event(control, *ours).unwrap();
                    while seen[index].load(Ordering::SeqCst) < round {
                        std::thread::yield_now();
                    }
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        let (kernel, domain, moved, stopped) = (&kernel, &domain, channels[0].1, &stop);
        scope.spawn(move || {
            let mut turn = 0;
            while !stopped.load(Ordering::SeqCst) {
                turn += 1;
                kernel.bind_vcpu(domain, moved, turn % 2).unwrap();
                kernel.set_priority(domain, moved, turn % 16).unwrap();
                std::thread::yield_now();
            }
        });
        while done.load(Ordering::SeqCst) < channels.len() {
            for vcpu in 0..2 {
                if !guest.take_upcall(vcpu) {
                    continue;
                }
                for port in guest.take(vcpu) {
                    let index = channels.iter().position(|channel| channel.1 == port).unwrap();
                    seen[index].fetch_add(1, Ordering::SeqCst);
                }
            }
            std::thread::yield_now();
        }
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_reset_holds_nothing_back_for_a_port_that_was_opened_behind_it() {
    let kernel = testing::kernel();
    let guest = Guest::new(&kernel, 1, 1, 0);
    for _ in 0..100 {
        kernel.allocate_unbound(&guest.domain, DomainId(0)).unwrap();
    }
    assert!(!kernel.reset_ports(&guest.domain), "a piece at a time");
    // Another vCPU opens a port that the reset has passed, and its event waits for a page of words.
    let port = kernel.bind_virq(&guest.domain, virq::TIMER, 0).unwrap();
    kernel.send_virq(&guest.domain, 0, virq::TIMER);
    while !kernel.reset_ports(&guest.domain) {}
    assert!(!kernel.is_pending(&guest.domain, port).unwrap());
    let audited = crate::audit::Auditor::default().audit_parts(&kernel, crate::audit::Parts::EVENTS);
    assert_eq!(audited.err(), None);
}
