//! Makes the domain: a sequence of hypercalls.

use crate::cpu_policy::adjustments;
use crate::cpu_state::entry_records;
use crate::error::Error;
use crate::layout::{ACPI_TABLES, CONSOLE_FRAME, IDENTITY_TABLE_FRAME, MIB, STORE_FRAME, memory_ranges};
use crate::plan::{Piece, Plan};
use control::{DomainId, GrantReference, HvmParameter, Hypervisor, NewDomain, PAGE_SIZE, Port, Resource};
use std::sync::atomic::Ordering;

const PAGE: u64 = PAGE_SIZE as u64;
const SUPERPAGE_ORDER: u32 = 9;
/// Superpages given in one step, between two reports of progress.
const SUPERPAGES_PER_STEP: usize = 64;
/// Pages mapped at once: enough that setting a mapping up costs nothing beside its pages.
const PAGES_PER_MAPPING: usize = 2048;
/// Highest event channel port, as Xen's tools set it.
const MAX_EVENT_PORT: u32 = 1023;
/// Room above `max_memory` for the pages that are no ordinary memory.
const MEMORY_SLACK_KIB: u64 = 1024;
/// "No missed ticks pending": the timer mode that Xen's tools choose.
const TIMER_MODE: u64 = 1;
/// A grant entry that permits access.
const GRANT_PERMIT_ACCESS: u16 = 1;

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

/// Makes the domain. When it fails, the domain is gone again.
pub fn build(
    hypervisor: &Hypervisor,
    handle: [u8; 16],
    plan: &Plan<'_>,
    progress: &mut dyn FnMut(Step),
) -> Result<Built, Error> {
    check_machine(hypervisor, plan)?;
    let max_vcpus = plan.shape.max_vcpus;
    let new = NewDomain {
        handle,
        max_vcpus,
        max_event_port: MAX_EVENT_PORT,
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

fn check_machine(hypervisor: &Hypervisor, plan: &Plan<'_>) -> Result<(), Error> {
    let machine = hypervisor.physical_info()?;
    if !machine.hap {
        return Err(Error::NoHardwareAssistance);
    }
    let free = (machine.free_pages + machine.scrub_pages).saturating_sub(machine.outstanding_pages) * PAGE;
    let needed = plan.shape.cost();
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
        self.load(progress)?;
        self.fill_special_pages()?;
        let (store_port, console_port) = self.open_rings()?;
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
        let acpi_pages = plan
            .pieces
            .iter()
            .find(|piece| piece.address == ACPI_TABLES)
            .map_or(0, Piece::pages);
        let mut special: Vec<u64> = (0..acpi_pages).map(|page| ACPI_TABLES / PAGE + page).collect();
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

    fn load(&self, progress: &mut dyn FnMut(Step)) -> Result<(), Error> {
        let total = self
            .plan
            .pieces
            .iter()
            .map(|piece| piece.bytes.len() as u64)
            .sum();
        let mut done = 0;
        for piece in &self.plan.pieces {
            self.load_piece(piece, &mut |bytes| {
                done += bytes;
                progress(Step::Loading { done, total });
            })?;
        }
        Ok(())
    }

    fn load_piece(&self, piece: &Piece<'_>, loaded: &mut dyn FnMut(u64)) -> Result<(), Error> {
        let mut address = piece.address;
        let mut bytes = piece.bytes.as_ref();
        while !bytes.is_empty() {
            let offset = (address % PAGE) as usize;
            let count = bytes.len().min(PAGES_PER_MAPPING * PAGE_SIZE - offset);
            let first = address / PAGE;
            let frames: Vec<u64> = (first..first + (offset + count).div_ceil(PAGE_SIZE) as u64).collect();
            let (now, later) = bytes.split_at(count);
            self.hypervisor
                .map_foreign(self.domain, &frames)?
                .write_bytes(offset, now);
            loaded(count as u64);
            address += count as u64;
            bytes = later;
        }
        Ok(())
    }

    /// The identity page table, and rings that are certainly empty.
    fn fill_special_pages(&self) -> Result<(), Error> {
        let frames = [STORE_FRAME, IDENTITY_TABLE_FRAME, CONSOLE_FRAME];
        let pages = self.hypervisor.map_foreign(self.domain, &frames)?;
        // 1024 entries of 4 MiB: present, writable, user, accessed, dirty, large.
        let identity: Vec<u8> = (0..1024_u32)
            .flat_map(|entry| (entry << 22 | 0xe7).to_le_bytes())
            .collect();
        pages.write_bytes(0, &[0; PAGE_SIZE]);
        pages.write_bytes(PAGE_SIZE, &identity);
        pages.write_bytes(2 * PAGE_SIZE, &[0; PAGE_SIZE]);
        Ok(())
    }

    fn open_rings(&self) -> Result<(Port, Port), Error> {
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
        let table = hypervisor.map_resource(domain, Resource::GrantTable, 0, 1)?;
        for (reference, frame) in [
            (GrantReference::CONSOLE, CONSOLE_FRAME),
            (GrantReference::STORE, STORE_FRAME),
        ] {
            // Version 1: flags and domain share a word, which makes the entry valid and is written last.
            let entry = reference.0 as usize * 8;
            table.store_u32(entry + 4, frame as u32, Ordering::Release);
            table.store_u32(
                entry,
                u32::from(DomainId::CONTROL.0) << 16 | u32::from(GRANT_PERMIT_ACCESS),
                Ordering::Release,
            );
        }
        Ok((store, console))
    }

    fn set_entry_state(&self) -> Result<(), Error> {
        let saved = self.hypervisor.hvm_context(self.domain)?;
        let records = entry_records(&saved, self.plan.entry, self.plan.start_info)?;
        self.hypervisor.set_hvm_context(self.domain, &records)?;
        Ok(())
    }
}

impl Piece<'_> {
    fn pages(&self) -> u64 {
        (self.address % PAGE + self.bytes.len() as u64).div_ceil(PAGE)
    }
}

const _: () = assert!(MIB.is_multiple_of(PAGE));
