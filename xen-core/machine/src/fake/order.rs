//! Watches over the order in which locks are taken.
//!
//! A lock is known by the type of what it protects, by the beginning of its name. While a machine is watched ([`watch`]), each acquisition is compared
//! with the locks that the same processor holds already: the order is a list of types, a later one may be taken while an
//! earlier one is held. Types that are not in the list come last, and under them nothing is taken.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use super::{CURRENT, failure};

/// The written order: types as [`core::any::type_name`] has them, each with its rank. Equal ranks exclude each other, save
/// for those in `pairs`, of which two may be held.
#[derive(Clone, Default, Debug)]
pub struct LockOrder {
    /// How the type's name begins, and rank.
    pub ranks: Vec<(&'static str, u32)>,
    /// Ranks of which two may be held at a time, in an order that their holder sees to.
    pub pairs: Vec<u32>,
    /// Types that are outside of the order: held for long by who owns what they protect, and waited for by nobody.
    pub outside: Vec<&'static str>,
}

/// The rank of a type that is in no list: nothing may be taken while it is held.
pub const LEAF: u32 = u32::MAX;

#[derive(Default)]
struct Watch {
    order: LockOrder,
    /// By processor: what it holds.
    held: Vec<Vec<(&'static str, u32)>>,
    /// Ranks by the address of a type's name, as the same type may have several.
    known: Vec<(*const u8, u32)>,
    violation: Option<alloc::string::String>,
    taken: u64,
}

std::thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static WATCH: RefCell<Watch> = RefCell::default();
}

/// That a lock is held, until this is dropped.
pub struct Noted {
    name: Option<&'static str>,
}

/// Watch the locks that this thread's processors take from now on.
pub fn watch(order: LockOrder, processors: usize) {
    WATCH.with_borrow_mut(|watch| {
        *watch = Watch {
            order,
            held: (0..processors).map(|_| Vec::new()).collect(),
            ..Watch::default()
        };
    });
    WATCHED.set(true);
}

/// Watch no longer. Returns how many acquisitions were compared, and the first that was against the order.
pub fn unwatch() -> (u64, Option<alloc::string::String>) {
    WATCHED.set(false);
    WATCH.with_borrow_mut(|watch| (watch.taken, watch.violation.take()))
}

/// The first acquisition against the order so far.
pub fn violation() -> Option<alloc::string::String> {
    WATCH.with_borrow_mut(|watch| watch.violation.take())
}

const OUTSIDE: u32 = u32::MAX - 1;

impl Watch {
    fn rank(&mut self, name: &'static str) -> u32 {
        if let Some((_, rank)) = self.known.iter().find(|(known, _)| *known == name.as_ptr()) {
            return *rank;
        }
        let rank = if self.order.outside.iter().any(|outside| name.starts_with(outside)) {
            OUTSIDE
        } else {
            let listed = self
                .order
                .ranks
                .iter()
                .find(|(listed, _)| name.starts_with(listed));
            listed.map_or(LEAF, |(_, rank)| *rank)
        };
        self.known.push((name.as_ptr(), rank));
        rank
    }

    fn take(&mut self, name: &'static str, waits: bool) {
        let rank = self.rank(name);
        if rank == OUTSIDE {
            return;
        }
        self.taken += 1;
        let Some(held) = self.held.get_mut(CURRENT.get()) else {
            return;
        };
        let same = held.iter().filter(|(_, other)| *other == rank).count();
        let late = held.iter().find(|(_, other)| *other > rank);
        let twice = same > usize::from(self.order.pairs.contains(&rank));
        if waits && self.violation.is_none() && (late.is_some() || twice) {
            let holding: Vec<&str> = held.iter().map(|(name, _)| *name).collect();
            self.violation = Some(alloc::format!(
                "lock order: {name} taken while holding {holding:?}"
            ));
        }
        held.push((name, rank));
    }

    fn wait(&mut self) {
        let Some(held) = self.held.get(CURRENT.get()) else {
            return;
        };
        if self.violation.is_none() && !held.is_empty() {
            let holding: Vec<&str> = held.iter().map(|(name, _)| *name).collect();
            self.violation = Some(alloc::format!(
                "lock order: a wait for other processors while holding {holding:?}"
            ));
        }
    }

    fn give(&mut self, name: &'static str) {
        if let Some(held) = self.held.get_mut(CURRENT.get())
            && let Some(index) = held.iter().rposition(|(other, _)| *other == name)
        {
            held.remove(index);
        }
    }
}

/// Note that a lock is taken. `waits`: if it is not free, for as long as that takes.
#[inline]
pub fn note(name: &'static str, waits: bool) -> Noted {
    if !WATCHED.get() {
        return Noted { name: None };
    }
    // Its own notes are not the core's allocations: those that a test makes fail.
    WATCH.with_borrow_mut(|watch| failure::exempt(|| watch.take(name, waits)));
    Noted { name: Some(name) }
}

/// Note that this processor is about to wait for what another does in the core, which may need any lock.
pub fn note_wait() {
    if WATCHED.get() {
        WATCH.with_borrow_mut(|watch| failure::exempt(|| watch.wait()));
    }
}

impl Drop for Noted {
    #[inline]
    fn drop(&mut self) {
        if let Some(name) = self.name {
            forget(name);
        }
    }
}

#[cold]
fn forget(name: &'static str) {
    if WATCHED.get() {
        WATCH.with_borrow_mut(|watch| watch.give(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Lock;

    struct First;
    struct Second;

    fn order() -> LockOrder {
        let name = |full: &'static str| full;
        LockOrder {
            ranks: [
                (name(core::any::type_name::<First>()), 1),
                (name(core::any::type_name::<Second>()), 2),
            ]
            .into(),
            ..LockOrder::default()
        }
    }

    #[test]
    fn a_wait_for_others_with_a_lock_in_hand_is_told() {
        let first = Lock::new(First);
        watch(order(), 1);
        drop(first.lock());
        note_wait();
        assert_eq!(violation(), None);
        let _first = first.lock();
        note_wait();
        assert!(unwatch().1.is_some_and(|told| told.contains("while holding [")));
    }

    #[test]
    fn the_wrong_order_and_a_lock_twice_are_told_and_the_right_order_is_not() {
        let (first, second, another) = (Lock::new(First), Lock::new(Second), Lock::new(Second));
        watch(order(), 1);
        {
            let _first = first.lock();
            let _second = second.lock();
        }
        assert_eq!(violation(), None);
        {
            let _second = second.lock();
            // Not waited for: nothing to complain about.
            drop(first.try_lock());
            assert_eq!(violation(), None);
            let _first = first.lock();
        }
        assert!(violation().is_some_and(|told| told.contains("First taken while holding")));
        {
            let _one = second.lock();
            let _other = another.lock();
        }
        assert!(
            unwatch()
                .1
                .is_some_and(|told| told.contains("Second taken while holding"))
        );
    }
}
