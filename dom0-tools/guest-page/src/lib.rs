//! A page that a guest shares with a daemon, as memory for the rings of `pv-drivers`.
//!
//! The two ends of a connection and the words beside them lie in one page, so the page is shared within the daemon,
//! too: a clone is the same page. It is given back with the last one.

use control::{DomainId, GrantMapping, GrantReference, LocalStoreRing, PAGE_SIZE, Port, Result};
use pv_drivers::ring::Memory;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// A shared page.
#[derive(Clone)]
pub struct GuestPage(Rc<Backing>);

enum Backing {
    Granted(GrantMapping),
    Local(LocalStoreRing),
    Plain(RefCell<Box<[u8; PAGE_SIZE]>>),
}

impl GuestPage {
    /// Maps a page that a domain granted to us.
    pub fn granted(domain: DomainId, reference: GrantReference) -> Result<Self> {
        Ok(GuestPage(Rc::new(Backing::Granted(GrantMapping::map(
            domain, reference,
        )?))))
    }

    /// Maps the page over which dom0's own kernel speaks to the store, and tells its port.
    pub fn local_store() -> Result<(Self, Port)> {
        let ring = LocalStoreRing::open()?;
        let port = ring.remote_port();
        Ok((GuestPage(Rc::new(Backing::Local(ring))), port))
    }

    /// A page of this process, shared with nobody: for tests that play the guest.
    pub fn plain() -> Self {
        GuestPage(Rc::new(Backing::Plain(RefCell::new(Box::new([0; PAGE_SIZE])))))
    }

    /// Writes one of the words beside the rings.
    pub fn set(&self, offset: usize, value: u32) {
        self.store(offset, value, Ordering::Release);
    }

    /// Reads one of the words beside the rings.
    pub fn get(&self, offset: usize) -> u32 {
        self.load(offset, Ordering::Acquire)
    }

    fn shared(&self) -> std::result::Result<&control::SharedMemory, &RefCell<Box<[u8; PAGE_SIZE]>>> {
        match &*self.0 {
            Backing::Granted(mapping) => Ok(mapping),
            Backing::Local(ring) => Ok(ring),
            Backing::Plain(bytes) => Err(bytes),
        }
    }
}

impl Memory for GuestPage {
    fn length(&self) -> usize {
        PAGE_SIZE
    }

    fn load(&self, offset: usize, order: Ordering) -> u32 {
        match self.shared() {
            Ok(memory) => memory.load_u32(offset, order),
            Err(bytes) => {
                let bytes = bytes.borrow();
                u32::from_ne_bytes([
                    bytes[offset],
                    bytes[offset + 1],
                    bytes[offset + 2],
                    bytes[offset + 3],
                ])
            }
        }
    }

    fn store(&self, offset: usize, value: u32, order: Ordering) {
        match self.shared() {
            Ok(memory) => memory.store_u32(offset, value, order),
            Err(bytes) => bytes.borrow_mut()[offset..offset + 4].copy_from_slice(&value.to_ne_bytes()),
        }
    }

    fn load_byte(&self, offset: usize) -> u8 {
        match self.shared() {
            Ok(memory) => memory.load_u8(offset, Ordering::Relaxed),
            Err(bytes) => bytes.borrow()[offset],
        }
    }

    fn store_byte(&self, offset: usize, value: u8) {
        match self.shared() {
            Ok(memory) => memory.write_bytes(offset, &[value]),
            Err(bytes) => bytes.borrow_mut()[offset] = value,
        }
    }
}

impl fmt::Debug for GuestPage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("GuestPage")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pv_drivers::ring::{ByteConsumer, ByteProducer, CONSOLE_OUTPUT};

    #[test]
    fn both_ends_of_a_ring_share_the_page() {
        let page = GuestPage::plain();
        let mut guest = ByteProducer::attach(CONSOLE_OUTPUT, page.clone()).unwrap();
        let mut daemon = ByteConsumer::attach(CONSOLE_OUTPUT, page.clone()).unwrap();
        assert_eq!(guest.write(b"hello"), Ok(5));
        let mut bytes = [0; 10];
        assert_eq!(daemon.read(&mut bytes), Ok(5));
        assert_eq!(&bytes[..5], b"hello");
    }
}
