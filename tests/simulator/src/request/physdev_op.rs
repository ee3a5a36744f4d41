//! `physdev_op`: physical devices, of which nobody has any.

use hypercall_abi::hypercall::number::PHYSDEV_OP;

use super::Maker;

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let operation = maker.numbers.below(34) as u32;
    let words: [u64; 4] = core::array::from_fn(|_| maker.numbers.word());
    let argument = maker.structure(&words);
    maker.call(PHYSDEV_OP, operation, &[u64::from(operation), argument]);
}
