//! The local APIC that a guest sees: xAPIC registers in a page, x2APIC registers as MSRs, one state behind both.
//!
//! Registers are named by their offset in the xAPIC page; MSR 0x800 + n is offset n * 16. Other processors touch only
//! [`LocalApic::post`]; everything else happens on the processor that runs the vCPU. What an access means beyond the
//! register (an IPI to send, a timer to set, a line to complete) comes back as an [`Effect`] for the caller to carry out,
//! so that nothing here needs to know other vCPUs.

use machine::sync::atomic::{AtomicU64, Ordering};

use machine::Nanoseconds;
use machine::sync::Lock;

/// The page of an xAPIC, as after reset.
pub const DEFAULT_BASE: u64 = 0xfee0_0000;
const BASE_ENABLED: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_BOOT_PROCESSOR: u64 = 1 << 8;

/// Offsets of registers.
#[allow(
    missing_docs,
    reason = "the names are the manual's (Intel SDM vol. 3, table 11-1)"
)]
pub mod register {
    pub const ID: u32 = 0x20;
    pub const VERSION: u32 = 0x30;
    pub const TASK_PRIORITY: u32 = 0x80;
    pub const ARBITRATION_PRIORITY: u32 = 0x90;
    pub const PROCESSOR_PRIORITY: u32 = 0xa0;
    pub const END_OF_INTERRUPT: u32 = 0xb0;
    pub const LOGICAL_DESTINATION: u32 = 0xd0;
    pub const DESTINATION_FORMAT: u32 = 0xe0;
    pub const SPURIOUS_VECTOR: u32 = 0xf0;
    pub const IN_SERVICE: u32 = 0x100;
    pub const TRIGGER_MODE: u32 = 0x180;
    pub const REQUEST: u32 = 0x200;
    pub const ERROR_STATUS: u32 = 0x280;
    pub const COMMAND_LOW: u32 = 0x300;
    pub const COMMAND_HIGH: u32 = 0x310;
    pub const TIMER_VECTOR: u32 = 0x320;
    pub const ERROR_VECTOR: u32 = 0x370;
    pub const TIMER_INITIAL: u32 = 0x380;
    pub const TIMER_CURRENT: u32 = 0x390;
    pub const TIMER_DIVIDE: u32 = 0x3e0;
    pub const SELF_IPI: u32 = 0x3f0;
}
use register::*;

#[cfg(any(test, feature = "testing", debug_assertions))]
mod audit;

/// Version 0x14 with six entries in the local vector table: what Xen's has.
const VERSION_VALUE: u32 = 0x0005_0014;
/// A tick of the timer before division: 100 MHz.
const BUS_CYCLE: Nanoseconds = 10;
/// What a periodic timer takes at least from one interrupt to the next. A guest may program less, down to one tick, and
/// serving that would leave its processor no time for anything else.
const SHORTEST_PERIOD: Nanoseconds = 500_000;
const MASKED: u32 = 1 << 16;
const PERIODIC: u32 = 1 << 17;
const SOFTWARE_ENABLED: u32 = 1 << 8;
const ILLEGAL_VECTOR_SENT: u32 = 1 << 5;
const ILLEGAL_VECTOR_RECEIVED: u32 = 1 << 6;

/// What an access means beyond the register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing.
    None,
    /// The guest finished this vector; `level` says that it came from a level-triggered line.
    Completed {
        /// The vector.
        vector: u8,
        /// It came from a level-triggered line.
        level: bool,
    },
    /// An interprocessor interrupt to send.
    Command(Command),
    /// The timer's deadline changed.
    Timer(Option<Nanoseconds>),
}

/// An interprocessor interrupt, decoded from the command register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// Vector; for start-up the page of the code.
    pub vector: u8,
    /// Delivery mode: 0 fixed, 1 lowest priority, 4 NMI, 5 INIT, 6 start-up.
    pub mode: u8,
    /// Destination is logical.
    pub logical: bool,
    /// The level bit: INIT with it clear is the obsolete de-assertion.
    pub assert: bool,
    /// 0 none, 1 self, 2 all, 3 all but self.
    pub shorthand: u8,
    /// Destination, as wide as the sender's mode has it.
    pub destination: u32,
    /// The sender was in x2APIC mode.
    pub x2apic: bool,
}

/// An access that the guest's processor answers with #GP (x2APIC) or ignores (xAPIC).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRegister;

