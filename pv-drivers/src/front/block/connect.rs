//! What the two ends of a disk tell each other in the store (`io/blkif.h`, "Feature and Parameter Negotiation").

use hypercall_abi::io::block::{MAX_SEGMENTS, disk_flag};
use hypercall_abi::io::xenbus::State;

use super::queue::Queue;
use super::{Block, Geometry, QUEUES, SECTOR, SECTORS_PER_PAGE, SEGMENTS};
use crate::front::granted::Granted;
use crate::front::store::{Path, Store, path};
use crate::front::xenbus::Phase;
use crate::front::{Error, Platform, Text};

/// Most pages of a ring, as a power of two.
const MOST_ORDER: u32 = 4;
/// The largest sector that makes sense, in bytes.
const LARGEST_SECTOR: u64 = 4096;

impl<P: Platform> Block<P> {
    /// Makes rings and ports and writes them to the store.
    pub(super) fn announce(&mut self, store: &mut Store<P>) -> Result<(), Error> {
        let offered = self.link.offer(store, "multi-queue-max-queues")?;
        let queues = offered.clamp(1, self.config.queues.clamp(1, QUEUES) as u64) as usize;
        let offered = self.link.offer(store, "max-ring-page-order")?;
        let order = offered.min(self.config.ring_order.min(MOST_ORDER).into()) as u32;
        self.prepare(queues, 1 << order)?;
        let (link, rings) = (&self.link, &self.queues);
        let several = offered_several(queues);
        store.transaction(|store, transaction| {
            let front = &link.front;
            if several {
                let node = path(format_args!("{front}/multi-queue-num-queues"))?;
                store.write_number(Some(transaction), &node, queues as u64)?;
            }
            if order > 0 {
                let node = path(format_args!("{front}/ring-page-order"))?;
                store.write_number(Some(transaction), &node, order.into())?;
            }
            for (index, queue) in rings.iter().enumerate() {
                let base = if several {
                    path(format_args!("{front}/queue-{index}"))?
                } else {
                    front.clone()
                };
                for (number, reference) in queue.references().iter().enumerate() {
                    let node = ring_node(&base, order, number)?;
                    store.write_number(Some(transaction), &node, (*reference).into())?;
                }
                let node = path(format_args!("{base}/event-channel"))?;
                store.write_number(Some(transaction), &node, queue.port.unwrap_or(0).into())?;
            }
            for (name, value) in [("protocol", "x86_64-abi"), ("feature-persistent", "1")] {
                let node = path(format_args!("{front}/{name}"))?;
                store.write(Some(transaction), &node, value.as_bytes())?;
            }
            Ok(())
        })?;
        self.link.tell(store, State::Initialised)?;
        self.link.phase = Phase::Announced;
        Ok(())
    }

    /// Pages, grants and ports; what there was before stays where it fits.
    fn prepare(&mut self, queues: usize, ring_pages: usize) -> Result<(), Error> {
        let peer = self.link.peer;
        let fits =
            self.queues.len() == queues && self.queues.iter().all(|queue| queue.fits(ring_pages, peer));
        if !fits {
            for queue in &mut self.queues {
                self.lost_pages += queue.end(&self.platform);
            }
            self.queues.clear();
            for _ in 0..queues {
                let queue = Queue::new(&self.platform, ring_pages, peer)?;
                self.queues.push(queue).map_err(|_| Error::Full)?;
            }
        }
        if self.data.is_none() {
            self.data = Some(Granted::new(&self.platform, self.config.data_pages, peer)?);
        }
        self.queues
            .iter_mut()
            .try_for_each(|queue| queue.start(&self.platform, peer))
    }

    /// What the backend says of the disk.
    pub(super) fn read_geometry(&mut self, store: &mut Store<P>) -> Result<Geometry, Error> {
        let link = &self.link;
        let sector_size = link.demand(store, "sector-size")?;
        let sensible =
            sector_size.is_power_of_two() && (SECTOR as u64..=LARGEST_SECTOR).contains(&sector_size);
        if !sensible {
            return Err(Error::Malformed {
                node: Text::of(b"sector-size"),
                expected: "a power of two from 512 to 4096",
                found: number(sector_size),
            });
        }
        let information = link.offer(store, "info")?;
        let segments = match link.offer(store, "feature-max-indirect-segments")? {
            // One page of the data's is for the list.
            indirect if indirect > MAX_SEGMENTS as u64 => indirect.min(SEGMENTS as u64) as usize,
            _ => MAX_SEGMENTS,
        };
        let pages = self.data.as_ref().map_or(0, Granted::count).saturating_sub(1);
        Ok(Geometry {
            sectors: link.demand(store, "sectors")?,
            sector_size: sector_size as u32,
            read_only: information & u64::from(disk_flag::READ_ONLY) != 0,
            flush: link.offer(store, "feature-flush-cache")? == 1,
            discard: link.offer(store, "feature-discard")? == 1,
            secure_discard: link.offer(store, "discard-secure")? == 1,
            persistent: link.offer(store, "feature-persistent")? == 1,
            most: segments.min(pages) * SECTORS_PER_PAGE,
        })
    }
}

/// Several queues have folders of their own.
fn offered_several(queues: usize) -> bool {
    queues > 1
}

fn ring_node(base: &Path, order: u32, number: usize) -> Result<Path, Error> {
    if order == 0 {
        path(format_args!("{base}/ring-ref"))
    } else {
        path(format_args!("{base}/ring-ref{number}"))
    }
}

/// A number for an error message.
fn number(number: u64) -> Text {
    let mut digits = heapless::String::<20>::new();
    // The longest number has twenty digits.
    let _ = core::fmt::Write::write_fmt(&mut digits, format_args!("{number}"));
    Text::of(digits.as_bytes())
}
