//! Domains: what a virtual machine is made of, and the table of them all.
//!
//! Lock order (a later one may be taken while an earlier is held, never the reverse):
//! changes of pools -> a domain's lifecycle -> claims -> event channels (two domains': by id, then by address) -> a grant table (never two)
//! -> a memory map -> a physmap -> a vCPU's deadlines -> its local APIC -> a processor's timer queue -> a vCPU's place ->
//! a processor's run queue -> everything else, which is held for a look or a copy only: the domain table, a vCPU's info
//! and run state, the console. A vCPU's context is held by who runs it, and taken by others only while it cannot run.
//! See docs/ARCHITECTURE.md.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use hypercall_abi::{DomainId, Error};
use machine::Machine;
use machine::address::{GuestFrame, Order};
use machine::memory::{FrameReference, FrameUse};
use machine::sync::Lock;

use crate::cpu_policy::CpuPolicy;
use crate::event_channel::EventChannels;
use crate::grant_table::GrantTable;
use crate::physmap::Physmap;
use crate::schedule::share::Share;
use crate::vcpu::Vcpu;

#[cfg(any(test, feature = "testing", debug_assertions))]
mod audit;

/// HVM parameters that exist (`HVM_NR_PARAMS`).
pub const HVM_PARAMETERS: usize = 39;
/// Most vCPUs a domain can have.
pub const MAX_VCPUS: u32 = 128;

/// Tables of second-stage translation that every domain may have, 4 MiB of them: enough for its windows of grants.
const SPARE_TABLES: u64 = 1024;
/// One of so many of the machine's frames, up to a number, is left when guests' records may not grow any more: a quarter
/// of what their memory leaves.
const LAST_SHARE: u64 = 1024;
const MOST_LAST_FRAMES: u64 = 256;
/// Frames of a domain's allowance for which it may have one table more: twice what single pages need.
const FRAMES_PER_SPARE_TABLE: u64 = 256;

/// How a domain is made.
#[derive(Clone, Debug)]
pub struct DomainConfig {
    /// Sixteen bytes that the toolstack names it by.
    pub handle: [u8; 16],
    /// vCPUs it can have.
    pub max_vcpus: u32,
    /// Highest event channel port it may use.
    pub max_event_port: u32,
    /// Frames its grant table may grow to.
    pub max_grant_frames: u32,
    /// Frames of grants it may have mapped, as entries of its maptrack: in Xen's unit of frames of them.
    pub max_maptrack_frames: u32,
    /// Whether it is the initial, privileged domain.
    pub privileged: bool,
    /// The pool of processors that it runs on.
    pub pool: u32,
    /// Ports it drives itself, as inclusive ranges.
    pub direct_ports: Vec<(u16, u16)>,
}

/// Why and whether a domain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lifecycle {
    /// `SHUTDOWN_*` once it has shut down.
    pub shutdown: Option<u8>,
    /// The reason that the guest announced for a shutdown to come (SCHEDOP_shutdown_code).
    pub shutdown_code: Option<u8>,
    /// Destruction began: nobody may start anything with it.
    pub dying: bool,
    /// All it held has been given back; only the table's entry remains until the last reference goes.
    pub dead: bool,
}

