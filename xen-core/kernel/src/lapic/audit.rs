//! What audits look at.

use core::sync::atomic::Ordering;

use super::{BASE_ENABLED, LocalApic, SOFTWARE_ENABLED, highest};

impl LocalApic {
    /// What [`LocalApic::pending`] would say, without taking requests over.
    pub(crate) fn would_offer(&self) -> Option<u8> {
        let state = self.state.lock();
        if state.base & BASE_ENABLED == 0 || state.spurious & SOFTWARE_ENABLED == 0 {
            return None;
        }
        let mut request = state.request;
        for (word, bits) in request.iter_mut().enumerate() {
            *bits |= (self.requests[word / 2].load(Ordering::SeqCst) >> (32 * (word % 2))) as u32;
        }
        let vector = highest(&request)?;
        (u32::from(vector) >> 4 > state.priority() >> 4).then_some(vector)
    }
}
