//! Processors that take turns: locks and flushes between them, and what a guest reaches meanwhile.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use std::sync::Arc;

use super::{Configuration, FakeMachine, Stop, Turns};
use crate::Machine;
use crate::address::{GuestAddress, GuestFrame, Order};
use crate::memory::FrameUse;
use crate::stage_two::{EntryKind, NestedPaging, Permissions, StageTwo};
use crate::sync::Lock;

#[test]
#[cfg_attr(miri, ignore = "turns are coroutines, which are assembly")]
fn who_waits_for_a_lock_gives_up_the_turn_until_it_is_free() {
    let shared = Arc::new(Lock::new(0u32));
    let told = Rc::new(RefCell::new(Vec::new()));
    let (lock, log) = (shared.clone(), told.clone());
    let mut turns = Turns::new(2, move |processor| {
        let mut value = lock.lock();
        *value += 1;
        log.borrow_mut().push(processor);
        crate::sync::interleave();
        *value += 1;
    });
    // The first stops inside, at its second point; the other cannot get in.
    assert_eq!(turns.resume(0, 1).0, Stop::Point);
    assert_eq!(turns.resume(1, 100).0, Stop::Contended);
    assert_eq!(*told.borrow(), [0]);
    assert_eq!(turns.resume(0, 100).0, Stop::Ended);
    assert_eq!(turns.resume(1, 100).0, Stop::Ended);
    assert_eq!((*told.borrow()).as_slice(), [0, 1]);
    assert_eq!(*shared.lock(), 4);
}

#[test]
#[cfg_attr(miri, ignore = "turns are coroutines, which are assembly")]
fn a_panic_comes_out_of_the_turn() {
    let mut turns = Turns::new(1, |_| panic!("on purpose"));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| turns.resume(0, 1)));
    assert!(caught.is_err());
}

/// A machine with one page mapped for a guest, and a vCPU that loads from it until it is interrupted.
fn guest_in_a_loop(flush: bool) -> (Turns, Arc<FakeMachine>, Arc<Lock<StageTwo<NestedPaging>>>) {
    let machine = Arc::new(FakeMachine::new(&Configuration::default()));
    let mut tables = StageTwo::<NestedPaging>::new(machine.memory()).unwrap();
    let root = tables.root().clone();
    let page = machine.memory().allocate(1, FrameUse::Ram, Order::PAGE).unwrap();
    tables
        .map(GuestFrame(0), page, Permissions::ALL, EntryKind::Populated)
        .unwrap();
    let tables = Arc::new(Lock::new(tables));
    let (host, shared) = (machine.clone(), tables.clone());
    let turns = Turns::new(2, move |processor| {
        if processor == 0 {
            let mut vcpu = host.new_vcpu().unwrap();
            let (inside, root_inside) = (host.clone(), root.clone());
            vcpu.set_program(alloc::boxed::Box::new(move |_| {
                loop {
                    let mut byte = [0];
                    let loaded = inside.guest_load(&root_inside, GuestAddress(0), &mut byte);
                    if loaded.is_err() || inside.interrupt_waits(0) {
                        return crate::Exit::Interrupt;
                    }
                }
            }));
            host.load(&mut vcpu);
            let ports = host.port_map(crate::DirectPorts { ranges: &[] }).unwrap();
            host.run(&mut vcpu, &root, &ports);
        } else {
            let detached = shared.lock().unmap(GuestFrame(0)).unwrap().unwrap();
            let proof = if flush {
                host.flush(&root)
            } else {
                // What the type forbids everywhere else: a proof without a flush.
                crate::stage_two::Flushed::new()
            };
            drop(detached.release(&proof));
        }
    });
    (turns, machine, tables)
}

#[test]
#[cfg_attr(miri, ignore = "turns are coroutines, which are assembly")]
fn a_flush_waits_until_the_guest_that_may_remember_was_left() {
    let (mut turns, machine, _tables) = guest_in_a_loop(true);
    assert_eq!(turns.resume(0, 100).0, Stop::Entry);
    assert_eq!(turns.resume(0, 100).0, Stop::Point, "in the guest, loading");
    assert_eq!(
        turns.resume(1, 1000).0,
        Stop::Contended,
        "waits for the guest to be left"
    );
    assert!(
        machine
            .memory()
            .frame_info(crate::address::HostFrame(super::FIRST_FREE_FRAME))
            .count
            != 0
    );
    assert_eq!(turns.resume(0, 1000).0, Stop::Ended);
    assert_eq!(turns.resume(1, 1000).0, Stop::Ended);
}

#[test]
#[cfg_attr(miri, ignore = "turns are coroutines, which are assembly")]
fn a_guest_that_reaches_a_freed_frame_is_noticed() {
    let (mut turns, _machine, _tables) = guest_in_a_loop(false);
    assert_eq!(turns.resume(0, 100).0, Stop::Entry);
    assert_eq!(turns.resume(0, 100).0, Stop::Point);
    assert_eq!(turns.resume(1, 1000).0, Stop::Ended);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| turns.resume(0, 1000)));
    let message = caught.unwrap_err();
    let message = message.downcast_ref::<alloc::string::String>().unwrap();
    assert!(message.starts_with("isolation: a guest reaches"), "{message}");
}