/// A domain.
pub struct Domain<M: Machine> {
    /// Its number.
    pub id: DomainId,
    /// May control others: the initial domain.
    pub privileged: bool,
    /// The toolstack's name for it.
    pub handle: Lock<[u8; 16]>,
    /// Its memory map.
    pub physmap: Physmap<M>,
    /// Its event channels.
    pub events: EventChannels<M>,
    /// Its grant table and what it has mapped of others'.
    pub grants: GrantTable<M>,
    /// Its vCPUs, all of which exist from the start; those that do not run are down.
    pub vcpus: Box<[Vcpu<M>]>,
    /// vCPUs that the toolstack has allotted (`max_vcpus` domctl); those past it stay down.
    pub allotted_vcpus: AtomicU32,
    /// The shared info page.
    pub shared_info: FrameReference,
    /// The ports it drives itself.
    pub ports: M::PortMap,
    /// HVM parameters.
    pub hvm_parameters: Lock<[u64; HVM_PARAMETERS]>,
    /// `HVM_PARAM_CALLBACK_IRQ`, where every exit can read it without a lock.
    pub callback: AtomicU64,
    /// What CPUID and MSRs tell it.
    pub cpu_policy: Lock<Arc<CpuPolicy>>,
    /// Frames it may own.
    pub max_pages: AtomicU64,
    /// The memory map that the toolstack left for it (E820 entries: start, length, type).
    pub memory_map: Lock<Vec<(u64, u64, u32)>>,
    /// Frames set aside for it by `claim_pages` and not yet populated.
    pub claimed: AtomicU64,
    /// Why and whether it ended.
    pub lifecycle: Lock<Lifecycle>,
    /// Holds on its running: the toolstack's (counted apart below) and those of operations under way.
    pub pauses: AtomicU32,
    /// How often the toolstack paused it: once from the start.
    pub toolstack_pauses: AtomicU32,
    /// The toolstack has let it run: what it was told of its processors stays true from then on.
    pub creation_finished: AtomicBool,
    /// `VMASST_TYPE_*` bits.
    pub assists: AtomicU64,
    /// Emulated devices beyond the local APIC (the initial domain's I/O APIC).
    pub io_apic: Option<crate::io_apic::IoApic>,
    /// Where destruction goes on.
    pub(crate) teardown: Lock<GuestFrame>,
    /// Nanoseconds that its vCPUs have run.
    pub cpu_time: AtomicU64,
    /// What it may have of the processors.
    pub share: Share,
    /// The pool of processors that it runs on.
    pub pool: AtomicU32,
    /// The paging pool that the toolstack asked for, in bytes: recorded, since tables come from the core's memory.
    pub paging_pool: AtomicU64,
    /// `domctl` TSC mode as set; answered back.
    pub tsc_mode: AtomicU32,
}

impl<M: Machine> Domain<M> {
    /// Make a domain that runs nothing yet: all vCPUs down, no memory, paused by the toolstack.
    ///
    /// # Errors
    /// ENOMEM; EINVAL for absurd limits.
    pub fn new(
        machine: &M,
        id: DomainId,
        config: &DomainConfig,
        policy: Arc<CpuPolicy>,
    ) -> Result<Self, Error> {
        if config.max_vcpus == 0 || config.max_vcpus > MAX_VCPUS {
            return Err(Error::EINVAL);
        }
        let memory = machine.memory();
        let shared_info = memory
            .allocate(id.0, FrameUse::Shared, Order::PAGE)
            .ok_or(Error::ENOMEM)?;
        let mut vcpus = Vec::new();
        vcpus
            .try_reserve_exact(config.max_vcpus as usize)
            .map_err(|_| Error::ENOMEM)?;
        for index in 0..config.max_vcpus {
            vcpus.push(Vcpu::new(machine, id, index, &shared_info)?);
        }
        let ports = machine
            .port_map(machine::DirectPorts {
                ranges: &config.direct_ports,
            })
            .map_err(|_| Error::ENOMEM)?;
        let mut hvm_parameters = [0; HVM_PARAMETERS];
        // SHUTDOWN_reboot, as Xen presets it: what a triple fault means.
        hvm_parameters[31] = 1;
        let io_apic = config
            .privileged
            .then(|| crate::io_apic::IoApic::new(machine.platform().lines));
        Ok(Domain {
            id,
            privileged: config.privileged,
            handle: Lock::new(config.handle),
            physmap: Physmap::new(machine).map_err(|_| Error::ENOMEM)?,
            events: EventChannels::new(config.max_event_port)?,
            grants: GrantTable::new(memory, id, config.max_grant_frames, config.max_maptrack_frames)?,
            vcpus: vcpus.into_boxed_slice(),
            allotted_vcpus: AtomicU32::new(0),
            shared_info,
            ports,
            hvm_parameters: Lock::new(hvm_parameters),
            callback: AtomicU64::new(0),
            cpu_policy: Lock::new(policy),
            max_pages: AtomicU64::new(0),
            memory_map: Lock::new(Vec::new()),
            claimed: AtomicU64::new(0),
            lifecycle: Lock::new(Lifecycle::default()),
            pauses: AtomicU32::new(1),
            toolstack_pauses: AtomicU32::new(1),
            creation_finished: AtomicBool::new(false),
            assists: AtomicU64::new(0),
            io_apic,
            teardown: Lock::new(GuestFrame(0)),
            cpu_time: AtomicU64::new(0),
            share: Share::default(),
            pool: AtomicU32::new(config.pool),
            paging_pool: AtomicU64::new(0),
            tsc_mode: AtomicU32::new(0),
        })
    }

