//! Looking at whole trees of tables, for checks of the whole machine: nothing here changes anything.

use core::sync::atomic::Ordering;

use super::{EntryKind, Format, Leaf, StageTwo};
use crate::address::{GuestFrame, HostFrame, Order};

/// Entries that are looked at together.
const GROUP: usize = 8;

/// What a walk comes across.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visit {
    /// A table, before what is in it.
    Table(HostFrame),
    /// A leaf: its first guest frame, and the leaf with its first host frame.
    Leaf(GuestFrame, Leaf),
    /// An entry that these tables would never make.
    Malformed {
        /// The table.
        table: HostFrame,
        /// The entry's place in it.
        index: usize,
        /// The entry.
        entry: u64,
    },
}

impl<F: Format> StageTwo<F> {
    /// Visit every table and every leaf, lowest first, until `visit` says stop.
    ///
    /// # Errors
    /// What `visit` says.
    pub fn walk<E>(&self, visit: &mut impl FnMut(Visit) -> Result<(), E>) -> Result<(), E> {
        self.walk_table(self.root.frame, F::LEVELS - 1, 0, visit)
    }

    fn walk_table<E>(
        &self,
        table: HostFrame,
        level: u32,
        base: u64,
        visit: &mut impl FnMut(Visit) -> Result<(), E>,
    ) -> Result<(), E> {
        visit(Visit::Table(table))?;
        // SAFETY: as in `entry`; the walk is by shared reference, so that no table goes meanwhile.
        let entries = unsafe { self.memory.table_entries(table) };
        for (group, members) in entries.chunks(GROUP).enumerate() {
            // Most tables are sparse: empty groups are passed over at once.
            if members
                .iter()
                .fold(0, |bits, entry| bits | entry.load(Ordering::Relaxed))
                == 0
            {
                continue;
            }
            for (member, entry) in members.iter().enumerate() {
                let index = group * GROUP + member;
                let entry = entry.load(Ordering::Acquire);
                if entry != 0 {
                    let at = base + ((index as u64) << (9 * level));
                    self.walk_entry((table, index, entry), level, at, visit)?;
                }
            }
        }
        Ok(())
    }

    fn walk_entry<E>(
        &self,
        (table, index, entry): (HostFrame, usize, u64),
        level: u32,
        at: u64,
        visit: &mut impl FnMut(Visit) -> Result<(), E>,
    ) -> Result<(), E> {
        let malformed = Visit::Malformed { table, index, entry };
        if !F::present(entry) {
            visit(malformed)
        } else if F::is_leaf(entry, level) {
            visit(leaf::<F>(at, entry, level).unwrap_or(malformed))
        } else if entry != F::table(F::frame(entry)) || F::frame(entry).0 >= self.memory.frame_count() {
            // What it leads to is no table: nothing of it is read.
            visit(malformed)
        } else {
            self.walk_table(F::frame(entry), level - 1, at, visit)
        }
    }
}

fn leaf<F: Format>(at: u64, entry: u64, level: u32) -> Option<Visit> {
    let kind = EntryKind::from_bits(F::tag(entry))?;
    let order = Order::new(9 * level)?;
    let (frame, permissions) = (F::frame(entry), F::permissions(entry));
    let device = kind == EntryKind::Device;
    if entry != F::leaf(frame, level, permissions, device, kind as u64) || !order.aligned(frame.0) {
        return None;
    }
    let leaf = Leaf {
        frame,
        order,
        permissions,
        kind,
    };
    Some(Visit::Leaf(GuestFrame(at), leaf))
}

/// Breaking things on purpose, so that the checks can be seen to find it.
#[cfg(not(target_os = "none"))]
impl<F: Format> StageTwo<F> {
    /// Overwrite the entry that maps a guest frame, whatever that does to the references.
    pub fn sabotage(&mut self, at: GuestFrame, change: impl FnOnce(Leaf) -> Option<Leaf>) {
        let mut table = self.root.frame;
        for level in (0..F::LEVELS).rev() {
            let slot = self.entry(table, Self::index(at, level));
            let entry = slot.load(Ordering::Acquire);
            assert!(F::present(entry), "nothing is mapped there");
            if F::is_leaf(entry, level) {
                let Some(Visit::Leaf(_, before)) = leaf::<F>(at.0, entry, level) else {
                    panic!("a malformed entry");
                };
                let after = change(before).map_or(0, |leaf| {
                    let device = leaf.kind == EntryKind::Device;
                    F::leaf(leaf.frame, level, leaf.permissions, device, leaf.kind as u64)
                });
                slot.store(after, Ordering::Release);
                return;
            }
            table = F::frame(entry);
        }
    }
}
