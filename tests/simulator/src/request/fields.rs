//! The fields of a request, each right or spoilt as the request's intent has it, and the places where requests lie.

use hypercall_abi::DomainId;
use hypercall_abi::hypercall::number;
use hypercall_abi::memory::COMMAND_BITS;
use machine::address::PAGE_SIZE;
use zerocopy::{Immutable, IntoBytes};

use super::{Call, Intent, Request};
use crate::knowledge::{Knowledge, SCRATCH_PAGES, Use, WINDOW};
use crate::noticeboard::Noticeboard;
use crate::numbers::Numbers;

const PAGE: u64 = PAGE_SIZE as u64;
/// The page of the local APIC.
pub const APIC_FRAME: u64 = 0xfee00;
/// The page of dom0's I/O APIC.
pub const IO_APIC_FRAME: u64 = 0xfec00;
/// Fields after which a nearly valid request may have its fault, the pointer included.
const SLIPS: u64 = 7;

/// Who makes a request, and all that goes into it.
pub struct Maker<'a> {
    /// The source of choices.
    pub numbers: &'a mut Numbers,
    /// What the caller knows.
    pub knowledge: &'a mut Knowledge,
    /// What others have told.
    pub board: &'a mut Noticeboard,
    /// What is being made.
    pub request: &'a mut Request,
    /// The calling vCPU.
    pub vcpu: u32,
    /// The time, as the caller knows it.
    pub now: u64,
    /// One in so many requests may end the calling domain, if that is what it asks for. Zero: none.
    pub deadly: u64,
    /// The call is one of a list.
    pub in_list: bool,
    intent: Intent,
    /// Fields until the one that is wrong.
    slip: u64,
    structures: u64,
    arrays: u64,
    started: bool,
}

impl<'a> Maker<'a> {
    /// A maker of one request.
    pub fn new(
        numbers: &'a mut Numbers,
        knowledge: &'a mut Knowledge,
        board: &'a mut Noticeboard,
        request: &'a mut Request,
        vcpu: u32,
        now: u64,
    ) -> Self {
        let dice = numbers.next();
        let intent = match dice % 16 {
            0..11 => Intent::Valid,
            11..14 => Intent::Nearly,
            _ => Intent::Absurd,
        };
        let mut maker = Maker {
            numbers,
            knowledge,
            board,
            request,
            vcpu,
            now,
            deadly: 0,
            in_list: false,
            intent,
            slip: 0,
            structures: (dice >> 8) % 32 * 8,
            arrays: (dice >> 16) % 64 * 8,
            started: false,
        };
        maker.set_intent(intent);
        maker
    }

    /// What this request is meant to be.
    pub fn intent(&self) -> Intent {
        self.intent
    }

    /// Decide what the next call is meant to be.
    pub fn set_intent(&mut self, intent: Intent) {
        self.intent = intent;
        self.slip = match intent {
            Intent::Nearly => self.numbers.below(SLIPS),
            _ => 0,
        };
    }

    /// The call is this.
    pub fn call(&mut self, number: u64, operation: u32, arguments: &[u64]) {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        if self.intent == Intent::Absurd {
            // What is not an argument is noise, and upper halves are.
            for argument in &mut all[arguments.len()..] {
                *argument = self.numbers.next();
            }
        }
        // What the core will take it for.
        let operation = match number {
            number::DOMCTL | number::SYSCTL | number::PLATFORM_OP | number::MULTICALL => operation,
            number::MEMORY_OP => (all[0] & ((1 << COMMAND_BITS) - 1)) as u32,
            _ => all[0] as u32,
        };
        self.request.call = Call {
            number,
            operation,
            arguments: all,
            intent: self.intent,
            project: self.request.call.project,
        };
    }

    /// Whether the next field is to be wrong.
    pub fn wrong(&mut self) -> bool {
        match self.intent {
            Intent::Valid => false,
            Intent::Nearly => {
                let now = self.slip == 0;
                self.slip = self.slip.wrapping_sub(1);
                now
            }
            Intent::Absurd => self.numbers.chance(1, 2),
        }
    }

    /// Any number; `valid` is the right one.
    pub fn number(&mut self, valid: u64) -> u64 {
        if !self.wrong() {
            return valid;
        }
        if self.intent == Intent::Nearly && self.numbers.chance(3, 4) {
            self.numbers.near(valid)
        } else {
            self.numbers.word()
        }
    }