    /// Frames it owns (populated, whether or not still mapped by itself).
    pub fn owned_pages(&self, machine: &M) -> u64 {
        u64::from(machine.memory().frames_owned(self.id.0))
    }

    /// One of its vCPUs that the toolstack has allotted.
    pub fn vcpu(&self, index: u32) -> Option<&Vcpu<M>> {
        if index >= self.allotted_vcpus.load(Ordering::Acquire) {
            return None;
        }
        self.vcpus.get(index as usize)
    }

    /// Whether its second-stage tables may still grow: they are the core's memory, so a domain that scatters its pages
    /// over its address space gets only so many. The privileged domain maps devices and others' memory as it must.
    pub fn may_grow_tables(&self) -> bool {
        if self.privileged {
            return true;
        }
        let allowance = SPARE_TABLES + self.max_pages.load(Ordering::Relaxed) / FRAMES_PER_SPARE_TABLE;
        self.physmap.read().table_frames() < allowance
    }

    /// Whether it may map more, which takes tables and records of the core's: not out of the last memory that there is.
    pub fn may_map_more(&self) -> bool {
        if !self.may_grow_tables() {
            return false;
        }
        let memory = self.physmap.read().memory();
        let least = (memory.total_frames() / LAST_SHARE).min(MOST_LAST_FRAMES);
        self.privileged || memory.free_frames() >= least
    }

    /// Whether destruction began.
    pub fn is_dying(&self) -> bool {
        self.lifecycle.lock().dying
    }
}

/// A vCPU together with a share in its domain, so that it outlives whoever still names it.
pub struct VcpuHandle<M: Machine> {
    domain: Arc<Domain<M>>,
    index: usize,
}

impl<M: Machine> Clone for VcpuHandle<M> {
    fn clone(&self) -> Self {
        VcpuHandle {
            domain: self.domain.clone(),
            index: self.index,
        }
    }
}

impl<M: Machine> VcpuHandle<M> {
    /// The handle of a vCPU that exists.
    pub fn new(domain: &Arc<Domain<M>>, index: u32) -> Option<Self> {
        domain.vcpu(index)?;
        Some(VcpuHandle {
            domain: domain.clone(),
            index: index as usize,
        })
    }

    /// The handle of a vCPU that the toolstack may not have allotted yet.
    pub(crate) fn existing(domain: &Arc<Domain<M>>, index: u32) -> Option<Self> {
        domain.vcpus.get(index as usize)?;
        Some(VcpuHandle {
            domain: domain.clone(),
            index: index as usize,
        })
    }

    /// Its domain.
    pub fn domain(&self) -> &Arc<Domain<M>> {
        &self.domain
    }
}

impl<M: Machine> core::ops::Deref for VcpuHandle<M> {
    type Target = Vcpu<M>;
    fn deref(&self) -> &Vcpu<M> {
        match self.domain.vcpus.get(self.index) {
            Some(vcpu) => vcpu,
            None => no_such_vcpu(),
        }
    }
}

