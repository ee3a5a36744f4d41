//! What a domain has learnt from the answers it got: what it has, what it holds of others', what it offers. It is a
//! belief, not the truth: other vCPUs change things, and the toolstack changes them from outside.

mod frames;
mod projects;

pub use frames::{Frames, Use, WINDOW};
pub use projects::{MOST_PROJECTS, Project, Projects, Stage};

use hypercall_abi::DomainId;

use crate::list::List;
use crate::numbers::Numbers;

/// Pages of a vCPU in which it places its requests: one for structures, the others for arrays.
pub const SCRATCH_PAGES: u64 = 4;
/// Frames of the grant table whose place a domain remembers.
pub const TABLE_FRAMES: usize = 8;
/// Entries in a page of the grant table.
pub const ENTRIES: u32 = 512;
/// So many faults in a row mean that the pages for requests are gone.
const MOST_FAULTS: u32 = 6;

/// What one of a domain's ports is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// It waits for a domain.
    Unbound(DomainId),
    /// A channel to a domain.
    Interdomain(DomainId),
    /// A virtual interrupt.
    Virq(u32),
    /// A vCPU of its own.
    Ipi,
}

/// One of a domain's own ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnPort {
    /// Its number.
    pub port: u32,
    /// What it is bound to.
    pub bound: Bound,
}

/// A grant that a domain gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Which entry.
    pub reference: u32,
    /// To whom.
    pub to: DomainId,
    /// Which frame.
    pub frame: u64,
    /// It may be written.
    pub writable: bool,
}

/// A grant that a domain has mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Its handle.
    pub handle: u32,
    /// Where.
    pub at: u64,
    /// Whose.
    pub granter: DomainId,
    /// It may be written.
    pub writable: bool,
}

/// Reads a domain's memory at a guest-physical address; `false` where it cannot be read.
pub type Reader<'a> = dyn Fn(u64, &mut [u8]) -> bool + 'a;

/// What one domain knows.
#[derive(Clone, Debug)]
pub struct Knowledge {
    /// Itself.
    pub id: DomainId,
    /// Whether it controls others.
    pub privileged: bool,
    /// Its vCPUs.
    pub vcpus: u32,
    /// What lies at its frames.
    pub frames: Frames,
    /// Its ports.
    pub ports: List<OwnPort, 64>,
    /// Pages of event words; none in the 2-level ABI.
    pub event_pages: List<u64, 8>,
    /// Control blocks of the FIFO ABI: frame and offset.
    pub control_blocks: List<(u64, u32), 8>,
    /// vCPUs that have one.
    pub queues: u64,
    /// Where the frames of its grant table are mapped; zero where not.
    pub table: [u64; TABLE_FRAMES],
    /// Where the shared page is mapped; zero where not.
    pub shared_info: u64,
    /// What it lends.
    pub offers: List<Offer, 96>,
    /// What it has borrowed and mapped.
    pub held: List<Held, 384>,
    /// Extents of more than a page that it was given: where they begin, and their order.
    pub extents: List<(u64, u32), 16>,
    /// Others' frames that it has mapped by the toolstack's ways: where, and whose.
    pub foreign: List<(u64, DomainId), 256>,
    /// Addresses that it registered for the core to write to.
    pub areas: List<u64, 16>,
    /// vCPUs whose info it has registered.
    pub registered: u64,
    /// vCPUs that it has taken down.
    pub down: u64,
    /// The domains that a toolstack is making.
    pub projects: Option<Box<Projects>>,
    /// The number after that of the domain which was looked at last: a toolstack looks at all, one after the other.
    pub next_look: u16,
    scratch: [u64; 8],
    faults: u32,
    probed: u64,
}

impl Knowledge {
    /// A domain with `pages` of memory from frame 0 on, of which the first ones hold its vCPUs' requests.
    pub fn new(id: DomainId, privileged: bool, vcpus: u32, pages: u64) -> Self {
        let mut frames = Frames::new(pages);
        let mut scratch = [0; 8];
        for (vcpu, place) in scratch.iter_mut().enumerate() {
            // More vCPUs than there is room for share a place.
            let rooms = (pages / (2 * SCRATCH_PAGES)).clamp(1, u64::from(vcpus.clamp(1, 8)));
            *place = (vcpu as u64 % rooms) * SCRATCH_PAGES;
            (*place..*place + SCRATCH_PAGES).for_each(|frame| frames.set(frame, Use::Scratch));
        }
        Knowledge {
            id,
            privileged,
            vcpus,
            frames,
            ports: List::default(),
            event_pages: List::default(),
            control_blocks: List::default(),
            queues: 0,
            table: [0; TABLE_FRAMES],
            shared_info: 0,
            offers: List::default(),
            held: List::default(),
            extents: List::default(),
            foreign: List::default(),
            areas: List::default(),
            registered: 0,
            down: 0,
            projects: privileged.then(Box::default),
            next_look: 0,
            scratch,
            faults: 0,
            probed: 0,
        }
    }

    /// The first page of a vCPU's place for requests.
    pub fn scratch(&self, vcpu: u32) -> u64 {
        self.scratch[vcpu as usize % self.scratch.len()]
    }

