//! `console_io`: the hypervisor's console, for the privileged.

use hypercall_abi::console::op;
use hypercall_abi::hypercall::number::CONSOLE_IO;

use super::Maker;

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let operation = maker.numbers.pick(&[op::WRITE, op::READ]);
    let operation = maker.number32(operation);
    let text = b"a line that says nothing, and then some more of it\n";
    let buffer = maker.array(text);
    let valid = match maker.numbers.below(8) {
        // Whatever lies there.
        0 => maker.numbers.below(8192),
        _ => maker.numbers.below(text.len() as u64 + 1),
    };
    // Within what memory there is a long text is written in many pieces; sizes without bound are cut by a fault.
    let count = maker.number(valid);
    maker.call(CONSOLE_IO, operation, &[u64::from(operation), count, buffer]);
}
