//! `xen_version`: questions.

use hypercall_abi::hypercall::number::XEN_VERSION;
use hypercall_abi::version::{FeatureInfo, op};

use super::Maker;

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let operation = maker.numbers.below(u64::from(op::BUILD_ID) + 2) as u32;
    let argument = match operation {
        op::VERSION | op::PAGE_SIZE => maker.zero(),
        op::GET_FEATURES => {
            let submap_index = maker.number32(0);
            maker.structure(&FeatureInfo {
                submap_index,
                submap: 0,
            })
        }
        _ => maker.room(1024),
    };
    let first = maker.operation(operation);
    maker.call(XEN_VERSION, operation, &[first, argument]);
}
