//! Receiving: pages that the backend fills, and frames of one or more of them.

use hypercall_abi::DomainId;
use hypercall_abi::grant_table::GrantReference;
use hypercall_abi::io::net::{
    EXTRA_FLAG_MORE, ExtraInfo, ReceiveRequest, ReceiveResponse, SLOTS_MIN, extra_kind, receive_flag,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::front::granted::Granted;
use crate::front::{Error, Platform};
use crate::ring::{FrontRing, Memory};

const PAGE: usize = 4096;
/// Slots of the ring: a page holds so many.
const SLOTS: usize = 256;
/// Most slots of a frame: its pieces, and a slot of each kind of extra information.
const MOST: usize = SLOTS_MIN + extra_kind::COUNT as usize;

/// A frame that was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Its bytes in the caller's buffer.
    pub length: usize,
    /// The checksum of TCP or UDP was left out: there was no wire on which it could have been damaged. To be filled in by who passes it on.
    pub checksum_blank: bool,
    /// The checksum was looked at and is right, or was left out.
    pub checksum_good: bool,
    /// TCP's bytes in each frame that this one stands for; zero for an ordinary one.
    pub segment_size: u16,
}

/// A slot that was answered, with the page that belonged to it.
#[derive(Clone, Copy)]
struct Piece {
    page: u16,
    response: ReceiveResponse,
    extra: bool,
}

pub struct Receive<P: Platform> {
    ring: Option<FrontRing<ReceiveRequest, ReceiveResponse, P::Pages>>,
    ring_pages: Granted<P>,
    data: Granted<P>,
    /// Which page was posted in which slot. Answers come in the order of the slots.
    posted: [u16; SLOTS],
    /// The next slot to post in, and the next one to be answered.
    next: u32,
    answered: u32,
    /// What is there of a frame.
    pieces: heapless::Vec<Piece, MOST>,
    /// Pages to be posted again.
    idle: heapless::Vec<u16, SLOTS>,
}

impl<P: Platform> Receive<P> {
    pub fn new(platform: &P, pages: usize, peer: DomainId) -> Result<Self, Error> {
        let mut ring_pages = Granted::new(platform, 1, peer)?;
        match Granted::new(platform, pages, peer) {
            Ok(data) => Ok(Receive {
                ring: None,
                ring_pages,
                data,
                posted: [0; SLOTS],
                next: 0,
                answered: 0,
                pieces: heapless::Vec::new(),
                idle: heapless::Vec::new(),
            }),
            Err(error) => {
                ring_pages.end(platform);
                Err(error)
            }
        }
    }

    /// An empty ring, with all pages posted.
    pub fn start(&mut self) -> Result<(), Error> {
        self.stop();
        let pages = self.ring_pages.lend().ok_or(Error::Disconnected)?;
        self.ring = Some(FrontRing::initialise(pages)?);
        (self.next, self.answered) = (0, 0);
        self.pieces.clear();
        self.idle = (0..self.data.count() as u16).collect();
        // The backend will be notified when it is told of the ring.
        self.give_back();
        Ok(())
    }

    pub fn stop(&mut self) {
        if let Some(ring) = self.ring.take() {
            self.ring_pages.take_back(ring.into_memory());
        }
    }

    pub fn end(&mut self, platform: &P) -> usize {
        self.stop();
        self.ring_pages.end(platform) + self.data.end(platform)
    }

    pub fn fits(&self, pages: usize, peer: DomainId) -> bool {
        self.data.fits(pages, peer)
    }

    pub fn reference(&self) -> GrantReference {
        self.ring_pages.references().first().copied().unwrap_or(0)
    }

    /// Posts pages that are not in use; whether the backend wants to know.
    pub fn give_back(&mut self) -> bool {
        let Some(ring) = &mut self.ring else {
            return false;
        };
        let mut posted = false;
        while let Some(page) = self.idle.pop() {
            let request = ReceiveRequest {
                id: page,
                grant: self
                    .data
                    .references()
                    .get(usize::from(page))
                    .copied()
                    .unwrap_or(0),
                ..ReceiveRequest::default()
            };
            if ring.push(&request).is_err() {
                // There is room for it: it was in the ring before.
                let _ = self.idle.push(page);
                break;
            }
            self.posted[self.next as usize % SLOTS] = page;
            self.next = self.next.wrapping_add(1);
            posted = true;
        }
        posted && ring.publish()
    }