type Bitmap = [u32; 8];

fn highest(bitmap: &Bitmap) -> Option<u8> {
    let words = (0..8u8).zip(bitmap).rev();
    words
        .filter_map(|(word, bits)| Some((word << 5) | bits.checked_ilog2()? as u8))
        .next()
}

fn set(bitmap: &mut Bitmap, vector: u8) {
    bitmap[usize::from(vector >> 5)] |= 1 << (vector & 31);
}

fn clear(bitmap: &mut Bitmap, vector: u8) {
    bitmap[usize::from(vector >> 5)] &= !(1 << (vector & 31));
}

fn get(bitmap: &Bitmap, vector: u8) -> bool {
    bitmap[usize::from(vector >> 5)] & (1 << (vector & 31)) != 0
}

#[derive(Clone, Debug)]
struct State {
    base: u64,
    task_priority: u32,
    logical: u32,
    format: u32,
    spurious: u32,
    request: Bitmap,
    in_service: Bitmap,
    trigger: Bitmap,
    /// Error bits since the last write of the status register, and those it latched.
    errors: u32,
    error_status: u32,
    command: u64,
    /// Timer, thermal, performance, LINT0, LINT1, error.
    vectors: [u32; 6],
    initial: u32,
    divide: u32,
    /// When the running count began; `None`: the timer is stopped.
    started: Option<Nanoseconds>,
}

impl State {
    fn reset(base: u64) -> State {
        State {
            base,
            task_priority: 0,
            logical: 0,
            format: u32::MAX,
            spurious: 0xff,
            request: [0; 8],
            in_service: [0; 8],
            trigger: [0; 8],
            errors: 0,
            error_status: 0,
            command: 0,
            vectors: [MASKED; 6],
            initial: 0,
            divide: 0,
            started: None,
        }
    }

    fn x2apic(&self) -> bool {
        self.base & BASE_X2APIC != 0
    }

    /// The priority that a new interrupt must exceed, in its upper four bits.
    fn priority(&self) -> u32 {
        let service = highest(&self.in_service).map_or(0, u32::from);
        if self.task_priority >> 4 >= service >> 4 {
            self.task_priority & 0xff
        } else {
            service & 0xf0
        }
    }

    fn tick(&self) -> Nanoseconds {
        // The divisor's encoding is split around a zero bit; 0b111 is 1, the others are powers of two from 2.
        let code = (self.divide & 3) | ((self.divide >> 1) & 4);
        BUS_CYCLE << ((code + 1) & 7)
    }

    fn period(&self) -> Nanoseconds {
        u64::from(self.initial) * self.tick()
    }

    fn remaining(&self, now: Nanoseconds) -> u32 {
        let Some(started) = self.started else { return 0 };
        let period = self.period();
        if period == 0 {
            return 0;
        }
        let elapsed = now.saturating_sub(started);
        let left = if self.vectors[0] & PERIODIC != 0 {
            period - elapsed % period
        } else {
            period.saturating_sub(elapsed)
        };
        (left / self.tick()) as u32
    }

    /// From one interrupt to the next.
    fn interval(&self) -> Nanoseconds {
        if self.vectors[0] & PERIODIC != 0 {
            self.period().max(SHORTEST_PERIOD)
        } else {
            self.period()
        }
    }

    fn deadline(&self) -> Option<Nanoseconds> {
        let started = self.started?;
        (self.initial != 0).then(|| started.saturating_add(self.interval()))
    }
}

/// A vCPU's local APIC.
pub struct LocalApic {
    id: u32,
    /// Interrupts requested by anyone, a bit per vector, taken over by the vCPU's own processor.
    requests: [AtomicU64; 4],
    /// Which of the requests came from level-triggered lines.
    levels: [AtomicU64; 4],
    state: Lock<State>,
}

/// The APIC id of a vCPU: as Xen numbers them, so that toolstacks' ACPI tables fit.
pub const fn apic_id(vcpu: u32) -> u32 {
    vcpu.saturating_mul(2)
}

