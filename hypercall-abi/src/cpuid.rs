//! The hypervisor's CPUID leaves (`arch-x86/cpuid.h`). They start at 0x40000000, or 0x100 higher for each other
//! interface (as Hyper-V's) that precedes them.

/// EAX: highest leaf; EBX, ECX, EDX: the signature.
#[doc(alias = "XEN_CPUID_FIRST_LEAF")]
pub const FIRST_LEAF: u32 = 0x4000_0000;
/// "XenV".
#[doc(alias = "XEN_CPUID_SIGNATURE_EBX")]
pub const SIGNATURE_EBX: u32 = 0x566e_6558;
/// "MMXe".
#[doc(alias = "XEN_CPUID_SIGNATURE_ECX")]
pub const SIGNATURE_ECX: u32 = 0x6558_4d4d;
/// "nVMM".
#[doc(alias = "XEN_CPUID_SIGNATURE_EDX")]
pub const SIGNATURE_EDX: u32 = 0x4d4d_566e;
/// The last leaf's distance from the first.
#[doc(alias = "XEN_CPUID_MAX_NUM_LEAVES")]
pub const MAX_LEAVES: u32 = 5;

/// Distance of the leaf whose EAX is the version: major << 16 | minor.
pub const LEAF_VERSION: u32 = 1;

/// Distance of the leaf about hypercalls: EAX pages to fill, EBX the MSR that fills them, ECX features.
pub const LEAF_HYPERCALL: u32 = 2;

/// Distance of the leaf about time: sub-leaf 0 mode and frequency, 1 scale of the TSC, 2 host frequency.
pub const LEAF_TIME: u32 = 3;

/// Distance of the leaf about hardware-assisted guests: EAX [`hvm_feature`], EBX vCPU, ECX domain.
pub const LEAF_HVM: u32 = 4;

/// Distance of the leaf about classic PV guests.
pub const LEAF_PV: u32 = 5;

/// The MSR that fills a hypercall page with the address written to it; named by [`LEAF_HYPERCALL`].
pub const HYPERCALL_MSR: u32 = 0x4000_0000;

/// EAX of [`LEAF_HVM`].
pub mod hvm_feature {
    /// APIC registers by hardware.
    #[doc(alias = "XEN_HVM_CPUID_APIC_ACCESS_VIRT")]
    pub const APIC_ACCESS_VIRTUALISED: u32 = 1 << 0;
    /// x2APIC registers by hardware.
    #[doc(alias = "XEN_HVM_CPUID_X2APIC_VIRT")]
    pub const X2APIC_VIRTUALISED: u32 = 1 << 1;
    /// Foreign and grant mappings are known to the IOMMU.
    #[doc(alias = "XEN_HVM_CPUID_IOMMU_MAPPINGS")]
    pub const IOMMU_MAPPINGS: u32 = 1 << 2;
    /// EBX is the vCPU's number.
    #[doc(alias = "XEN_HVM_CPUID_VCPU_ID_PRESENT")]
    pub const VCPU_ID_PRESENT: u32 = 1 << 3;
    /// ECX is the domain's number.
    #[doc(alias = "XEN_HVM_CPUID_DOMID_PRESENT")]
    pub const DOMAIN_ID_PRESENT: u32 = 1 << 4;
    /// Interrupts can name APIC IDs of 15 bits.
    #[doc(alias = "XEN_HVM_CPUID_EXT_DEST_ID")]
    pub const EXTENDED_DESTINATION_ID: u32 = 1 << 5;
    /// Per-vCPU vectors for events need no APIC acknowledgement.
    #[doc(alias = "XEN_HVM_CPUID_UPCALL_VECTOR")]
    pub const UPCALL_VECTOR: u32 = 1 << 6;
}
