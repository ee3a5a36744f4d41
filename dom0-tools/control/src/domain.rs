//! Making, asking about and ending domains.

use crate::DomainId;
use crate::buffer::Arguments;
use crate::error::Result;
use crate::hypervisor::Hypervisor;
use hypercall_abi::GuestHandle;
use hypercall_abi::domctl::{
    self, CreateDomain, Domctl, HvmContext, MaxMemory, MaxVcpus, PagingMempool, TscInfo, create_flag,
    info_flag, op,
};
use hypercall_abi::hypercall::number;
use hypercall_abi::sched::shutdown;
use hypercall_abi::xen::{ArchDomainConfig, CpuidLeaf, MsrEntry, emulation};
use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The newest layout of grant entries that a guest may choose, as Xen's tools allow.
const GRANT_VERSION_MAX: u32 = 2;

/// What a new domain is given at creation.
#[derive(Clone, Debug)]
pub struct NewDomain {
    /// The UUID.
    pub handle: [u8; 16],
    /// Virtual CPUs it may ever have.
    pub max_vcpus: u32,
    /// Highest event channel port.
    pub max_event_port: u32,
    /// The CPU pool it runs in.
    pub pool: u32,
}

/// Why a domain shut down.
#[doc(alias = "SHUTDOWN_poweroff")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// Powered off in an orderly way.
    PowerOff,
    /// Asks to be started again.
    Reboot,
    /// Suspended itself, to be resumed or restored elsewhere.
    Suspend,
    /// Crashed: its kernel said so, or the hypervisor stopped it.
    Crash,
    /// Its own watchdog expired.
    Watchdog,
    /// Asks for its toolstack state to be reset.
    SoftReset,
    /// A number this version does not know.
    Other(u8),
}

impl ShutdownReason {
    fn from_code(code: u32) -> Self {
        match code {
            shutdown::POWEROFF => Self::PowerOff,
            shutdown::REBOOT => Self::Reboot,
            shutdown::SUSPEND => Self::Suspend,
            shutdown::CRASH => Self::Crash,
            shutdown::WATCHDOG => Self::Watchdog,
            shutdown::SOFT_RESET => Self::SoftReset,
            other => Self::Other(other as u8),
        }
    }
}

/// A domain's state at one moment.
#[doc(alias = "xen_domctl_getdomaininfo")]
#[derive(Clone, Debug)]
pub struct DomainInfo {
    /// Its number.
    pub domain: DomainId,
    /// Being torn down; some of its memory may still be in use by others.
    pub dying: bool,
    /// Stopped for good, and why.
    pub shutdown: Option<ShutdownReason>,
    /// Paused by a tool.
    pub paused: bool,
    /// All virtual CPUs wait for events.
    pub blocked: bool,
    /// Some virtual CPU is on a processor right now.
    pub running: bool,
    /// Hardware-assisted (PVH or HVM).
    pub hvm: bool,
    /// Pages it holds.
    pub total_pages: u64,
    /// Pages it may hold.
    pub max_pages: u64,
    /// Frame of its shared info page.
    pub shared_info_frame: u64,
    /// Nanoseconds of processor time used.
    pub cpu_time: u64,
    /// Virtual CPUs that are up.
    pub online_vcpus: u32,
    /// Highest virtual CPU number, if it has any.
    pub max_vcpu_id: Option<u32>,
    /// The UUID.
    pub handle: [u8; 16],
    /// The CPU pool it runs in.
    pub pool: u32,
}

impl From<domctl::DomainInfo> for DomainInfo {
    fn from(info: domctl::DomainInfo) -> Self {
        let flag = |flag: u32| info.flags & flag != 0;
        Self {
            domain: info.domain,
            dying: flag(info_flag::DYING),
            hvm: flag(info_flag::HVM_GUEST),
            shutdown: info.shutdown_reason().map(ShutdownReason::from_code),
            paused: flag(info_flag::PAUSED),
            blocked: flag(info_flag::BLOCKED),
            running: flag(info_flag::RUNNING),
            total_pages: info.total_pages,
            max_pages: info.max_pages,
            shared_info_frame: info.shared_info_frame,
            cpu_time: info.cpu_time,
            online_vcpus: info.number_of_online_vcpus,
            max_vcpu_id: (info.max_vcpu_id != domctl::INVALID_MAX_VCPU_ID).then_some(info.max_vcpu_id),
            handle: info.handle,
            pool: info.cpupool,
        }
    }
}

/// What a guest is told about its processor.
#[derive(Clone, Debug, Default)]
pub struct CpuPolicy {
    /// CPUID.
    pub leaves: Vec<CpuidLeaf>,
    /// Registers that belong to it.
    pub registers: Vec<MsrEntry>,
}

