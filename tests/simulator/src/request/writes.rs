//! What a vCPU writes to its memory before it calls: some pieces, in one buffer of a fixed size.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of all pieces together.
pub const MOST_BYTES: usize = 16 * 1024;
/// Pieces.
pub const MOST_PIECES: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Piece {
    address: u64,
    start: u32,
    end: u32,
}

/// Pieces of memory and where they go.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    pieces: heapless::Vec<Piece, MOST_PIECES>,
    bytes: heapless::Vec<u8, MOST_BYTES>,
}

impl Writes {
    /// Add a piece; `false` when there is no room, and then it is left out.
    pub fn add(&mut self, address: u64, bytes: &[u8]) -> bool {
        let start = self.bytes.len();
        if self.pieces.is_full() || self.bytes.extend_from_slice(bytes).is_err() {
            return false;
        }
        let piece = Piece {
            address,
            start: start as u32,
            end: self.bytes.len() as u32,
        };
        self.pieces.push(piece).is_ok()
    }

    /// Add a value.
    pub fn put<T: IntoBytes + Immutable + ?Sized>(&mut self, address: u64, value: &T) -> bool {
        self.add(address, value.as_bytes())
    }

    /// Each piece: its guest-physical address and its bytes.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pieces.iter().map(|piece| {
            (
                piece.address,
                &self.bytes[piece.start as usize..piece.end as usize],
            )
        })
    }

    /// The value that was written last at an address.
    pub fn get<T: FromBytes>(&self, address: u64) -> Option<T> {
        let piece = self.pieces.iter().rev().find(|piece| {
            address >= piece.address && address - piece.address < u64::from(piece.end - piece.start)
        })?;
        let from = piece.start as usize + (address - piece.address) as usize;
        let bytes = self.bytes.get(from..piece.end as usize)?;
        T::read_from_prefix(bytes).ok().map(|(value, _)| value)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        MOST_BYTES - self.bytes.len()
    }

    /// Forget all.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_found_by_their_address() {
        let mut writes = Writes::default();
        assert!(writes.put(0x1000, &[1u32, 2, 3]));
        assert!(writes.put(0x1004, &9u32));
        assert_eq!(writes.get::<u32>(0x1000), Some(1));
        assert_eq!(writes.get::<u32>(0x1004), Some(9), "the last one counts");
        assert_eq!(writes.get::<u64>(0x1008), None, "not all of it was written");
        assert_eq!(writes.iter().count(), 2);
        assert!(!writes.add(0, &[0; MOST_BYTES]));
        assert_eq!(writes.iter().count(), 2);
    }
}
