//! What commands work with: the hypervisor, the store, and the tools' own records.

use crate::failure::Result;
use crate::record::Records;
use control::Hypervisor;
use store_client::Store;

/// Open connections to all three.
pub struct Machine {
    /// Hypercalls.
    pub hypervisor: Hypervisor,
    /// The store.
    pub store: Store,
    /// What the tools remember about guests.
    pub records: Records,
}

impl Machine {
    /// Connects.
    pub fn open() -> Result<Self> {
        Ok(Self {
            hypervisor: Hypervisor::open()?,
            store: Store::connect()?,
            records: Records::open()?,
        })
    }
}