impl Hypervisor {
    /// Creates an empty, paused PVH domain and returns its number.
    #[doc(alias = "XEN_DOMCTL_createdomain")]
    pub fn create_domain(&self, new: &NewDomain) -> Result<DomainId> {
        let mut request = CreateDomain {
            handle: new.handle,
            flags: create_flag::HVM | create_flag::HAP,
            max_vcpus: new.max_vcpus,
            max_event_channel_port: new.max_event_port,
            cpupool_id: new.pool,
            // The hypervisor's defaults.
            max_grant_frames: -1,
            max_maptrack_frames: -1,
            grant_options: GRANT_VERSION_MAX,
            // A local APIC and no other emulated device: what makes a PVH guest.
            arch: ArchDomainConfig {
                emulation_flags: emulation::LAPIC,
                misc_flags: 0,
            },
            ..CreateDomain::default()
        };
        // SAFETY: the structure is this command's and holds no addresses.
        unsafe {
            self.domctl(
                "create domain",
                op::CREATE_DOMAIN,
                DomainId(u16::MAX),
                &mut request,
            )
        }
    }

    /// Destroys a domain. Returns when its memory is freed, except for pages that others still have mapped.
    #[doc(alias = "XEN_DOMCTL_destroydomain")]
    pub fn destroy_domain(&self, domain: DomainId) -> Result<()> {
        self.command("destroy domain", op::DESTROY_DOMAIN, domain)
    }

    /// Stops a domain from running, until [`unpause_domain`](Self::unpause_domain).
    #[doc(alias = "XEN_DOMCTL_pausedomain")]
    pub fn pause_domain(&self, domain: DomainId) -> Result<()> {
        self.command("pause domain", op::PAUSE_DOMAIN, domain)
    }

    /// Lets a domain run.
    #[doc(alias = "XEN_DOMCTL_unpausedomain")]
    pub fn unpause_domain(&self, domain: DomainId) -> Result<()> {
        self.command("unpause domain", op::UNPAUSE_DOMAIN, domain)
    }

    /// The state of this domain; nothing when there is none with this number.
    #[doc(alias = "XEN_DOMCTL_getdomaininfo")]
    pub fn domain_info(&self, domain: DomainId) -> Result<Option<DomainInfo>> {
        Ok(self
            .domain_info_from(domain)?
            .filter(|info| info.domain == domain))
    }