impl LocalApic {
    /// The APIC of vCPU `index`, as after reset.
    pub fn new(index: u32) -> Self {
        let boot = if index == 0 { BASE_BOOT_PROCESSOR } else { 0 };
        LocalApic {
            id: apic_id(index),
            requests: [const { AtomicU64::new(0) }; 4],
            levels: [const { AtomicU64::new(0) }; 4],
            state: Lock::new(State::reset(DEFAULT_BASE | BASE_ENABLED | boot)),
        }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Request an edge-triggered interrupt. Whoever does so then makes the vCPU look: `Kernel::unblock`.
    pub fn post(&self, vector: u8) {
        self.requests[usize::from(vector >> 6)].fetch_or(1 << (vector & 63), Ordering::SeqCst);
    }

    /// Request an interrupt of a level-triggered line: its completion will be reported as such.
    pub fn post_level(&self, vector: u8) {
        self.levels[usize::from(vector >> 6)].fetch_or(1 << (vector & 63), Ordering::SeqCst);
        self.post(vector);
    }

    /// Whether a request waits that nobody has looked at: decides whether HLT blocks.
    pub fn has_requests(&self) -> bool {
        self.requests.iter().any(|word| word.load(Ordering::SeqCst) != 0)
    }

    /// The vector that the guest should be offered now.
    pub fn pending(&self) -> Option<u8> {
        let mut state = self.state.lock();
        let State { request, trigger, .. } = &mut *state;
        let words = request
            .as_chunks_mut::<2>()
            .0
            .iter_mut()
            .zip(trigger.as_chunks_mut::<2>().0);
        for ((requests, levels), (request, trigger)) in self.requests.iter().zip(&self.levels).zip(words) {
            if requests.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let new = requests.swap(0, Ordering::SeqCst);
            let level = levels.fetch_and(!new, Ordering::SeqCst) & new;
            let halves = [
                (new as u32, level as u32),
                ((new >> 32) as u32, (level >> 32) as u32),
            ];
            for ((bits, level), (request, trigger)) in halves.into_iter().zip(request.iter_mut().zip(trigger))
            {
                *request |= bits;
                *trigger = (*trigger & !bits) | level;
            }
        }
        if state.base & BASE_ENABLED == 0 || state.spurious & SOFTWARE_ENABLED == 0 {
            return None;
        }
        let vector = highest(&state.request)?;
        (u32::from(vector) >> 4 > state.priority() >> 4).then_some(vector)
    }

    /// The guest took the interrupt that [`LocalApic::pending`] named.
    pub fn accept(&self, vector: u8) {
        let mut state = self.state.lock();
        clear(&mut state.request, vector);
        set(&mut state.in_service, vector);
    }

    /// The task priority as CR8 shows it.
    pub fn cr8(&self) -> u8 {
        (self.state.lock().task_priority >> 4) as u8 & 0xf
    }

    /// The guest changed CR8.
    pub fn set_cr8(&self, value: u8) {
        let mut state = self.state.lock();
        if (state.task_priority >> 4) as u8 != value & 0xf {
            state.task_priority = u32::from(value & 0xf) << 4;
        }
    }

    /// The APIC base MSR.
    pub fn base(&self) -> u64 {
        self.state.lock().base
    }

    /// Write the APIC base MSR. `false`: the transition is not allowed (#GP).
    pub fn set_base(&self, value: u64) -> bool {
        let mut state = self.state.lock();
        let mode = |base: u64| (base & BASE_ENABLED != 0, base & BASE_X2APIC != 0);
        // Reserved bits, a moved page (which no system uses) and disabled x2APIC are refused; so is x2APIC to xAPIC.
        if value & !(BASE_ENABLED | BASE_X2APIC | BASE_BOOT_PROCESSOR) != DEFAULT_BASE {
            return false;
        }
        match (mode(state.base), mode(value)) {
            (_, (false, true)) | ((true, true), (true, false)) | ((false, _), (true, true)) => return false,
            _ => {}
        }
        let boot = state.base & BASE_BOOT_PROCESSOR;
        let enabled_before = state.base & BASE_ENABLED != 0;
        let new = (value & !BASE_BOOT_PROCESSOR) | boot;
        if enabled_before && new & BASE_ENABLED == 0 {
            *state = State::reset(new);
        }
        state.base = new;
        if state.x2apic() {
            state.logical = ((self.id >> 4) << 16) | (1 << (self.id & 0xf));
        }
        true
    }

    /// Whether it is enabled at all: CPUID tells.
    pub fn is_enabled(&self) -> bool {
        self.state.lock().base & BASE_ENABLED != 0
    }

    /// Whether the registers appear as MSRs.
    pub fn in_x2apic_mode(&self) -> bool {
        self.state.lock().x2apic()
    }

    /// Whether the registers appear in the page.
    pub fn in_xapic_mode(&self) -> bool {
        let base = self.state.lock().base;
        base & (BASE_ENABLED | BASE_X2APIC) == BASE_ENABLED
    }

    /// Back to the state after INIT.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        // INIT leaves the base register (and with it the mode) alone.
        let base = state.base;
        let logical = state.logical;
        *state = State::reset(base);
        if state.x2apic() {
            state.logical = logical;
        }
        for word in self.requests.iter().chain(&self.levels) {
            word.store(0, Ordering::SeqCst);
        }
    }

