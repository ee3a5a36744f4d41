//! What the toolstack does to domains.

use hypercall_abi::domctl::{
    AddressSize, CreateDomain, DomainInfo, Domctl, GRANT_VERSION_MASK, INTERFACE_VERSION,
    INVALID_MAX_VCPU_ID, MaxMemory, MaxVcpus, NodeAffinity, PagingMempool, SendTrigger, SetDomainHandle,
    TscInfo, VcpuInfo, create_flag, info_flag, op, trigger,
};
use hypercall_abi::vcpu::runstate;
use hypercall_abi::xen::{ArchDomainConfig, emulation};
use hypercall_abi::{DomainId, Error};

use super::domain::{Domain, PARAMETERS};
use super::event_channel::Events;
use super::grant::Grants;
use super::memory::Map;
use super::vcpu::Vcpu;
use super::{Answer, DONE, Model, Refusal};

const MOST_VCPUS: u32 = 128;
const MOST_PAUSES: u32 = 255;

/// Whether the argument's structure is written back.
pub(super) type Handled = Result<bool, Refusal>;

impl Model {
    pub(super) fn domctl(&mut self, [argument, ..]: [u64; 6]) -> Answer {
        self.privileged()?;
        let mut request: Domctl = self.read(argument)?;
        if request.interface_version != INTERFACE_VERSION {
            return Err(Error::EACCES.into());
        }
        let changed = match request.command {
            op::CREATE_DOMAIN => {
                self.create(argument, &mut request)?;
                true
            }
            op::GET_DOMAIN_INFO => {
                if request.domain.is_reserved() {
                    return Err(Error::EINVAL.into());
                }
                let found = self.domains.range(request.domain.0..).next();
                let number = *found.ok_or(Error::ESRCH)?.0;
                request.domain = DomainId(number);
                request.set_view(&self.domain_info(number));
                true
            }
            _ if !self.exists(request.domain) => return Err(Error::ESRCH.into()),
            _ => self.domctl_on(request.domain, &mut request)?,
        };
        if changed {
            self.write(argument, &request)?;
        }
        DONE
    }

