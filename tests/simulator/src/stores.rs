//! What domains write without asking: grants, and the pages that they share with the core, where everything can be
//! tampered with at any moment.

use hypercall_abi::DomainId;
use hypercall_abi::event_channel::{FifoControlBlock, fifo};
use hypercall_abi::grant_table::{GrantEntryV1, entry_flag, reserved};
use zerocopy::{Immutable, IntoBytes};

use crate::host::paging::Tables;
use crate::knowledge::{ENTRIES, Offer, Use};
use crate::noticeboard::GrantNotice;
use crate::request::Maker;

/// Bytes of the longest store.
pub const MOST_BYTES: usize = 128;

/// One store.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// Where: a guest-physical address.
    pub address: u64,
    /// What.
    pub bytes: heapless::Vec<u8, MOST_BYTES>,
}

impl Store {
    fn put<T: IntoBytes + Immutable>(&mut self, address: u64, value: &T) -> bool {
        self.address = address;
        self.bytes.clear();
        self.bytes.extend_from_slice(value.as_bytes()).is_ok()
    }
}

/// Make one; `false` when the domain has no page of the kind that was chosen.
pub fn make(maker: &mut Maker<'_>, store: &mut Store) -> bool {
    match maker.numbers.below(32) {
        0..14 => grant(maker, store),
        14..18 => tamper_with_grant(maker, store),
        18..22 => event_word(maker, store),
        22..24 => control_block(maker, store),
        24..28 => shared_info(maker, store),
        28 => area(maker, store),
        29 => page_table(maker, store),
        _ => anywhere(maker, store),
    }
}

/// An entry of the table that is not one of those which the toolstack fills in.
fn any_reference(maker: &mut Maker<'_>) -> u32 {
    let frame = if maker.knowledge.table[1] != 0 && maker.numbers.chance(1, 4) {
        ENTRIES
    } else {
        0
    };
    frame + reserved::COUNT + maker.numbers.below(64) as u32
}

/// Lend a frame to somebody.
fn grant(maker: &mut Maker<'_>, store: &mut Store) -> bool {
    let reference = any_reference(maker);
    let Some(address) = maker.knowledge.entry_address(reference) else {
        return false;
    };
    let to = if maker.numbers.chance(1, 16) {
        maker.knowledge.id
    } else {
        maker.peer()
    };
    let valid = maker.frame_of(Use::Memory);
    let frame = maker.frame(valid);
    let writable = maker.numbers.chance(2, 3);
    let read_only = if writable { 0 } else { entry_flag::READ_ONLY };
    let me = maker.knowledge.id;
    maker
        .knowledge
        .offers
        .remove(|offer| offer.reference == reference);
    maker
        .board
        .grants
        .remove(|notice| (notice.granter, notice.reference) == (me, reference));
    maker.knowledge.offers.push(Offer {
        reference,
        to,
        frame,
        writable,
    });
    maker.board.grants.push(GrantNotice {
        granter: me,
        reference,
        to,
        writable,
    });
    store.put(
        address,
        &GrantEntryV1 {
            flags: entry_flag::PERMIT_ACCESS | read_only,
            domain: to,
            frame: frame as u32,
        },
    )
}

/// Change an entry that may be in use.
fn tamper_with_grant(maker: &mut Maker<'_>, store: &mut Store) -> bool {
    let offer = maker.knowledge.offers.pick(maker.numbers);
    let reference = offer.map_or(8, |offer| offer.reference);
    let Some(address) = maker.knowledge.entry_address(reference) else {
        return false;
    };
    let (to, frame) = offer.map_or((DomainId(0), 0), |offer| (offer.to, offer.frame));
    match maker.numbers.below(6) {
        // Taken back.
        0 | 1 => {
            let me = maker.knowledge.id;
            maker
                .board
                .grants
                .remove(|notice| (notice.granter, notice.reference) == (me, reference));
            maker
                .knowledge
                .offers
                .remove(|offer| offer.reference == reference);
            store.put(address, &0u16)
        }
        2 => {
            let flags = maker.numbers.pick(&[
                entry_flag::PERMIT_ACCESS,
                entry_flag::PERMIT_ACCESS | entry_flag::READ_ONLY,
                entry_flag::ACCEPT_TRANSFER,
                entry_flag::TRANSITIVE,
                entry_flag::READING | entry_flag::WRITING,
                entry_flag::PERMIT_ACCESS | entry_flag::SUB_PAGE,
                u16::MAX,
            ]);
            store.put(address, &flags)
        }
        // To somebody else.
        3 => {
            let other = maker.peer();
            store.put(address + 2, &other.0)
        }
        // Another frame.
        4 => {
            let frame = maker.frame_of(Use::Memory);
            store.put(address + 4, &(frame as u32))
        }
        // As it was.
        _ => store.put(
            address,
            &GrantEntryV1 {
                flags: entry_flag::PERMIT_ACCESS,
                domain: to,
                frame: frame as u32,
            },
        ),
    }
}

