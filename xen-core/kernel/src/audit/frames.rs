//! Frames: each has one use, and its references are those that its holders have.

use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::Machine;
use machine::address::{HostFrame, Order};
use machine::memory::audit::FrameState;
use machine::memory::{FrameInfo, FrameUse, Memory, NO_OWNER};

use super::{Violation, holds};
use crate::domain::Domain;

const FREE: &str = "frames: the free lists hold every free frame once";
pub(super) const USE: &str = "frames: each has one use";
const COUNT: &str = "frames: references are those of the holders";
const OWNED: &str = "frames: the owners' counters agree with the frames";
const TOTALS: &str = "frames: the counters agree with the frames";
const SCRUBBED: &str = "frames: a clean free frame is zero";
const CORE: &str = "frames: the core's are tables, and tables are the core's";

/// On the host the core takes frames for tables only; on the metal its heap and its control blocks are such, too.
const ONLY_TABLES: bool = cfg!(not(target_os = "none"));
/// Clean free frames whose bytes are looked at in one audit.
const SAMPLES: usize = 2;
/// Owners' counters without a frame that are looked at in one audit.
const OWNERS_LOOKED_AT: u16 = 64;

/// What a frame was found to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Role {
    /// Nothing yet.
    #[default]
    None,
    /// In a free block.
    Free,
    /// A stage-two table.
    Table,
    /// A domain's own memory, which it maps.
    Populated,
    /// The shared info or a grant table's page of the domain with this index.
    Shared(u16),
}