    /// The same for fields of 32 bits.
    pub fn number32(&mut self, valid: u32) -> u32 {
        self.number(u64::from(valid)) as u32
    }

    /// Padding, flags of the future and the like: zero.
    pub fn zero(&mut self) -> u64 {
        if self.intent == Intent::Valid {
            return 0;
        }
        self.number(0)
    }

    /// A sub-operation: now and then one that does not exist, or one with bits above.
    pub fn operation(&mut self, valid: u32) -> u64 {
        match self.intent {
            Intent::Absurd if self.numbers.chance(1, 16) => self.numbers.word(),
            Intent::Absurd if self.numbers.chance(1, 8) => u64::from(valid) | (self.numbers.next() << 32),
            _ => u64::from(valid),
        }
    }

    /// The number of a domain.
    pub fn domain(&mut self, valid: DomainId) -> DomainId {
        if !self.wrong() {
            return valid;
        }
        match self.numbers.below(10) {
            0 => DomainId::SELF,
            1 => self.knowledge.id,
            2 => DomainId(0),
            3 => DomainId(DomainId::FIRST_RESERVED.0 + self.numbers.below(16) as u16),
            4 => DomainId(self.numbers.word() as u16),
            5 => self.board.ended.pick(self.numbers).unwrap_or(DomainId(77)),
            6 => DomainId(valid.0.wrapping_add(1)),
            _ => self.peer(),
        }
    }

    /// Oneself, by either name.
    pub fn myself(&mut self) -> DomainId {
        if self.numbers.chance(3, 4) {
            DomainId::SELF
        } else {
            self.knowledge.id
        }
    }

    /// Another domain that exists, or oneself when there is none.
    pub fn peer(&mut self) -> DomainId {
        let me = self.knowledge.id;
        self.board.other(me, self.numbers).map_or(me, |notice| notice.id)
    }

    /// A port of one's own.
    pub fn port(&mut self, valid: u32) -> u32 {
        if !self.wrong() {
            return valid;
        }
        match self.numbers.below(8) {
            0 => valid.wrapping_add(1),
            1 => valid.wrapping_sub(1),
            2 => 0,
            3 => self
                .numbers
                .pick(&[1022, 1023, 1024, 4095, 4096, 0x1_ffff, 0x2_0000]),
            4 => self.numbers.word() as u32,
            5 => self
                .board
                .ports
                .pick(self.numbers)
                .map_or(2, |notice| notice.port),
            _ => self.numbers.below(48) as u32,
        }
    }

    /// A vCPU of one's own, or of a domain with so many.
    pub fn vcpu_of(&mut self, count: u32) -> u32 {
        let valid = self.numbers.below(u64::from(count.max(1))) as u32;
        if !self.wrong() {
            return valid;
        }
        match self.numbers.below(4) {
            0 => count,
            1 => self.numbers.pick(&[31, 32, 33, 63, 64, 127, 128, u32::MAX]),
            2 => self.numbers.word() as u32,
            _ => valid.wrapping_add(1),
        }
    }

    /// A guest frame.
    pub fn frame(&mut self, valid: u64) -> u64 {
        if !self.wrong() {
            return valid;
        }
        match self.numbers.below(12) {
            0 => valid.wrapping_add(1),
            1 => self.frame_of(Use::Hole),
            2 => self.frame_of(Use::Grant),
            3 => self.frame_of(Use::Foreign),
            4 => self.frame_of(Use::Area),
            5 => self.knowledge.table[0],
            6 => self.knowledge.shared_info,
            7 => self
                .numbers
                .pick(&[APIC_FRAME, IO_APIC_FRAME, 0xa0, 0xf_ffff, 0x10_0000]),
            8 => self
                .numbers
                .pick(&[511, 512, 0x4_0000, (1 << 36) - 1, 1 << 36, 1 << 40, (1 << 52) - 1]),
            9 => self.numbers.word(),
            // What holds the requests themselves.
            10 if self.numbers.chance(1, 4) => self.frame_of(Use::Scratch),
            _ => self.numbers.border() >> 12,
        }
    }

