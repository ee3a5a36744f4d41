//! Grant tables. (To come.)

use core::marker::PhantomData;

use hypercall_abi::Error;
use machine::Machine;

/// A domain's grant table, and what it has mapped of others'.
pub struct GrantTable<M: Machine> {
    _marker: PhantomData<fn() -> M>,
}

impl<M: Machine> GrantTable<M> {
    /// An empty table that may grow to `max_frames`, and room for `max_maptrack_frames` of mappings.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(_max_frames: u32, _max_maptrack_frames: u32) -> Result<Self, Error> {
        Ok(GrantTable { _marker: PhantomData })
    }
}
