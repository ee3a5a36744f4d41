//! Making, asking about and ending domains.

use crate::DomainId;
use crate::buffer::Arguments;
use crate::error::{Error, Result};
use crate::hypervisor::{Hypervisor, Number};
use crate::layout::{CreateDomain, GetDomainInfo, HvmContext, SetCpuPolicy, TscInfo};
use rustix::io::Errno;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The interface of Xen 4.17.
const INTERFACE_VERSION: u32 = 0x15;
const CREATE: u32 = 1;
const DESTROY: u32 = 2;
const PAUSE: u32 = 3;
const UNPAUSE: u32 = 4;
const GET_INFO: u32 = 5;
const MAX_MEMORY: u32 = 11;
const MAX_VCPUS: u32 = 15;
const GET_HVM_CONTEXT: u32 = 33;
const SET_HVM_CONTEXT: u32 = 34;
const SET_TSC_INFO: u32 = 60;
const SET_CPU_POLICY: u32 = 83;
const SET_PAGING_POOL: u32 = 86;

/// Hardware-assisted guest, with nested paging.
const FLAGS_HVM_HAP: u32 = 3;
/// A local APIC and no other emulated device: what makes a PVH guest.
const EMULATE_LOCAL_APIC: u32 = 1;

/// What a new domain is given at creation.
#[derive(Clone, Debug)]
pub struct NewDomain {
    /// The UUID.
    pub handle: [u8; 16],
    /// Virtual CPUs it may ever have.
    pub max_vcpus: u32,
    /// Highest event channel port.
    pub max_event_port: u32,
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
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::PowerOff,
            1 => Self::Reboot,
            2 => Self::Suspend,
            3 => Self::Crash,
            4 => Self::Watchdog,
            5 => Self::SoftReset,
            other => Self::Other(other),
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
}

impl From<GetDomainInfo> for DomainInfo {
    fn from(info: GetDomainInfo) -> Self {
        let flag = |bit: u32| info.flags & 1 << bit != 0;
        Self {
            domain: DomainId(info.domain),
            dying: flag(0),
            hvm: flag(1),
            shutdown: flag(2).then(|| ShutdownReason::from_code((info.flags >> 16) as u8)),
            paused: flag(3),
            blocked: flag(4),
            running: flag(5),
            total_pages: info.total_pages,
            max_pages: info.max_pages,
            shared_info_frame: info.shared_info_frame,
            cpu_time: info.cpu_time,
            online_vcpus: info.online_vcpus,
            max_vcpu_id: (info.max_vcpu_id != u32::MAX).then_some(info.max_vcpu_id),
            handle: info.handle,
        }
    }
}

/// One CPUID leaf as a guest sees it.
#[doc(alias = "xen_cpuid_leaf_t")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuidLeaf {
    /// The leaf (EAX on entry).
    pub leaf: u32,
    /// The sub-leaf (ECX on entry), or all ones where there are none.
    pub subleaf: u32,
    /// EAX on return.
    pub a: u32,
    /// EBX on return.
    pub b: u32,
    /// ECX on return.
    pub c: u32,
    /// EDX on return.
    pub d: u32,
}

/// One model-specific register of a policy.
#[doc(alias = "xen_msr_entry_t")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MsrEntry {
    /// Which register.
    pub index: u32,
    /// Zero.
    pub flags: u32,
    /// Its value.
    pub value: u64,
}

/// What a guest is told about its processor.
#[derive(Clone, Debug, Default)]
pub struct CpuPolicy {
    /// CPUID.
    pub leaves: Vec<CpuidLeaf>,
    /// Registers that belong to it.
    pub registers: Vec<MsrEntry>,
}

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    command: u32,
    interface_version: u32,
    domain: u16,
    pad: [u16; 3],
}

const UNION_SIZE: usize = 128;

impl Hypervisor {
    /// Creates an empty, paused PVH domain and returns its number.
    #[doc(alias = "XEN_DOMCTL_createdomain")]
    pub fn create_domain(&self, new: &NewDomain) -> Result<DomainId> {
        let mut request = CreateDomain {
            handle: new.handle,
            flags: FLAGS_HVM_HAP,
            max_vcpus: new.max_vcpus,
            max_event_port: new.max_event_port,
            max_grant_frames: -1,
            max_maptrack_frames: -1,
            grant_options: 2,
            emulation_flags: EMULATE_LOCAL_APIC,
            ..FromZeros::new_zeroed()
        };
        // SAFETY: the structure is this command's and holds no addresses.
        unsafe { self.domctl("create domain", CREATE, DomainId(u16::MAX), &mut request) }
    }

    /// Destroys a domain. Returns when its memory is freed, except for pages that others still have mapped.
    #[doc(alias = "XEN_DOMCTL_destroydomain")]
    pub fn destroy_domain(&self, domain: DomainId) -> Result<()> {
        self.command("destroy domain", DESTROY, domain)
    }

    /// Stops a domain from running, until [`unpause_domain`](Self::unpause_domain).
    #[doc(alias = "XEN_DOMCTL_pausedomain")]
    pub fn pause_domain(&self, domain: DomainId) -> Result<()> {
        self.command("pause domain", PAUSE, domain)
    }

