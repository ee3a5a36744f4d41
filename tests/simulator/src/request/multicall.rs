//! `multicall`: a list of other families' calls.

use hypercall_abi::hypercall::number::MULTICALL;
use hypercall_abi::xen::MulticallEntry;

use super::{Call, Family, Intent, MOST_NESTED, Maker, make as make_other};

/// What calls in a list are of.
const FAMILIES: [(Family, u32); 9] = [
    (Family::EventChannel, 8),
    (Family::GrantTable, 4),
    (Family::Memory, 4),
    (Family::Version, 3),
    (Family::Vcpu, 2),
    (Family::Hvm, 2),
    (Family::VmAssist, 1),
    (Family::Sched, 1),
    (Family::Unknown, 1),
];
/// Room that a call's arguments may need at most.
const ROOM: usize = 12 * 1024;

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let intent = maker.intent();
    let length = maker.numbers.length(MOST_NESTED);
    maker.in_list = true;
    let mut entries: heapless::Vec<MulticallEntry, MOST_NESTED> = heapless::Vec::new();
    for _ in 0..length {
        if maker.request.writes.room() < ROOM {
            break;
        }
        let own = if maker.numbers.chance(3, 4) {
            Intent::Valid
        } else {
            intent
        };
        maker.set_intent(own);
        let family = maker.numbers.weighted(&FAMILIES);
        make_other(family, maker);
        let Call {
            number, arguments, ..
        } = maker.request.call;
        // Both have room for as many.
        let _ = maker.request.nested.push(maker.request.call);
        let _ = entries.push(MulticallEntry {
            op: number,
            result: 0x5a5a,
            args: arguments,
        });
    }
    maker.set_intent(intent);
    let list = maker.array(&entries);
    let count = if intent == Intent::Nearly && maker.numbers.chance(1, 4) {
        // What lies behind the list is no call that anybody made.
        (entries.len() as u64).saturating_sub(1)
    } else {
        entries.len() as u64
    };
    // The count's upper half means nothing.
    let noise = if maker.wrong() { 1 << 32 } else { 0 };
    maker.call(MULTICALL, 0, &[list, count | noise]);
}
