//! A domain's virtual CPUs: what each is doing, and where it may run.

use crate::DomainId;
use crate::cpu_set::{CpuSet, PlacedSet, SET_ROOM};
use crate::domain::DOMCTL_ROOM;
use crate::error::Result;
use crate::hypervisor::Hypervisor;
use hypercall_abi::domctl::{self, VcpuAffinity, affinity_flag, op};

/// What a virtual CPU is doing.
#[doc(alias = "xen_domctl_getvcpuinfo")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuInfo {
    /// Its number.
    pub vcpu: u32,
    /// Its guest has brought it up.
    pub online: bool,
    /// It waits for an event.
    pub blocked: bool,
    /// It is on a processor right now.
    pub running: bool,
    /// Nanoseconds of processor time used.
    pub cpu_time: u64,
    /// The processor it runs on, or ran on last.
    pub cpu: u32,
}

/// Where a virtual CPU may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// Nowhere else.
    pub hard: CpuSet,
    /// Preferably.
    pub soft: CpuSet,
}

impl Hypervisor {
    /// What a virtual CPU is doing; nothing when there is none of this number.
    #[doc(alias = "XEN_DOMCTL_getvcpuinfo")]
    pub fn vcpu_info(&self, domain: DomainId, vcpu: u32) -> Result<Option<VcpuInfo>> {
        let mut request = domctl::VcpuInfo {
            vcpu,
            ..Default::default()
        };
        // SAFETY: the structure is this command's and holds no addresses.
        match unsafe { self.domctl("get virtual CPU info", op::GET_VCPU_INFO, domain, &mut request) } {
            Ok(_) => Ok(Some(VcpuInfo {
                vcpu,
                online: request.online != 0,
                blocked: request.blocked != 0,
                running: request.running != 0,
                cpu_time: request.cpu_time,
                cpu: request.cpu,
            })),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where a virtual CPU may run, as it was set.
    #[doc(alias = "XEN_DOMCTL_getvcpuaffinity")]
    pub fn vcpu_affinity(&self, domain: DomainId, vcpu: u32) -> Result<Affinity> {
        let flags = affinity_flag::HARD | affinity_flag::SOFT;
        let none = CpuSet::new();
        let command = op::GET_VCPU_AFFINITY;
        self.affinity_call("get affinity", command, (domain, vcpu), flags, [&none, &none])
    }

    /// Says where a virtual CPU may run; what is nothing stays. Answers what took effect of what was set: the processors among those that
    /// are in the domain's pool.
    #[doc(alias = "XEN_DOMCTL_setvcpuaffinity")]
    pub fn set_vcpu_affinity(
        &self,
        domain: DomainId,
        vcpu: u32,
        hard: Option<&CpuSet>,
        soft: Option<&CpuSet>,
    ) -> Result<Affinity> {
        let flag = |set: Option<&CpuSet>, flag| if set.is_some() { flag } else { 0 };
        let flags = flag(hard, affinity_flag::HARD) | flag(soft, affinity_flag::SOFT);
        let none = CpuSet::new();
        let sets = [hard.unwrap_or(&none), soft.unwrap_or(&none)];
        self.affinity_call("set affinity", op::SET_VCPU_AFFINITY, (domain, vcpu), flags, sets)
    }

    fn affinity_call(
        &self,
        operation: &'static str,
        command: u32,
        (domain, vcpu): (DomainId, u32),
        flags: u32,
        [hard, soft]: [&CpuSet; 2],
    ) -> Result<Affinity> {
        self.with_arguments(2 * SET_ROOM + DOMCTL_ROOM, |arguments| {
            let hard = PlacedSet::new(arguments, hard);
            let soft = PlacedSet::new(arguments, soft);
            let mut request = VcpuAffinity {
                vcpu,
                flags,
                hard: hard.bitmap(),
                soft: soft.bitmap(),
            };
            // SAFETY: the structure is this command's; the bitmaps are placed and as long as they say.
            unsafe { self.domctl_with(operation, command, domain, &mut request, arguments) }?;
            Ok(Affinity {
                hard: hard.get(arguments),
                soft: soft.get(arguments),
            })
        })
    }
}
