//! Sending: a frame's pieces, behind the first of them what else is to be known, and pages that come back.

use hypercall_abi::DomainId;
use hypercall_abi::grant_table::GrantReference;
use hypercall_abi::io::net::{
    ExtraInfo, SLOTS_MIN, TransmitRequest, TransmitResponse, extra_kind, segmentation, status, transmit_flag,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{Address, MOST, Offer, checksum};
use crate::front::granted::{Granted, MOST as MOST_PAGES};
use crate::front::{Error, Platform};
use crate::ring::{FrontRing, Memory};

const PAGE: usize = 4096;

/// A frame to send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame<'a> {
    /// From the Ethernet header on, without checksum.
    pub bytes: &'a [u8],
    /// The checksum of TCP or UDP was left out: the backend is to fill it in. The driver writes what it needs for that (the
    /// pseudo-header's sum) into its copy.
    pub checksum_blank: bool,
    /// TCP's bytes in each frame that the backend is to cut this one into; zero sends it as it is.
    pub segment_size: u16,
}

impl Frame<'_> {
    /// Whether the backend takes it; the slots that it needs.
    pub(super) fn check(&self, offer: &Offer) -> Result<usize, Error> {
        let length = self.bytes.len();
        let pieces = length.div_ceil(PAGE);
        if length > MOST || pieces > SLOTS_MIN {
            return Err(Error::TooLong { length, limit: MOST });
        }
        if length < checksum::ETHERNET {
            return Err(Error::OutOfRange {
                start: 0,
                length: length as u64,
                limit: checksum::ETHERNET as u64,
            });
        }
        let v6 = checksum::is_v6(self.bytes);
        let missing = if pieces > 1 && !offer.scatter_gather {
            Some("feature-sg")
        } else if self.segment_size > 0 && v6 && !offer.segmentation_v6 {
            Some("feature-gso-tcpv6")
        } else if self.segment_size > 0 && !v6 && !offer.segmentation_v4 {
            Some("feature-gso-tcpv4")
        } else if self.checksum_blank && v6 && !offer.checksum_v6 {
            Some("feature-ipv6-csum-offload")
        } else if self.checksum_blank && !v6 && !offer.checksum_v4 {
            Some("checksums (feature-no-csum-offload)")
        } else {
            None
        };
        match missing {
            Some(what) => Err(Error::Unsupported { what }),
            None => Ok(pieces + usize::from(self.segment_size > 0)),
        }
    }
}

pub struct Transmit<P: Platform> {
    ring: Option<FrontRing<TransmitRequest, TransmitResponse, P::Pages>>,
    ring_pages: Granted<P>,
    data: Granted<P>,
    /// A bit for each page that is on its way.
    used: [u64; MOST_PAGES / 64],
    /// Slots of extra information that were not answered.
    extras: u32,
}

impl<P: Platform> Transmit<P> {
    pub fn new(platform: &P, pages: usize, peer: DomainId) -> Result<Self, Error> {
        let mut ring_pages = Granted::new(platform, 1, peer)?;
        match Granted::new(platform, pages, peer) {
            Ok(data) => Ok(Transmit {
                ring: None,
                ring_pages,
                data,
                used: [0; MOST_PAGES / 64],
                extras: 0,
            }),
            Err(error) => {
                ring_pages.end(platform);
                Err(error)
            }
        }
    }

