//! The allocator and the frame table, over an arena.

use super::{Configuration, FIRST_FREE_FRAME, FakeMachine};
use crate::Machine;
use crate::address::{HostFrame, Order, PAGE_SIZE};
use crate::memory::{FrameReference, FrameUse, NO_OWNER, OutOfPage};

fn machine() -> FakeMachine {
    FakeMachine::new(&Configuration {
        // Interpreted, each byte takes its time.
        memory_mib: if cfg!(miri) { 4 } else { 8 },
        ..Configuration::default()
    })
}

#[test]
fn a_new_block_is_zeroed_counted_and_owned() {
    let machine = machine();
    let memory = machine.memory();
    let before = memory.free_frames();
    let page = memory.allocate(7, FrameUse::Ram, Order::PAGE).unwrap();
    assert_eq!(memory.free_frames(), before - 1);
    assert_eq!(memory.frames_owned(7), 1);
    assert_eq!(
        (page.owner(), page.frame_use(), page.count()),
        (7, FrameUse::Ram, 1)
    );
    let mut bytes = [1; PAGE_SIZE];
    page.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [0; PAGE_SIZE]);
    drop(page);
    assert_eq!(memory.free_frames(), before);
    assert_eq!(memory.frames_owned(7), 0);
}

#[test]
fn shared_frames_do_not_count_against_their_owner() {
    let machine = machine();
    let page = machine
        .memory()
        .allocate(7, FrameUse::Shared, Order::PAGE)
        .unwrap();
    assert_eq!(machine.memory().frames_owned(7), 0);
    assert_eq!(page.frame_use(), FrameUse::Shared);
}

#[test]
fn a_freed_frame_keeps_nothing_of_its_last_use() {
    let machine = machine();
    let memory = machine.memory();
    let mut pages = Vec::new();
    // All that there is; interpreted, some.
    let most = if cfg!(miri) { 8 } else { usize::MAX };
    while pages.len() < most
        && let Some(page) = memory.allocate(1, FrameUse::Ram, Order::PAGE)
    {
        page.write(0, &[0xaa; PAGE_SIZE]).unwrap();
        pages.push(page);
    }
    drop(pages);
    let page = memory.allocate(2, FrameUse::Ram, Order::PAGE).unwrap();
    let mut bytes = [1; PAGE_SIZE];
    page.read(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 0));
}

#[test]
#[cfg_attr(miri, ignore = "each page is touched several times: an hour, interpreted")]
fn all_memory_can_be_taken_page_by_page_and_merges_again() {
    let machine = machine();
    let memory = machine.memory();
    let total = memory.free_frames();
    let block = memory
        .allocate(1, FrameUse::Ram, Order::TWO_MIB)
        .expect("a superpage at first");
    drop(block);
    let mut pages: Vec<FrameReference> = Vec::new();
    while let Some(page) = memory.allocate(1, FrameUse::Ram, Order::PAGE) {
        pages.push(page);
    }
    assert_eq!(pages.len() as u64, total);
    assert_eq!(memory.free_frames(), 0);
    let mut frames: Vec<u64> = pages.iter().map(|page| page.frame().0).collect();
    frames.sort_unstable();
    frames.dedup();
    assert_eq!(frames.len() as u64, total, "no frame is given twice");
    assert!(frames[0] >= FIRST_FREE_FRAME);
    // Give them back in a scattered order: every other one first.
    let mut index = 0;
    pages.retain(|_| {
        index += 1;
        index % 2 == 0
    });
    assert!(
        memory
            .allocate(1, FrameUse::Ram, Order::new(1).unwrap())
            .is_none(),
        "no two neighbours are free"
    );
    drop(pages);
    assert_eq!(memory.free_frames(), total);
    assert!(
        memory.allocate(1, FrameUse::Ram, Order::TWO_MIB).is_some(),
        "buddies merged back to a superpage"
    );
}

#[test]
fn every_order_is_aligned_and_comes_back() {
    let machine = machine();
    let memory = machine.memory();
    let before = memory.free_frames();
    let largest = if cfg!(miri) { 3 } else { 9 };
    for order in (0..=largest).map(|value| Order::new(value).unwrap()) {
        let block = memory.allocate(3, FrameUse::Ram, order).unwrap();
        assert!(order.aligned(block.frame().0));
        assert_eq!(u64::from(memory.frames_owned(3)), order.frames());
    }
    assert_eq!(memory.free_frames(), before);
    assert!(memory.allocate(3, FrameUse::Ram, Order::ONE_GIB).is_none());
}

