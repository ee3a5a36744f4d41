//! The machine as a whole: its memory, its domains, the hypervisor's log and version.

use crate::buffer::{Arguments, zeroed};
use crate::domain::{CpuPolicy, DomainInfo};
use crate::error::Result;
use crate::hypervisor::Hypervisor;
use crate::{DomainId, PAGE_SIZE};
use hypercall_abi::GuestHandle;
use hypercall_abi::domctl::DomainInfo as RawDomainInfo;
use hypercall_abi::hypercall::number;
use hypercall_abi::sysctl::{self, GetDomainInfoList, ReadConsole, Sysctl, op, physical_capability, policy};
use hypercall_abi::version;
use hypercall_abi::xen::{CpuidLeaf, MsrEntry};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of arguments that a sysctl's own structure takes.
pub(crate) const SYSCTL_ROOM: usize = Arguments::room_for::<Sysctl>(1);
/// Domains asked for in one call.
const DOMAINS_PER_CALL: usize = 64;

/// The machine's resources.
#[doc(alias = "xen_sysctl_physinfo")]
#[derive(Clone, Debug)]
pub struct PhysicalInfo {
    /// Processors online.
    pub cpus: u32,
    /// Processor clock.
    pub cpu_khz: u32,
    /// Pages of memory.
    pub total_pages: u64,
    /// Pages nobody uses.
    pub free_pages: u64,
    /// Free pages still to be cleaned.
    pub scrub_pages: u64,
    /// Pages promised to domains and not yet given.
    pub outstanding_pages: u64,
    /// Hardware-assisted guests with nested paging are possible.
    pub hap: bool,
}

/// Who answers our hypercalls.
#[derive(Clone, Debug)]
pub struct Version {
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// What follows the numbers.
    pub extra: String,
    /// Guest types, separated by blanks.
    pub capabilities: String,
    /// The command line it was started with.
    pub command_line: String,
}

impl Hypervisor {
    /// The machine's resources.
    #[doc(alias = "XEN_SYSCTL_physinfo")]
    pub fn physical_info(&self) -> Result<PhysicalInfo> {
        let mut info = sysctl::PhysicalInfo::default();
        self.with_arguments(SYSCTL_ROOM, |arguments| {
            // SAFETY: the structure is this command's and holds no addresses.
            unsafe { self.sysctl("get physical info", op::PHYSICAL_INFO, &mut info, arguments) }
        })?;
        Ok(PhysicalInfo {
            cpus: info.number_of_cpus,
            cpu_khz: info.cpu_khz,
            total_pages: info.total_pages,
            free_pages: info.free_pages,
            scrub_pages: info.scrub_pages,
            outstanding_pages: info.outstanding_pages,
            hap: info.capabilities & physical_capability::HAP != 0,
        })
    }

    /// All domains, in the order of their numbers.
    #[doc(alias = "XEN_SYSCTL_getdomaininfolist")]
    pub fn domains(&self) -> Result<Vec<DomainInfo>> {
        let mut all = Vec::new();
        let mut first = DomainId::CONTROL;
        loop {
            let batch = self.domains_from(first)?;
            let Some(last) = batch.last().map(|info: &DomainInfo| info.domain) else {
                return Ok(all);
            };
            let complete = batch.len() < DOMAINS_PER_CALL;
            all.extend(batch);
            if complete {
                return Ok(all);
            }
            first = DomainId(last.0 + 1);
        }
    }

    fn domains_from(&self, first: DomainId) -> Result<Vec<DomainInfo>> {
        let mut infos: Vec<RawDomainInfo> = zeroed(DOMAINS_PER_CALL);
        let room = Arguments::room_for::<RawDomainInfo>(infos.len()) + SYSCTL_ROOM;
        self.with_arguments(room, |arguments| {
            let buffer = arguments.place(infos.as_slice());
            let mut list = GetDomainInfoList {
                first_domain: first,
                max_domains: infos.len() as u32,
                buffer: GuestHandle::new(buffer.address),
                ..Default::default()
            };
            // SAFETY: the structure is this command's; the buffer has room for `max_domains` entries.
            unsafe { self.sysctl("list domains", op::GET_DOMAIN_INFO_LIST, &mut list, arguments) }?;
            arguments.get_slice(buffer, &mut infos);
            infos.truncate(list.number_of_domains as usize);
            Ok(())
        })?;
        Ok(infos.into_iter().map(DomainInfo::from).collect())
    }

