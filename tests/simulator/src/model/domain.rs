//! Domains: what one is, its end, and who hears of it.

use hypercall_abi::memory::E820Entry;
use hypercall_abi::xen::virq;

use super::event_channel::Events;
use super::grant::Grants;
use super::memory::{Map, PageReference};
use super::vcpu::Vcpu;
use super::{Model, Refusal};

/// HVM parameters that there are.
pub const PARAMETERS: usize = 39;
/// Tables of second-stage translation that a domain may have in any case.
const SPARE_TABLES: u64 = 1024;
/// Frames of a domain's allowance for which it may have one more.
const FRAMES_PER_TABLE: u64 = 256;

/// A domain.
pub struct Domain {
    /// Its number.
    pub number: u16,
    /// How many domains there were before it: tells it from others of its number.
    pub birth: u64,
    /// It may control others.
    pub privileged: bool,
    /// The toolstack's name for it.
    pub handle: [u8; 16],
    /// Its memory.
    pub map: Map,
    /// The shared page.
    pub shared_info: PageReference,
    /// Its event channels.
    pub events: Events,
    /// Its grant table, and what it has mapped.
    pub grants: Grants,
    /// Its vCPUs.
    pub vcpus: Vec<Vcpu>,
    /// How many of them the toolstack lets it have.
    pub allotted: u32,
    /// Frames that it may have.
    pub max_pages: u64,
    /// Frames set aside for it.
    pub claimed: u64,
    /// HVM parameters.
    pub parameters: [u64; PARAMETERS],
    /// Runstate areas are marked while they are written.
    pub marks_runstate: bool,
    /// The map that the toolstack left for it.
    pub memory_map: Vec<E820Entry>,
    /// Reasons not to run, the toolstack's included.
    pub pauses: u32,
    /// The toolstack's.
    pub toolstack_pauses: u32,
    /// Why it shut down.
    pub shutdown: Option<u8>,
    /// The reason it announced.
    pub shutdown_code: Option<u8>,
    /// Weight and cap.
    pub share: (u16, u16),
    /// Its pool of processors.
    pub pool: u32,
    /// Bytes of paging pool asked for.
    pub paging_pool: u64,
    /// TSC mode asked for.
    pub tsc_mode: u32,
    /// Width of its physical addresses.
    pub address_bits: u8,
}

impl Domain {
    /// Whether a vCPU is there for the domain.
    pub fn has_vcpu(&self, vcpu: u32) -> bool {
        vcpu < self.allotted && (vcpu as usize) < self.vcpus.len()
    }

    /// The vCPUs that are there.
    pub fn vcpus(&self) -> &[Vcpu] {
        &self.vcpus[..(self.allotted as usize).min(self.vcpus.len())]
    }

    /// Whether its second-stage tables may grow.
    pub fn may_grow_tables(&self) -> bool {
        self.privileged || self.map.tables() < SPARE_TABLES + self.max_pages / FRAMES_PER_TABLE
    }
}

impl Model {
    /// Whether a domain may map more: the last memory there is is not for that.
    pub(super) fn may_map_more(&self, domain: u16) -> bool {
        let least = (self.told.total_frames / 1024).min(256);
        let domain = self.at(domain);
        domain.may_grow_tables() && (domain.privileged || self.free_frames() >= least)
    }

    /// A domain stops for good. The privileged one takes the machine with it.
    pub(super) fn shut_down(&mut self, number: u16, reason: u8) -> Result<(), Refusal> {
        let domain = self.at_mut(number);
        if domain.shutdown.is_some() {
            return Ok(());
        }
        domain.shutdown = Some(domain.shutdown_code.unwrap_or(reason));
        // Those that its toolstack has not allotted yet will not run either.
        for vcpu in &mut domain.vcpus {
            vcpu.shut_down = true;
        }
        if domain.privileged {
            return Err(Refusal::Unjudged("the machine ends"));
        }
        self.raise_global(virq::DOMAIN_EXCEPTION);
        Ok(())
    }

    /// Raise a virtual interrupt of the machine: the control domain gets it.
    pub(super) fn raise_global(&mut self, number: u32) {
        if self.domains.get(&0).is_some_and(|control| control.privileged) {
            self.raise_virq(0, 0, number);
        }
    }

    /// Take a domain apart: its ports close, what it mapped of others' is given back, and then nothing of it is left but
    /// the pages that others have mapped.
    pub(super) fn destroy(&mut self, number: u16) {
        self.close_all_ports(number);
        let handles: Vec<u32> = self.at(number).grants.mappings.keys().copied().collect();
        for handle in handles {
            let at = self.at(number).grants.mappings[&handle].at;
            self.unmap_one(number, handle, at);
        }
        self.domains.remove(&number);
        self.raise_global(virq::DOMAIN_EXCEPTION);
    }
}
