//! Calling the hypervisor.

use core::arch::asm;

use zerocopy::IntoBytes;

/// A hypercall with plain numbers. Arguments that are addresses must be right or harmlessly wrong; wrong on purpose is
/// what some tests want, and the hypervisor's business.
pub fn raw(number: u64, arguments: [u64; 5]) -> i64 {
    let result: i64;
    // SAFETY: the call clobbers `rax` and nothing else of the registers. Memory it writes is either handed over
    // exclusively (`with`) or of no Rust object.
    unsafe {
        asm!(
            "vmmcall",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
        );
    }
    result
}

/// A sub-operation on one structure, which the hypervisor may write.
pub fn with<T: IntoBytes>(number: u64, operation: u32, argument: &mut T) -> i64 {
    raw(
        number,
        [operation.into(), core::ptr::from_mut(argument) as u64, 0, 0, 0],
    )
}

/// The same for operations that take arrays, of which this is one of length one.
pub fn with_one<T: IntoBytes>(number: u64, operation: u32, argument: &mut T) -> i64 {
    raw(
        number,
        [operation.into(), core::ptr::from_mut(argument) as u64, 1, 0, 0],
    )
}