#[test]
fn a_frame_is_free_only_after_its_last_reference() {
    let machine = machine();
    let memory = machine.memory();
    let before = memory.free_frames();
    let page = memory.allocate(3, FrameUse::Ram, Order::PAGE).unwrap();
    let second = page.duplicate().unwrap();
    let third = memory.reference(page.frame()).unwrap();
    assert_eq!(page.count(), 3);
    page.write(0, b"kept").unwrap();
    let frame = page.frame();
    drop(page);
    drop(second);
    assert_eq!(memory.free_frames(), before - 1);
    assert_eq!(memory.frames_owned(3), 1, "owned until nobody reaches it");
    let mut bytes = [0; 4];
    third.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"kept");
    drop(third);
    assert_eq!(memory.free_frames(), before);
    assert!(
        memory.reference(frame).is_none(),
        "a free frame gives no reference"
    );
}

#[test]
fn no_reference_to_what_is_no_guests() {
    let machine = machine();
    let memory = machine.memory();
    assert!(memory.reference(HostFrame(0)).is_none(), "reserved");
    assert!(
        memory.reference(HostFrame(u64::MAX)).is_none(),
        "beyond the table"
    );
    let core = memory.allocate_core(Order::PAGE).unwrap();
    assert_eq!(memory.frame_info(core).frame_use, FrameUse::Core);
    assert!(memory.reference(core).is_none(), "the core's own");
    // SAFETY: allocated above with this order; nothing points into it.
    unsafe { memory.free_core(core, Order::PAGE) };
    assert_eq!(memory.frame_info(core).owner, NO_OWNER);
}

#[test]
fn a_block_splits_into_halves_that_are_freed_alone() {
    let machine = machine();
    let memory = machine.memory();
    let before = memory.free_frames();
    let block = memory.allocate(3, FrameUse::Ram, Order::new(2).unwrap()).unwrap();
    let first = block.frame();
    assert!(block.duplicate().is_none(), "only single pages are shared");
    let (lower, upper) = block.split().unwrap();
    assert_eq!((lower.frame(), upper.frame()), (first, HostFrame(first.0 + 2)));
    drop(lower);
    assert_eq!(memory.free_frames(), before - 2);
    let (page, other) = upper.split().unwrap();
    let page = page.split().unwrap_err();
    drop(other);
    drop(page);
    assert_eq!(memory.free_frames(), before);
}

#[test]
fn accesses_stay_inside_the_block_and_aligned() {
    let machine = machine();
    let page = machine.memory().allocate(3, FrameUse::Ram, Order::PAGE).unwrap();
    assert_eq!(page.write(PAGE_SIZE - 3, &[0; 4]), Err(OutOfPage));
    assert_eq!(page.read(usize::MAX, &mut [0; 4]), Err(OutOfPage));
    assert_eq!(page.zero(1, PAGE_SIZE), Err(OutOfPage));
    assert_eq!(page.load_u32(2), Err(OutOfPage));
    assert_eq!(page.load_u64(PAGE_SIZE), Err(OutOfPage));
    page.store_u32(8, 5).unwrap();
    assert_eq!(page.compare_exchange_u32(8, 4, 6).unwrap(), Err(5));
    assert_eq!(page.compare_exchange_u32(8, 5, 6).unwrap(), Ok(5));
    assert_eq!(page.fetch_or_u32(8, 1).unwrap(), 6);
    assert_eq!(page.fetch_and_u32(8, 3).unwrap(), 7);
    assert_eq!(page.load_u8(8).unwrap(), 3);
    let other = machine.memory().allocate(4, FrameUse::Ram, Order::PAGE).unwrap();
    other.copy_from(PAGE_SIZE - 4, &page, 8, 4).unwrap();
    assert_eq!(other.load_u32(PAGE_SIZE - 4).unwrap(), 3);
    assert_eq!(other.copy_from(PAGE_SIZE - 4, &page, 8, 5), Err(OutOfPage));
}

#[test]
fn an_arena_with_live_frames_is_not_handed_on() {
    let configuration = Configuration {
        memory_mib: if cfg!(miri) { 3 } else { 5 },
        ..Configuration::default()
    };
    let machine = FakeMachine::new(&configuration);
    let page = machine.memory().allocate(1, FrameUse::Ram, Order::PAGE).unwrap();
    let first = core::ptr::from_ref(machine.memory());
    drop(machine);
    let machine = FakeMachine::new(&configuration);
    assert!(!core::ptr::eq(first, machine.memory()));
    page.store_u8(0, 1).unwrap();
}
