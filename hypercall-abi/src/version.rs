//! The hypervisor's version and what it offers (`version.h`); the feature bits are in [`crate::features`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Sub-operations of `xen_version`.
pub mod op {
    /// Returns major << 16 | minor; no argument.
    #[doc(alias = "XENVER_version")]
    pub const VERSION: u32 = 0;
    /// Text of [`super::EXTRA_VERSION_LENGTH`] bytes.
    #[doc(alias = "XENVER_extraversion")]
    pub const EXTRA_VERSION: u32 = 1;
    /// Who built it ([`super::CompileInfo`]).
    #[doc(alias = "XENVER_compile_info")]
    pub const COMPILE_INFO: u32 = 2;
    /// Text of [`super::CAPABILITIES_LENGTH`] bytes.
    #[doc(alias = "XENVER_capabilities")]
    pub const CAPABILITIES: u32 = 3;
    /// Text of [`super::CHANGESET_LENGTH`] bytes.
    #[doc(alias = "XENVER_changeset")]
    pub const CHANGESET: u32 = 4;
    /// Classic PV's address space ([`super::PlatformParameters`]).
    #[doc(alias = "XENVER_platform_parameters")]
    pub const PLATFORM_PARAMETERS: u32 = 5;
    /// Feature bits ([`super::FeatureInfo`]).
    #[doc(alias = "XENVER_get_features")]
    pub const GET_FEATURES: u32 = 6;
    /// Returns the page size; no argument.
    #[doc(alias = "XENVER_pagesize")]
    pub const PAGE_SIZE: u32 = 7;
    /// The caller's UUID ([`crate::xen::DomainHandle`]).
    #[doc(alias = "XENVER_guest_handle")]
    pub const GUEST_HANDLE: u32 = 8;
    /// Text of [`super::COMMAND_LINE_LENGTH`] bytes.
    #[doc(alias = "XENVER_commandline")]
    pub const COMMAND_LINE: u32 = 9;
    /// The build's identity ([`super::BuildId`]); returns its length.
    #[doc(alias = "XENVER_build_id")]
    pub const BUILD_ID: u32 = 10;
}

/// Bytes of the answer to [`op::EXTRA_VERSION`], zero-terminated.
#[doc(alias = "XEN_EXTRAVERSION_LEN")]
pub const EXTRA_VERSION_LENGTH: usize = 16;

/// Bytes of the answer to [`op::CAPABILITIES`], zero-terminated.
#[doc(alias = "XEN_CAPABILITIES_INFO_LEN")]
pub const CAPABILITIES_LENGTH: usize = 1024;

/// Bytes of the answer to [`op::CHANGESET`], zero-terminated.
#[doc(alias = "XEN_CHANGESET_INFO_LEN")]
pub const CHANGESET_LENGTH: usize = 64;

/// Bytes of the answer to [`op::COMMAND_LINE`], zero-terminated.
pub const COMMAND_LINE_LENGTH: usize = 1024;

/// Answer to [`op::COMPILE_INFO`]; texts are zero-terminated.
#[doc(alias = "xen_compile_info")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CompileInfo {
    /// Compiler and its version.
    pub compiler: [u8; 64],
    /// User.
    pub compile_by: [u8; 16],
    /// Host.
    pub compile_domain: [u8; 32],
    /// Date.
    pub compile_date: [u8; 32],
}

zeroed_default!(CompileInfo);

/// Answer to [`op::PLATFORM_PARAMETERS`].
#[doc(alias = "xen_platform_parameters")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PlatformParameters {
    /// Start of the range that classic PV guests may not use.
    #[doc(alias = "virt_start")]
    pub virtual_start: u64,
}

/// Argument of [`op::GET_FEATURES`].
#[doc(alias = "xen_feature_info")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FeatureInfo {
    /// In: which 32 features.
    #[doc(alias = "submap_idx")]
    pub submap_index: u32,
    /// Out: one bit per feature.
    pub submap: u32,
}

/// Head of the argument of [`op::BUILD_ID`]; the bytes follow.
#[doc(alias = "xen_build_id")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BuildId {
    /// In: bytes of room.
    #[doc(alias = "len")]
    pub length: u32,
}
