//! The 2-level ABI: a bit for each port in the shared page, and a selector of 64 words in each vCPU's `vcpu_info`.

use hypercall_abi::event_channel::{Port, TWO_LEVEL_CHANNELS};
use machine::Machine;

use super::Raised;
use crate::domain::Domain;

/// `shared_info.evtchn_pending`.
const PENDING: usize = 2048;
/// `shared_info.evtchn_mask`.
const MASK: usize = 2560;

/// Where a port's bit is: its word's offset in a bitmap, and the bit. None for ports that this ABI does not have: a domain
/// that went back from the FIFO ABI with such ports open gets no more of their events.
fn place(port: Port) -> Option<(usize, u64)> {
    (port < TWO_LEVEL_CHANNELS).then_some((port as usize / 64 * 8, 1 << (port % 64)))
}

/// Set the pending bit, and tell the vCPU unless the port is masked.
pub(super) fn mark<M: Machine>(domain: &Domain<M>, port: Port, vcpu: u32) -> Raised {
    let Some((word, bit)) = place(port) else {
        return Raised::default();
    };
    let page = &domain.shared_info;
    // These offsets are inside the page and aligned: no access fails.
    if page
        .fetch_or_u64(PENDING + word, bit)
        .is_ok_and(|before| before & bit != 0)
    {
        return Raised::default();
    }
    let masked = page.load_u64(MASK + word).is_ok_and(|mask| mask & bit != 0);
    Raised {
        newly: true,
        upcall: if masked { None } else { select(domain, port, vcpu) },
    }
}

/// Clear the mask bit; if that lets a pending event through, tell the vCPU.
pub(super) fn unmask<M: Machine>(domain: &Domain<M>, port: Port, vcpu: u32) -> Raised {
    let Some((word, bit)) = place(port) else {
        return Raised::default();
    };
    let page = &domain.shared_info;
    let was_masked = page
        .fetch_and_u64(MASK + word, !bit)
        .is_ok_and(|before| before & bit != 0);
    let held_back = was_masked && is_pending(domain, port);
    Raised {
        newly: false,
        upcall: if held_back {
            select(domain, port, vcpu)
        } else {
            None
        },
    }
}

fn select<M: Machine>(domain: &Domain<M>, port: Port, vcpu: u32) -> Option<u32> {
    domain
        .vcpus
        .get(vcpu as usize)?
        .set_pending_selector(port / 64)
        .then_some(vcpu)
}

pub(super) fn clear_pending<M: Machine>(domain: &Domain<M>, port: Port) {
    if let Some((word, bit)) = place(port) {
        let _ = domain.shared_info.fetch_and_u64(PENDING + word, !bit);
    }
}

pub(super) fn is_pending<M: Machine>(domain: &Domain<M>, port: Port) -> bool {
    place(port).is_some_and(|(word, bit)| {
        domain
            .shared_info
            .load_u64(PENDING + word)
            .is_ok_and(|bits| bits & bit != 0)
    })
}
