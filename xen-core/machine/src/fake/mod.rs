//! The machine on the host: the same memory as on the metal, in an arena; processors, guests, clock and devices that a
//! test or a simulator scripts.
//!
//! Nothing here runs by itself. A test says which processor it acts for ([`on_processor`]), moves the clock
//! ([`FakeMachine::advance`]) and gives each vCPU its exits ([`FakeVcpu`]). A simulator has the processors take turns
//! ([`Turns`]), lets its guests reach memory as hardware does ([`FakeMachine::guest_load`]), has allocations fail
//! ([`failure`]) and watches the order of locks ([`order`]).

mod arena;
pub mod failure;
pub mod order;
mod translations;
mod turns;
mod vcpu;

#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod stage_two_tests;
#[cfg(test)]
mod turn_tests;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::address::{HostAddress, HostFrame};
use crate::memory::{FrameUse, Memory, OutOfMemory};
use crate::presence::{self, Presence};
use crate::stage_two::{Flushed, NestedPaging, TableRoot};
use crate::{
    ClockParameters, DirectPorts, Exit, Interrupt, LineMode, Machine, MemoryRegion, Nanoseconds, Platform,
    ProcessorId,
};

pub use arena::FIRST_FREE_FRAME;
pub use translations::GuestFault;
use translations::Translations;
pub use turns::{Stop, Turns, interleave, set_interleave, wait_for_another};
pub use vcpu::{FakeVcpu, Program};

std::thread_local! {
    static CURRENT: Cell<ProcessorId> = const { Cell::new(0) };
}

/// Act for a processor, on this thread, until the next such call.
pub fn set_processor(processor: ProcessorId) {
    CURRENT.set(processor);
}

/// Act for a processor for the time of `act`.
pub fn on_processor<R>(processor: ProcessorId, act: impl FnOnce() -> R) -> R {
    let before = CURRENT.replace(processor);
    let result = act();
    CURRENT.set(before);
    result
}

/// Payload of the panic by which a fake machine leaves [`Machine::power_off`] and [`Machine::reboot`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Switched off.
    PoweredOff,
    /// Restarted.
    Rebooted,
}

/// How a fake machine is made.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Processors.
    pub processors: usize,
    /// Memory, in MiB.
    pub memory_mib: usize,
    /// I/O APIC lines.
    pub lines: u32,
    /// TSC ticks per nanosecond, as a whole number.
    pub ticks_per_nanosecond: u64,
}

impl Default for Configuration {
    fn default() -> Self {
        Configuration {
            processors: 2,
            memory_mib: 32,
            lines: 24,
            ticks_per_nanosecond: 1,
        }
    }
}

/// "No deadline" in an atomic.
const NEVER: Nanoseconds = Nanoseconds::MAX;

struct Processor {
    kicked: AtomicBool,
    kicks: AtomicU64,
    waits: AtomicU64,
    deadline: AtomicU64,
    interrupts: Mutex<VecDeque<Interrupt>>,
    /// How many there are in `interrupts`.
    waiting: AtomicUsize,
    presence: Presence,
    translations: Mutex<Translations>,
}

impl Default for Processor {
    fn default() -> Self {
        Processor {
            kicked: AtomicBool::new(false),
            kicks: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            deadline: AtomicU64::new(NEVER),
            interrupts: Mutex::default(),
            waiting: AtomicUsize::new(0),
            presence: Presence::new(),
            translations: Mutex::default(),
        }
    }
}

impl Processor {
    fn deadline(&self) -> Option<Nanoseconds> {
        Some(self.deadline.load(Ordering::SeqCst)).filter(|&deadline| deadline != NEVER)
    }

    fn interrupt(&self, interrupt: Interrupt) {
        failure::exempt(|| locked(&self.interrupts).push_back(interrupt));
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }
}

/// A port access that a fake machine saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortWrite {
    /// The port.
    pub port: u16,
    /// Bytes.
    pub size: u8,
    /// What was written.
    pub value: u32,
}

#[derive(Default)]
struct Devices {
    console_output: Vec<u8>,
    console_input: VecDeque<u8>,
    writes: Vec<PortWrite>,
    port_values: BTreeMap<u16, u32>,
    routes: BTreeMap<u32, (LineMode, ProcessorId)>,
    completed: Vec<u32>,
    firmware: BTreeMap<u64, Vec<u8>>,
    cpuid: BTreeMap<(u32, u32), [u32; 4]>,
    msrs: BTreeMap<u32, u64>,
}

/// The ports that a domain drives itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FakePortMap {
    /// Inclusive ranges.
    pub ranges: Vec<(u16, u16)>,
}

