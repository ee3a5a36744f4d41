//! Requests, from what was asked to a slot of a ring, and back to an outcome.

use hypercall_abi::io::block::{
    DISCARD_SECURE, DiscardRequest, IndirectRequest, MAX_SEGMENTS, Request, Segment, op,
};
use zerocopy::{FromZeros, IntoBytes};

use super::queue::Queue;
use super::{Block, Geometry, PAGE, SECTOR, SECTORS_PER_PAGE, Ticket};
use crate::front::granted::Granted;
use crate::front::{Error, Platform};
use crate::ring::Memory;

impl<P: Platform> Block<P> {
    /// Asks for `sectors` sectors from `sector` on.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::OutOfRange`], [`Error::Disconnected`].
    pub fn submit_read(&mut self, sector: u64, sectors: usize) -> Result<Ticket, Error> {
        self.check(sector, sectors)?;
        self.submit_transfer(op::READ, sector, sectors, PAGE, core::iter::empty())
    }

    /// Writes `data`, whole sectors, from `sector` on. The data is copied before this returns.
    ///
    /// # Errors
    /// As [`Block::submit_read`], and [`Error::ReadOnly`].
    pub fn submit_write(&mut self, sector: u64, data: &[u8]) -> Result<Ticket, Error> {
        if !data.len().is_multiple_of(SECTOR) {
            return Err(Error::OutOfRange {
                start: sector,
                length: data.len() as u64,
                limit: SECTOR as u64,
            });
        }
        let count = data.len() / SECTOR;
        if self.check(sector, count)?.read_only {
            return Err(Error::ReadOnly);
        }
        self.submit_transfer(op::WRITE, sector, count, PAGE, data.chunks(PAGE))
    }

    /// The same with data that does not lie in one piece: `count` pieces of [`SECTOR`] bytes each.
    ///
    /// # Errors
    /// As [`Block::submit_write`].
    pub fn submit_write_sectors<'a>(
        &mut self,
        sector: u64,
        count: usize,
        data: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Ticket, Error> {
        if self.check(sector, count)?.read_only {
            return Err(Error::ReadOnly);
        }
        self.submit_transfer(op::WRITE, sector, count, SECTOR, data)
    }

    /// Makes all writes that are done durable.
    ///
    /// # Errors
    /// [`Error::Unsupported`] by the backend, [`Error::Full`], [`Error::Disconnected`].
    pub fn submit_flush(&mut self) -> Result<Ticket, Error> {
        if !self.geometry.ok_or(Error::Disconnected)?.flush {
            return Err(Error::Unsupported {
                what: "feature-flush-cache",
            });
        }
        let request = Request {
            operation: op::FLUSH_DISKCACHE,
            ..Request::default()
        };
        self.submit(op::FLUSH_DISKCACHE, &[], 0, request)
    }

    /// Says that the content of some sectors is not needed any more; with `secure` that it must not be found again.
    ///
    /// # Errors
    /// As [`Block::submit_flush`], [`Error::OutOfRange`], [`Error::ReadOnly`].
    pub fn submit_discard(&mut self, sector: u64, sectors: u64, secure: bool) -> Result<Ticket, Error> {
        let geometry = self.geometry.ok_or(Error::Disconnected)?;
        if !geometry.discard || secure && !geometry.secure_discard {
            return Err(Error::Unsupported {
                what: if secure {
                    "discard-secure"
                } else {
                    "feature-discard"
                },
            });
        }
        if geometry.read_only {
            return Err(Error::ReadOnly);
        }
        within(&geometry, sector, sectors)?;
        let request = DiscardRequest {
            operation: op::DISCARD,
            flag: if secure { DISCARD_SECURE } else { 0 },
            sector_number: sector,
            number_of_sectors: sectors,
            ..DiscardRequest::default()
        };
        self.submit(op::DISCARD, &[], 0, slot(&request))
    }

