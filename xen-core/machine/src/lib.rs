//! Xenolith's mechanism: memory, virtual processors, processors, clock and console, with the contracts that keep them
//! sound whatever the policy above asks for.
//!
//! This is the one crate of the core that may say `unsafe`. The kernel above it forbids the word and reaches all of this
//! through [`Machine`], [`VirtualCpu`], [`memory`] and [`stage_two`]. The metal's implementation is in [`bare`]; on the
//! host [`fake`] gives the same memory and simulated processors.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod address;
pub mod fallible;
mod frame_word;
pub mod memory;
pub mod module;
pub mod presence;
pub mod stage_two;
pub mod sync;
pub mod virtual_cpu;

#[cfg(target_os = "none")]
pub mod bare;
#[cfg(not(target_os = "none"))]
pub mod fake;
// What of AMD-V is logic and no instruction is tested on the host.
#[cfg(all(test, not(target_os = "none")))]
#[path = "bare/svm/mod.rs"]
#[allow(dead_code, reason = "guests are run on the metal only")]
mod svm;

use address::{HostAddress, HostFrame};
use memory::{Memory, OutOfMemory};
use stage_two::{Flushed, Format, TableRoot};
pub use virtual_cpu::{DirectPorts, Exit, VirtualCpu};

/// Nanoseconds since the machine started: the system time of Xen's ABI.
pub type Nanoseconds = u64;

/// A physical processor's index, dense from 0 (the boot processor).
pub type ProcessorId = usize;

/// How TSC ticks become system time: Xen's `vcpu_time_info` fields.
/// `time = system_time + (((tsc - tsc_timestamp) << shift) * multiplier >> 32)`, a negative shift to the right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockParameters {
    /// The TSC at `system_time`.
    pub tsc_timestamp: u64,
    /// Nanoseconds at `tsc_timestamp`.
    pub system_time: Nanoseconds,
    /// 32.32 fixed-point multiplier.
    pub multiplier: u32,
    /// Binary shift before the multiplication.
    pub shift: i8,
}

/// Something that happened to this processor since it last asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupt {
    /// The deadline passed.
    Timer,
    /// Another processor called [`Machine::kick`].
    Kick,
    /// A line that was routed with [`Machine::route_line`].
    Line(u32),
    /// The console has input.
    Console,
}

/// How a device's interrupt line behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineMode {
    /// Level-triggered rather than edge-triggered.
    pub level: bool,
    /// Active low rather than high.
    pub active_low: bool,
}

/// A stretch of the firmware's memory map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryRegion {
    /// First byte.
    pub start: HostAddress,
    /// Bytes.
    pub length: u64,
    /// E820 type: 1 RAM, 2 reserved, 3 ACPI data, 4 ACPI NVS, 5 unusable.
    pub kind: u32,
}

/// One of firmware's ACPI tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcpiTable {
    /// Its signature.
    pub signature: [u8; 4],
    /// Where it lies.
    pub address: HostAddress,
    /// Bytes.
    pub length: u32,
}

/// An override of an ISA interrupt (MADT type 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterruptOverride {
    /// ISA source.
    pub source: u8,
    /// Global system interrupt.
    pub line: u32,
    /// MPS INTI flags: polarity and trigger.
    pub flags: u16,
}

/// What the machine found itself to be.
#[derive(Clone, Debug, Default)]
pub struct Platform {
    /// The firmware's memory map, sorted.
    pub memory_map: alloc::vec::Vec<MemoryRegion>,
    /// The root pointer's address, 0 when there is none.
    pub rsdp: u64,
    /// Every ACPI table.
    pub acpi_tables: alloc::vec::Vec<AcpiTable>,
    /// ISA overrides.
    pub overrides: alloc::vec::Vec<InterruptOverride>,
    /// Lines (GSIs) that the I/O APICs have, from 0.
    pub lines: u32,
    /// PM1a and PM1b control ports; 0 is none.
    pub power_control: [u16; 2],
    /// PM timer port; 0 is none.
    pub power_timer: u16,
    /// SCI line.
    pub power_line: u32,
    /// The ACPI reset register's port, and the value that resets.
    pub reset: Option<(u16, u8)>,
    /// TSC ticks per second, divided by 1000.
    pub tsc_khz: u32,
    /// First port of the console's UART; 0 is none.
    pub console_port: u16,
    /// Seconds since 1970 when [`Machine::now`] was 0, by the machine's clock.
    pub boot_seconds: u64,
    /// Loader's name and version.
    pub loader: alloc::string::String,
}

/// How much was ever in use of the stacks of one kind.
#[derive(Clone, Copy, Default, Debug)]
pub struct StackUse {
    /// What runs on them.
    pub kind: &'static str,
    /// The most bytes in use of any of them.
    pub most: u64,
    /// The bytes that each has.
    pub size: u64,
}