    /// The hypervisor's log, as far as its ring remembers it.
    #[doc(alias = "XEN_SYSCTL_readconsole")]
    pub fn read_log(&self, clear: bool) -> Result<Vec<u8>> {
        let mut log = vec![0_u8; 256 * 1024];
        self.with_arguments(Arguments::room_for::<u8>(log.len()) + SYSCTL_ROOM, |arguments| {
            let buffer = arguments.place(log.as_slice());
            let mut request = ReadConsole {
                clear: clear.into(),
                buffer: GuestHandle::new(buffer.address),
                count: log.len() as u32,
                ..Default::default()
            };
            // SAFETY: the structure is this command's; the buffer has room for `count` bytes.
            unsafe { self.sysctl("read hypervisor log", op::READ_CONSOLE, &mut request, arguments) }?;
            log.truncate(request.count as usize);
            arguments.get_slice(buffer, &mut log);
            Ok(())
        })?;
        Ok(log)
    }

    /// What a hardware-assisted guest is told about its processor unless somebody decides otherwise.
    #[doc(alias = "XEN_SYSCTL_get_cpu_policy")]
    pub fn default_cpu_policy(&self) -> Result<CpuPolicy> {
        let operation = "get CPU policy";
        let mut request = sysctl::CpuPolicy {
            index: policy::HVM_DEFAULT,
            ..Default::default()
        };
        self.with_arguments(SYSCTL_ROOM, |arguments| {
            // SAFETY: the structure is this command's; without buffers it only learns the counts.
            unsafe { self.sysctl(operation, op::GET_CPU_POLICY, &mut request, arguments) }
        })?;
        let mut leaves: Vec<CpuidLeaf> = zeroed(request.number_of_leaves as usize);
        let mut registers: Vec<MsrEntry> = zeroed(request.number_of_msrs as usize);
        let room = Arguments::room_for::<CpuidLeaf>(leaves.len())
            + Arguments::room_for::<MsrEntry>(registers.len())
            + SYSCTL_ROOM;
        self.with_arguments(room, |arguments| {
            let placed_leaves = arguments.place(leaves.as_slice());
            let placed_registers = arguments.place(registers.as_slice());
            request.leaves = GuestHandle::new(placed_leaves.address);
            request.msrs = GuestHandle::new(placed_registers.address);
            // SAFETY: the structure is this command's; both buffers have room for the counts given.
            unsafe { self.sysctl(operation, op::GET_CPU_POLICY, &mut request, arguments) }?;
            leaves.truncate(request.number_of_leaves as usize);
            registers.truncate(request.number_of_msrs as usize);
            arguments.get_slice(placed_leaves, &mut leaves);
            arguments.get_slice(placed_registers, &mut registers);
            Ok(())
        })?;
        Ok(CpuPolicy { leaves, registers })
    }

    /// Who answers our hypercalls.
    #[doc(alias = "XENVER_version")]
    pub fn version(&self) -> Result<Version> {
        // SAFETY: sub-operation 0 takes no structure.
        let running = unsafe {
            self.call(
                "get version",
                number::XEN_VERSION,
                &[version::op::VERSION.into(), 0],
            )
        }?;
        Ok(Version {
            major: running >> 16,
            minor: running & 0xffff,
            extra: self.version_text::<{ version::EXTRA_VERSION_LENGTH }>(version::op::EXTRA_VERSION)?,
            capabilities: self.version_text::<{ version::CAPABILITIES_LENGTH }>(version::op::CAPABILITIES)?,
            command_line: self.version_text::<{ version::COMMAND_LINE_LENGTH }>(version::op::COMMAND_LINE)?,
        })
    }

    fn version_text<const SIZE: usize>(&self, command: u32) -> Result<String> {
        self.with_arguments(PAGE_SIZE, |arguments| {
            let placed = arguments.place(&[0_u8; SIZE]);
            // SAFETY: these sub-operations fill an array of SIZE bytes.
            unsafe {
                self.call(
                    "get version",
                    number::XEN_VERSION,
                    &[command.into(), placed.address],
                )
            }?;
            let bytes = arguments.get(placed);
            let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            Ok(String::from_utf8_lossy(text).trim().to_owned())
        })
    }

    /// # Safety
    /// `payload` is the structure of this command, and addresses in it are as [`Self::call`] demands.
    pub(crate) unsafe fn sysctl<T: FromBytes + IntoBytes + Immutable>(
        &self,
        operation: &'static str,
        command: u32,
        payload: &mut T,
        arguments: &mut Arguments,
    ) -> Result<()> {
        let mut call = Sysctl::new(command);
        call.set_view(payload);
        let placed = arguments.place(&call);
        // SAFETY: a sysctl takes one structure of this size; the caller vouches for what it says.
        unsafe { self.call(operation, number::SYSCTL, &[placed.address]) }?;
        *payload = arguments.get(placed).view();
        Ok(())
    }
}
