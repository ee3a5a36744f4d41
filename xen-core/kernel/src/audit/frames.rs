//! Frames: each has one use, and its references are those that its holders have.

use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::Machine;
use machine::address::{HostFrame, Order};
use machine::memory::{FrameUse, Memory, NO_OWNER};

use super::{Auditor, Violation, holds};
use crate::domain::Domain;

const FREE: &str = "frames: the free lists hold every free frame once";
const USE: &str = "frames: each has one use";
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
            let info = state.info;
            let Entry { holders, role } = *entry;
            match info.frame_use {
                FrameUse::Reserved => {
                    holds!(
                        holders == 0 && role == Role::None && info.count == 0,
                        USE,
                        "frame {frame:#x} is no memory of ours, yet {role:?} with {holders} holders, count {}",
                        info.count
                    );
                    continue;
                }
                FrameUse::Free => {
                    free += 1;
                    holds!(
                        role == Role::Free,
                        FREE,
                        "frame {frame:#x} is free and in no list; found to be {role:?}"
                    );
                    holds!(
                        info.count == 0 && holders == 0,
                        COUNT,
                        "frame {frame:#x} is free with count {} and {holders} holders",
                        info.count
                    );
                }
                FrameUse::Core => {
                    core += 1;
                    holds!(
                        info.count == 1 && holders == 0 && info.owner == NO_OWNER,
                        COUNT,
                        "frame {frame:#x} is the core's with count {}, {holders} holders, owner d{}",
                        info.count,
                        info.owner
                    );
                    holds!(
                        role == Role::Table || (role == Role::None && !ONLY_TABLES),
                        CORE,
                        "frame {frame:#x} is the core's, and found to be {role:?}"
                    );
                }
                FrameUse::Ram | FrameUse::Shared => {
                    let ram = info.frame_use == FrameUse::Ram;
                    let fits = match role {
                        Role::Populated => ram,
                        Role::Shared(_) => !ram,
                        // Held by somebody else than its owner only, or kept by it without a place in its map.
                        Role::None => true,
                        Role::Free | Role::Table => false,
                    };
                    holds!(
                        fits,
                        USE,
                        "frame {frame:#x} is {:?} of d{}, and found to be {role:?}",
                        info.frame_use,
                        info.owner
                    );
                    holds!(
                        info.count == holders && holders != 0,
                        COUNT,
                        "frame {frame:#x} ({:?} of d{}, {role:?}) has count {}, its holders are {holders}: {}",
                        info.frame_use,
                        info.owner,
                        info.count,
                        super::report::Holders {
                            domains,
                            frame: frame as u64
                        }
                    );
                    if ram {
                        if run.0 != info.owner {
                            note(&mut self.owners, run);
                            run = (info.owner, 0);
                        }
                        run.1 += 1;
                    }
                }
            }
            holds!(
                info.frame_use == FrameUse::Free || !state.head,
                FREE,
                "frame {frame:#x} is {:?} and begins a free block",
                info.frame_use
            );
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

fn note(owners: &mut Vec<(u16, u32)>, (owner, count): (u16, u32)) {
    if count == 0 {
        return;
    }
    match owners.iter_mut().find(|(other, _)| *other == owner) {
        Some((_, sum)) => *sum += count,
        None => owners.push((owner, count)),
    }
}

const AREAS: &str = "vcpus: what the core writes for a guest lies in the guest's own pages";

impl<M: Machine> Auditor<M> {
    /// The pages that a domain shares with the core, and those that the core goes on writing for it.
    pub(super) fn count_shared(&mut self, index: usize) -> Result<(), Violation> {
        let domain = &self.domains[index];
        let ledger = &mut self.frames;
        let shared = domain.shared_info.frame();
        ledger.hold(shared, Order::PAGE)?;
        share(ledger, shared, index, domain.id.0)?;
        let mut area = |frame: HostFrame, owner: u16, what: &str, vcpu: u32| {
            holds!(
                owner == domain.id.0,
                AREAS,
                "the {what} of d{} v{vcpu} is in frame {:#x} of d{owner}",
                domain.id.0,
                frame.0
            );
            ledger.hold(frame, Order::PAGE)
        };
        for vcpu in &domain.vcpus {
            let page = {
                let info = vcpu.info.lock();
                (info.page.frame(), info.page.owner())
            };
            area(page.0, page.1, "info", vcpu.index)?;
            let pages = vcpu.runstate.lock().area.as_ref().map(|area| {
                let second = area.second.as_ref().map(|page| (page.frame(), page.owner()));
                [Some((area.first.frame(), area.first.owner())), second]
            });
            for page in pages.into_iter().flatten().flatten() {
                area(page.0, page.1, "run state", vcpu.index)?;
            }
            let page = vcpu
                .time_area
                .lock()
                .as_ref()
                .map(|area| (area.page.frame(), area.page.owner()));
            if let Some(page) = page {
                area(page.0, page.1, "time", vcpu.index)?;
            }
        }
        domain
            .events
            .each_page(|page| area(page.frame(), page.owner(), "event queues", 0))
    }
}

/// Note that a page is one that a domain shares with the core.
pub(super) fn share(ledger: &mut Ledger, frame: HostFrame, index: usize, id: u16) -> Result<(), Violation> {
    if let Err((frame, role)) = ledger.assign(frame, Order::PAGE, Role::Shared(index as u16)) {
        holds!(
            false,
            USE,
            "frame {frame:#x} is shared by the core with d{id} and was found to be {role:?}"
        );
    }
    Ok(())
}
