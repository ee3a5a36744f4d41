//! What is counted, and how it is printed when the machine goes down.

use machine::sync::atomic::Ordering;

use hypercall_abi::DomainId;
use hypercall_abi::hypercall::{NUMBERS, name};
use machine::Machine;
use machine::address::PAGE_SIZE;
use machine::virtual_cpu::{EXIT_KINDS, Exit};

use crate::Kernel;
use crate::hypercall;

/// All counters of the hypervisor.
#[derive(Default)]
pub struct Statistics {
    /// Hypercalls.
    pub hypercalls: hypercall::Statistics,
}

impl<M: Machine> Kernel<M> {
    /// Print what was counted: exits of the privileged domain by reason, hypercalls, and those refused.
    pub fn print_statistics(&self) {
        let memory = self.machine.memory();
        log::info!(
            "memory: {} KiB held by the hypervisor, {} KiB free of {} KiB",
            kibibytes(self.machine.core_frames()),
            kibibytes(memory.free_frames()),
            kibibytes(self.installed_frames())
        );
        for stacks in self.machine.stack_use().iter().filter(|stacks| stacks.size != 0) {
            log::info!(
                "stacks: {} of {} bytes used at most by {}",
                stacks.most,
                stacks.size,
                stacks.kind
            );
        }
        if let Some(domain) = self.domains.get(DomainId::CONTROL) {
            for kind in 0..EXIT_KINDS {
                let mut count = 0u64;
                self.each_vcpu(&domain, |vcpu| {
                    let exits = vcpu.exits.get(kind);
                    count = count.saturating_add(exits.map_or(0, |exits| exits.load(Ordering::Relaxed)));
                });
                if count != 0 {
                    log::info!("exits: d0 {} {count}", Exit::kind_name(kind));
                }
            }
        }
        for number in 0..NUMBERS {
            let (calls, refused) = self.statistics.hypercalls.of(number);
            if calls != 0 {
                let name = name(number as u64).unwrap_or("unknown");
                log::info!("hypercalls: {name} {calls}, not implemented {refused}");
            }
        }
    }
}

/// Frames in KiB.
fn kibibytes(frames: u64) -> u64 {
    frames.saturating_mul(PAGE_SIZE as u64 / 1024)
}