    /// Read a register.
    ///
    /// # Errors
    /// [`BadRegister`] when there is none.
    pub fn read(&self, offset: u32, now: Nanoseconds) -> Result<u32, BadRegister> {
        let state = self.state.lock();
        let word = (offset >> 4) as usize & 7;
        Ok(match offset {
            ID if state.x2apic() => self.id,
            ID => self.id << 24,
            VERSION => VERSION_VALUE,
            TASK_PRIORITY => state.task_priority,
            ARBITRATION_PRIORITY if !state.x2apic() => state.priority(),
            PROCESSOR_PRIORITY => state.priority(),
            LOGICAL_DESTINATION => state.logical,
            DESTINATION_FORMAT if !state.x2apic() => state.format,
            SPURIOUS_VECTOR => state.spurious,
            _ if offset & 0xf != 0 => return Err(BadRegister),
            0x100..=0x170 => state.in_service[word],
            0x180..=0x1f0 => state.trigger[word],
            0x200..=0x270 => {
                let posted = self.requests[word / 2].load(Ordering::SeqCst) >> (32 * (word % 2));
                state.request[word] | posted as u32
            }
            ERROR_STATUS => state.error_status,
            COMMAND_LOW => state.command as u32,
            COMMAND_HIGH if !state.x2apic() => (state.command >> 32) as u32,
            TIMER_VECTOR..=ERROR_VECTOR => state.vectors[((offset - TIMER_VECTOR) >> 4) as usize],
            TIMER_INITIAL => state.initial,
            TIMER_CURRENT => state.remaining(now),
            TIMER_DIVIDE => state.divide,
            _ => return Err(BadRegister),
        })
    }

    /// Read a register as an x2APIC MSR: the command register is one of 64 bits there.
    ///
    /// # Errors
    /// [`BadRegister`] when there is none.
    pub fn read_msr(&self, offset: u32, now: Nanoseconds) -> Result<u64, BadRegister> {
        if offset == COMMAND_LOW {
            return Ok(self.state.lock().command);
        }
        self.read(offset, now).map(u64::from)
    }

    /// Write a register as an x2APIC MSR.
    ///
    /// # Errors
    /// [`BadRegister`] when there is none, or it cannot hold the value.
    pub fn write_msr(&self, offset: u32, value: u64, now: Nanoseconds) -> Result<Effect, BadRegister> {
        if offset == COMMAND_LOW {
            let mut state = self.state.lock();
            state.command = value & !0x1000;
            return Ok(command_effect(&mut state, value));
        }
        let low = u32::try_from(value).map_err(|_| BadRegister)?;
        match offset {
            // Read-only, or writable with zero only.
            ID | LOGICAL_DESTINATION | DESTINATION_FORMAT | COMMAND_HIGH => return Err(BadRegister),
            END_OF_INTERRUPT | ERROR_STATUS if low != 0 => return Err(BadRegister),
            SELF_IPI => {
                let command = Command {
                    vector: low as u8,
                    mode: 0,
                    logical: false,
                    assert: true,
                    shorthand: 1,
                    destination: 0,
                    x2apic: true,
                };
                return Ok(Effect::Command(command));
            }
            _ => {}
        }
        self.write(offset, low, now)
    }

