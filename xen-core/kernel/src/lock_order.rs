//! The order in which locks are taken, for simulated machines that watch over it.
//!
//! The same list as in docs/ARCHITECTURE.md: a later lock may be taken while an earlier one is held. A lock is known by
//! the type of what it protects, by the beginning of that type's name.

use machine::fake::order::LockOrder;

/// Leaves: while one is held, only what comes after all of them may be taken.
const LEAVES: u32 = 20;

/// The order.
pub fn lock_order() -> LockOrder {
    /// Two domains' event channels, by id.
    const EVENT_CHANNELS: u32 = 3;
    let ranks = [
        ("kernel::schedule::pool::PoolChange", 0),
        ("kernel::domain::Lifecycle", 1),
        // Domains::claims.
        ("u64", 2),
        ("kernel::event_channel::table::Table", EVENT_CHANNELS),
        ("kernel::grant_table::table::Table", 4),
        // Domain::memory_map.
        ("alloc::vec::Vec<(u64, u64, u32)>", 5),
        ("machine::stage_two::StageTwo", 6),
        ("kernel::vcpu::Deadlines", 7),
        ("kernel::lapic::State", 8),
        ("kernel::timer::TimerQueue", 9),
        ("kernel::vcpu::Place", 10),
        // A processor's run queue.
        ("kernel::schedule::queue::RunQueue", 11),
        ("kernel::vcpu::InfoPlace", LEAVES),
        ("core::option::Option<kernel::vcpu::InfoPlace>", LEAVES),
        ("kernel::runstate::Runstate", LEAVES),
        // HVM parameters, CPU policy, handle, teardown.
        ("[u64; 39]", LEAVES),
        ("alloc::sync::Arc<kernel::cpu_policy::CpuPolicy>", LEAVES),
        ("[u8; 16]", LEAVES),
        ("machine::address::GuestFrame", LEAVES),
        ("kernel::grant_table::maptrack::Maptrack", LEAVES),
        ("kernel::io_apic::State", LEAVES),
        ("kernel::time::WallClock", LEAVES),
        // Who is alive, for audits.
        ("alloc::vec::Vec<alloc::sync::Weak<kernel::domain::Domain", LEAVES),
        // Domains::next_id, then the domain table.
        ("u16", LEAVES + 1),
        (
            "alloc::vec::Vec<alloc::sync::Arc<kernel::domain::Domain",
            LEAVES + 2,
        ),
        ("kernel::console::Ring", LEAVES + 3),
        ("heapless::", LEAVES + 4),
        ("machine::memory::FreeLists", LEAVES + 5),
    ];
    LockOrder {
        ranks: ranks.into(),
        pairs: [EVENT_CHANNELS].into(),
        outside: ["machine::fake::vcpu::FakeVcpu"].into(),
    }
}
