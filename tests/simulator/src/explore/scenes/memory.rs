//! Memory and lists of requests, which others change at the same time.

use hypercall_abi::hypercall::number;
use hypercall_abi::memory::{MemoryReservation, op as memory};
use hypercall_abi::version::op as version;
use hypercall_abi::xen::MulticallEntry;
use hypercall_abi::{DomainId, Error, GuestHandle};
use kernel::testing::{self, TestKernel};
use machine::sync::atomic::Ordering;

use super::{Kernel, PAGES, begin, domain, until_begin};
use crate::explore::{Act, Cast};
use crate::host::paging::Tables;

const ARGUMENT: u64 = 0x1000;
const SECOND: u64 = 0x2000;
const LISTS: [u64; 2] = [0x3000, 0x3008];
const GUEST: DomainId = DomainId(1);
const PAGES_WITH_TABLES: u64 = 32;

/// Two vCPUs of a domain, which may have one page more, ask for one at the same time.
pub fn populate_twice(kernel: &Kernel) -> Cast {
    let domain = domain(kernel, GUEST.0, 2);
    let owned = domain.owned_pages(&kernel.machine);
    domain.max_pages.store(owned + 1, Ordering::SeqCst);
    let mut cast = Cast::default();
    for (index, (place, list)) in (0..).zip([ARGUMENT, SECOND].into_iter().zip(LISTS)) {
        testing::poke(&domain, list, &(PAGES + u64::from(index)));
        let request = MemoryReservation {
            extent_start: GuestHandle::new(list),
            number_of_extents: 1,
            domain: DomainId::SELF,
            ..MemoryReservation::default()
        };
        testing::poke(&domain, place, &request);
        let call = [u64::from(memory::POPULATE_PHYSMAP), place, 0, 0, 0, 0];
        let first = if index == 0 { until_begin() } else { begin() };
        cast.add(&domain, index, vec![first, Act::Call(number::MEMORY_OP, call)]);
    }
    cast.outcome = Some(|kernel: &TestKernel| {
        let domain = kernel.domains.get(GUEST).ok_or("the domain is gone")?;
        let (owned, most) = (
            domain.owned_pages(&kernel.machine),
            domain.max_pages.load(Ordering::SeqCst),
        );
        match owned <= most {
            true => Ok(()),
            false => Err(format!("memory: a domain has {owned} pages, and may have {most}")),
        }
    });
    cast
}

/// A guest whose tables forbid writing, at one level after the other: what the core would write for it is refused.
pub fn read_only_tables(kernel: &Kernel) -> Cast {
    const PRESENT_USER: u64 = 5;
    const PRESENT_USER_WRITABLE: u64 = 7;
    /// The uppermost of four levels, as [`Tables`] numbers them.
    const FIRST: u64 = 1;
    const LEVELS: u64 = 4;
    let domain = domain(kernel, GUEST.0, 1);
    for frame in PAGES..PAGES_WITH_TABLES {
        testing::populate(kernel, &domain, frame);
    }
    let tables = Tables::of(PAGES_WITH_TABLES).expect("pages enough");
    let ask = || {
        let arguments = [u64::from(version::EXTRA_VERSION), ARGUMENT, 0, 0, 0, 0];
        Act::Call(number::XEN_VERSION, arguments)
    };
    let answered = |wanted: i64| {
        Act::Do(Box::new(move |sight| {
            assert_eq!(
                sight.result, wanted,
                "a call whose answer goes through page tables"
            );
        }))
    };
    let mut acts = vec![begin(), Act::Paging(tables), ask(), answered(0)];
    for level in 0..LEVELS {
        let lowest = level == LEVELS - 1;
        let entry = if lowest { ARGUMENT >> 12 } else { 0 };
        let at = tables.frame(FIRST + level) + entry * 8;
        let leads_to = if lowest {
            ARGUMENT
        } else {
            tables.frame(FIRST + level + 1)
        };
        let set = move |rights: u64| {
            Act::Do(Box::new(move |sight| {
                assert!(sight.store(at, &(leads_to | rights).to_le_bytes()));
            }))
        };
        acts.extend([set(PRESENT_USER), ask(), answered(Error::EFAULT.as_result())]);
        acts.extend([set(PRESENT_USER_WRITABLE), ask(), answered(0)]);
    }
    let mut cast = Cast::default();
    cast.add(&domain, 0, acts);
    cast
}

/// A list of calls is changed while it is carried out: each entry is looked at once.
pub fn list_changed(kernel: &Kernel) -> Cast {
    let domain = domain(kernel, GUEST.0, 2);
    let harmless = MulticallEntry {
        op: number::XEN_VERSION,
        args: [u64::from(version::PAGE_SIZE), 0, 0, 0, 0, 0],
        ..MulticallEntry::default()
    };
    testing::poke(&domain, ARGUMENT, &harmless);
    let mut cast = Cast::default();
    let change = Act::Do(Box::new(|sight| {
        // A list within the list, of no entries.
        assert!(sight.store(ARGUMENT, &number::MULTICALL.to_le_bytes()));
    }));
    cast.add(&domain, 0, vec![until_begin(), change]);
    let call = Act::Call(number::MULTICALL, [ARGUMENT, 1, 0, 0, 0, 0]);
    let check = Act::Do(Box::new(|sight| {
        let entry: [u8; 8] = sight.of(GUEST, ARGUMENT + 8);
        let result = i64::from_le_bytes(entry);
        assert!(
            result == 4096 || result == Error::EINVAL.as_result(),
            "an entry that was changed meanwhile is answered {result:#x}"
        );
    }));
    cast.add(&domain, 1, vec![begin(), call, check]);
    cast
}
