//! What CPUID and MSRs tell a domain. (To come.)

/// A domain's CPU policy.
#[derive(Clone, Debug, Default)]
pub struct CpuPolicy {}
