//! Beginning and end of domains.

use alloc::sync::Arc;
use machine::sync::atomic::Ordering;

use hypercall_abi::sched::shutdown;
use hypercall_abi::xen::virq;
use hypercall_abi::{DomainId, Error};
use machine::address::GuestFrame;
use machine::virtual_cpu::VirtualCpu;
use machine::{Machine, fallible};

use crate::Kernel;
use crate::cpu_policy::CpuPolicy;
use crate::domain::{Domain, DomainConfig, VcpuHandle};
use crate::physmap::REMOVAL_BATCH;
use crate::vcpu::stop;

/// Heap that must be free before a domain is made, for each of its vCPUs and for itself: generous, so that no allocation
/// in the middle can fail.
const HEAP_PER_VCPU: usize = 16 * 1024;
const HEAP_PER_DOMAIN: usize = 128 * 1024;

/// What a call of [`Kernel::destroy_domain`] came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destruction {
    /// The domain is gone.
    Done,
    /// There is more to do: call again.
    More,
}

impl<M: Machine> Kernel<M> {
    /// Make a domain and enter it in the table, paused and empty. `id`: a certain number, or any.
    ///
    /// # Errors
    /// ENOMEM, EEXIST when the number is taken, EINVAL for absurd limits, ENOSPC when there are no numbers left.
    pub fn create_domain(
        &self,
        id: Option<DomainId>,
        config: &DomainConfig,
        policy: Arc<CpuPolicy>,
    ) -> Result<Arc<Domain<M>>, Error> {
        let needed = HEAP_PER_DOMAIN + HEAP_PER_VCPU * config.max_vcpus as usize;
        if self.machine.heap_available() < needed {
            return Err(Error::ENOMEM);
        }
        let id = match id {
            Some(id) if self.domains.get(id).is_some() || self.still_owns(id) => return Err(Error::EEXIST),
            Some(id) => id,
            None => self.free_id().ok_or(Error::ENOSPC)?,
        };
        let domain = Domain::new(&self.machine, id, config, policy)?;
        let domain = fallible::arc(domain).map_err(|_| Error::ENOMEM)?;
        self.publish_wall_clock(&domain);
        #[cfg(any(test, feature = "testing", debug_assertions))]
        self.audit_newcomer(&domain);
        {
            let _change = self.pools.change.lock();
            // One that has domains has processors, always: each vCPU may run somewhere.
            let pool = self.pools.get(config.pool).ok_or(Error::ENOENT)?;
            if pool.processors.load().is_empty() {
                return Err(Error::ENOENT);
            }
            self.domains.insert(domain.clone())?;
        }
        if let Err(error) = self.set_places_aside() {
            self.domains.remove(domain.id);
            return Err(error);
        }
        Ok(domain)
    }

    /// Frames of an ended domain live on while others map them; until then its number is not given again, or they would
    /// count as the newcomer's.
    fn still_owns(&self, id: DomainId) -> bool {
        self.machine.memory().frames_owned(id.0) != 0
    }

    fn free_id(&self) -> Option<DomainId> {
        (0..u32::from(DomainId::FIRST_RESERVED.0)).find_map(|_| {
            let id = self.domains.unused_id()?;
            (!self.still_owns(id)).then_some(id)
        })
    }

    /// A domain stops for good, by its own will or not. The toolstack is told; the privileged domain's end is the
    /// machine's.
    pub fn shutdown_domain(&self, domain: &Arc<Domain<M>>, reason: u8) {
        let reason = {
            let mut lifecycle = domain.lifecycle.lock();
            if lifecycle.shutdown.is_some() {
                return;
            }
            let reason = lifecycle.shutdown_code.unwrap_or(reason);
            lifecycle.shutdown = Some(reason);
            reason
        };
        // Those, too, that its toolstack has not allotted yet.
        for vcpu in &domain.vcpus {
            vcpu.stops.fetch_or(stop::SHUTDOWN, Ordering::SeqCst);
        }
        self.each_vcpu(domain, |vcpu| self.make_look(vcpu));
        if domain.privileged {
            self.control_domain_ended(u32::from(reason));
        }
        log::info!(
            "d{} has shut down: {}",
            domain.id.0,
            reason_name(u32::from(reason))
        );
        self.send_global_virq(virq::DOMAIN_EXCEPTION);
    }

