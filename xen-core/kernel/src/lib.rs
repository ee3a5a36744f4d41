//! Xenolith's policy: domains, hypercalls, events, grants, memory and scheduling.
//!
//! Ordinary Rust, without `unsafe`, generic over the [`Machine`] it runs on: the metal, or a simulated one on the host.
//! A guest's way through it: [`exit`] decides what an exit means, [`hypercall`] answers calls, [`schedule`] runs the next.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod acpi_tables;
#[cfg(any(test, feature = "testing", debug_assertions))]
pub mod audit;
pub mod console;
pub mod control_domain;
pub mod cpu_policy;
mod debug_register;
pub mod domain;
pub mod event_channel;
pub mod exit;
pub mod grant_table;
pub mod guest_memory;
pub mod hypercall;
pub mod io_apic;
pub mod lapic;
pub mod lifecycle;
#[cfg(any(test, feature = "testing"))]
pub mod lock_order;
pub mod mmio;
pub mod msr;
pub mod options;
pub mod physmap;
pub mod port;
pub mod runstate;
pub mod schedule;
pub mod statistics;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod timer;
pub mod upcall;
pub mod vcpu;

use alloc::vec::Vec;

use machine::Machine;
use machine::sync::Lock;

/// The version that guests and tools are told: that of the Xen whose interface this is.
pub const VERSION: (u16, u16) = (4, 17);
/// What follows the version: who we really are.
pub const EXTRA_VERSION: &str = concat!("-xenolith-", env!("CARGO_PKG_VERSION"));

/// The hypervisor: one per machine.
pub struct Kernel<M: Machine> {
    /// What it runs on.
    pub machine: M,
    /// The boot command line, taken apart.
    pub options: options::Options,
    /// All domains.
    pub domains: domain::Domains<M>,
    /// Per processor: run queue, timers.
    pub processors: Vec<schedule::Processor<M>>,
    /// Pools of processors.
    pub pools: schedule::pool::Pools,
    /// Processors that wait for work and that nobody has called.
    pub(crate) idle: schedule::AtomicProcessorSet,
    /// Processors in whose queues vCPUs wait.
    pub(crate) waiting: schedule::AtomicProcessorSet,
    /// Console: serial line, ring of past output, who listens.
    pub console: console::Console,
    /// Counters.
    pub statistics: statistics::Statistics,
    /// Wall clock at system time 0.
    pub wall_clock: Lock<time::WallClock>,
}

impl<M: Machine> Kernel<M> {
    /// The hypervisor on `machine`, with no domain yet.
    pub fn new(machine: M, command_line: &str) -> Self {
        let options = options::Options::parse(command_line);
        mmio::prepare_decoder();
        let count = machine.processors();
        let processors = (0..count)
            .map(|number| schedule::Processor::new(number, count))
            .collect();
        let wall_clock = Lock::new(time::WallClock::at_boot(machine.platform().boot_seconds));
        Kernel {
            machine,
            options,
            domains: domain::Domains::default(),
            processors,
            pools: schedule::pool::Pools::new(count),
            idle: schedule::AtomicProcessorSet::empty(),
            waiting: schedule::AtomicProcessorSet::empty(),
            console: console::Console::default(),
            statistics: statistics::Statistics::default(),
            wall_clock,
        }
    }

    /// Frames of memory that the machine has, whoever holds them: by firmware's map, or the allocator's on machines
    /// without one.
    pub fn installed_frames(&self) -> u64 {
        const RAM: u32 = 1;
        let regions = self.machine.platform().memory_map.iter();
        let installed: u64 = regions
            .filter(|region| region.kind == RAM)
            .map(|region| region.length >> 12)
            .fold(0, u64::saturating_add);
        installed.max(self.machine.memory().total_frames())
    }

    /// Say what runs here, and on what.
    pub fn announce(&self) {
        let memory = self.machine.memory();
        let (major, minor) = VERSION;
        log::info!(
            "Xenolith {} (the interface of Xen {major}.{minor})",
            env!("CARGO_PKG_VERSION")
        );
        log::info!(
            "{} processors at {}.{:03} MHz, {} MiB of memory, {} MiB free; loaded by {}",
            self.machine.processors(),
            self.machine.platform().tsc_khz / 1000,
            self.machine.platform().tsc_khz % 1000,
            memory.total_frames() >> 8,
            memory.free_frames() >> 8,
            self.machine.platform().loader
        );
    }
}