    /// Write a register.
    ///
    /// # Errors
    /// [`BadRegister`] when there is none, or it is read-only.
    pub fn write(&self, offset: u32, value: u32, now: Nanoseconds) -> Result<Effect, BadRegister> {
        let mut state = self.state.lock();
        match offset {
            // The id is fixed: accepted and ignored, as on processors where it is.
            ID => {}
            TASK_PRIORITY => state.task_priority = value & 0xff,
            END_OF_INTERRUPT => {
                if let Some(vector) = highest(&state.in_service) {
                    clear(&mut state.in_service, vector);
                    let level = get(&state.trigger, vector);
                    return Ok(Effect::Completed { vector, level });
                }
            }
            LOGICAL_DESTINATION => state.logical = value & 0xff00_0000,
            DESTINATION_FORMAT => state.format = value | 0x0fff_ffff,
            SPURIOUS_VECTOR => {
                state.spurious = value & 0x1ff;
                if value & SOFTWARE_ENABLED == 0 {
                    // Software-disabled: all local entries are masked.
                    for entry in &mut state.vectors {
                        *entry |= MASKED;
                    }
                }
            }
            ERROR_STATUS => {
                state.error_status = state.errors;
                state.errors = 0;
            }
            COMMAND_LOW => {
                state.command = (state.command & !0xffff_ffff) | u64::from(value & !0x1000);
                let command = state.command;
                return Ok(command_effect(&mut state, command));
            }
            COMMAND_HIGH => {
                state.command = (state.command & 0xffff_ffff) | (u64::from(value & 0xff00_0000) << 32)
            }
            TIMER_VECTOR..=ERROR_VECTOR if offset & 0xf == 0 => {
                let disabled = state.spurious & SOFTWARE_ENABLED == 0;
                let entry = &mut state.vectors[((offset - TIMER_VECTOR) >> 4) as usize];
                *entry = if disabled { value | MASKED } else { value };
                if offset == TIMER_VECTOR {
                    return Ok(Effect::Timer(state.deadline()));
                }
            }
            TIMER_INITIAL => {
                state.initial = value;
                state.started = (value != 0).then_some(now);
                return Ok(Effect::Timer(state.deadline()));
            }
            TIMER_DIVIDE => {
                // The count goes on at the new rate from where it is.
                let left = state.remaining(now);
                state.divide = value & 0xb;
                if state.started.is_some() {
                    let gone = state.period().saturating_sub(u64::from(left) * state.tick());
                    state.started = Some(now.saturating_sub(gone));
                }
                return Ok(Effect::Timer(state.deadline()));
            }
            _ => return Err(BadRegister),
        }
        Ok(Effect::None)
    }

    /// The timer's deadline passed: request its interrupt; the next deadline, if it is periodic.
    pub fn timer_fired(&self, now: Nanoseconds) -> Option<Nanoseconds> {
        let mut state = self.state.lock();
        let entry = state.vectors[0];
        if entry & MASKED == 0 {
            let vector = entry as u8;
            if vector < 16 {
                state.errors |= ILLEGAL_VECTOR_RECEIVED;
            } else {
                set(&mut state.request, vector);
                clear(&mut state.trigger, vector);
            }
        }
        if entry & PERIODIC == 0 {
            state.started = None;
            return None;
        }
        if state.period() == 0 {
            return None;
        }
        // Ticks that were missed while the vCPU did not run are one.
        let started = state.started?;
        let beyond = now.saturating_sub(started) % state.interval();
        state.started = Some(now.saturating_sub(beyond));
        state.deadline()
    }

    /// Whether this APIC is a destination of `command` (shorthands excepted).
    pub fn is_addressed(&self, command: &Command) -> bool {
        let state = self.state.lock();
        let broadcast = if command.x2apic { u32::MAX } else { 0xff };
        if command.destination == broadcast {
            return true;
        }
        if !command.logical {
            return self.id == command.destination;
        }
        if state.x2apic() {
            return state.logical >> 16 == command.destination >> 16
                && state.logical & command.destination & 0xffff != 0;
        }
        let mine = state.logical >> 24;
        if state.format >> 28 == 0 {
            mine >> 4 == command.destination >> 4 && mine & command.destination & 0xf != 0
        } else {
            mine & command.destination != 0
        }
    }
}

