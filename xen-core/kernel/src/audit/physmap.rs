//! Physmaps: what each domain reaches, and that it may.
//!
//! Together with the grants' books this is isolation: a frame is writable by its owner, by those to whom it is granted for
//! writing, by the privileged domain that mapped it, and by nobody else.

use machine::Machine;
use machine::address::{GuestFrame, Order};
use machine::memory::{FrameUse, Memory};
use machine::stage_two::audit::Visit;
use machine::stage_two::{EntryKind, Leaf};

use super::frames::{Ledger, Role};
use super::grants::Books;
use super::{Auditor, Violation, holds};

const TABLES: &str = "physmap: tables are well formed, each linked once";
const POPULATED: &str = "physmap: populated frames are the domain's own, each mapped once";
const FOREIGN: &str = "physmap: only the privileged map others' memory without a grant";
const SHARED: &str = "physmap: shared pages are the domain's own";
const GRANT: &str = "physmap: each grant leaf is a mapping on record, with its rights";
const DEVICE: &str = "physmap: devices are no memory";

/// The domain whose map is walked.
struct Walk<'a> {
    id: u16,
    index: usize,
    privileged: bool,
    memory: &'static Memory,
    ledger: &'a mut Ledger,
    books: &'a mut Books,
    tables: u64,
    leaves: u64,
}

impl<M: Machine> Auditor<M> {
    pub(super) fn check_physmap(&mut self, index: usize, memory: &'static Memory) -> Result<(), Violation> {
        let domain = &self.domains[index];
        self.grants.choose(index, domain.id.0)?;
        let tables = domain.physmap.read();
        let mut walk = Walk {
            id: domain.id.0,
            index,
            privileged: domain.privileged,
            memory,
            ledger: &mut self.frames,
            books: &mut self.grants,
            tables: 0,
            leaves: 0,
        };
        tables.walk(&mut |visit| walk.visit(visit))?;
        let Walk {
            tables: found,
            leaves,
            ..
        } = walk;
        holds!(
            found == tables.table_frames(),
            TABLES,
            "d{} has {found} tables and counts {}",
            domain.id.0,
            tables.table_frames()
        );
        drop(tables);
        self.counted.tables += found;
        self.counted.leaves += leaves;
        self.grants.all_mapped(domain.id.0)
    }
}

impl Walk<'_> {
    fn visit(&mut self, visit: Visit) -> Result<(), Violation> {
        let id = self.id;
        match visit {
            Visit::Table(frame) => {
                self.tables += 1;
                let core = self.memory.frame_info(frame).frame_use == FrameUse::Core;
                holds!(
                    core,
                    TABLES,
                    "d{id}'s table at frame {:#x} is not the core's",
                    frame.0
                );
                if let Err((frame, role)) = self.ledger.assign(frame, Order::PAGE, Role::Table) {
                    holds!(
                        false,
                        TABLES,
                        "d{id}'s table at frame {frame:#x} was found to be {role:?}"
                    );
                }
                Ok(())
            }
            Visit::Leaf(at, leaf) => {
                self.leaves += 1;
                self.leaf(at, leaf)
            }
            Visit::Malformed { table, index, entry } => {
                holds!(
                    false,
                    TABLES,
                    "d{id} has {entry:#x} as entry {index} of the table at frame {:#x}",
                    table.0
                );
                Ok(())
            }
        }
    }

    fn leaf(&mut self, at: GuestFrame, leaf: Leaf) -> Result<(), Violation> {
        let id = self.id;
        let info = self.memory.frame_info(leaf.frame);
        let frame = leaf.frame.0;
        if leaf.kind == EntryKind::Device {
            holds!(
                leaf.order == Order::PAGE && info.frame_use == FrameUse::Reserved,
                DEVICE,
                "d{id} maps frame {frame:#x}, which is {:?}, as a device at {:#x}",
                info.frame_use,
                at.0
            );
            return Ok(());
        }
        // A superpage's frames are each looked at when the ledger is closed; most is said by the first.
        self.ledger.hold(leaf.frame, leaf.order)?;
        match leaf.kind {
            EntryKind::Populated => {
                for step in 0..leaf.order.frames() {
                    let info = self.memory.frame_info(machine::address::HostFrame(frame + step));
                    holds!(
                        info.owner == id && info.frame_use == FrameUse::Ram,
                        POPULATED,
                        "d{id} has frame {:#x}, {:?} of d{}, as its own at {:#x}",
                        frame + step,
                        info.frame_use,
                        info.owner,
                        at.0 + step
                    );
                }
                if let Err((frame, role)) = self.ledger.assign(leaf.frame, leaf.order, Role::Populated) {
                    holds!(
                        false,
                        POPULATED,
                        "d{id} has frame {frame:#x} at {:#x}, which was found to be {role:?}",
                        at.0
                    );
                }
            }
            EntryKind::Foreign => {
                holds!(
                    self.privileged,
                    FOREIGN,
                    "d{id} maps frame {frame:#x} of d{} at {:#x}",
                    info.owner,
                    at.0
                );
                holds!(
                    matches!(info.frame_use, FrameUse::Ram | FrameUse::Shared) && info.owner != id,
                    FOREIGN,
                    "d{id} maps frame {frame:#x}, {:?} of d{}, as another's at {:#x}",
                    info.frame_use,
                    info.owner,
                    at.0
                );
            }
            EntryKind::Shared => {
                let role = self.ledger.role(leaf.frame);
                holds!(
                    role == Role::Shared(self.index as u16) && leaf.order == Order::PAGE,
                    SHARED,
                    "d{id} maps frame {frame:#x} of d{}, found to be {role:?}, as shared at {:#x}",
                    info.owner,
                    at.0
                );
            }
            EntryKind::Grant => {
                let recorded = self.books.mapped(at, leaf.frame, leaf.permissions.write);
                holds!(
                    recorded && leaf.order == Order::PAGE && !leaf.permissions.execute,
                    GRANT,
                    "d{id} maps frame {frame:#x} of d{} at {:#x} ({}); on record there: {}",
                    info.owner,
                    at.0,
                    if leaf.permissions.write {
                        "writable"
                    } else {
                        "read only"
                    },
                    self.books.on_record(at)
                );
                holds!(
                    info.frame_use == FrameUse::Ram,
                    GRANT,
                    "d{id} maps frame {frame:#x} by a grant, which is {:?}",
                    info.frame_use
                );
            }
            EntryKind::Device => {}
        }
        Ok(())
    }
}
