//! Argument structures of the calls made here, as Xen 4.17's public headers lay them out.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! layouts {
    ($($(#[$meta:meta])* struct $name:ident { $($field:ident: $kind:ty,)* } = $size:literal;)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub(crate) struct $name { $(pub(crate) $field: $kind,)* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

layouts! {
    /// `struct evtchn_alloc_unbound`
    struct EventChannelAllocUnbound { domain: u16, remote: u16, port: u32, } = 8;
    /// `struct evtchn_status`, with the union read as its interdomain member.
    struct EventChannelStatus {
        domain: u16, pad: u16, port: u32, status: u32, vcpu: u32, remote: u16, pad2: u16, remote_port: u32,
    } = 24;
    /// `struct xen_domctl_createdomain`
    struct CreateDomain {
        ssid: u32, handle: [u8; 16], flags: u32, iommu_options: u32, max_vcpus: u32, max_event_port: u32,
        max_grant_frames: i32, max_maptrack_frames: i32, grant_options: u32, vmtrace_size: u32, cpupool: u32,
        emulation_flags: u32, misc_flags: u32,
    } = 64;
    /// `struct xen_domctl_getdomaininfo`
    struct GetDomainInfo {
        domain: u16, pad: u16, flags: u32, total_pages: u64, max_pages: u64, outstanding_pages: u64,
        shared_pages: u64, paged_pages: u64, shared_info_frame: u64, cpu_time: u64, online_vcpus: u32,
        max_vcpu_id: u32, ssid: u32, handle: [u8; 16], cpupool: u32, gpaddr_bits: u8, pad2: [u8; 7],
        emulation_flags: u32, misc_flags: u32,
    } = 112;
    /// `struct xen_domctl_cpu_policy`
    struct SetCpuPolicy {
        leaves_count: u32, msrs_count: u32, leaves: u64, msrs: u64, error_leaf: u32, error_subleaf: u32,
        error_msr: u32, pad: u32,
    } = 40;
    /// `struct xen_domctl_hvmcontext`
    struct HvmContext { size: u32, pad: u32, buffer: u64, } = 16;
    /// `struct xen_domctl_tsc_info`
    struct TscInfo { mode: u32, khz: u32, incarnation: u32, pad: u32, elapsed: u64, } = 24;
    /// `struct xen_sysctl_readconsole`
    struct ReadConsole {
        clear: u8, incremental: u8, pad: [u8; 2], index: u32, buffer: u64, count: u32, pad2: u32,
    } = 24;
    /// `struct xen_sysctl_physinfo`
    struct PhysInfo {
        threads_per_core: u32, cores_per_socket: u32, cpus: u32, max_cpu: u32, nodes: u32, max_node: u32,
        cpu_khz: u32, capabilities: u32, arch_capabilities: u32, pad: u32, total_pages: u64, free_pages: u64,
        scrub_pages: u64, outstanding_pages: u64, max_frame: u64, hw_cap: [u32; 8],
    } = 112;
    /// `struct xen_sysctl_getdomaininfolist`
    struct GetDomainInfoList {
        first: u16, pad: u16, max: u32, buffer: u64, count: u32, pad2: u32,
    } = 24;
    /// `struct xen_sysctl_cpu_policy`
    struct GetCpuPolicy {
        index: u32, leaves_count: u32, msrs_count: u32, reserved: u32, leaves: u64, msrs: u64,
    } = 32;
    /// `struct xen_memory_reservation`
    struct MemoryReservation {
        extents: u64, count: u64, order: u32, flags: u32, domain: u16, pad: [u16; 3],
    } = 32;
    /// `struct xen_foreign_memory_map`
    struct ForeignMemoryMap { domain: u16, pad: [u16; 3], count: u32, pad2: u32, buffer: u64, } = 24;
    /// `struct xen_hvm_param`
    struct HvmParam { domain: u16, pad: u16, index: u32, value: u64, } = 16;
}