    /// A call of a vCPU found its request unreadable, or not. After some such calls another place is chosen: where there
    /// is memory, as `read` says.
    pub fn note_fault(&mut self, vcpu: u32, faulted: bool, numbers: &mut Numbers, read: &Reader<'_>) {
        self.faults = if faulted { self.faults + 1 } else { 0 };
        if self.faults < MOST_FAULTS {
            return;
        }
        self.faults = 0;
        let index = vcpu as usize % self.scratch.len();
        let old = self.scratch[index];
        let vcpus = self.scratch.iter().take(self.vcpus as usize);
        if vcpus.filter(|&&other| other == old).count() <= 1 {
            (old..old + SCRATCH_PAGES).for_each(|frame| self.frames.set(frame, Use::Memory));
        }
        let most = self.frames.pages().saturating_sub(SCRATCH_PAGES);
        let first = numbers.below(most + 1);
        let usable = |start: &u64| {
            (*start..*start + SCRATCH_PAGES)
                .all(|frame| self.frames.get(frame) == Some(Use::Memory) && read(frame << 12, &mut [0]))
        };
        let start = (first..=most).chain(0..first).find(usable).unwrap_or(first);
        self.scratch[index] = start;
        (start..start + SCRATCH_PAGES).for_each(|frame| self.frames.set(frame, Use::Scratch));
    }

    /// Look whether there is memory where it is thought to be, a frame at a time.
    pub fn probe(&mut self, read: &Reader<'_>) {
        self.probed = (self.probed + 1) % WINDOW as u64;
        let frame = self.probed;
        match (self.frames.get(frame), read(frame << 12, &mut [0])) {
            // Above there is memory, too, but more of what others lent or the core shares.
            (Some(Use::Hole), true) => {
                let low = frame < self.frames.pages();
                self.frames
                    .set(frame, if low { Use::Memory } else { Use::Foreign });
            }
            (Some(Use::Hole | Use::Scratch) | None, _) | (_, true) => {}
            (Some(_), false) => self.forget_frame(frame),
        }
    }

    /// One of its vCPUs.
    pub fn any_vcpu(&self, numbers: &mut Numbers) -> u32 {
        numbers.below(u64::from(self.vcpus)) as u32
    }

    /// Where an entry of its grant table can be written; none while that frame is not mapped.
    pub fn entry_address(&self, reference: u32) -> Option<u64> {
        let frame = *self.table.get((reference / ENTRIES) as usize)?;
        (frame != 0).then(|| (frame << 12).wrapping_add(u64::from(reference % ENTRIES) * 8))
    }

    /// A frame is no longer what it was.
    pub fn forget_frame(&mut self, frame: u64) {
        match self.frames.get(frame) {
            Some(Use::Table) => {
                for place in self.table.iter_mut().filter(|place| **place == frame) {
                    *place = 0;
                }
            }
            Some(Use::Shared) if self.shared_info == frame => self.shared_info = 0,
            Some(Use::Foreign) => self.foreign.remove(|&(at, _)| at == frame),
            _ => {}
        }
        self.frames.set(frame, Use::Hole);
    }

    /// A frame now is this.
    pub fn set_frame(&mut self, frame: u64, what: Use) {
        self.forget_frame(frame);
        self.frames.set(frame, what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vcpus_have_places_of_their_own_while_there_is_room() {
        let knowledge = Knowledge::new(DomainId(1), false, 2, 32);
        assert_eq!((knowledge.scratch(0), knowledge.scratch(1)), (0, 4));
        assert_eq!(knowledge.frames.get(5), Some(Use::Scratch));
        assert_eq!(knowledge.frames.get(8), Some(Use::Memory));
        let small = Knowledge::new(DomainId(1), false, 2, 8);
        assert_eq!((small.scratch(0), small.scratch(1)), (0, 0));
    }

    #[test]
    fn after_some_faults_requests_lie_elsewhere() {
        let mut knowledge = Knowledge::new(DomainId(1), false, 1, 64);
        let mut numbers = Numbers::new(3);
        for _ in 0..MOST_FAULTS {
            assert_eq!(knowledge.scratch(0), 0);
            knowledge.note_fault(0, true, &mut numbers, &|address, _| address >= 0x10000);
        }
        assert!(knowledge.scratch(0) >= 16);
        assert_eq!(knowledge.frames.get(0), Some(Use::Memory));
        knowledge.note_fault(0, false, &mut numbers, &|_, _| true);
        assert_eq!(knowledge.faults, 0);
    }

    #[test]
    fn memory_that_is_gone_is_noticed() {
        let mut knowledge = Knowledge::new(DomainId(1), false, 1, 64);
        for _ in 0..WINDOW {
            knowledge.probe(&|address, _| address == 100 << 12);
        }
        assert_eq!(knowledge.frames.get(100), Some(Use::Foreign));
        assert_eq!(
            (
                knowledge.frames.count(Use::Memory),
                knowledge.frames.count(Use::Scratch)
            ),
            (0, 4)
        );
    }

    #[test]
    fn entries_are_written_where_the_table_is_mapped() {
        let mut knowledge = Knowledge::new(DomainId(1), false, 1, 64);
        assert_eq!(knowledge.entry_address(3), None);
        knowledge.set_frame(100, Use::Table);
        knowledge.table[1] = 100;
        assert_eq!(knowledge.entry_address(513), Some(100 * 4096 + 8));
        knowledge.forget_frame(100);
        assert_eq!(knowledge.entry_address(513), None);
    }
}