fn command_effect(state: &mut State, value: u64) -> Effect {
    let vector = value as u8;
    let mode = ((value >> 8) & 7) as u8;
    if mode <= 1 && vector < 16 {
        state.errors |= ILLEGAL_VECTOR_SENT;
        return Effect::None;
    }
    let x2apic = state.x2apic();
    Effect::Command(Command {
        vector,
        mode,
        logical: value & (1 << 11) != 0,
        assert: value & (1 << 14) != 0,
        shorthand: ((value >> 18) & 3) as u8,
        destination: if x2apic {
            (value >> 32) as u32
        } else {
            (value >> 56) as u32
        },
        x2apic,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enabled() -> LocalApic {
        let apic = LocalApic::new(0);
        apic.write(SPURIOUS_VECTOR, 0x1ff, 0).unwrap();
        apic
    }

    #[test]
    fn a_posted_vector_is_offered_taken_and_completed() {
        let apic = enabled();
        assert_eq!(apic.pending(), None);
        apic.post(0xf3);
        assert_eq!(apic.pending(), Some(0xf3));
        apic.accept(0xf3);
        apic.post(0xf3);
        assert_eq!(
            apic.pending(),
            None,
            "held back while the same class is in service"
        );
        assert_eq!(
            apic.write(END_OF_INTERRUPT, 0, 0),
            Ok(Effect::Completed {
                vector: 0xf3,
                level: false
            })
        );
        assert_eq!(apic.pending(), Some(0xf3));
    }

    #[test]
    fn the_task_priority_holds_lower_vectors_back() {
        let apic = enabled();
        apic.set_cr8(5);
        apic.post(0x51);
        assert_eq!(apic.pending(), None);
        apic.post(0x61);
        assert_eq!(apic.pending(), Some(0x61));
        assert_eq!(apic.cr8(), 5);
    }

    #[test]
    fn a_level_line_is_completed_as_such() {
        let apic = enabled();
        apic.post_level(0x31);
        assert_eq!(apic.pending(), Some(0x31));
        apic.accept(0x31);
        assert_eq!(
            apic.write(END_OF_INTERRUPT, 0, 0),
            Ok(Effect::Completed {
                vector: 0x31,
                level: true
            })
        );
    }

    #[test]
    fn a_disabled_apic_offers_nothing() {
        let apic = LocalApic::new(0);
        apic.post(0x40);
        assert_eq!(apic.pending(), None);
    }

    #[test]
    fn modes_change_only_as_processors_allow() {
        let apic = LocalApic::new(1);
        assert!(apic.in_xapic_mode());
        assert!(apic.set_base(DEFAULT_BASE | BASE_ENABLED | BASE_X2APIC));
        assert!(apic.in_x2apic_mode());
        assert!(
            !apic.set_base(DEFAULT_BASE | BASE_ENABLED),
            "x2APIC to xAPIC needs a disable in between"
        );
        assert!(
            !apic.set_base(0x1000 | BASE_ENABLED | BASE_X2APIC),
            "the page does not move"
        );
        assert_eq!(
            apic.read(LOGICAL_DESTINATION, 0),
            Ok(1 << 2),
            "x2APIC ids name their cluster and bit"
        );
    }

    #[test]
    fn the_timer_counts_and_repeats() {
        let apic = enabled();
        apic.write(TIMER_DIVIDE, 0xb, 0).unwrap();
        apic.write(TIMER_VECTOR, PERIODIC | 0x40, 0).unwrap();
        assert_eq!(
            apic.write(TIMER_INITIAL, 100_000, 5000),
            Ok(Effect::Timer(Some(1_005_000)))
        );
        assert_eq!(apic.read(TIMER_CURRENT, 505_000), Ok(50_000));
        assert_eq!(apic.timer_fired(1_005_000), Some(2_005_000));
        assert_eq!(apic.pending(), Some(0x40));
    }

    #[test]
    fn a_period_too_short_to_serve_is_stretched() {
        let apic = enabled();
        apic.write(TIMER_DIVIDE, 0xb, 0).unwrap();
        apic.write(TIMER_VECTOR, PERIODIC | 0x40, 0).unwrap();
        let first = 5000 + SHORTEST_PERIOD;
        assert_eq!(apic.write(TIMER_INITIAL, 1, 5000), Ok(Effect::Timer(Some(first))));
        // Served late: the next one is on the same grid, and in the future.
        assert_eq!(apic.timer_fired(first + 700), Some(first + SHORTEST_PERIOD));
        // One shot is as short as was asked for: each is programmed anew.
        apic.write(TIMER_VECTOR, 0x40, 0).unwrap();
        assert_eq!(apic.write(TIMER_INITIAL, 1, 5000), Ok(Effect::Timer(Some(5010))));
    }

    #[test]
    fn illegal_vectors_are_errors_not_interrupts() {
        let apic = enabled();
        assert_eq!(apic.write(COMMAND_LOW, 0x4_0005, 0), Ok(Effect::None));
        apic.write(ERROR_STATUS, 0, 0).unwrap();
        assert_eq!(apic.read(ERROR_STATUS, 0), Ok(ILLEGAL_VECTOR_SENT));
    }
}