    fn domctl_on(&mut self, id: DomainId, request: &mut Domctl) -> Handled {
        let number = id.0;
        match request.command {
            op::DESTROY_DOMAIN => {
                self.is_other(id)?;
                if self.at(number).privileged {
                    return Err(Error::EINVAL.into());
                }
                self.destroy(number);
            }
            op::PAUSE_DOMAIN => {
                self.is_other(id)?;
                let domain = self.at_mut(number);
                if domain.toolstack_pauses >= MOST_PAUSES {
                    return Err(Error::EOVERFLOW.into());
                }
                domain.toolstack_pauses += 1;
                domain.pauses += 1;
            }
            op::UNPAUSE_DOMAIN => {
                let domain = self.at_mut(number);
                domain.toolstack_pauses = domain.toolstack_pauses.checked_sub(1).ok_or(Error::EINVAL)?;
                domain.pauses -= 1;
                for index in 0..self.at(number).vcpus().len() as u32 {
                    self.reconsider(number, index);
                }
            }
            op::MAX_VCPUS => {
                self.is_other(id)?;
                let wanted: MaxVcpus = request.view();
                let domain = self.at_mut(number);
                if wanted.max as usize != domain.vcpus.len() {
                    return Err(Error::EINVAL.into());
                }
                domain.allotted = wanted.max;
            }
            op::MAX_MEMORY => self.at_mut(number).max_pages = request.view::<MaxMemory>().kibibytes / 4,
            op::SET_DOMAIN_HANDLE => self.at_mut(number).handle = request.view::<SetDomainHandle>().handle,
            op::SET_NODE_AFFINITY => {
                let wanted: NodeAffinity = request.view();
                if self.read_bitmap(&wanted.nodes)? & 1 == 0 {
                    return Err(Error::EINVAL.into());
                }
            }
            op::GET_NODE_AFFINITY => self.write_bitmap(&request.view::<NodeAffinity>().nodes, 1)?,
            op::SCHEDULER_OP => return self.scheduler_op(number, request),
            op::SET_PAGING_MEMPOOL_SIZE => {
                let PagingMempool { bytes } = request.view();
                if bytes % 4096 != 0 || bytes >> 44 != 0 {
                    return Err(Error::EINVAL.into());
                }
                self.at_mut(number).paging_pool = bytes;
            }
            op::GET_PAGING_MEMPOOL_SIZE => {
                let bytes = self.at(number).paging_pool;
                request.set_view(&PagingMempool { bytes });
                return Ok(true);
            }
            op::SET_VCPU_AFFINITY => self.set_affinity(number, &request.view())?,
            op::GET_VCPU_AFFINITY => self.get_affinity(number, &request.view())?,
            op::GET_VCPU_INFO => {
                let VcpuInfo { vcpu, .. } = request.view();
                let state = self.existing_vcpu(number, vcpu)?;
                request.set_view(&VcpuInfo {
                    vcpu,
                    online: u8::from(!state.down),
                    blocked: u8::from(state.blocked || state.polls),
                    cpu_time: state.runstate.time[runstate::RUNNING as usize],
                    ..VcpuInfo::default()
                });
                return Ok(true);
            }
            op::SEND_TRIGGER => {
                let wanted: SendTrigger = request.view();
                if !self.at(number).has_vcpu(wanted.vcpu) {
                    return Err(Error::ESRCH.into());
                }
                if wanted.trigger != trigger::NMI {
                    return Err(Error::ENOSYS.into());
                }
                self.vcpu_mut(number, wanted.vcpu).nmi = true;
                self.unblock(number, wanted.vcpu);
            }
            op::GET_HVM_CONTEXT => return Err(Refusal::Unjudged("domctl gethvmcontext")),
            op::SET_HVM_CONTEXT => return Err(Refusal::Unjudged("domctl sethvmcontext")),
            op::SET_CPU_POLICY => return Err(Refusal::Unjudged("domctl set_cpu_policy")),
            op::GET_CPU_POLICY => return Err(Refusal::Unjudged("domctl get_cpu_policy")),
            op::SET_TSC_INFO => {
                self.is_other(id)?;
                let wanted: TscInfo = request.view();
                // The machine's counter as it is.
                if !matches!(wanted.mode, 0 | 2) {
                    return Err(Error::EOPNOTSUPP.into());
                }
                self.at_mut(number).tsc_mode = wanted.mode;
            }
            op::GET_TSC_INFO => {
                request.set_view(&TscInfo {
                    mode: self.at(number).tsc_mode,
                    frequency_khz: self.told.tsc_khz,
                    elapsed_ns: self.told.now,
                    ..TscInfo::default()
                });
                return Ok(true);
            }
            op::GET_ADDRESS_SIZE => {
                request.set_view(&AddressSize { size: 64 });
                return Ok(true);
            }
            op::SET_VCPU_CONTEXT | op::GET_VCPU_CONTEXT => return Err(Error::EOPNOTSUPP.into()),
            _ => return Err(Error::ENOSYS.into()),
        }
        Ok(false)
    }

    fn create(&mut self, argument: u64, request: &mut Domctl) -> Result<(), Error> {
        const OFFERED: u32 = create_flag::HVM | create_flag::HAP;
        const HARMLESS: u32 = create_flag::STORE_DOMAIN | create_flag::OUT_OF_SYNC_OFF;
        let wanted: CreateDomain = request.view();
        let version = wanted.grant_options & GRANT_VERSION_MASK;
        if wanted.flags & !HARMLESS != OFFERED
            || wanted.arch.emulation_flags != emulation::LAPIC
            || wanted.arch.misc_flags != 0
            || !(1..=MOST_VCPUS).contains(&wanted.max_vcpus)
            || wanted.iommu_options != 0
            || wanted.vmtrace_size != 0
        {
            return Err(Error::EINVAL);
        }
        if !(1..=2).contains(&version) || wanted.grant_options != version {
            return Err(Error::EINVAL);
        }
        if wanted.max_grant_frames == 0 || wanted.max_grant_frames > 1024 || wanted.max_maptrack_frames > 4096
        {
            return Err(Error::EINVAL);
        }
        let pool = self.pools.get(&wanted.cpupool_id);
        if pool.is_none_or(|pool| pool.processors == 0) {
            return Err(Error::ENOENT);
        }
        // The answer has its place, or nothing is made.
        self.write(argument, request)?;
        let free = |number: u16| !self.domains.contains_key(&number) && self.house.owned(number) == 0;
        let number = match request.domain {
            DomainId(0) => None,
            id if id.is_reserved() => None,
            id if !free(id.0) => return Err(Error::EEXIST),
            id => Some(id.0),
        };
        let number = match number {
            Some(number) => number,
            None => {
                // The one after the last that was given.
                let all = 1..DomainId::FIRST_RESERVED.0;
                let after = (self.next_number.max(1)..all.end).chain(all);
                let number = { after }.find(|number| free(*number)).ok_or(Error::ENOSPC)?;
                self.next_number = number + 1;
                number
            }
        };
        // Shared page, first page of the grant table, root of the second-stage tables.
        if self.free_frames() < 3 {
            return Err(Error::ENOMEM);
        }
        let first = self.house.page(number, false);
        let grants = Grants::new(
            first,
            wanted.max_grant_frames as u32,
            wanted.max_maptrack_frames as u32,
        );
        let grants = grants.ok_or(Error::EINVAL)?;
        let mut domain = self.empty_domain(
            number,
            grants,
            Events::new(wanted.max_event_channel_port),
            wanted.max_vcpus,
        );
        domain.handle = wanted.handle;
        (domain.pauses, domain.toolstack_pauses) = (1, 1);
        domain.address_bits = self.told.address_bits;
        self.domains.insert(number, domain);
        self.publish_wall_clock(number);
        request.domain = DomainId(number);
        request.set_view(&wanted);
        Ok(())
    }

