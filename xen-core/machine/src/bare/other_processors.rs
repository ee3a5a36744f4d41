//! Starting the processors that did not boot the machine.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use boot::ranges::Ranges;

use super::processor::{self, MAX_PROCESSORS, Processor};
use super::{address_space, clock, crash, interrupts, local_apic, physical_memory, stack, start_code};
use crate::ProcessorId;
use crate::address::{HostAddress, PAGE_SIZE};

const MILLISECOND: u64 = 1_000_000;

/// What every processor does in the end.
pub type Work = fn(ProcessorId);

static READY: AtomicBool = AtomicBool::new(false);
static WORK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Start them, one after the other. They wait then until there is work.
pub fn start(apic_ids: &[u32]) {
    let own = processor::current().apic_id;
    let others = || apic_ids.iter().copied().filter(|&id| id != own);
    if others().next().is_none() {
        return;
    }
    let Some(page) = start_page() else {
        log::warn!("no free page of low memory: the other processors stay off");
        return;
    };
    address_space::map_start_page(page);
    for apic_id in others() {
        if processor::count() == MAX_PROCESSORS {
            log::warn!("only {MAX_PROCESSORS} processors are used");
            break;
        }
        start_one(page, apic_id);
    }
    address_space::unmap_start_page(page);
}

/// A page below 1 MiB for the first instructions; nobody else uses memory there any more.
fn start_page() -> Option<HostAddress> {
    let mut low = Ranges::new();
    physical_memory::ram()
        .iter()
        .for_each(|range| low.insert(range.clone()));
    low.remove(&(0..PAGE_SIZE as u64));
    low.take(PAGE_SIZE as u64, PAGE_SIZE as u64, 0x9_0000)
        .map(HostAddress)
}

fn start_one(page: HostAddress, apic_id: u32) {
    let processor = Box::leak(Box::new(Processor::new(processor::count(), apic_id)));
    let top = stack::make(stack::PROCESSOR_STACK);
    start_code::write(page, address_space::root(), begin, top, processor);
    READY.store(false, Ordering::SeqCst);
    local_apic::send_init(apic_id);
    clock::delay(10 * MILLISECOND);
    for wait in [MILLISECOND, 1000 * MILLISECOND] {
        local_apic::send_startup(apic_id, page);
        let start = clock::now();
        while clock::now().saturating_sub(start) < wait {
            if READY.load(Ordering::SeqCst) {
                return;
            }
            core::hint::spin_loop();
        }
    }
    // It must not wake up later, with the next one's orders.
    local_apic::send_init(apic_id);
    log::warn!("processor with APIC {apic_id} does not start: it stays off");
}

extern "C" fn begin(processor: &'static Processor) -> ! {
    super::prepare_processor(processor);
    READY.store(true, Ordering::SeqCst);
    loop {
        let work = WORK.load(Ordering::Acquire);
        if !work.is_null() {
            // SAFETY: only `run` stores here, and it stores a `Work`.
            let work = unsafe { core::mem::transmute::<*mut (), Work>(work) };
            work(processor.id);
            crash::halt();
        }
        interrupts::wait();
        while processor.take_interrupt().is_some() {}
    }
}

/// Have all the waiting processors do `work`: boot is over.
pub fn run(work: Work) {
    stack::note_boot();
    WORK.store(work as *mut (), Ordering::Release);
    for other in processor::all().filter(|other| other.id != processor::current().id) {
        if other.note_kick() {
            local_apic::send_kick(other.apic_id);
        }
    }
}