/// Take an event off its queue, mask it, or write nonsense into its word.
fn event_word(maker: &mut Maker<'_>, store: &mut Store) -> bool {
    let port = maker
        .knowledge
        .ports
        .pick(maker.numbers)
        .map_or(1, |own| own.port);
    let mut pages = maker.knowledge.event_pages.iter();
    let Some(page) = pages.nth((port / fifo::WORDS_PER_PAGE) as usize) else {
        return false;
    };
    let address = (page << 12).wrapping_add(u64::from(port % fifo::WORDS_PER_PAGE) * 4);
    let value = match maker.numbers.below(8) {
        0..4 => 0,
        4 => 1 << fifo::MASKED,
        5 => 1 << fifo::PENDING | 1 << fifo::LINKED | port,
        6 => 1 << fifo::LINKED | 1 << fifo::BUSY,
        _ => maker.numbers.next() as u32,
    };
    store.put(address, &value)
}

fn control_block(maker: &mut Maker<'_>, store: &mut Store) -> bool {
    let Some((frame, offset)) = maker.knowledge.control_blocks.pick(maker.numbers) else {
        return false;
    };
    let address = (frame << 12).wrapping_add(u64::from(offset));
    if maker.numbers.chance(3, 4) {
        // Seen.
        return store.put(address, &0u32);
    }
    let mut block = FifoControlBlock {
        ready: maker.numbers.next() as u32,
        ..FifoControlBlock::default()
    };
    block.head.fill(maker.numbers.below(64) as u32);
    store.put(address, &block)
}

/// The 2-level ABI's bits, and the vCPUs' own.
fn shared_info(maker: &mut Maker<'_>, store: &mut Store) -> bool {
    const PENDING: u64 = 2048;
    const MASK: u64 = 2560;
    let frame = maker.knowledge.shared_info;
    if frame == 0 {
        return false;
    }
    let vcpu = u64::from(maker.any_vcpu());
    let word = if maker.numbers.chance(7, 8) {
        0
    } else {
        maker.numbers.below(64)
    };
    let value = maker
        .numbers
        .pick(&[0, 0, 0, u64::MAX, 1 << 5, 0x5555_5555_5555_5555]);
    let page = frame << 12;
    match maker.numbers.below(8) {
        // Upcall seen, selector taken.
        0..3 => store.put(page + vcpu * 64, &[0u64, 0]),
        3 => store.put(page + vcpu * 64, &[maker.numbers.next(), value]),
        4 | 5 => store.put(page + PENDING + word * 8, &value),
        6 => store.put(page + MASK + word * 8, &value),
        _ => {
            let address = page + maker.numbers.below(512) * 8;
            store.put(address, &maker.numbers.next())
        }
    }
}

/// An entry of one's own page tables ([`Tables`]), which the core walks at the same time: spoilt, or as it was.
fn page_table(maker: &mut Maker<'_>, store: &mut Store) -> bool {
    const USER_WRITABLE: u64 = 7;
    let Some(tables) = Tables::of(maker.knowledge.frames.pages()) else {
        return false;
    };
    // The first entry of a table that leads to the next one, or a page's own entry.
    let table = maker.numbers.below(5);
    let (entry, whole) = if table == 4 {
        let frame = maker.knowledge.scratch(maker.vcpu) + maker.numbers.below(4);
        (frame % 512, frame << 12)
    } else {
        (0, tables.frame(table + 1))
    };
    let hole = maker.frame_of(Use::Hole) << 12;
    // The privileged domain's never lead to what somebody else wrote: it could be a request to shut itself down.
    let kinds = if maker.knowledge.privileged { 3 } else { 7 };
    let value = match maker.numbers.below(16) {
        8.. => whole | USER_WRITABLE,
        kind => match kind % kinds {
            0 => whole,
            1 => whole | 1,
            2 => hole | USER_WRITABLE,
            3 => tables.frame(table) | USER_WRITABLE,
            4 => maker.frame_of(Use::Grant) << 12 | USER_WRITABLE,
            5 => maker.numbers.next() | 1,
            _ => maker.knowledge.shared_info << 12 | USER_WRITABLE,
        },
    };
    store.put(tables.frame(table) + entry * 8, &value)
}

/// A place that the core writes to.
fn area(maker: &mut Maker<'_>, store: &mut Store) -> bool {
    let Some(address) = maker.knowledge.areas.pick(maker.numbers) else {
        return false;
    };
    let value = if maker.numbers.chance(1, 2) {
        0
    } else {
        maker.numbers.next()
    };
    store.put(address, &[value; 4])
}

/// Some memory, one's own or another's.
fn anywhere(maker: &mut Maker<'_>, store: &mut Store) -> bool {
    let what = maker
        .numbers
        .pick(&[Use::Memory, Use::Memory, Use::Grant, Use::Foreign]);
    let Some(frame) = maker.knowledge.frames.pick(what, maker.numbers) else {
        return false;
    };
    let address = (frame << 12).wrapping_add(maker.numbers.below(4096 - 64));
    let words: [u64; 8] = core::array::from_fn(|_| maker.numbers.word());
    store.put(address, &words)
}
