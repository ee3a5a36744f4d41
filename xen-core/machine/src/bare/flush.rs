//! Making every processor forget translations of a guest's memory.

use super::{local_apic, processor};
use crate::presence;
use crate::stage_two::{Flushed, TableRoot};

/// Raise the tables' generation and wait until no guest runs under an older one.
pub fn flush(tables: &TableRoot) -> Flushed {
    let own = processor::current().id;
    let others = processor::all().filter(|other| other.id != own);
    presence::flush(
        tables,
        others.map(|other| (&other.presence, other.apic_id)),
        local_apic::send_kick,
    )
}
