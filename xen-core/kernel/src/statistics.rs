//! What is counted, and how it is printed when the machine goes down.

use machine::sync::atomic::Ordering;

use hypercall_abi::DomainId;
use hypercall_abi::hypercall::{NUMBERS, name};
use machine::Machine;
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
            self.machine.core_frames() * 4,
            memory.free_frames() * 4,
            self.installed_frames() * 4
        );
        if let Some(domain) = self.domains.get(DomainId::CONTROL) {
            for kind in 0..EXIT_KINDS {
                let mut count = 0;
                self.each_vcpu(&domain, |vcpu| {
                    count += vcpu
                        .exits
                        .get(kind)
                        .map_or(0, |exits| exits.load(Ordering::Relaxed));
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