/// A machine whose memory is real and whose everything else is scripted.
pub struct FakeMachine {
    memory: &'static Memory,
    platform: Platform,
    processors: Vec<Processor>,
    clock: AtomicU64,
    /// Nanoseconds that pass with each point of a turn.
    point_time: AtomicU64,
    ticks_per_nanosecond: u64,
    flushes: AtomicU64,
    heap: AtomicUsize,
    devices: Mutex<Devices>,
}

/// A poisoned lock only means that some test's assertion failed while it was held.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for FakeMachine {
    fn default() -> Self {
        FakeMachine::new(&Configuration::default())
    }
}

impl FakeMachine {
    /// A machine at time 0.
    pub fn new(configuration: &Configuration) -> FakeMachine {
        let memory = arena::take(configuration.memory_mib);
        let platform = Platform {
            memory_map: alloc::vec![
                MemoryRegion {
                    start: HostAddress(0),
                    length: FIRST_FREE_FRAME << 12,
                    kind: 2
                },
                MemoryRegion {
                    start: HostAddress(FIRST_FREE_FRAME << 12),
                    length: (memory.frame_count() - FIRST_FREE_FRAME) << 12,
                    kind: 1,
                },
            ],
            lines: configuration.lines,
            power_control: [0x604, 0],
            power_timer: 0x608,
            power_line: 9,
            reset: Some((0xcf9, 6)),
            tsc_khz: (configuration.ticks_per_nanosecond * 1_000_000) as u32,
            console_port: 0x3f8,
            boot_seconds: 1_600_000_000,
            loader: "fake".into(),
            ..Platform::default()
        };
        let devices = Devices {
            cpuid: plain_cpuid(),
            ..Devices::default()
        };
        FakeMachine {
            memory,
            platform,
            processors: (0..configuration.processors)
                .map(|_| Processor::default())
                .collect(),
            clock: AtomicU64::new(0),
            point_time: AtomicU64::new(0),
            ticks_per_nanosecond: configuration.ticks_per_nanosecond,
            flushes: AtomicU64::new(0),
            heap: AtomicUsize::new(256 << 20),
            devices: Mutex::new(devices),
        }
    }

    /// The platform, to be changed before anybody looks.
    pub fn platform_mut(&mut self) -> &mut Platform {
        &mut self.platform
    }

    fn devices(&self) -> MutexGuard<'_, Devices> {
        locked(&self.devices)
    }

    fn processor(&self) -> &Processor {
        &self.processors[self.current()]
    }

    /// Move the clock forward.
    pub fn advance(&self, by: Nanoseconds) {
        self.clock.fetch_add(by, Ordering::SeqCst);
    }

    /// Let so much time pass with each point of the next turns; their sum is for whoever gives them to add
    /// ([`FakeMachine::advance`]).
    pub fn set_point_time(&self, time: Nanoseconds) {
        self.point_time.store(time, Ordering::Relaxed);
    }

    /// The earliest deadline of all processors.
    pub fn next_deadline(&self) -> Option<Nanoseconds> {
        self.processors.iter().filter_map(Processor::deadline).min()
    }

    /// Move the clock to the earliest deadline; `false` when there is none.
    pub fn advance_to_deadline(&self) -> bool {
        let deadline = self.next_deadline();
        if let Some(deadline) = deadline {
            self.clock.fetch_max(deadline, Ordering::SeqCst);
        }
        deadline.is_some()
    }

    /// A processor's deadline.
    pub fn deadline(&self, processor: ProcessorId) -> Option<Nanoseconds> {
        self.processors[processor].deadline()
    }

    /// How often a processor was kicked.
    pub fn kicks(&self, processor: ProcessorId) -> u64 {
        self.processors[processor].kicks.load(Ordering::SeqCst)
    }

    /// How often a processor waited.
    pub fn waits(&self, processor: ProcessorId) -> u64 {
        self.processors[processor].waits.load(Ordering::SeqCst)
    }

    /// Whether an interrupt waits for a processor.
    pub fn interrupt_waits(&self, processor: ProcessorId) -> bool {
        let state = &self.processors[processor];
        state.kicked.load(Ordering::SeqCst)
            || state.waiting.load(Ordering::SeqCst) != 0
            || state.deadline().is_some_and(|deadline| deadline <= self.now())
    }

    /// How often translations were flushed.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::SeqCst)
    }

    /// The console's output since the last time this was asked.
    pub fn take_console(&self) -> Vec<u8> {
        core::mem::take(&mut self.devices().console_output)
    }

    /// Type on the console: the boot processor is interrupted.
    pub fn type_console(&self, bytes: &[u8]) {
        self.devices().console_input.extend(bytes);
        self.processors[0].interrupt(Interrupt::Console);
    }

    /// Writes to ports since the last time this was asked.
    pub fn take_port_writes(&self) -> Vec<PortWrite> {
        core::mem::take(&mut self.devices().writes)
    }

    /// What a port reads as; ones where nothing is set.
    pub fn set_port(&self, port: u16, value: u32) {
        self.devices().port_values.insert(port, value);
    }

    /// A device raises its line; `false` when the line is masked.
    pub fn raise_line(&self, line: u32) -> bool {
        let route = self.devices().routes.get(&line).copied();
        if let Some((_, processor)) = route {
            self.processors[processor].interrupt(Interrupt::Line(line));
        }
        route.is_some()
    }

    /// Where a line is routed to.
    pub fn route(&self, line: u32) -> Option<(LineMode, ProcessorId)> {
        self.devices().routes.get(&line).copied()
    }

    /// Lines whose interrupts were completed since the last time this was asked.
    pub fn take_completed_lines(&self) -> Vec<u32> {
        core::mem::take(&mut self.devices().completed)
    }

    /// Bytes of firmware at an address.
    pub fn put_firmware(&self, address: HostAddress, bytes: &[u8]) {
        self.devices().firmware.insert(address.0, bytes.to_vec());
    }

    /// What CPUID answers.
    pub fn set_cpuid(&self, leaf: u32, subleaf: u32, answer: [u32; 4]) {
        self.devices().cpuid.insert((leaf, subleaf), answer);
    }

    /// What a host MSR reads as.
    pub fn set_host_msr(&self, number: u32, value: u64) {
        self.devices().msrs.insert(number, value);
    }

    /// What [`Machine::heap_available`] answers.
    pub fn set_heap_available(&self, bytes: usize) {
        self.heap.store(bytes, Ordering::SeqCst);
    }
}

