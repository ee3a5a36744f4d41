//! Numbers of hypercalls that are not offered, or that do not exist.

use hypercall_abi::hypercall::{NUMBERS, number};

use super::Maker;

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let chosen = match maker.numbers.below(4) {
        0 => maker.numbers.word(),
        _ => maker.numbers.below(NUMBERS as u64 + 8),
    };
    // Only those that nobody answers; the others have generators.
    let offered = [
        number::MEMORY_OP,
        number::MULTICALL,
        number::XEN_VERSION,
        number::CONSOLE_IO,
        number::GRANT_TABLE_OP,
        number::VM_ASSIST,
        number::VCPU_OP,
        number::SCHED_OP,
        number::EVENT_CHANNEL_OP,
        number::PHYSDEV_OP,
        number::HVM_OP,
        number::SYSCTL,
        number::DOMCTL,
        number::PLATFORM_OP,
    ];
    let chosen = if offered.contains(&chosen) {
        number::MMU_UPDATE
    } else {
        chosen
    };
    let arguments: [u64; 6] = core::array::from_fn(|_| maker.numbers.word());
    maker.call(chosen, 0, &arguments);
}