    /// The next whole frame; frames that are broken or do not fit are counted and passed over.
    pub fn receive(&mut self, buffer: &mut [u8], dropped: &mut u64) -> Result<Option<Received>, Error> {
        while self.collect()? {
            let outcome = self.assemble(buffer);
            let pages = self.pieces.iter().map(|piece| piece.page);
            // As many as there are pages.
            self.idle.extend(pages);
            self.pieces.clear();
            match outcome? {
                Some(received) => return Ok(Some(received)),
                None => *dropped += 1,
            }
        }
        Ok(None)
    }

    /// Takes in slots until a frame is whole: true. False where the rest is not there yet; then asks for an event.
    fn collect(&mut self) -> Result<bool, Error> {
        let Some(ring) = &mut self.ring else {
            return Ok(false);
        };
        loop {
            let Some(response) = ring.pop()? else {
                if ring.announce()? {
                    continue;
                }
                return Ok(false);
            };
            let page = self.posted[self.answered as usize % SLOTS];
            self.answered = self.answered.wrapping_add(1);
            let extra = expects_extra(&self.pieces);
            if !extra && response.id != page {
                return Err(Error::Protocol {
                    what: "the number of a received piece",
                    found: response.id.into(),
                    expected: page.into(),
                });
            }
            let piece = Piece {
                page,
                response,
                extra,
            };
            if self.pieces.push(piece).is_err() {
                return Err(Error::Protocol {
                    what: "the number of a frame's pieces",
                    found: MOST as u64 + 1,
                    expected: MOST as u64,
                });
            }
            if is_whole(&self.pieces) {
                return Ok(true);
            }
        }
    }

    /// Copies a frame's pieces. `None` where the backend says that it is broken, or it does not fit.
    fn assemble(&self, buffer: &mut [u8]) -> Result<Option<Received>, Error> {
        let mut received = Received::default();
        let mut good = true;
        for (index, piece) in self.pieces.iter().enumerate() {
            if piece.extra {
                let extra = extra_of(&piece.response);
                if extra.kind == extra_kind::SEGMENTATION {
                    received.segment_size = extra.details[0];
                }
                continue;
            }
            let Ok(length) = usize::try_from(piece.response.status) else {
                good = false;
                continue;
            };
            let offset = usize::from(piece.response.offset);
            if offset + length > PAGE {
                return Err(Error::Protocol {
                    what: "the end of a received piece in its page",
                    found: (offset + length) as u64,
                    expected: PAGE as u64,
                });
            }
            if index == 0 {
                received.checksum_blank = piece.response.flags & receive_flag::CHECKSUM_BLANK != 0;
                let validated = piece.response.flags & receive_flag::DATA_VALIDATED != 0;
                received.checksum_good = received.checksum_blank || validated;
            }
            let place = buffer.get_mut(received.length..received.length + length);
            match (place, self.data.pages()) {
                (Some(place), Some(pages)) => pages.copy_out(usize::from(piece.page) * PAGE + offset, place),
                _ => good = false,
            }
            received.length += length;
        }
        Ok((good && received.length > 0).then_some(received))
    }
}

/// A slot seen as extra information.
fn extra_of(response: &ReceiveResponse) -> ExtraInfo {
    ExtraInfo::read_from_bytes(response.as_bytes()).unwrap_or_default()
}

/// Is the next slot one of extra information? It is behind a first piece that says so, and behind another one that does.
fn expects_extra(pieces: &[Piece]) -> bool {
    match pieces {
        [first] => first.response.flags & receive_flag::EXTRA_INFO != 0,
        [_, .., last] => last.extra && extra_of(&last.response).flags & EXTRA_FLAG_MORE != 0,
        [] => false,
    }
}

fn is_whole(pieces: &[Piece]) -> bool {
    let last_data = pieces.iter().rev().find(|piece| !piece.extra);
    !expects_extra(pieces)
        && last_data.is_some_and(|piece| piece.response.flags & receive_flag::MORE_DATA == 0)
}