impl Drop for FakeMachine {
    fn drop(&mut self) {
        arena::give_back(self.memory);
    }
}

/// CPUID of a plain AMD processor with SVM and nested paging.
fn plain_cpuid() -> BTreeMap<(u32, u32), [u32; 4]> {
    let text = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
    let vendor = [text(b"Auth"), text(b"cAMD"), text(b"enti")];
    BTreeMap::from([
        ((0, 0), [0xd, vendor[0], vendor[1], vendor[2]]),
        // Family 0xf, model 0x6b; SSE3, CMPXCHG16B, x2APIC, POPCNT, XSAVE; FPU to SSE2 with APIC, MTRR and PAT.
        (
            (1, 0),
            [
                0x0060_0fb1,
                0x0001_0800,
                0x0420_2001 | (1 << 23) | (1 << 26),
                0x078b_fbfd,
            ],
        ),
        ((7, 0), [0; 4]),
        ((0xd, 0), [7, 0x240, 0x340, 0]),
        ((0x8000_0000, 0), [0x8000_000a, vendor[0], vendor[1], vendor[2]]),
        // LAHF, SVM; SYSCALL, NX, 1 GiB pages, RDTSCP, long mode.
        ((0x8000_0001, 0), [0x0060_0fb1, 0, 0x0000_0005, 0x2c10_0800]),
        ((0x8000_0008, 0), [0x0000_3028, 0, 0, 0]),
        // Nested paging, NRIP save.
        ((0x8000_000a, 0), [1, 16, 0, 0x0000_0009]),
    ])
}

impl Machine for FakeMachine {
    type Vcpu = FakeVcpu;
    type Format = NestedPaging;
    type PortMap = FakePortMap;

