//! What the fuzzed frontends' other ends have in common: words of shared pages, and nodes of the store.

use std::sync::atomic::Ordering::Relaxed;

use pv_drivers::ring::Memory;
use pv_drivers::testing::{Pages, World};

use crate::input::Input;

/// Words of a ring's header: the frontend's producer, its wish, the backend's producer, its wish.
const RESPONSE_PRODUCER: usize = 8;
const REQUEST_PRODUCER: usize = 0;
const HEADER: usize = 64;

/// A ring that the frontend has made, as a backend sees it.
pub struct Ring {
    pages: Pages,
    slot: usize,
    slots: u32,
}

impl Ring {
    /// The ring whose grant stands in this node.
    pub fn at(world: &World, node: &str, slot: usize) -> Option<Ring> {
        let reference = world.get(node)?.parse().ok()?;
        let slots = ((4096 - HEADER) / slot).ilog2();
        Some(Ring {
            pages: world.granted(reference)?,
            slot,
            slots: 1 << slots,
        })
    }

    /// Where the next response goes.
    pub fn next(&self) -> usize {
        let index = self.pages.load(RESPONSE_PRODUCER, Relaxed);
        HEADER + (index % self.slots) as usize * self.slot
    }

    /// Whether the frontend has asked for more than it was given.
    pub fn is_asked(&self) -> bool {
        let asked = self.pages.load(REQUEST_PRODUCER, Relaxed);
        asked != self.pages.load(RESPONSE_PRODUCER, Relaxed)
    }

    /// Bytes of a slot.
    pub fn read<const COUNT: usize>(&self, at: usize) -> [u8; COUNT] {
        let mut bytes = [0; COUNT];
        self.pages.copy_out(at, &mut bytes);
        bytes
    }

    /// Writes a response into the next slot, and says that it is there.
    pub fn answer(&self, bytes: &[u8]) {
        self.pages.copy_in(self.next(), bytes);
        let index = self.pages.load(RESPONSE_PRODUCER, Relaxed);
        self.pages
            .store(RESPONSE_PRODUCER, index.wrapping_add(1), Relaxed);
    }

    /// Writes any word: of the header more often than of the slots.
    pub fn scribble(&self, input: &mut Input) {
        let place = input.byte();
        let offset = match place {
            0..128 => usize::from(place % 4) * 4,
            _ => input.number(2) as usize % 1024 * 4,
        };
        let value = match input.byte() {
            width @ 1..=4 => input.number(width.into()) as u32,
            step => self
                .pages
                .load(offset, Relaxed)
                .wrapping_add_signed(i32::from(step as i8)),
        };
        self.pages.store(offset, value, Relaxed);
    }
}

/// A short text for a node: mostly numbers.
pub fn text(input: &mut Input) -> String {
    match input.byte() {
        number @ 0..200 => number.to_string(),
        200..220 => (input.number(8)).to_string(),
        _ => {
            let length = usize::from(input.byte() % 40);
            String::from_utf8_lossy(input.bytes(length)).into_owned()
        }
    }
}
