//! Makes the domain: a sequence of hypercalls.

use crate::cpu_policy::adjustments;
use crate::cpu_state::entry_records;
use crate::error::Error;
use crate::guest_memory::{GuestMemory, Zeroes};
use crate::layout::{ACPI_TABLES, CONSOLE_FRAME, IDENTITY_TABLE_FRAME, MIB, STORE_FRAME, memory_ranges};
use crate::plan::{Plan, Shape};
use control::{DomainId, GrantReference, HvmParameter, Hypervisor, NewDomain, PAGE_SIZE, Port};

const PAGE: u64 = PAGE_SIZE as u64;
const SUPERPAGE_ORDER: u32 = 9;
/// Superpages given in one step, between two reports of progress.
const SUPERPAGES_PER_STEP: usize = 64;
/// Highest event channel port, as Xen's tools set it.
const MAX_EVENT_PORT: u32 = 1023;
/// Room above `max_memory` for the pages that are no ordinary memory.
const MEMORY_SLACK_KIB: u64 = 1024;
/// "No missed ticks pending": the timer mode that Xen's tools choose.
const TIMER_MODE: u64 = 1;

/// What is being done, for whoever shows progress. Counts are bytes.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Giving the domain its memory.
    Memory {
        /// Done so far.
        done: u64,
        /// In all.
        total: u64,
    },
    /// Loading kernel and initramfs.
    Loading {
        /// Done so far.
        done: u64,
        /// In all.
        total: u64,
    },
}

/// A domain that is complete and paused.
#[derive(Clone, Debug)]
pub struct Built {
    /// Its number.
    pub domain: DomainId,
    /// Its end of the store ring's event channel.
    pub store_port: Port,
    /// Frame of the store ring.
    pub store_frame: u64,
    /// Its end of the console ring's event channel.
    pub console_port: Port,
    /// Frame of the console ring.
    pub console_frame: u64,
}

/// Makes the domain, in this CPU pool. When it fails, the domain is gone again.
pub fn build(
    hypervisor: &Hypervisor,
    handle: [u8; 16],
    pool: u32,
    plan: &Plan<'_>,
    progress: &mut dyn FnMut(Step),
) -> Result<Built, Error> {
    check_machine(hypervisor, &plan.shape)?;
    let max_vcpus = plan.shape.max_vcpus;
    let new = NewDomain {
        handle,
        max_vcpus,
        max_event_port: MAX_EVENT_PORT,
        pool,
    };
    let domain = hypervisor.create_domain(&new)?;
    let result = Construction {
        hypervisor,
        domain,
        plan,
    }
    .run(progress);
    if result.is_err() {
        // The first error is the one to tell; the domain is also found by its handle if this fails.
        let _ = hypervisor.destroy_domain(domain);
    }
    result
}

/// Whether the machine can run such a guest now, and has the memory for it.
pub fn check_machine(hypervisor: &Hypervisor, shape: &Shape) -> Result<(), Error> {
    let machine = hypervisor.physical_info()?;
    if !machine.hap {
        return Err(Error::NoHardwareAssistance);
    }
    let free = (machine.free_pages + machine.scrub_pages).saturating_sub(machine.outstanding_pages) * PAGE;
    let needed = shape.cost();
    if needed > free {
        return Err(Error::TooLittleFreeMemory { needed, free });
    }
    Ok(())
}

struct Construction<'a> {
    hypervisor: &'a Hypervisor,
    domain: DomainId,
    plan: &'a Plan<'a>,
}

