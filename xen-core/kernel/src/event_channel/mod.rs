//! Event channels. (To come.)

use core::marker::PhantomData;

use hypercall_abi::Error;
use machine::Machine;

/// A domain's event channels.
pub struct EventChannels<M: Machine> {
    _marker: PhantomData<fn() -> M>,
}

impl<M: Machine> EventChannels<M> {
    /// None allocated; ports up to `max_port` may be.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(_max_port: u32) -> Result<Self, Error> {
        Ok(EventChannels { _marker: PhantomData })
    }
}
