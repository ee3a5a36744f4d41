//! Which guest a processor is in, and how translations of a guest's memory are forgotten everywhere.
//!
//! One protocol for all machines, so that what a simulator explores is what the metal does. To enter a guest, a processor
//! first announces the guest's tables, then reads their generation, and drops its own translations unless they are of
//! that generation. Whoever has removed something from the tables raises the generation, and then waits for each processor
//! that announced them to leave. With sequentially consistent atomics one of the two sees the other. A processor that is in
//! the core is never waited for, and leaving a guest takes no lock: whatever the caller holds, the wait ends.

use crate::address::HostFrame;
use crate::stage_two::{Flushed, TableRoot};
use crate::sync::modelled::{AtomicU64, Ordering};
use crate::sync::wait_for_another;

/// A processor's announcement of the guest that it is in.
pub struct Presence {
    /// The root frame plus one of the stage-two tables that a guest runs on here right now; 0 in the core.
    running_root: AtomicU64,
    /// Guests left so far: a flush that sees this move knows that its guest was left, even if entered again.
    left: AtomicU64,
}

impl Default for Presence {
    fn default() -> Presence {
        Presence::new()
    }
}

impl Presence {
    /// In the core.
    pub fn new() -> Presence {
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

/// `RUSTFLAGS="--cfg loom" cargo test -p machine --release --lib interleavings`: one processor runs a guest, another takes a page
/// from it, in every order that the memory model allows. The page is a cell that loom watches: were it used by the guest after
/// the flush, or without an order between both, the test fails.
#[cfg(all(test, loom))]
mod interleavings {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicBool;
    use loom::thread;

    use super::*;

    struct Host {
        tables: TableRoot,
        /// The entry that maps the page; read by hardware's walks, which wait for nobody.
        mapped: AtomicBool,
        page: UnsafeCell<u32>,
        processors: [Presence; 2],
    }

    // SAFETY: that the cell is used by one processor at a time is what the tests find out.
    unsafe impl Sync for Host {}
    // SAFETY: as above.
    unsafe impl Send for Host {}

    const GUESTS: u32 = 1;
    const OTHERS: u32 = 2;

    impl Host {
        fn new() -> Arc<Self> {
            Arc::new(Host {
                tables: TableRoot::alone(HostFrame(7)),
                mapped: AtomicBool::new(true),
                page: UnsafeCell::new(GUESTS),
                processors: [Presence::new(), Presence::new()],
            })
        }

        /// Take the page from the guest and give it to somebody else.
        fn take(&self, own: usize) {
            self.mapped.store(false, Ordering::Relaxed);
            let others = self.processors.iter().enumerate();
            let others = others
                .filter(|(number, _)| *number != own)
                .map(|(_, other)| (other, ()));
            let _flushed = flush(&self.tables, others, |()| {});
            // SAFETY: loom looks for accesses that are not ordered.
            self.page.with_mut(|page| unsafe { *page = OTHERS });
        }
    }

    /// A processor's translations: of which generation, and whether the page is in them.
    #[derive(Default)]
    struct Translations {
        generation: u64,
        cached: bool,
    }

    impl Translations {
        /// Run the guest once, for one access of the page.
        fn run(&mut self, host: &Host, on: usize) {
            let generation = host.processors[on].enter(&host.tables);
            if self.generation != generation {
                *self = Translations {
                    generation,
                    cached: false,
                };
            }
            self.cached |= host.mapped.load(Ordering::Relaxed);
            if self.cached {
                // SAFETY: loom looks for accesses that are not ordered.
                let seen = host.page.with(|page| unsafe { *page });
                assert_eq!(seen, GUESTS, "a page is used after it was taken");
            }
            host.processors[on].leave();
        }
    }

    #[test]
    fn a_page_that_was_taken_is_used_by_no_guest_however_often_it_runs() {
        loom::model(|| {
            let host = Host::new();
            let runner = {
                let host = host.clone();
                thread::spawn(move || {
                    let mut translations = Translations::default();
                    translations.run(&host, 0);
                    translations.run(&host, 0);
                })
            };
            host.take(1);
            runner.join().unwrap();
        });
    }

    #[test]
    fn two_that_flush_at_once_wait_for_guests_and_not_for_each_other() {
        // Without a bound it takes minutes; three switches against a processor's will are more than either needs.
        let mut bounded = loom::model::Builder::new();
        bounded.preemption_bound = Some(3);
        bounded.check(|| {
            let host = Host::new();
            let other = {
                let host = host.clone();
                thread::spawn(move || {
                    Translations::default().run(&host, 0);
                    let others = [(&host.processors[1], ())];
                    drop(flush(&host.tables, others.into_iter(), |()| {}));
                })
            };
            host.take(1);
            Translations::default().run(&host, 1);
            other.join().unwrap();
        });
    }
}