    fn memory(&self) -> &'static Memory {
        self.memory
    }

    fn platform(&self) -> &Platform {
        &self.platform
    }

    fn processors(&self) -> usize {
        self.processors.len()
    }

    fn current(&self) -> ProcessorId {
        CURRENT.get()
    }

    fn kick(&self, processor: ProcessorId) {
        interleave();
        let processor = &self.processors[processor];
        processor.kicks.fetch_add(1, Ordering::SeqCst);
        processor.kicked.store(true, Ordering::SeqCst);
    }

    fn wait(&self) {
        self.processor().waits.fetch_add(1, Ordering::SeqCst);
        interleave();
        if !self.interrupt_waits(self.current()) {
            turns::end_turn(Stop::Idle);
        }
    }

    fn take_interrupt(&self) -> Option<Interrupt> {
        let processor = self.processor();
        if processor
            .deadline()
            .is_some_and(|deadline| deadline <= self.now())
        {
            processor.deadline.store(NEVER, Ordering::SeqCst);
            return Some(Interrupt::Timer);
        }
        if processor.kicked.swap(false, Ordering::SeqCst) {
            return Some(Interrupt::Kick);
        }
        if processor.waiting.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let interrupt = locked(&processor.interrupts).pop_front();
        processor
            .waiting
            .fetch_sub(usize::from(interrupt.is_some()), Ordering::SeqCst);
        interrupt
    }

    fn now(&self) -> Nanoseconds {
        let in_turn = turns::passed() * self.point_time.load(Ordering::Relaxed);
        self.clock.load(Ordering::SeqCst) + in_turn
    }

    fn tsc(&self) -> u64 {
        self.now() * self.ticks_per_nanosecond
    }

    fn clock_parameters(&self) -> ClockParameters {
        let now = self.now();
        // 2^32 / ticks_per_nanosecond, with a shift of one so that one tick per nanosecond fits into 32 bits.
        let multiplier = ((1u64 << 31) / self.ticks_per_nanosecond) as u32;
        ClockParameters {
            tsc_timestamp: now * self.ticks_per_nanosecond,
            system_time: now,
            multiplier,
            shift: 1,
        }
    }

    fn set_deadline(&self, deadline: Option<Nanoseconds>) {
        self.processor()
            .deadline
            .store(deadline.unwrap_or(NEVER), Ordering::SeqCst);
    }

    fn port_map(&self, ports: DirectPorts<'_>) -> Result<FakePortMap, OutOfMemory> {
        let mut ranges = Vec::new();
        ranges
            .try_reserve_exact(ports.ranges.len())
            .map_err(|_| OutOfMemory)?;
        ranges.extend_from_slice(ports.ranges);
        Ok(FakePortMap { ranges })
    }

    fn new_vcpu(&self) -> Result<FakeVcpu, OutOfMemory> {
        Ok(FakeVcpu::new())
    }

    fn load(&self, vcpu: &mut FakeVcpu) {
        vcpu.load_on(self.current());
    }

    fn run(&self, vcpu: &mut FakeVcpu, tables: &TableRoot, _ports: &FakePortMap) -> Exit {
        turns::end_turn(Stop::Entry);
        interleave();
        if self.interrupt_waits(self.current()) {
            vcpu.check_loaded(self.current());
            return Exit::Interrupt;
        }
        let here = self.processor();
        let generation = here.presence.enter(tables);
        locked(&here.translations).enter(tables, generation);
        let exit = failure::exempt(|| vcpu.step(self.current()));
        locked(&here.translations).leave();
        here.presence.leave();
        exit
    }

    fn unload(&self, vcpu: &mut FakeVcpu) {
        vcpu.unload_from(self.current());
    }

    fn flush(&self, tables: &TableRoot) -> Flushed {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        let own = self.current();
        let all = self.processors.iter().map(|other| &other.presence).zip(0..);
        let others = all.filter(|&(_, other)| other != own);
        presence::flush(tables, others, |other| self.kick(other))
    }

    fn console_write(&self, bytes: &[u8]) {
        failure::exempt(|| self.devices().console_output.extend_from_slice(bytes));
    }

    fn console_read(&self) -> Option<u8> {
        self.devices().console_input.pop_front()
    }

    fn route_line(&self, line: u32, route: Option<(LineMode, ProcessorId)>) {
        let mut devices = self.devices();
        failure::exempt(|| match route {
            Some(route) => devices.routes.insert(line, route),
            None => devices.routes.remove(&line),
        });
    }

    fn complete_line(&self, line: u32) {
        failure::exempt(|| self.devices().completed.push(line));
    }

    fn read_port(&self, port: u16, size: u8) -> u32 {
        let ones = u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)));
        self.devices().port_values.get(&port).copied().unwrap_or(u32::MAX) & ones
    }

    fn write_port(&self, port: u16, size: u8, value: u32) {
        failure::exempt(|| self.devices().writes.push(PortWrite { port, size, value }));
    }

    fn read_firmware(&self, address: HostAddress, into: &mut [u8]) -> bool {
        let devices = self.devices();
        let Some((start, bytes)) = devices.firmware.range(..=address.0).next_back() else {
            return false;
        };
        let offset = (address.0 - start) as usize;
        let Some(found) = bytes.get(offset..).and_then(|rest| rest.get(..into.len())) else {
            return false;
        };
        into.copy_from_slice(found);
        true
    }

    fn may_expose(&self, frame: HostFrame) -> bool {
        self.memory.frame_info(frame).frame_use == FrameUse::Reserved
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let devices = self.devices();
        devices
            .cpuid
            .get(&(leaf, subleaf))
            .or_else(|| devices.cpuid.get(&(leaf, 0)))
            .copied()
            .unwrap_or([0; 4])
    }

    fn read_host_msr(&self, number: u32) -> Option<u64> {
        self.devices().msrs.get(&number).copied()
    }

    fn heap_available(&self) -> usize {
        self.heap.load(Ordering::SeqCst)
    }

    fn core_frames(&self) -> u64 {
        0
    }

    fn power_off(&self) -> ! {
        std::panic::panic_any(Ended::PoweredOff)
    }

    fn reboot(&self) -> ! {
        std::panic::panic_any(Ended::Rebooted)
    }
}