impl Construction<'_> {
    fn run(&self, progress: &mut dyn FnMut(Step)) -> Result<Built, Error> {
        self.set_limits()?;
        self.populate(progress)?;
        let memory = GuestMemory::open(self.hypervisor, self.domain)?;
        let zeroes = match memory.is_clean(&[STORE_FRAME, IDENTITY_TABLE_FRAME, CONSOLE_FRAME])? {
            true => Zeroes::Skip,
            false => Zeroes::Write,
        };
        self.load(&memory, zeroes, progress)?;
        self.fill_special_pages(&memory)?;
        let (store_port, console_port) = self.open_rings(&memory)?;
        self.set_entry_state()?;
        Ok(Built {
            domain: self.domain,
            store_port,
            store_frame: STORE_FRAME,
            console_port,
            console_frame: CONSOLE_FRAME,
        })
    }

    fn set_limits(&self) -> Result<(), Error> {
        let Self {
            hypervisor,
            domain,
            plan,
        } = *self;
        hypervisor.set_max_vcpus(domain, plan.shape.max_vcpus)?;
        hypervisor.set_max_memory(domain, plan.shape.max_memory / 1024 + MEMORY_SLACK_KIB)?;
        hypervisor.set_default_tsc(domain)?;
        hypervisor.set_paging_pool(domain, plan.shape.paging_pool().next_multiple_of(PAGE))?;
        hypervisor.set_parameter(domain, HvmParameter::TimerMode, TIMER_MODE)?;
        let default = hypervisor.default_cpu_policy()?;
        hypervisor.set_cpu_policy(domain, &adjustments(&default))?;
        Ok(())
    }

    /// Ordinary memory in superpages as far as they go, then the few pages outside of it.
    fn populate(&self, progress: &mut dyn FnMut(Step)) -> Result<(), Error> {
        let Self {
            hypervisor,
            domain,
            plan,
        } = *self;
        hypervisor.set_memory_map(domain, &plan.memory_map)?;
        let total = plan.shape.memory;
        let mut done = 0;
        progress(Step::Memory { done, total });
        for range in memory_ranges(total) {
            let (start, end) = (range.start / PAGE, (range.start + range.size) / PAGE);
            let superpages: Vec<u64> = (start..end)
                .step_by(1 << SUPERPAGE_ORDER)
                .filter(|frame| frame + (1 << SUPERPAGE_ORDER) <= end)
                .collect();
            for group in superpages.chunks(SUPERPAGES_PER_STEP) {
                self.populate_superpages(group)?;
                done += (group.len() as u64 * PAGE) << SUPERPAGE_ORDER;
                progress(Step::Memory { done, total });
            }
            let rest: Vec<u64> = (start + ((superpages.len() as u64) << SUPERPAGE_ORDER)..end).collect();
            hypervisor.populate(domain, 0, &rest)?;
            done += rest.len() as u64 * PAGE;
            progress(Step::Memory { done, total });
        }
        let acpi_pages: usize = plan
            .pieces()
            .filter(|(address, _)| *address == ACPI_TABLES)
            .map(|(_, bytes)| bytes.len().div_ceil(PAGE_SIZE))
            .sum();
        let mut special: Vec<u64> = (0..acpi_pages as u64)
            .map(|page| ACPI_TABLES / PAGE + page)
            .collect();
        special.extend([STORE_FRAME, IDENTITY_TABLE_FRAME, CONSOLE_FRAME]);
        hypervisor.populate(domain, 0, &special)?;
        Ok(())
    }

    /// Superpages, or single pages where the machine's memory is too fragmented for them.
    fn populate_superpages(&self, frames: &[u64]) -> Result<(), Error> {
        let given = self
            .hypervisor
            .try_populate(self.domain, SUPERPAGE_ORDER, frames)?;
        for start in &frames[given..] {
            let pages: Vec<u64> = (*start..*start + (1 << SUPERPAGE_ORDER)).collect();
            self.hypervisor.populate(self.domain, 0, &pages)?;
        }
        Ok(())
    }

    /// Loads kernel, initramfs and tables. About a third of a Linux kernel is pages of zeroes.
    fn load(
        &self,
        memory: &GuestMemory<'_>,
        zeroes: Zeroes,
        progress: &mut dyn FnMut(Step),
    ) -> Result<(), Error> {
        let total = self.plan.pieces().map(|(_, bytes)| bytes.len() as u64).sum();
        let mut done = 0;
        for (address, bytes) in self.plan.pieces() {
            let loaded = done;
            memory.write(address, bytes, zeroes, &mut |written| {
                done += written;
                progress(Step::Loading { done, total });
            })?;
            done = loaded + bytes.len() as u64;
        }
        if zeroes == Zeroes::Write {
            for (address, size) in self.plan.zeroes() {
                memory.write(address, &vec![0; size], zeroes, &mut |_| {})?;
            }
        }
        Ok(())
    }

    /// The identity page table, and rings that are certainly empty.
    fn fill_special_pages(&self, memory: &GuestMemory<'_>) -> Result<(), Error> {
        // 1024 entries of 4 MiB: present, writable, user, accessed, dirty, large.
        let identity: Vec<u8> = (0..1024_u32)
            .flat_map(|entry| (entry << 22 | 0xe7).to_le_bytes())
            .collect();
        for (frame, contents) in [
            (IDENTITY_TABLE_FRAME, identity.as_slice()),
            (STORE_FRAME, &[0; PAGE_SIZE]),
            (CONSOLE_FRAME, &[0; PAGE_SIZE]),
        ] {
            memory.write(frame * PAGE, contents, Zeroes::Write, &mut |_| {})?;
        }
        Ok(())
    }

    fn open_rings(&self, memory: &GuestMemory<'_>) -> Result<(Port, Port), Error> {
        let Self {
            hypervisor, domain, ..
        } = *self;
        let store = hypervisor.allocate_unbound(domain, DomainId::CONTROL)?;
        let console = hypervisor.allocate_unbound(domain, DomainId::CONTROL)?;
        for (parameter, value) in [
            (HvmParameter::StoreFrame, STORE_FRAME),
            (HvmParameter::StorePort, store.0.into()),
            (HvmParameter::ConsoleFrame, CONSOLE_FRAME),
            (HvmParameter::ConsolePort, console.0.into()),
            (HvmParameter::IdentityPageTable, IDENTITY_TABLE_FRAME * PAGE),
        ] {
            hypervisor.set_parameter(domain, parameter, value)?;
        }
        memory.grant(GrantReference::CONSOLE, CONSOLE_FRAME);
        memory.grant(GrantReference::STORE, STORE_FRAME);
        Ok((store, console))
    }

    fn set_entry_state(&self) -> Result<(), Error> {
        let saved = self.hypervisor.hvm_context(self.domain)?;
        let records = entry_records(&saved, self.plan.entry, self.plan.start_info)?;
        self.hypervisor.set_hvm_context(self.domain, &records)?;
        Ok(())
    }
}

const _: () = assert!(MIB.is_multiple_of(PAGE));