/// [`VcpuHandle::new`] checked the number, and a domain's vCPUs stay as many as they are.
#[cold]
#[inline(never)]
fn no_such_vcpu() -> ! {
    unreachable!("a handle names a vCPU that is not there")
}

impl<M: Machine> PartialEq for VcpuHandle<M> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && Arc::ptr_eq(&self.domain, &other.domain)
    }
}

/// The table of all domains.
pub struct Domains<M: Machine> {
    table: machine::sync::SharedLock<Vec<Arc<Domain<M>>>>,
    next_id: Lock<u16>,
    /// Frames set aside for all domains together; whoever changes a domain's `claimed` holds this.
    pub claims: Lock<u64>,
    /// Every domain that lives, for audits.
    #[cfg(any(test, feature = "testing", debug_assertions))]
    pub(crate) registry: crate::audit::Registry<M>,
}

impl<M: Machine> Default for Domains<M> {
    fn default() -> Self {
        Domains {
            table: machine::sync::SharedLock::new(Vec::new()),
            next_id: Lock::new(1),
            claims: Lock::new(0),
            #[cfg(any(test, feature = "testing", debug_assertions))]
            registry: crate::audit::Registry::default(),
        }
    }
}

impl<M: Machine> Domains<M> {
    /// The domain of that number. Dying ones are found until their end.
    pub fn get(&self, id: DomainId) -> Option<Arc<Domain<M>>> {
        let table = self.table.read();
        let index = table.binary_search_by_key(&id.0, |domain| domain.id.0).ok()?;
        table.get(index).cloned()
    }

    /// The first domain whose number is at least `id`.
    pub fn at_or_after(&self, id: DomainId) -> Option<Arc<Domain<M>>> {
        let table = self.table.read();
        let index = table.partition_point(|domain| domain.id.0 < id.0);
        table.get(index).cloned()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table.read().len()
    }

    /// How many vCPUs they have together.
    pub fn vcpus(&self) -> usize {
        let table = self.table.read();
        table
            .iter()
            .fold(0, |sum: usize, domain| sum.saturating_add(domain.vcpus.len()))
    }

    /// Enter a domain.
    ///
    /// # Errors
    /// EEXIST when the number is taken, ENOMEM when the table cannot grow.
    pub fn insert(&self, domain: Arc<Domain<M>>) -> Result<(), Error> {
        #[cfg(any(test, feature = "testing", debug_assertions))]
        self.registry.note(&domain);
        let mut table = self.table.write();
        match table.binary_search_by_key(&domain.id.0, |other| other.id.0) {
            Ok(_) => Err(Error::EEXIST),
            Err(index) => {
                table.try_reserve(1).map_err(|_| Error::ENOMEM)?;
                table.insert(index, domain);
                Ok(())
            }
        }
    }

    /// Strike a domain from the table; it goes when the last handle goes.
    pub fn remove(&self, id: DomainId) {
        let removed = {
            let mut table = self.table.write();
            match table.binary_search_by_key(&id.0, |domain| domain.id.0) {
                Ok(index) => Some(table.remove(index)),
                Err(_) => None,
            }
        };
        // Dropped outside the lock: a domain's last drop frees much.
        drop(removed);
    }

    /// A number that no domain has, the one after the last given first, so that numbers are not reused soon.
    pub fn unused_id(&self) -> Option<DomainId> {
        let mut next = self.next_id.lock();
        let table = self.table.read();
        for _ in 0..u32::from(DomainId::FIRST_RESERVED.0) {
            let candidate = *next;
            let following = candidate.saturating_add(1);
            *next = if following >= DomainId::FIRST_RESERVED.0 {
                1
            } else {
                following
            };
            if table
                .binary_search_by_key(&candidate, |domain| domain.id.0)
                .is_err()
            {
                return Some(DomainId(candidate));
            }
        }
        None
    }
}