    /// A domain without memory, whose vCPUs are down.
    pub(super) fn empty_domain(&mut self, number: u16, grants: Grants, events: Events, vcpus: u32) -> Domain {
        let shared_info = self.house.page(number, false);
        self.births += 1;
        let mut parameters = [0; PARAMETERS];
        // A triple fault means a reboot.
        parameters[31] = 1;
        Domain {
            number,
            birth: self.births,
            privileged: false,
            handle: [0; 16],
            map: Map::new(number),
            vcpus: (0..vcpus)
                .map(|index| Vcpu::new(index, &shared_info, self.told.now))
                .collect(),
            shared_info,
            events,
            grants,
            allotted: 0,
            max_pages: 0,
            claimed: 0,
            parameters,
            marks_runstate: false,
            memory_map: Vec::new(),
            pauses: 0,
            toolstack_pauses: 0,
            shutdown: None,
            shutdown_code: None,
            paging_pool: 0,
            share: (256, 0),
            pool: 0,
            tsc_mode: 0,
            address_bits: 0,
        }
    }

    /// Write the wall clock where a domain reads it.
    pub(super) fn publish_wall_clock(&mut self, number: u16) {
        const WALL_CLOCK: usize = 3072;
        let (seconds, nanoseconds) = self.told.wall_clock;
        let page = &self.at(number).shared_info;
        let version: u32 = page.load(WALL_CLOCK);
        let version = (version | 1).wrapping_add(1);
        page.store(
            WALL_CLOCK,
            [version, seconds as u32, nanoseconds, (seconds >> 32) as u32],
        );
    }

    /// A domain's state as the toolstack is told it. No vCPU runs here while a call is made.
    pub(super) fn domain_info(&self, number: u16) -> DomainInfo {
        let domain = self.at(number);
        let up: Vec<&Vcpu> = domain.vcpus().iter().filter(|vcpu| !vcpu.down).collect();
        let all_wait = !up.is_empty() && up.iter().all(|vcpu| vcpu.blocked || vcpu.polls);
        let reason = domain.shutdown.or(domain.shutdown_code);
        let mut flags = info_flag::HVM_GUEST | info_flag::HAP;
        for (holds, flag) in [
            (domain.shutdown.is_some(), info_flag::SHUTDOWN),
            (domain.toolstack_pauses != 0, info_flag::PAUSED),
            (all_wait, info_flag::BLOCKED),
        ] {
            flags |= if holds { flag } else { 0 };
        }
        // All ones while there is no reason.
        flags |= reason.map_or(u32::MAX, u32::from) << info_flag::SHUTDOWN_SHIFT;
        let devices = if domain.privileged { emulation::IOAPIC } else { 0 };
        DomainInfo {
            domain: DomainId(number),
            flags,
            total_pages: self.house.owned(number),
            max_pages: domain.max_pages,
            outstanding_pages: domain.claimed,
            shared_info_frame: domain.shared_info.frame.get().unwrap_or(0),
            cpu_time: 0,
            number_of_online_vcpus: up.len() as u32,
            max_vcpu_id: domain.allotted.checked_sub(1).unwrap_or(INVALID_MAX_VCPU_ID),
            handle: domain.handle,
            cpupool: domain.pool,
            guest_physical_address_bits: domain.address_bits,
            arch_config: ArchDomainConfig {
                emulation_flags: emulation::LAPIC | devices,
                misc_flags: 0,
            },
            ..DomainInfo::default()
        }
    }
}