    /// Takes a request's outcome: `None` while it is in flight. A read's data is copied to `buffer`, as much as that holds.
    ///
    /// # Errors
    /// [`Error::Failed`], [`Error::Unsupported`]: by the backend. [`Error::Disconnected`]. [`Error::NotInUse`] for a ticket that
    /// was asked for before.
    pub fn finish(&mut self, ticket: Ticket, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        self.finish_pieces(ticket, PAGE, &mut buffer.chunks_mut(PAGE))
    }

    /// The same for a buffer that does not lie in one piece: pieces of [`SECTOR`] bytes each, in their order. How many bytes were
    /// filled.
    ///
    /// # Errors
    /// As [`Block::finish`].
    pub fn finish_sectors<'a>(
        &mut self,
        ticket: Ticket,
        mut buffer: impl Iterator<Item = &'a mut [u8]>,
    ) -> Result<Option<usize>, Error> {
        self.finish_pieces(ticket, SECTOR, &mut buffer)
    }

    /// Fills pieces of `size` bytes, of which a page has a whole number; the last may be shorter.
    pub(super) fn finish_pieces(
        &mut self,
        ticket: Ticket,
        size: usize,
        buffer: &mut dyn Iterator<Item = &mut [u8]>,
    ) -> Result<Option<usize>, Error> {
        self.take_answers();
        let Some(done) = self.flights.take(ticket)? else {
            return Ok(None);
        };
        let outcome = done.outcome.map(|()| {
            let bytes = match done.operation {
                op::READ => done.bytes,
                _ => 0,
            };
            let mut filled = 0;
            if let Some(pages) = self.data.as_ref().and_then(Granted::pages) {
                for (index, piece) in buffer.take(bytes.div_ceil(size)).enumerate() {
                    let length = piece.len().min(size).min(bytes - index * size);
                    if let Some(place) = place_of(&done.pages, index * size) {
                        pages.copy_out(place, &mut piece[..length]);
                        filled += length;
                    }
                }
            }
            Some(filled)
        });
        self.flights.free(&done.pages);
        outcome
    }

    /// Gives a ticket up: its request goes on, and nobody is told what came of it.
    pub fn abandon(&mut self, ticket: Ticket) {
        self.flights.abandon(ticket);
    }

    /// Whether so many sectors from there on can be asked for.
    fn check(&self, sector: u64, sectors: usize) -> Result<Geometry, Error> {
        let geometry = self.geometry.ok_or(Error::Disconnected)?;
        within(&geometry, sector, sectors as u64)?;
        if sectors > geometry.most {
            return Err(Error::OutOfRange {
                start: sector,
                length: sectors as u64,
                limit: geometry.most as u64,
            });
        }
        Ok(geometry)
    }

    /// `data` comes in pieces of `size` bytes, of which a page has a whole number.
    fn submit_transfer<'a>(
        &mut self,
        operation: u8,
        sector: u64,
        sectors: usize,
        size: usize,
        data: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Ticket, Error> {
        let count = sectors.div_ceil(SECTORS_PER_PAGE);
        let granted = self.data.as_ref().ok_or(Error::Disconnected)?;
        let pages = granted.pages().ok_or(Error::Disconnected)?;
        // An indirect request has one page more, of segments: 512 fit, which are more than we make.
        let indirect = count > MAX_SEGMENTS;
        let taken = self
            .flights
            .pages(count + usize::from(indirect), granted.count())
            .ok_or(Error::Full)?;
        for (index, piece) in data.take((sectors * SECTOR).div_ceil(size)).enumerate() {
            if let Some(place) = place_of(&taken, index * size) {
                pages.copy_in(place, &piece[..piece.len().min(size)]);
            }
        }
        let references = granted.references();
        let segment = |index: usize, page: &u16| Segment {
            grant: references.get(usize::from(*page)).copied().unwrap_or(0),
            first_sector: 0,
            last_sector: (sectors - index * SECTORS_PER_PAGE).min(SECTORS_PER_PAGE) as u8 - 1,
            _padding: 0,
        };
        let mut request = Request {
            operation,
            number_of_segments: count as u8,
            sector_number: sector,
            ..Request::default()
        };
        if let (true, Some((list, data))) = (indirect, taken.split_last()) {
            for (index, page) in data.iter().enumerate() {
                let at = usize::from(*list) * PAGE + index * size_of::<Segment>();
                pages.copy_in(at, segment(index, page).as_bytes());
            }
            let mut whole = IndirectRequest {
                operation: op::INDIRECT,
                indirect_operation: operation,
                number_of_segments: count as u16,
                sector_number: sector,
                ..IndirectRequest::default()
            };
            whole.indirect_grants[0] = references.get(usize::from(*list)).copied().unwrap_or(0);
            request = slot(&whole);
        } else {
            for (index, (place, page)) in request.segments.iter_mut().zip(&taken).enumerate() {
                *place = segment(index, page);
            }
        }
        let submitted = self.submit(operation, &taken, sectors * SECTOR, request);
        if submitted.is_err() {
            self.flights.free(&taken);
        }
        submitted
    }

    /// Puts a request into a ring that has room.
    fn submit(
        &mut self,
        operation: u8,
        pages: &[u16],
        bytes: usize,
        mut request: Request,
    ) -> Result<Ticket, Error> {
        if self.geometry.is_none() || self.broken.is_some() {
            return Err(Error::Disconnected);
        }
        let count = self.queues.len();
        let mut order = (0..count).map(|step| (self.next_queue + step) % count.max(1));
        let free = |index: &usize| self.queues.get(*index).is_some_and(Queue::has_room);
        let index = order.find(free).ok_or(Error::Full)?;
        let ticket = self
            .flights
            .begin(operation, index, pages, bytes)
            .ok_or(Error::Full)?;
        self.next_queue = index + 1;
        // In each form of a request the number is at the same place.
        request.id = ticket.id();
        if let Some(queue) = self.queues.get_mut(index) {
            queue.send(&self.platform, &request);
        }
        Ok(ticket)
    }

    /// Takes in answers of all queues. An impossible one breaks the disk: what is in flight fails at once.
    pub(super) fn take_answers(&mut self) {
        for (index, queue) in self.queues.iter_mut().enumerate() {
            if let Err(error) = queue.take_answers(&self.platform, index, &mut self.flights) {
                self.broken.get_or_insert(error);
            }
        }
        if self.broken.is_some() && self.geometry.is_some() {
            self.let_go();
        } else if self.flights.took_answer() {
            self.link.worked();
        }
    }
}