    /// A domain did what cannot go on.
    pub fn crash_domain(&self, vcpu: &VcpuHandle<M>, context: &M::Vcpu, why: &str) {
        let registers = context.registers();
        let paging = context.paging();
        log::error!("d{} v{} crashed: {why}", vcpu.domain_id.0, vcpu.index);
        log::error!("  rip {:016x} rflags {:08x}", registers.rip, registers.rflags);
        for (row, values) in registers.general.chunks(4).enumerate() {
            log::error!("  {}", RegisterRow { row, values });
        }
        log::error!(
            "  cr0 {:08x} cr3 {:x} cr4 {:x} efer {:x} cpl {}",
            paging.cr0,
            paging.cr3,
            paging.cr4,
            paging.efer,
            paging.privilege
        );
        self.shutdown_domain(vcpu.domain(), shutdown::CRASH as u8);
    }

    /// The privileged domain is gone, and the machine with it.
    fn control_domain_ended(&self, reason: u32) {
        self.print_statistics();
        #[cfg(all(debug_assertions, target_os = "none"))]
        self.audit_at_the_end();
        match reason {
            shutdown::POWEROFF => {
                log::info!("the control domain has powered off: so does the machine");
                self.machine.power_off()
            }
            shutdown::REBOOT => {
                log::info!("the control domain reboots: so does the machine");
                self.machine.reboot()
            }
            _ => {
                log::error!(
                    "the control domain has ended ({}): the machine stops",
                    reason_name(reason)
                );
                if self.options.no_reboot {
                    self.machine.power_off()
                } else {
                    self.machine.reboot()
                }
            }
        }
    }

    /// Take a domain apart, a bounded piece at a time: first it stops, then it lets go of all it holds of others', then
    /// of its memory, then of its number.
    pub fn destroy_domain(&self, domain: &Arc<Domain<M>>) -> Destruction {
        let begun = {
            let mut lifecycle = domain.lifecycle.lock();
            let begun = core::mem::replace(&mut lifecycle.dying, true);
            if !begun {
                // Never undone: nothing of it runs again.
                domain.pauses.fetch_add(1, Ordering::SeqCst);
            }
            begun
        };
        // Also for whoever comes second while the first one still waits: what a vCPU maps and binds before it stops would
        // be missed otherwise, and stay.
        self.each_vcpu(domain, |vcpu| self.wait_until_stopped(vcpu));
        if !begun {
            self.each_vcpu(domain, |vcpu| {
                self.leave_queue(vcpu);
                self.give_up_processor(vcpu);
                self.cancel_deadlines(vcpu);
            });
        }
        if !self.close_all_ports(domain) || !self.release_grant_mappings(domain) {
            return Destruction::More;
        }
        if let Some(next) = self.clear_memory(domain) {
            *domain.teardown.lock() = next;
            return Destruction::More;
        }
        let already = core::mem::replace(&mut domain.lifecycle.lock().dead, true);
        if !already {
            crate::hypercall::memory_op::claim::cancel(self, domain);
            self.each_vcpu(domain, |vcpu| {
                vcpu.runstate.lock().area = None;
                *vcpu.time_area.lock() = None;
            });
            self.domains.remove(domain.id);
            #[cfg(any(test, feature = "testing", debug_assertions))]
            self.audit_destroyed(domain);
            self.send_global_virq(virq::DOMAIN_EXCEPTION);
        }
        Destruction::Done
    }

    fn clear_memory(&self, domain: &Arc<Domain<M>>) -> Option<GuestFrame> {
        let from = *domain.teardown.lock();
        // A batch may be superpages: 32 of 2 MiB are 64 MiB to scrub, which is long enough; of pages, take more.
        domain.physmap.clear_some(&self.machine, from, REMOVAL_BATCH / 4)
    }
}

/// The reason of a shutdown, in words.
pub fn reason_name(reason: u32) -> &'static str {
    match reason {
        shutdown::POWEROFF => "power off",
        shutdown::REBOOT => "reboot",
        shutdown::SUSPEND => "suspend",
        shutdown::CRASH => "crash",
        shutdown::WATCHDOG => "watchdog",
        shutdown::SOFT_RESET => "soft reset",
        _ => "unknown reason",
    }
}

struct RegisterRow<'a> {
    row: usize,
    values: &'a [u64],
}

impl core::fmt::Display for RegisterRow<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const NAMES: [&str; 16] = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8 ", "r9 ", "r10", "r11", "r12", "r13",
            "r14", "r15",
        ];
        for (name, value) in NAMES.iter().skip(self.row.saturating_mul(4)).zip(self.values) {
            write!(f, "{name} {value:016x} ")?;
        }
        Ok(())
    }
}