/// A machine: what the kernel is generic over.
pub trait Machine: Sync + Sized + 'static {
    /// A vCPU's context.
    type Vcpu: VirtualCpu;
    /// The stage-two tables' format.
    type Format: Format;
    /// Which ports a domain drives itself, in the form hardware takes.
    type PortMap: Send + Sync;

    /// The machine's memory.
    fn memory(&self) -> &'static Memory;
    /// What the machine found itself to be.
    fn platform(&self) -> &Platform;

    /// Processors that run, numbered from 0.
    fn processors(&self) -> usize;
    /// The processor that asks.
    fn current(&self) -> ProcessorId;
    /// Make a processor leave its guest or its idle wait soon. Cheap and idempotent; sent to oneself it makes the next
    /// run or wait return at once.
    fn kick(&self, processor: ProcessorId);
    /// Wait for an interrupt. Returns at once if one waits already.
    fn wait(&self);
    /// The next thing that happened to this processor.
    fn take_interrupt(&self) -> Option<Interrupt>;

    /// System time now.
    fn now(&self) -> Nanoseconds;
    /// The TSC now, as guests without an offset read it.
    fn tsc(&self) -> u64;
    /// System time's relation to the TSC.
    fn clock_parameters(&self) -> ClockParameters;
    /// Raise [`Interrupt::Timer`] on this processor at `deadline`, or never. One deadline per processor; a past one
    /// fires at once.
    fn set_deadline(&self, deadline: Option<Nanoseconds>);

    /// Make a set of directly driven ports.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is none for the bitmap.
    fn port_map(&self, ports: DirectPorts<'_>) -> Result<Self::PortMap, OutOfMemory>;
    /// A vCPU in the state after INIT.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is none for its control block.
    fn new_vcpu(&self) -> Result<Self::Vcpu, OutOfMemory>;
    /// Bring a vCPU's lazily switched state (FPU, system registers) into this processor.
    fn load(&self, vcpu: &mut Self::Vcpu);
    /// Run a loaded vCPU until it exits. The machine sees to the TLB: no translation older than the tables'
    /// generation survives.
    fn run(&self, vcpu: &mut Self::Vcpu, tables: &TableRoot, ports: &Self::PortMap) -> Exit;
    /// Take the vCPU's state back from this processor, so that another may load it.
    fn unload(&self, vcpu: &mut Self::Vcpu);
    /// Make every processor forget its translations of these tables, and wait until it is so. Never waits for a
    /// processor that is in the core: only for guests to be left, which needs no lock.
    fn flush(&self, tables: &TableRoot) -> Flushed;

    /// Bytes of console output; may wait for the device.
    fn console_write(&self, bytes: &[u8]);
    /// Console input that has arrived.
    fn console_read(&self) -> Option<u8>;

    /// Deliver a line's interrupts to this machine as [`Interrupt::Line`] on `processor`; `None` masks it.
    fn route_line(&self, line: u32, route: Option<(LineMode, ProcessorId)>);
    /// The line's interrupt has been served (level lines may fire again).
    fn complete_line(&self, line: u32);
    /// Read a port of the platform (1, 2 or 4 bytes). Only ports of [`Platform`] and CMOS are read; others give ones.
    fn read_port(&self, port: u16, size: u8) -> u32;
    /// Write a port of the platform, under the same rule.
    fn write_port(&self, port: u16, size: u8, value: u32);
    /// Bytes of host memory outside the allocator's (firmware's tables): for copying ACPI tables. `false`: the range is
    /// memory of ours or out of reach.
    fn read_firmware(&self, address: HostAddress, into: &mut [u8]) -> bool;
    /// Whether a frame may be shown to the privileged domain as a device's: never the interrupt controllers' nor any
    /// that holds our own.
    fn may_expose(&self, frame: HostFrame) -> bool;
    /// CPUID as the processor answers it.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4];
    /// A model-specific register of the host that is safe to read for reporting (microcode revision and such).
    fn read_host_msr(&self, number: u32) -> Option<u64>;
    /// Bytes the core's heap could still give, so that domain creation can refuse in time.
    fn heap_available(&self) -> usize;
    /// Frames that the core itself holds: image, heap, tables.
    fn core_frames(&self) -> u64;
    /// The most that was ever in use of the core's stacks. Nothing where they are the host's.
    fn stack_use(&self) -> [StackUse; 3] {
        [StackUse::default(); 3]
    }

    /// Switch the machine off.
    fn power_off(&self) -> !;
    /// Restart the machine.
    fn reboot(&self) -> !;
}