/// Where a request's byte lies in the data pages.
fn place_of(pages: &[u16], byte: usize) -> Option<usize> {
    let page = *pages.get(byte / PAGE)?;
    Some(usize::from(page) * PAGE + byte % PAGE)
}

/// Whether the range lies within the disk, at its sectors' boundaries.
fn within(geometry: &Geometry, sector: u64, sectors: u64) -> Result<(), Error> {
    let unit = u64::from(geometry.sector_size) / SECTOR as u64;
    let inside = sector
        .checked_add(sectors)
        .is_some_and(|end| end <= geometry.sectors);
    if inside && sectors > 0 && sector.is_multiple_of(unit) && sectors.is_multiple_of(unit) {
        return Ok(());
    }
    Err(Error::OutOfRange {
        start: sector,
        length: sectors,
        limit: geometry.sectors,
    })
}

/// A request of another form, as what fills a slot.
fn slot(request: &impl crate::ring::Message) -> Request {
    let mut slot = Request::new_zeroed();
    let bytes = request.as_bytes();
    if let Some(place) = slot.as_mut_bytes().get_mut(..bytes.len()) {
        place.copy_from_slice(bytes);
    }
    slot
}

const _: () = {
    use core::mem::offset_of;
    let id = offset_of!(Request, id);
    assert!(offset_of!(DiscardRequest, id) == id && offset_of!(IndirectRequest, id) == id);
};