impl Role {
    /// Whether it suits a guest's memory (`ram`), or a page that the core shares with one.
    fn suits(self, ram: bool) -> bool {
        match self {
            Role::Populated => ram,
            Role::Shared(_) => !ram,
            // Held by somebody else than its owner only, or kept by it without a place in its map.
            Role::None => true,
            Role::Free | Role::Table => false,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Entry {
    holders: u32,
    role: Role,
}

/// Who holds each frame, added up.
#[derive(Default)]
pub(super) struct Ledger {
    entries: Vec<Entry>,
    /// Frames of use `Ram`, by owner.
    owners: Vec<(u16, u32)>,
    /// Where sampling goes on.
    sample: u64,
    owner: u16,
}

impl Ledger {
    /// Begin anew: only the free lists are entered.
    pub fn open(&mut self, memory: &Memory) -> Result<(), Violation> {
        let count = memory.frame_count() as usize;
        self.entries.clear();
        let room = self.entries.try_reserve_exact(count).is_ok();
        holds!(room, "audit: there is memory for it", "none for {count} frames");
        self.entries.resize(count, Entry::default());
        let mut twice = None;
        let entries = &mut self.entries;
        let walked = memory.walk_free(|first, order| {
            for frame in first.0..first.0 + order.frames() {
                // The walk has checked that the block lies inside.
                let entry = &mut entries[frame as usize];
                if entry.role != Role::None {
                    twice = Some(frame);
                }
                entry.role = Role::Free;
            }
        });
        if let Err(fault) = walked {
            holds!(false, FREE, "{fault}");
        }
        holds!(
            twice.is_none(),
            FREE,
            "frame {:#x} is in two blocks",
            twice.unwrap_or(0)
        );
        Ok(())
    }

    /// One more reference to each frame of a block.
    pub fn hold(&mut self, first: HostFrame, order: Order) -> Result<(), Violation> {
        let end = first.0.saturating_add(order.frames());
        let Some(block) = self.entries.get_mut(first.0 as usize..end as usize) else {
            holds!(false, USE, "somebody holds frame {:#x}, past all memory", first.0);
            return Ok(());
        };
        for entry in block {
            entry.holders += 1;
        }
        Ok(())
    }

    /// Say what the frames of a block are; `false` when one is something already, and which.
    pub fn assign(&mut self, first: HostFrame, order: Order, role: Role) -> Result<(), (u64, Role)> {
        for frame in first.0..first.0.saturating_add(order.frames()) {
            let entry = self.entries.get_mut(frame as usize).ok_or((frame, Role::None))?;
            if entry.role != Role::None {
                return Err((frame, entry.role));
            }
            entry.role = role;
        }
        Ok(())
    }

    /// What a frame was found to be.
    pub fn role(&self, frame: HostFrame) -> Role {
        self.entries
            .get(frame.0 as usize)
            .map_or(Role::None, |entry| entry.role)
    }

    /// Compare with the frame table.
    pub fn close<M: Machine>(
        &mut self,
        memory: &Memory,
        domains: &[Arc<Domain<M>>],
    ) -> Result<(), Violation> {
        let (mut free, mut core, mut all) = (0, 0, 0);
        self.owners.clear();
        let mut run = (NO_OWNER, 0);
        for (frame, (state, entry)) in memory.frame_states().zip(&self.entries).enumerate() {
            match state.frame_use() {
                FrameUse::Free => {
                    free += 1;
                    if entry.role != Role::Free || entry.holders != 0 || state.count() != 0 {
                        return free_frame(frame, state, entry);
                    }
                }
                FrameUse::Ram | FrameUse::Shared => {
                    let ram = state.frame_use() == FrameUse::Ram;
                    let count = state.count();
                    if state.is_head() || count != entry.holders || count == 0 || !entry.role.suits(ram) {
                        return guests_frame(frame, state, entry, domains);
                    }
                    if ram {
                        if run.0 != state.owner() {
                            note(&mut self.owners, run);
                            run = (state.owner(), 0);
                        }
                        run.1 += 1;
                    }
                }
                FrameUse::Core => {
                    core += 1;
                    cores_frame(frame, state, entry)?;
                }
                FrameUse::Reserved => {
                    if entry.role != Role::None || entry.holders != 0 || state.count() != 0 || state.is_head()
                    {
                        return no_memory(frame, state, entry);
                    }
                    continue;
                }
            }
            all += 1;
        }
        note(&mut self.owners, run);
        for (name, found, counted) in [
            ("free", free, memory.free_frames()),
            ("the core's", core, memory.core_frames()),
            ("memory", all, memory.total_frames()),
        ] {
            holds!(
                found == counted,
                TOTALS,
                "{found} frames are {name}, {counted} are counted"
            );
        }
        self.check_owners(memory, domains)?;
        self.sample(memory)
    }

    fn check_owners<M: Machine>(
        &mut self,
        memory: &Memory,
        domains: &[Arc<Domain<M>>],
    ) -> Result<(), Violation> {
        let others = (0..OWNERS_LOOKED_AT).map(|step| self.owner.wrapping_add(step));
        let owners = self.owners.iter().map(|&(owner, _)| owner);
        let living = domains.iter().map(|domain| domain.id.0);
        for owner in owners.chain(living).chain(others) {
            let found = self
                .owners
                .iter()
                .find(|(other, _)| *other == owner)
                .map_or(0, |&(_, count)| count);
            let counted = memory.frames_owned(owner);
            holds!(
                found == counted,
                OWNED,
                "{found} frames are d{owner}'s, {counted} are counted"
            );
        }
        self.owner = self.owner.wrapping_add(OWNERS_LOOKED_AT);
        Ok(())
    }

    /// Look at the bytes of a few clean free frames: others each time.
    fn sample(&mut self, memory: &Memory) -> Result<(), Violation> {
        let count = memory.frame_count().max(1);
        let mut looked = 0;
        for _ in 0..SAMPLES * 8 {
            // A step that shares no factor with any power of two comes past all frames.
            self.sample = (self.sample + 0x9e37_79b1) % count;
            let frame = HostFrame(self.sample);
            if let Some(scrubbed) = memory.is_scrubbed(frame) {
                holds!(
                    scrubbed,
                    SCRUBBED,
                    "frame {:#x} is free, said to be clean, and holds bytes",
                    frame.0
                );
                looked += 1;
            }
            if looked == SAMPLES {
                break;
            }
        }
        Ok(())
    }
}

/// What is wrong with a frame that is no memory of ours.
#[cold]
fn no_memory(frame: usize, state: FrameState, entry: &Entry) -> Result<(), Violation> {
    let Entry { holders, role } = *entry;
    not_listed(frame, state)?;
    holds!(
        false,
        USE,
        "frame {frame:#x} is no memory of ours, yet {role:?} with {holders} holders, count {}",
        state.count()
    );
    Ok(())
}

/// What is wrong with a free frame.
#[cold]
fn free_frame(frame: usize, state: FrameState, entry: &Entry) -> Result<(), Violation> {
    let Entry { holders, role } = *entry;
    holds!(
        role == Role::Free,
        FREE,
        "frame {frame:#x} is free and in no list; found to be {role:?}"
    );
    holds!(
        false,
        COUNT,
        "frame {frame:#x} is free with count {} and {holders} holders",
        state.count()
    );
    Ok(())
}

fn cores_frame(frame: usize, state: FrameState, entry: &Entry) -> Result<(), Violation> {
    let FrameInfo { count, owner, .. } = state.info();
    let Entry { holders, role } = *entry;
    not_listed(frame, state)?;
    holds!(
        count == 1 && holders == 0 && owner == NO_OWNER,
        COUNT,
        "frame {frame:#x} is the core's with count {count}, {holders} holders, owner d{owner}"
    );
    holds!(
        role == Role::Table || (role == Role::None && !ONLY_TABLES),
        CORE,
        "frame {frame:#x} is the core's, and found to be {role:?}"
    );
    Ok(())
}

/// What is wrong with a guest's frame.
#[cold]
fn guests_frame<M: Machine>(
    frame: usize,
    state: FrameState,
    entry: &Entry,
    domains: &[Arc<Domain<M>>],
) -> Result<(), Violation> {
    let FrameInfo {
        count,
        owner,
        frame_use,
    } = state.info();
    let Entry { holders, role } = *entry;
    not_listed(frame, state)?;
    holds!(
        role.suits(frame_use == FrameUse::Ram),
        USE,
        "frame {frame:#x} is {frame_use:?} of d{owner}, and found to be {role:?}"
    );
    holds!(
        false,
        COUNT,
        "frame {frame:#x} ({frame_use:?} of d{owner}, {role:?}) has count {count}, its holders are {holders}: {}",
        super::report::Holders {
            domains,
            frame: frame as u64
        }
    );
    Ok(())
}

fn not_listed(frame: usize, state: FrameState) -> Result<(), Violation> {
    holds!(
        !state.is_head(),
        FREE,
        "frame {frame:#x} is {:?} and begins a free block",
        state.frame_use()
    );
    Ok(())
}

fn note(owners: &mut Vec<(u16, u32)>, (owner, count): (u16, u32)) {
    if count == 0 {
        return;
    }
    match owners.iter_mut().find(|(other, _)| *other == owner) {
        Some((_, sum)) => *sum += count,
        None => owners.push((owner, count)),
    }
}
