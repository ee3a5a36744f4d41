//! A virtual CPU: its context, why it does not run, its place on the processors, its time, its event upcall.

use machine::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use hypercall_abi::xen::limit::LEGACY_VCPUS;
use hypercall_abi::{DomainId, Error};
use machine::memory::FrameReference;
use machine::sync::Lock;
use machine::{Machine, Nanoseconds, ProcessorId};

use crate::lapic::LocalApic;
use crate::runstate::Runstate;
use crate::schedule::{AtomicProcessorSet, ProcessorSet, Waker};

/// Size of `vcpu_info`.
pub const VCPU_INFO_SIZE: usize = 64;
const UPCALL_PENDING: usize = 0;
const PENDING_SELECTOR: usize = 8;

/// Where a vCPU's `vcpu_info` lies: a page, held, and the offset in it.
#[derive(Debug)]
pub struct InfoPlace {
    /// The page.
    pub page: FrameReference,
    /// The structure's first byte in it.
    pub offset: usize,
    /// The guest registered it itself: that is allowed once.
    pub registered: bool,
}

/// Reasons not to run, besides pauses; bits of [`Vcpu::stops`].
pub mod stop {
    /// Not started, or stopped by VCPUOP_down.
    pub const DOWN: u32 = 1 << 0;
    /// Waits for an event (HLT, SCHEDOP_block).
    pub const BLOCKED: u32 = 1 << 1;
    /// Waits for one of the ports of a SCHEDOP_poll, or its timeout.
    pub const POLLING: u32 = 1 << 2;
    /// The domain has shut down or crashed.
    pub const SHUTDOWN: u32 = 1 << 3;
    /// Its domain has had what its cap allows in this period.
    pub const CAPPED: u32 = 1 << 4;
}

/// Where a vCPU is, as the scheduler sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Nowhere: it does not want to run.
    Off,
    /// In a processor's run queue.
    Queued(ProcessorId),
    /// On a processor.
    Running(ProcessorId),
}

/// What a vCPU waits for in time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadlines {
    /// VCPUOP_set_singleshot_timer.
    pub singleshot: Option<Nanoseconds>,
    /// VCPUOP_set_periodic_timer: next tick.
    pub periodic: Option<Nanoseconds>,
    /// VCPUOP_set_periodic_timer: period.
    pub period: Nanoseconds,
    /// SCHEDOP_poll's timeout.
    pub poll: Option<Nanoseconds>,
    /// The local APIC's timer.
    pub apic: Option<Nanoseconds>,
    /// The beginning of the next period of a domain's cap.
    pub renewal: Option<Nanoseconds>,
    /// In which processor's queue it is entered, and for when.
    pub queued: Option<(ProcessorId, Nanoseconds)>,
}

impl Deadlines {
    /// The earliest of them.
    pub fn earliest(&self) -> Option<Nanoseconds> {
        [self.singleshot, self.periodic, self.poll, self.apic, self.renewal]
            .into_iter()
            .flatten()
            .min()
    }
}

/// A virtual CPU.
pub struct Vcpu<M: Machine> {
    /// Its domain's number.
    pub domain_id: DomainId,
    /// Its index in the domain.
    pub index: u32,
    /// Its registers. Held by the processor that runs it for as long as it does.
    pub context: Lock<M::Vcpu>,
    /// Reasons not to run: [`stop`].
    pub stops: AtomicU32,
    /// Holds on its running.
    pub pauses: AtomicU32,
    /// Where it is.
    pub place: Lock<Place>,
    /// The processor it last ran on.
    pub last_processor: AtomicU32,
    /// The processor that is its own, under a policy that gives each vCPU one; all ones is none.
    pub home: AtomicU32,
    /// Who woke it last.
    pub(crate) waker: Waker,
    /// Where its `vcpu_info` lies.
    pub info: Lock<InfoPlace>,
    /// The local APIC.
    pub lapic: LocalApic,
    /// The vector of HVMOP_set_evtchn_upcall_vector; 0 is none.
    pub upcall_vector: AtomicU8,
    /// What it waits for in time.
    pub deadlines: Lock<Deadlines>,
    /// The port (plus one) that SCHEDOP_poll waits for, or waited for last; `u32::MAX` for several. Written by the vCPU
    /// itself only: whoever ends a poll may be late, when the next one has begun.
    pub polling: AtomicU32,
    /// Where its time went.
    pub runstate: Lock<Runstate>,
    /// Exits by kind.
    pub exits: [AtomicU64; machine::virtual_cpu::EXIT_KINDS],
    /// Hard affinity: the processors that it may run on, of its pool's.
    pub hard_affinity: AtomicProcessorSet,
    /// Soft affinity: those of them that it would rather run on.
    pub soft_affinity: AtomicProcessorSet,
    /// Copies of `vcpu_time_info` that the guest asked for elsewhere.
    pub time_area: Lock<Option<InfoPlace>>,
    /// It has been given a state to start from.
    pub initialised: machine::sync::atomic::AtomicBool,
    /// An NMI waits.
    pub nmi_pending: machine::sync::atomic::AtomicBool,
}

