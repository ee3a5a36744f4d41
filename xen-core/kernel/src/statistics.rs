//! What is counted.

use crate::hypercall;

/// All counters of the hypervisor.
#[derive(Default)]
pub struct Statistics {
    /// Hypercalls.
    pub hypercalls: hypercall::Statistics,
}
