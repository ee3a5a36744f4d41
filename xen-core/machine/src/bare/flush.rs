//! Making every processor forget translations of a guest's memory.

use core::sync::atomic::Ordering;

use super::{local_apic, processor};
use crate::stage_two::{Flushed, TableRoot};

/// Raise the tables' generation and wait until no guest runs under an older one.
///
/// A processor in the core is not waited for: before it enters a guest it announces the guest's tables and only then
/// reads the generation, so it will see the new one. A processor that is in such a guest is interrupted; leaving a
/// guest takes no lock, so whatever the caller holds, this ends.
pub fn flush(tables: &TableRoot) -> Flushed {
    tables.generation().fetch_add(1, Ordering::SeqCst);
    let root = tables.root();
    let own = processor::current().id;
    for other in processor::all().filter(|other| other.id != own) {
        let Some(mark) = other.guest_mark(root) else {
            continue;
        };
        local_apic::send_kick(other.apic_id);
        while other.still_inside(root, mark) {
            core::hint::spin_loop();
        }
    }
    Flushed::new()
}