impl<M: Machine> Vcpu<M> {
    /// A vCPU in the state after INIT, down. The first 32 have their `vcpu_info` in the shared info page.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(
        machine: &M,
        domain_id: DomainId,
        index: u32,
        shared_info: &FrameReference,
    ) -> Result<Self, Error> {
        let offset = if (index as usize) < LEGACY_VCPUS {
            index as usize * VCPU_INFO_SIZE
        } else {
            0
        };
        // vCPUs past the shared page's have none until they register one; slot 0 stands in, never written for them.
        let page = shared_info.duplicate().ok_or(Error::ENOMEM)?;
        Ok(Vcpu {
            domain_id,
            index,
            context: Lock::new(machine.new_vcpu().map_err(|_| Error::ENOMEM)?),
            stops: AtomicU32::new(stop::DOWN),
            pauses: AtomicU32::new(0),
            place: Lock::new(Place::Off),
            last_processor: AtomicU32::new(0),
            home: AtomicU32::new(u32::MAX),
            waker: Waker::default(),
            info: Lock::new(InfoPlace {
                page,
                offset,
                registered: false,
            }),
            lapic: LocalApic::new(index),
            upcall_vector: AtomicU8::new(0),
            deadlines: Lock::new(Deadlines::default()),
            polling: AtomicU32::new(0),
            runstate: Lock::new(Runstate::new(machine.now())),
            exits: [const { AtomicU64::new(0) }; machine::virtual_cpu::EXIT_KINDS],
            hard_affinity: AtomicProcessorSet::new(ProcessorSet::ALL),
            soft_affinity: AtomicProcessorSet::new(ProcessorSet::ALL),
            time_area: Lock::new(None),
            initialised: machine::sync::atomic::AtomicBool::new(false),
            nmi_pending: machine::sync::atomic::AtomicBool::new(false),
        })
    }

    /// Whether it has a `vcpu_info` at all.
    pub fn has_info(&self) -> bool {
        (self.index as usize) < LEGACY_VCPUS || self.info.lock().registered
    }

    /// Set "an event waits" in its `vcpu_info`; true when it was not set before.
    pub fn set_upcall_pending(&self) -> bool {
        if !self.has_info() {
            return false;
        }
        let info = self.info.lock();
        // The place was checked when it was registered: it cannot leave its page.
        info.page
            .compare_exchange_u8(info.offset + UPCALL_PENDING, 0, 1)
            .is_ok_and(|swap| swap.is_ok())
    }

    /// Note in its `vcpu_info` which word of the 2-level pending array to look at; true when it was not noted before.
    pub fn set_pending_selector(&self, word: u32) -> bool {
        if !self.has_info() {
            return false;
        }
        let info = self.info.lock();
        let bit = 1u64.wrapping_shl(word);
        info.page
            .fetch_or_u64(info.offset.saturating_add(PENDING_SELECTOR), bit)
            .is_ok_and(|before| before & bit == 0)
    }

    /// Whether "an event waits" is set.
    pub fn upcall_pending(&self) -> bool {
        if !self.has_info() {
            return false;
        }
        let info = self.info.lock();
        info.page
            .load_u8(info.offset + UPCALL_PENDING)
            .is_ok_and(|value| value != 0)
    }

    /// Whether nothing of its own keeps it from running (its domain may still be paused).
    pub fn wants_to_run(&self) -> bool {
        self.stops.load(Ordering::SeqCst) == 0 && self.pauses.load(Ordering::SeqCst) == 0
    }

    /// Whether it is up: started and not stopped.
    pub fn is_up(&self) -> bool {
        self.stops.load(Ordering::SeqCst) & stop::DOWN == 0
    }
}
