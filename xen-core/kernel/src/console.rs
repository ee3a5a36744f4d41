//! The hypervisor's console. (To come.)

/// The hypervisor's console.
#[derive(Default)]
pub struct Console {}