    /// A frame that is this, or one far from everything when there is none.
    pub fn frame_of(&mut self, what: Use) -> u64 {
        if what == Use::Memory
            && !self.knowledge.extents.is_empty()
            && self.numbers.chance(1, 8)
            && let Some((first, order)) = self.knowledge.extents.pick(self.numbers)
        {
            // Guests may have been given some at the end of what there is.
            return first.wrapping_add(self.numbers.below(1 << order));
        }
        let found = self.knowledge.frames.pick(what, self.numbers);
        found.unwrap_or(WINDOW as u64 + 1)
    }

    /// Put a structure down and say where it is.
    pub fn structure<T: IntoBytes + Immutable + ?Sized>(&mut self, value: &T) -> u64 {
        let size = size_of_val(value) as u64;
        let address = self.place(size);
        self.request.writes.put(address, value);
        self.pointer(address)
    }

    /// Where a structure of this size goes: an ordinary page mostly.
    fn place(&mut self, size: u64) -> u64 {
        let first = self.knowledge.scratch(self.vcpu) * PAGE;
        let straddles = !self.started && self.numbers.chance(1, 24);
        self.started = true;
        if straddles {
            // The last bytes on the next page.
            return first + PAGE - 1 - self.numbers.below(size.max(2) - 1);
        }
        if self.intent == Intent::Valid && self.numbers.chance(1, 40) {
            // A page that others can write meanwhile, or that the core shares.
            if let Some(held) = self
                .knowledge
                .held
                .pick(self.numbers)
                .filter(|held| held.writable)
            {
                return held.at * PAGE + self.numbers.below((PAGE - size.min(PAGE)) / 8 + 1) * 8;
            }
        }
        let offset = self.structures;
        self.structures += size.next_multiple_of(8);
        if self.structures > PAGE {
            self.structures = size.next_multiple_of(8) % PAGE;
            return first;
        }
        first + offset
    }

    /// Put an array down behind the structures and say where it is.
    pub fn array<T: IntoBytes + Immutable>(&mut self, values: &[T]) -> u64 {
        let address = self.room_for(size_of_val(values) as u64);
        self.request.writes.put(address, values);
        self.pointer(address)
    }

    /// The last bytes of the vCPU's place for requests, which nothing else uses.
    pub fn scratch_end(&self, bytes: u64) -> u64 {
        (self.knowledge.scratch(self.vcpu) + SCRATCH_PAGES) * PAGE - bytes
    }

    /// One of the caller's vCPUs.
    pub fn any_vcpu(&mut self) -> u32 {
        self.knowledge.any_vcpu(self.numbers)
    }

    /// Room for so many bytes that the core is to write.
    pub fn room(&mut self, bytes: u64) -> u64 {
        let address = self.room_for(bytes);
        self.pointer(address)
    }

    fn room_for(&mut self, bytes: u64) -> u64 {
        let first = (self.knowledge.scratch(self.vcpu) + 1) * PAGE;
        // The last bytes are kept for what must not be overwritten.
        let most = (SCRATCH_PAGES - 1) * PAGE - 64;
        if self.arrays + bytes > most {
            self.arrays = 0;
        }
        let offset = self.arrays;
        self.arrays += bytes.next_multiple_of(8);
        first + offset
    }

    /// A pointer, or something else in its place.
    pub fn pointer(&mut self, valid: u64) -> u64 {
        if !self.wrong() {
            return valid;
        }
        let offset = valid % PAGE;
        let frame = match self.numbers.below(16) {
            0 => return 0,
            1 => return u64::MAX - self.numbers.below(64),
            2 => return 0x1_0000_0000 - self.numbers.below(64),
            3 => return self.numbers.word(),
            4 => return valid | (self.numbers.next() << 32),
            5 => return valid.wrapping_add(self.numbers.within(1, 7)),
            6 => self.frame_of(Use::Hole),
            7 => self.frame_of(Use::Foreign),
            8 => self.frame_of(Use::Grant),
            9 => self.frame_of(Use::Area),
            10 => self.knowledge.table[0],
            11 => self.knowledge.shared_info,
            12 => self.numbers.pick(&[APIC_FRAME, IO_APIC_FRAME]),
            // Another vCPU's requests.
            13 => self.knowledge.scratch(self.vcpu + 1),
            // Some of it in memory, the rest not.
            14 => return self.knowledge.frames.pages() * PAGE - self.numbers.below(16),
            _ => return self.knowledge.areas.pick(self.numbers).unwrap_or(8),
        };
        frame.wrapping_mul(PAGE).wrapping_add(offset)
    }
}
