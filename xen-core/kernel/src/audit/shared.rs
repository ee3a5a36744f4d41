//! Pages that a domain and the core both use: those that the core gave, and those of the domain's that the core goes on
//! writing.

use machine::Machine;
use machine::address::{HostFrame, Order};

use super::frames::{Ledger, Role, USE};
use super::{Auditor, Violation, holds};

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
