//! What domains tell each other: whom there is, which grants and ports are offered to whom. It stands for the store of a
//! real system, which the core knows nothing of. Notices may be stale: their readers meet the errors.

use hypercall_abi::DomainId;

use crate::list::List;
use crate::numbers::Numbers;

/// Domains that the board has room for.
pub const MOST_DOMAINS: usize = 16;

/// A domain that exists, or did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DomainNotice {
    /// Its number.
    pub id: DomainId,
    /// vCPUs it was made with.
    pub vcpus: u32,
    /// Frames it was given, from frame 0 on.
    pub pages: u64,
    /// Its toolstack has let it run.
    pub started: bool,
}

/// A grant that somebody offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrantNotice {
    /// Whose memory.
    pub granter: DomainId,
    /// By which entry.
    pub reference: u32,
    /// Who may use it.
    pub to: DomainId,
    /// It may be written.
    pub writable: bool,
}

/// A port that waits to be bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortNotice {
    /// Whose port.
    pub owner: DomainId,
    /// Its number there.
    pub port: u32,
    /// Who may bind it.
    pub waits_for: DomainId,
}

/// All notices.
#[derive(Clone, Debug, Default)]
pub struct Noticeboard {
    /// Who there is.
    pub domains: List<DomainNotice, MOST_DOMAINS>,
    /// Numbers of domains that ended.
    pub ended: List<DomainId, 8>,
    /// Offered memory.
    pub grants: List<GrantNotice, 256>,
    /// Offered ports.
    pub ports: List<PortNotice, 96>,
}

impl Noticeboard {
    /// A domain has been made.
    pub fn enter(&mut self, notice: DomainNotice) {
        self.domains.remove(|other| other.id == notice.id);
        self.ended.remove(|&other| other == notice.id);
        self.domains.push(notice);
    }

    /// A domain has ended, and with it all it offered.
    pub fn leave(&mut self, id: DomainId) {
        self.domains.remove(|notice| notice.id == id);
        self.grants
            .remove(|notice| notice.granter == id || notice.to == id);
        self.ports
            .remove(|notice| notice.owner == id || notice.waits_for == id);
        self.ended.remove(|&other| other == id);
        self.ended.push(id);
    }

    /// A domain has been let run.
    pub fn start(&mut self, id: DomainId) {
        for notice in self.domains.iter_mut().filter(|notice| notice.id == id) {
            notice.started = true;
        }
    }

    /// What is known of a domain.
    pub fn domain(&self, id: DomainId) -> Option<DomainNotice> {
        self.domains.iter().find(|notice| notice.id == id).copied()
    }

    /// Somebody else than `me`.
    pub fn other(&self, me: DomainId, numbers: &mut Numbers) -> Option<DomainNotice> {
        self.domains.pick_if(numbers, |notice| notice.id != me)
    }

    /// A grant offered to `me`.
    pub fn grant_for(&self, me: DomainId, writable: bool, numbers: &mut Numbers) -> Option<GrantNotice> {
        self.grants.pick_if(numbers, |notice| {
            notice.to == me && (notice.writable || !writable)
        })
    }

    /// A port that waits for `me`.
    pub fn port_for(&self, me: DomainId, numbers: &mut Numbers) -> Option<PortNotice> {
        self.ports.pick_if(numbers, |notice| notice.waits_for == me)
    }
}