    /// Lets a domain run.
    #[doc(alias = "XEN_DOMCTL_unpausedomain")]
    pub fn unpause_domain(&self, domain: DomainId) -> Result<()> {
        self.command("unpause domain", UNPAUSE, domain)
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
        let mut reply: GetDomainInfo = FromZeros::new_zeroed();
        // SAFETY: the structure is this command's and holds no addresses.
        match unsafe { self.domctl("get domain info", GET_INFO, domain, &mut reply) } {
            Ok(_) => Ok(Some(reply.into())),
            Err(error) if error.errno == Errno::SRCH => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Limits a domain's memory.
    #[doc(alias = "XEN_DOMCTL_max_mem")]
    pub fn set_max_memory(&self, domain: DomainId, kib: u64) -> Result<()> {
        // SAFETY: the structure is this command's one 64-bit word.
        unsafe { self.domctl("set maximum memory", MAX_MEMORY, domain, &mut { kib }) }.map(drop)
    }

    /// Gives a domain its virtual CPUs, as many as it was created for.
    #[doc(alias = "XEN_DOMCTL_max_vcpus")]
    pub fn set_max_vcpus(&self, domain: DomainId, count: u32) -> Result<()> {
        // SAFETY: the structure is this command's one 32-bit word.
        unsafe { self.domctl("allocate virtual CPUs", MAX_VCPUS, domain, &mut { count }) }.map(drop)
    }

    /// Sets aside memory for a domain's nested page tables.
    #[doc(alias = "XEN_DOMCTL_set_paging_mempool_size")]
    pub fn set_paging_pool(&self, domain: DomainId, bytes: u64) -> Result<()> {
        // SAFETY: the structure is this command's one 64-bit word.
        unsafe { self.domctl("set paging pool size", SET_PAGING_POOL, domain, &mut { bytes }) }.map(drop)
    }

    /// Lets the hypervisor choose how a domain sees the time-stamp counter.
    #[doc(alias = "XEN_DOMCTL_settscinfo")]
    pub fn set_default_tsc(&self, domain: DomainId) -> Result<()> {
        let mut request: TscInfo = FromZeros::new_zeroed();
        // SAFETY: the structure is this command's and holds no addresses.
        unsafe { self.domctl("set TSC mode", SET_TSC_INFO, domain, &mut request) }.map(drop)
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
            let mut request = SetCpuPolicy {
                leaves_count: policy.leaves.len() as u32,
                msrs_count: policy.registers.len() as u32,
                leaves: leaves.address,
                msrs: registers.address,
                ..FromZeros::new_zeroed()
            };
            // SAFETY: the structure is this command's; both arrays are placed and have the counts given.
            unsafe { self.domctl_with("set CPU policy", SET_CPU_POLICY, domain, &mut request, arguments) }
        })
        .map(drop)
    }

    /// The saved state of a domain's virtual hardware, as a sequence of typed records.
    #[doc(alias = "XEN_DOMCTL_gethvmcontext")]
    pub fn hvm_context(&self, domain: DomainId) -> Result<Vec<u8>> {
        let operation = "get HVM context";
        let mut request = HvmContext {
            size: 0,
            pad: 0,
            buffer: 0,
        };
        // SAFETY: the structure is this command's; without a buffer it only learns the size.
        unsafe { self.domctl(operation, GET_HVM_CONTEXT, domain, &mut request) }?;
        let mut context = vec![0_u8; request.size as usize];
        self.with_arguments(
            Arguments::room_for::<u8>(context.len()) + DOMCTL_ROOM,
            |arguments| {
                let placed = arguments.place(context.as_slice());
                request.buffer = placed.address;
                // SAFETY: the structure is this command's; the buffer is placed and has the size given.
                unsafe { self.domctl_with(operation, GET_HVM_CONTEXT, domain, &mut request, arguments) }?;
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
                let mut request = HvmContext {
                    size: records.len() as u32,
                    pad: 0,
                    buffer: placed.address,
                };
                // SAFETY: the structure is this command's; the buffer is placed and has the size given.
                unsafe {
                    self.domctl_with(
                        "set HVM context",
                        SET_HVM_CONTEXT,
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
    unsafe fn domctl<T>(
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
    unsafe fn domctl_with<T: FromBytes + IntoBytes + Immutable>(
        &self,
        operation: &'static str,
        command: u32,
        domain: DomainId,
        payload: &mut T,
        arguments: &mut Arguments,
    ) -> Result<DomainId> {
        let header = Header {
            command,
            interface_version: INTERFACE_VERSION,
            domain: domain.0,
            pad: [0; 3],
        };
        let mut bytes = [0_u8; size_of::<Header>() + UNION_SIZE];
        bytes[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        let union = &mut bytes[size_of::<Header>()..];
        union[..size_of::<T>()].copy_from_slice(payload.as_bytes());
        let placed = arguments.place(&bytes);
        // SAFETY: a domctl takes one structure of this size; the caller vouches for what it says.
        unsafe { self.call(operation, Number::Domctl, &[placed.address]) }?;
        let bytes = arguments.get(placed);
        let (header, rest) = Header::read_from_prefix(&bytes).expect("the size is a constant");
        let (reply, _) = T::read_from_prefix(rest).map_err(|_| Error::new(operation, Errno::INVAL))?;
        *payload = reply;
        Ok(DomainId(header.domain))
    }
}

const DOMCTL_ROOM: usize = size_of::<Header>() + UNION_SIZE + 16;
