//! Which guest a processor is in, and how translations of a guest's memory are forgotten everywhere.
//!
//! One protocol for all machines, so that what a simulator explores is what the metal does. To enter a guest, a processor
//! first announces the guest's tables, then reads their generation, and drops its own translations unless they are of
//! that generation. Whoever has removed something from the tables raises the generation, and then waits for each processor
//! that announced them to leave. With sequentially consistent atomics one of the two sees the other. A processor that is in
//! the core is never waited for, and leaving a guest takes no lock: whatever the caller holds, the wait ends.

use crate::address::HostFrame;
use crate::stage_two::{Flushed, TableRoot};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::wait_for_another;

/// A processor's announcement of the guest that it is in.
#[derive(Default)]
pub struct Presence {
    /// The root frame plus one of the stage-two tables that a guest runs on here right now; 0 in the core.
    running_root: AtomicU64,
    /// Guests left so far: a flush that sees this move knows that its guest was left, even if entered again.
    left: AtomicU64,
}

impl Presence {
    /// In the core.
    pub const fn new() -> Presence {
        Presence {
            running_root: AtomicU64::new(0),
            left: AtomicU64::new(0),
        }
    }

    /// Announce that a guest is about to run here on these tables. Returns the generation that its translations must
    /// have.
    #[inline]
    pub fn enter(&self, tables: &TableRoot) -> u64 {
        self.running_root
            .store(announced(tables.root()), Ordering::SeqCst);
        tables.generation().load(Ordering::SeqCst)
    }

    /// The guest has been left.
    #[inline]
    pub fn leave(&self) {
        self.left.fetch_add(1, Ordering::Release);
        self.running_root.store(0, Ordering::Release);
    }

    /// Whether a guest on these tables runs here, and if so a mark that changes when it is left.
    fn mark(&self, root: HostFrame) -> Option<u64> {
        let mark = self.left.load(Ordering::SeqCst);
        (self.running_root.load(Ordering::SeqCst) == announced(root)).then_some(mark)
    }
}

/// How tables are announced: by their root frame plus one, as 0 says that there are none. No frame has the last number.
fn announced(root: HostFrame) -> u64 {
    root.0.wrapping_add(1)
}

/// Raise the tables' generation and wait until no guest runs under an older one on the `others`: all processors but the
/// caller's own, each with what `interrupt` needs to make it leave its guest.
pub fn flush<'a, P>(
    tables: &TableRoot,
    others: impl Iterator<Item = (&'a Presence, P)>,
    interrupt: impl Fn(P),
) -> Flushed {
    tables.generation().fetch_add(1, Ordering::SeqCst);
    let root = tables.root();
    for (presence, other) in others {
        let Some(mark) = presence.mark(root) else {
            continue;
        };
        interrupt(other);
        while presence.mark(root) == Some(mark) {
            wait_for_another();
        }
    }
    Flushed::new()
}
