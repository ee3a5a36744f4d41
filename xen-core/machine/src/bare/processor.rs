//! What each physical processor keeps for itself, reached through its GS base.
//!
//! Everything in here is an atomic or belongs to one processor alone: interrupt handlers touch it without locks, and
//! other processors look at it when they kick or flush.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::svm;
use crate::presence::Presence;
use crate::{Interrupt, ProcessorId};

/// More processors than this stay switched off.
pub const MAX_PROCESSORS: usize = 256;
/// Interrupt lines that can be routed.
pub const MAX_LINES: u32 = 128;
const LINE_WORDS: usize = (MAX_LINES / 64) as usize;

const TIMER: u32 = 1 << 0;
const KICK: u32 = 1 << 1;
const CONSOLE: u32 = 1 << 2;
const LINES: u32 = 1 << 3;

/// No deadline is set.
pub const NO_DEADLINE: u64 = u64::MAX;

/// One processor's own data. It lives forever, at the address in the processor's GS base.
#[repr(C)]
pub struct Processor {
    /// Its own address, read through GS: must stay first.
    this: AtomicPtr<Processor>,
    /// Its dense number.
    pub id: ProcessorId,
    /// Its local APIC's number.
    pub apic_id: u32,
    /// What happened and was not taken yet.
    pending: AtomicU32,
    lines: [AtomicU64; LINE_WORDS],
    /// When the timer shall fire, or [`NO_DEADLINE`].
    pub deadline: AtomicU64,
    /// The same in TSC ticks.
    pub deadline_tsc: AtomicU64,
    /// The guest that runs here right now.
    pub presence: Presence,
    /// What virtualisation keeps per processor.
    pub svm: svm::ProcessorState,
}

impl Processor {
    /// A processor that has not been started yet.
    pub fn new(id: ProcessorId, apic_id: u32) -> Processor {
        Processor {
            this: AtomicPtr::new(core::ptr::null_mut()),
            id,
            apic_id,
            pending: AtomicU32::new(0),
            lines: [const { AtomicU64::new(0) }; LINE_WORDS],
            deadline: AtomicU64::new(NO_DEADLINE),
            deadline_tsc: AtomicU64::new(NO_DEADLINE),
            presence: Presence::new(),
            svm: svm::ProcessorState::default(),
        }
    }

    /// Something waits in [`Processor::take_interrupt`]: a guest must not be entered, and idling is over.
    #[inline]
    pub fn has_pending(&self) -> bool {
        self.pending.load(Ordering::SeqCst) != 0
    }

    /// The timer fired.
    pub fn note_timer(&self) {
        self.pending.fetch_or(TIMER, Ordering::SeqCst);
    }

    /// Somebody wants this processor's attention. True when nobody wanted it before: then an IPI is due.
    pub fn note_kick(&self) -> bool {
        self.pending.fetch_or(KICK, Ordering::SeqCst) & KICK == 0
    }

    /// The console has input.
    pub fn note_console(&self) {
        self.pending.fetch_or(CONSOLE, Ordering::SeqCst);
    }

    /// A device's line fired.
    pub fn note_line(&self, line: u32) {
        if let Some(word) = self.lines.get((line / 64) as usize) {
            word.fetch_or(1 << (line % 64), Ordering::SeqCst);
            self.pending.fetch_or(LINES, Ordering::SeqCst);
        }
    }

    /// The next thing that happened, once each.
    pub fn take_interrupt(&self) -> Option<Interrupt> {
        const ONCE: [(u32, Interrupt); 3] = [
            (TIMER, Interrupt::Timer),
            (KICK, Interrupt::Kick),
            (CONSOLE, Interrupt::Console),
        ];
        let pending = self.pending.load(Ordering::SeqCst);
        for (bit, interrupt) in ONCE {
            if pending & bit != 0 {
                self.pending.fetch_and(!bit, Ordering::SeqCst);
                return Some(interrupt);
            }
        }
        if pending & LINES != 0 {
            self.take_line().map(Interrupt::Line)
        } else {
            None
        }
    }

    fn take_line(&self) -> Option<u32> {
        // The summary bit goes first: a line that fires during the search sets it again.
        self.pending.fetch_and(!LINES, Ordering::SeqCst);
        for (index, word) in self.lines.iter().enumerate() {
            let bits = word.load(Ordering::SeqCst);
            if bits != 0 {
                let bit = bits.trailing_zeros();
                word.fetch_and(!(1 << bit), Ordering::SeqCst);
                // There may be more: look again next time.
                self.pending.fetch_or(LINES, Ordering::SeqCst);
                return Some((index as u32).wrapping_mul(64) | bit);
            }
        }
        None
    }
}

static PROCESSORS: [AtomicPtr<Processor>; MAX_PROCESSORS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_PROCESSORS];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Processors that run.
pub fn count() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// A running processor's data.
pub fn get(id: ProcessorId) -> Option<&'static Processor> {
    let pointer = PROCESSORS.get(id)?.load(Ordering::Acquire);
    // SAFETY: only `adopt` stores here, and what it stores lives forever and is shared only through atomics.
    unsafe { pointer.as_ref() }
}

/// All running processors.
pub fn all() -> impl Iterator<Item = &'static Processor> {
    (0..count()).filter_map(get)
}

/// The processor that asks. Only after [`adopt`] has run on it.
#[inline(always)]
pub fn current() -> &'static Processor {
    let pointer: *const Processor;
    // SAFETY: `adopt` made GS point at this processor's data, whose first word is its own address. Guests' GS bases are
    // in place only between VMLOAD and VMSAVE, where no Rust code runs.
    unsafe {
        core::arch::asm!("mov {}, gs:[0]", out(reg) pointer, options(nostack, readonly, preserves_flags, pure));
        &*pointer
    }
}

/// Whether [`current`] may be called: false early in start-up.
pub fn current_is_known() -> bool {
    x86_64::registers::model_specific::GsBase::read().as_u64() != 0
}

/// Make `processor` the data of the processor that calls, and count it among the running ones.
pub fn adopt(processor: &'static Processor) {
    let pointer = core::ptr::from_ref(processor).cast_mut();
    processor.this.store(pointer, Ordering::Relaxed);
    x86_64::registers::model_specific::GsBase::write(x86_64::VirtAddr::from_ptr(pointer));
    // Those with a number past the table's end were not started.
    if let Some(place) = PROCESSORS.get(processor.id) {
        place.store(pointer, Ordering::Release);
        COUNT.fetch_max(processor.id.saturating_add(1), Ordering::AcqRel);
    }
}