    pub fn start(&mut self) -> Result<(), Error> {
        self.stop();
        let pages = self.ring_pages.lend().ok_or(Error::Disconnected)?;
        self.ring = Some(FrontRing::initialise(pages)?);
        (self.used, self.extras) = ([0; MOST_PAGES / 64], 0);
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

    /// Whether there is room for so many slots, each with a page.
    pub fn has_room(&self, slots: usize) -> bool {
        let used: u32 = self.used.iter().map(|word| word.count_ones()).sum();
        let pages = self.data.count().saturating_sub(used as usize);
        let ring = self.ring.as_ref().map_or(0, FrontRing::free) as usize;
        pages >= slots && ring >= slots
    }

    /// Puts a frame into the ring; `has_room` was asked before. Whether the backend is to be notified.
    pub fn send(&mut self, frame: &Frame<'_>) -> Result<bool, Error> {
        let pieces = frame.bytes.len().div_ceil(PAGE);
        for (index, piece) in frame.bytes.chunks(PAGE).enumerate() {
            let page = self.take_page().ok_or(Error::Full)?;
            let first = index == 0;
            let at = usize::from(page) * PAGE;
            let pages = self.data.pages().ok_or(Error::Disconnected)?;
            pages.copy_in(at, piece);
            let mut flags = 0;
            if index + 1 < pieces {
                flags |= transmit_flag::MORE_DATA;
            }
            if first && frame.checksum_blank {
                flags |= transmit_flag::CHECKSUM_BLANK | transmit_flag::DATA_VALIDATED;
                if let Some((place, sum)) = checksum::to_be_completed(frame.bytes) {
                    pages.copy_in(at + place, &sum);
                }
            }
            if first && frame.segment_size > 0 {
                flags |= transmit_flag::EXTRA_INFO;
            }
            let request = TransmitRequest {
                grant: self
                    .data
                    .references()
                    .get(usize::from(page))
                    .copied()
                    .unwrap_or(0),
                offset: 0,
                flags,
                id: page,
                // The first slot has the size of the whole frame.
                size: if first { frame.bytes.len() } else { piece.len() } as u16,
            };
            self.push(&request)?;
            if first && frame.segment_size > 0 {
                let kind = if checksum::is_v6(frame.bytes) {
                    segmentation::TCP_V6
                } else {
                    segmentation::TCP_V4
                };
                self.push_extra(extra_kind::SEGMENTATION, [frame.segment_size, kind.into(), 0])?;
            }
        }
        self.publish()
    }

    /// Asks for a multicast address, or not any more: a request without data, and the address behind it.
    pub fn filter(&mut self, kind: u8, address: Address) -> Result<bool, Error> {
        let page = self.take_page().ok_or(Error::Full)?;
        self.push(&TransmitRequest {
            flags: transmit_flag::EXTRA_INFO,
            id: page,
            ..TransmitRequest::default()
        })?;
        let (words, _) = address.as_chunks::<2>();
        let mut details = [0; 3];
        for (place, word) in details.iter_mut().zip(words) {
            *place = u16::from_ne_bytes(*word);
        }
        self.push_extra(kind, details)?;
        self.publish()
    }

    /// Takes in answers, no more than were asked for. Asks for an event for the next where there is no room for a large frame:
    /// who sends is not woken for each frame that is gone.
    pub fn take_answers(&mut self, dropped: &mut u64) -> Result<(), Error> {
        let Some(ring) = &mut self.ring else {
            return Ok(());
        };
        loop {
            while let Some(response) = ring.pop()? {
                if response.status == status::NULL {
                    self.extras = self.extras.checked_sub(1).ok_or(Error::Protocol {
                        what: "the number of answers to extra information",
                        found: 1,
                        expected: 0,
                    })?;
                    continue;
                }
                let (word, bit) = (usize::from(response.id) / 64, 1 << (response.id % 64));
                match self.used.get_mut(word) {
                    Some(word) if *word & bit != 0 => *word &= !bit,
                    _ => {
                        return Err(Error::Protocol {
                            what: "the number of an answer (nothing like it was sent)",
                            found: response.id.into(),
                            expected: self.data.count() as u64,
                        });
                    }
                }
                if response.status != status::OKAY {
                    *dropped += 1;
                }
            }
            let used: u32 = self.used.iter().map(|word| word.count_ones()).sum();
            let roomy = self.data.count().saturating_sub(used as usize) > SLOTS_MIN
                && ring.free() as usize > SLOTS_MIN;
            if roomy || !ring.announce()? {
                return Ok(());
            }
        }
    }

    fn take_page(&mut self) -> Option<u16> {
        let page = (0..self.data.count()).find(|page| self.used[page / 64] >> (page % 64) & 1 == 0)?;
        self.used[page / 64] |= 1 << (page % 64);
        Some(page as u16)
    }

    fn push(&mut self, request: &TransmitRequest) -> Result<(), Error> {
        let ring = self.ring.as_mut().ok_or(Error::Disconnected)?;
        ring.push(request).map_err(|_| Error::Full)
    }

    fn push_extra(&mut self, kind: u8, details: [u16; 3]) -> Result<(), Error> {
        let extra = ExtraInfo {
            kind,
            flags: 0,
            details,
        };
        let mut slot = TransmitRequest::new_zeroed();
        if let Some(place) = slot.as_mut_bytes().get_mut(..size_of::<ExtraInfo>()) {
            place.copy_from_slice(extra.as_bytes());
        }
        self.push(&slot)?;
        self.extras += 1;
        Ok(())
    }

    fn publish(&mut self) -> Result<bool, Error> {
        Ok(self.ring.as_mut().ok_or(Error::Disconnected)?.publish())
    }
}
