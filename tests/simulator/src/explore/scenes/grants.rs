//! Grants: a lender that takes back, a borrower that takes up.

use hypercall_abi::DomainId;
use hypercall_abi::grant_table::{
    GrantEntryV1, GrantStatus, MapGrantRef, UnmapGrantRef, entry_flag, map_flag, op,
};
use hypercall_abi::hypercall::number;
use hypercall_abi::memory::{AddToPhysmap, map_space, op as memory};
use kernel::schedule::ProcessorSet;
use kernel::testing::{self, TestDomain, TestKernel};

use super::{Kernel, begin, domain, succeeded, until_begin};
use crate::explore::{Act, Cast, Sight};

const ARGUMENT: u64 = 0x1000;
/// Where the lender sees its grant table, and the borrower the page.
const TABLE: u64 = 0x20_0000;
const WINDOW: u64 = 0x30_0000;
/// The page that is lent, and the entry that offers it.
const FRAME: u32 = 3;
const REFERENCE: u32 = 9;
const ENTRY: u64 = TABLE + REFERENCE as u64 * 8;
const LENDER: DomainId = DomainId(1);
const MARKS: u16 = entry_flag::READING | entry_flag::WRITING;

/// A lender that offers a page, and a borrower whose request to map it lies in its memory.
fn lender_and_borrower(kernel: &Kernel, vcpus: u32) -> [TestDomain; 2] {
    let lender = domain(kernel, LENDER.0, 1);
    let borrower = domain(kernel, 2, vcpus);
    let place = AddToPhysmap {
        domain: DomainId::SELF,
        space: map_space::GRANT_TABLE,
        guest_frame: TABLE >> 12,
        ..AddToPhysmap::default()
    };
    let vcpu = testing::vcpu(&lender, 0);
    let (result, _) =
        testing::hypercall_with(kernel, &vcpu, number::MEMORY_OP, memory::ADD_TO_PHYSMAP, place);
    assert_eq!(result, 0);
    let offer = GrantEntryV1 {
        flags: entry_flag::PERMIT_ACCESS,
        domain: borrower.id,
        frame: FRAME,
    };
    testing::poke(&lender, ENTRY, &offer);
    let map = MapGrantRef {
        host_address: WINDOW,
        flags: map_flag::HOST_MAP,
        reference: REFERENCE,
        domain: lender.id,
        ..MapGrantRef::default()
    };
    testing::poke(&borrower, ARGUMENT, &map);
    [lender, borrower]
}

fn call(operation: u32) -> [u64; 6] {
    [u64::from(operation), ARGUMENT, 1, 0, 0, 0]
}

/// An offer that was taken back is not marked as taken up.
pub fn offer_taken_back(kernel: &Kernel) -> Cast {
    let [lender, borrower] = lender_and_borrower(kernel, 1);
    let mut cast = Cast::default();
    let take_back = Act::Do(Box::new(|sight| {
        assert!(sight.store(ENTRY, &entry_flag::INVALID.to_le_bytes()));
    }));
    cast.add(&lender, 0, vec![until_begin(), take_back]);
    let map = Act::Call(number::GRANT_TABLE_OP, call(op::MAP_GRANT_REF));
    cast.add(&borrower, 0, vec![begin(), map, succeeded()]);
    cast.outcome = Some(|kernel: &TestKernel| {
        let lender = kernel.domains.get(LENDER).ok_or("the lender is gone")?;
        let entry: GrantEntryV1 = testing::peek(&lender, ENTRY);
        let offered = entry.flags & entry_flag::TYPE_MASK == entry_flag::PERMIT_ACCESS;
        if offered || entry.flags & MARKS == 0 {
            Ok(())
        } else {
            Err(format!(
                "grants: what is no offer is taken up ({:#x})",
                entry.flags
            ))
        }
    });
    cast
}

/// The borrower ends a mapping, while its other vCPU writes there: once the lender is told, no write reaches the page.
pub fn access_ends(kernel: &Kernel) -> Cast {
    ends_on(kernel, 1)
}

/// The same, with a processor between the two that runs nobody.
pub fn access_ends_further_on(kernel: &Kernel) -> Cast {
    ends_on(kernel, 2)
}

fn ends_on(kernel: &Kernel, writer: usize) -> Cast {
    let [_, borrower] = lender_and_borrower(kernel, 2);
    for (vcpu, processor) in borrower.vcpus.iter().zip([0, writer]) {
        vcpu.hard_affinity.store(ProcessorSet::one(processor));
    }
    let vcpu = testing::vcpu(&borrower, 0);
    let mapped = testing::hypercall(
        kernel,
        &vcpu,
        number::GRANT_TABLE_OP,
        &call(op::MAP_GRANT_REF)[..3],
    );
    let answer: MapGrantRef = testing::peek(&borrower, ARGUMENT);
    assert_eq!((mapped, answer.status), (0, GrantStatus::OKAY));
    let unmap = UnmapGrantRef {
        host_address: WINDOW,
        handle: answer.handle,
        ..UnmapGrantRef::default()
    };
    testing::poke(&borrower, ARGUMENT, &unmap);
    let mut cast = Cast::default();
    let unmap = Act::Call(number::GRANT_TABLE_OP, call(op::UNMAP_GRANT_REF));
    cast.add(&borrower, 0, vec![until_begin(), unmap, succeeded()]);
    let write = |sight: &Sight<'_>| {
        // The second store passes a point at which this processor may remember what the first one found.
        sight.store(WINDOW, &[1]);
        sight.store(WINDOW, &[2]);
        let told = u16::from_le_bytes(sight.of(LENDER, ENTRY)) & MARKS == 0;
        let reached = sight.store(WINDOW, &[1]);
        assert!(
            !(told && reached),
            "a borrower writes to a page whose lender was told that access has ended"
        );
        told
    };
    cast.add(&borrower, 1, vec![begin(), Act::Until(Box::new(write))]);
    cast
}