    /// The state of the first domain whose number is at least this one: how to walk through all.
    pub fn domain_info_from(&self, domain: DomainId) -> Result<Option<DomainInfo>> {
        let mut reply = domctl::DomainInfo::default();
        // SAFETY: the structure is this command's and holds no addresses.
        match unsafe { self.domctl("get domain info", op::GET_DOMAIN_INFO, domain, &mut reply) } {
            Ok(_) => Ok(Some(reply.into())),
            Err(error) if error.errno == Errno::SRCH => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Limits a domain's memory.
    #[doc(alias = "XEN_DOMCTL_max_mem")]
    pub fn set_max_memory(&self, domain: DomainId, kib: u64) -> Result<()> {
        // SAFETY: the structure is this command's and holds no addresses.
        unsafe {
            self.domctl(
                "set maximum memory",
                op::MAX_MEMORY,
                domain,
                &mut MaxMemory { kibibytes: kib },
            )
        }
        .map(drop)
    }

    /// Gives a domain its virtual CPUs, as many as it was created for.
    #[doc(alias = "XEN_DOMCTL_max_vcpus")]
    pub fn set_max_vcpus(&self, domain: DomainId, count: u32) -> Result<()> {
        // SAFETY: the structure is this command's and holds no addresses.
        unsafe {
            self.domctl(
                "allocate virtual CPUs",
                op::MAX_VCPUS,
                domain,
                &mut MaxVcpus { max: count },
            )
        }
        .map(drop)
    }

    /// Sets aside memory for a domain's nested page tables.
    #[doc(alias = "XEN_DOMCTL_set_paging_mempool_size")]
    pub fn set_paging_pool(&self, domain: DomainId, bytes: u64) -> Result<()> {
        // SAFETY: the structure is this command's and holds no addresses.
        unsafe {
            self.domctl(
                "set paging pool size",
                op::SET_PAGING_MEMPOOL_SIZE,
                domain,
                &mut PagingMempool { bytes },
            )
        }
        .map(drop)
    }

    /// Lets the hypervisor choose how a domain sees the time-stamp counter.
    #[doc(alias = "XEN_DOMCTL_settscinfo")]
    pub fn set_default_tsc(&self, domain: DomainId) -> Result<()> {
        let mut request = TscInfo::default();
        // SAFETY: the structure is this command's and holds no addresses.
        unsafe { self.domctl("set TSC mode", op::SET_TSC_INFO, domain, &mut request) }.map(drop)
    }

    /// Says what a domain sees of its processor. Leaves not named keep the hypervisor's default.
    #[doc(alias = "XEN_DOMCTL_set_cpu_policy")]
    pub fn set_cpu_policy(&self, domain: DomainId, policy: &CpuPolicy) -> Result<()> {
        let room = Arguments::room_for::<CpuidLeaf>(policy.leaves.len())
            + Arguments::room_for::<MsrEntry>(policy.registers.len())
            + DOMCTL_ROOM;
        self.with_arguments(room, |arguments| {
            let leaves = arguments.place(policy.leaves.as_slice());
            let registers = arguments.place(policy.registers.as_slice());
            let mut request = domctl::CpuPolicy {
                number_of_leaves: policy.leaves.len() as u32,
                number_of_msrs: policy.registers.len() as u32,
                leaves: GuestHandle::new(leaves.address),
                msrs: GuestHandle::new(registers.address),
                ..Default::default()
            };
            // SAFETY: the structure is this command's; both arrays are placed and have the counts given.
            unsafe {
                self.domctl_with(
                    "set CPU policy",
                    op::SET_CPU_POLICY,
                    domain,
                    &mut request,
                    arguments,
                )
            }
        })
        .map(drop)
    }

    /// The saved state of a domain's virtual hardware, as a sequence of typed records.
    #[doc(alias = "XEN_DOMCTL_gethvmcontext")]
    pub fn hvm_context(&self, domain: DomainId) -> Result<Vec<u8>> {
        let operation = "get HVM context";
        let mut request = HvmContext::default();
        // SAFETY: the structure is this command's; without a buffer it only learns the size.
        unsafe { self.domctl(operation, op::GET_HVM_CONTEXT, domain, &mut request) }?;
        let mut context = vec![0_u8; request.size as usize];
        self.with_arguments(
            Arguments::room_for::<u8>(context.len()) + DOMCTL_ROOM,
            |arguments| {
                let placed = arguments.place(context.as_slice());
                request.buffer = GuestHandle::new(placed.address);
                // SAFETY: the structure is this command's; the buffer is placed and has the size given.
                unsafe { self.domctl_with(operation, op::GET_HVM_CONTEXT, domain, &mut request, arguments) }?;
                context.truncate(request.size as usize);
                arguments.get_slice(placed, &mut context);
                Ok(())
            },
        )?;
        Ok(context)
    }

    /// Loads records of virtual hardware state; what is not named is left alone.
    #[doc(alias = "XEN_DOMCTL_sethvmcontext")]
    pub fn set_hvm_context(&self, domain: DomainId, records: &[u8]) -> Result<()> {
        self.with_arguments(
            Arguments::room_for::<u8>(records.len()) + DOMCTL_ROOM,
            |arguments| {
                let placed = arguments.place(records);
                let buffer = GuestHandle::new(placed.address);
                let mut request = HvmContext {
                    size: records.len() as u32,
                    buffer,
                    ..Default::default()
                };
                // SAFETY: the structure is this command's; the buffer is placed and has the size given.
                unsafe {
                    self.domctl_with(
                        "set HVM context",
                        op::SET_HVM_CONTEXT,
                        domain,
                        &mut request,
                        arguments,
                    )
                }
            },
        )
        .map(drop)
    }

    fn command(&self, operation: &'static str, command: u32, domain: DomainId) -> Result<()> {
        // SAFETY: these commands take no structure.
        unsafe { self.domctl(operation, command, domain, &mut 0_u64) }.map(drop)
    }

    /// # Safety
    /// `payload` is the structure of this command, and addresses in it are as [`Self::call`] demands.
    pub(crate) unsafe fn domctl<T>(
        &self,
        operation: &'static str,
        command: u32,
        domain: DomainId,
        payload: &mut T,
    ) -> Result<DomainId>
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        self.with_arguments(DOMCTL_ROOM, |arguments| {
            // SAFETY: the caller's promise is the same.
            unsafe { self.domctl_with(operation, command, domain, payload, arguments) }
        })
    }

    /// As [`Self::domctl`], with arguments that hold already what the payload points to.
    ///
    /// # Safety
    /// As for [`Self::domctl`].
    pub(crate) unsafe fn domctl_with<T: FromBytes + IntoBytes + Immutable>(
        &self,
        operation: &'static str,
        command: u32,
        domain: DomainId,
        payload: &mut T,
        arguments: &mut Arguments,
    ) -> Result<DomainId> {
        let mut call = Domctl::new(command, domain);
        call.set_view(payload);
        let placed = arguments.place(&call);
        // SAFETY: a domctl takes one structure of this size; the caller vouches for what it says.
        unsafe { self.call(operation, number::DOMCTL, &[placed.address]) }?;
        let call = arguments.get(placed);
        *payload = call.view();
        Ok(call.domain)
    }
}

/// Bytes of arguments that a domctl's own structure takes.
pub(crate) const DOMCTL_ROOM: usize = Arguments::room_for::<Domctl>(1);
