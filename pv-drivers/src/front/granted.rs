//! Pages that are granted once and stay so, for as long as the device lives.

use hypercall_abi::DomainId;
use hypercall_abi::grant_table::GrantReference;

use super::{Access, Error, Platform};

/// Most pages in one piece.
pub const MOST: usize = 256;

/// Pages with a grant each, all to one domain, to read and to write.
pub struct Granted<P: Platform> {
    /// Absent while a ring has them.
    pages: Option<P::Pages>,
    references: heapless::Vec<GrantReference, MOST>,
    peer: DomainId,
}

impl<P: Platform> Granted<P> {
    /// Takes `count` pages and grants them.
    pub fn new(platform: &P, count: usize, peer: DomainId) -> Result<Self, Error> {
        let count = count.min(MOST);
        let mut granted = Granted {
            pages: Some(platform.allocate(count)?),
            references: heapless::Vec::new(),
            peer,
        };
        for index in 0..count {
            let frame = match &granted.pages {
                Some(pages) => platform.frame(pages, index),
                None => break,
            };
            match platform.grant(peer, frame, Access::ReadWrite) {
                // There is room: `count` was bounded.
                Ok(reference) => drop(granted.references.push(reference)),
                Err(error) => {
                    granted.end(platform);
                    return Err(error);
                }
            }
        }
        Ok(granted)
    }

    /// Whether these are `count` pages granted to `peer`.
    pub fn fits(&self, count: usize, peer: DomainId) -> bool {
        self.references.len() == count.min(MOST) && self.peer == peer
    }

    /// How many pages there are.
    pub fn count(&self) -> usize {
        self.references.len()
    }

    /// The pages' grants, in their order.
    pub fn references(&self) -> &[GrantReference] {
        &self.references
    }

    /// The pages, while nobody else has them.
    pub fn pages(&self) -> Option<&P::Pages> {
        self.pages.as_ref()
    }

    /// Lends the pages to a ring.
    pub fn lend(&mut self) -> Option<P::Pages> {
        self.pages.take()
    }

    /// Takes them back.
    pub fn take_back(&mut self, pages: P::Pages) {
        self.pages = Some(pages);
    }

    /// Ends the grants and gives the pages back. What the other domain still has mapped stays out of use for ever: how
    /// many pages that is.
    pub fn end(&mut self, platform: &P) -> usize {
        let kept = self
            .references
            .iter()
            .filter(|reference| !platform.revoke(**reference))
            .count();
        let pages = self.pages.take();
        let count = core::mem::take(&mut self.references).len();
        match pages {
            Some(pages) if kept == 0 => {
                platform.release(pages);
                0
            }
            pages => {
                // Not dropped: whoever implements pages may reuse what is dropped.
                core::mem::forget(pages);
                count
            }
        }
    }
}
