//! Instructions that may fault: each is tried, and the exception that it raised is an answer and not the end.
//!
//! [`attempt!`](crate::attempt) notes the instruction's address beside the one to go on at, in a table that the handler
//! of exceptions searches. So an exception anywhere else still ends the test. Code in [`SCRATCH`] is expected to fail as a
//! whole: it is left as if it had returned. Debug exceptions, breakpoints and NMIs may come anywhere, and are passed over.

use core::cell::UnsafeCell;

use crate::interrupts::Frame;

/// Runs one instruction that may fault: `attempt!("rdmsr", in("ecx") 0x1b, out("eax") _, out("edx") _)`. It is the vector
/// of the exception, or `None`. r11 is taken. It must be wrapped in `unsafe`, like `asm!`.
#[macro_export]
macro_rules! attempt {
    ($instruction:expr $(, $($operands:tt)*)?) => {{
        let raised: u64;
        core::arch::asm!(
            "xor r11d, r11d",
            concat!("77: ", $instruction),
            "78:",
            ".pushsection .rodata.trials, \"a\"",
            ".quad 77b, 78b",
            ".popsection",
            $($($operands)*,)?
            out("r11") raised,
        );
        $crate::trial::vector(raised)
    }};
}

/// What [`attempt!`](crate::attempt) found in r11.
pub fn vector(raised: u64) -> Option<u8> {
    raised.checked_sub(1).map(|vector| vector as u8)
}

const DEBUG: u64 = 1;
const NON_MASKABLE: u64 = 2;
const BREAKPOINT: u64 = 3;
const OVERFLOW: u64 = 4;
const TRAP_FLAG: u64 = 1 << 8;
const RESUME_FLAG: u64 = 1 << 16;
const ALIGNMENT_CHECK_FLAG: u64 = 1 << 18;

unsafe extern "C" {
    static micro_trials: [u64; 2];
    static micro_trials_end: [u64; 2];
}

/// A page of code that anything may happen to.
#[repr(align(4096))]
pub struct Scratch(UnsafeCell<[u8; 4096]>);

// SAFETY: every access is by address, none by reference.
unsafe impl Sync for Scratch {}

/// The page: written by attackers, called by them.
pub static SCRATCH: Scratch = Scratch(UnsafeCell::new([0xc3; 4096]));

impl Scratch {
    /// Where it is.
    pub fn address(&self) -> u64 {
        self.0.get() as u64
    }
}

/// Whether this exception was to be expected; the frame then says how it goes on.
pub(crate) fn expected(frame: &mut Frame) -> bool {
    match frame.vector {
        // Whatever made them, they are over: no single step and no breakpoint at the instruction that follows.
        DEBUG => {
            frame.rflags = frame.rflags & !TRAP_FLAG | RESUME_FLAG;
            return true;
        }
        NON_MASKABLE | BREAKPOINT | OVERFLOW => return true,
        _ => {}
    }
    // Else what is compiled would fault on.
    frame.rflags &= !ALIGNMENT_CHECK_FLAG;
    let begin = &raw const micro_trials;
    // SAFETY: both are symbols of one table, which the linker script lays out.
    let count = unsafe { (&raw const micro_trials_end).offset_from(begin) } as usize;
    for index in 0..count {
        // SAFETY: within the table, which nobody writes.
        let [at, next] = unsafe { begin.add(index).read() };
        if at == frame.rip {
            frame.rip = next;
            frame.r11 = frame.vector + 1;
            return true;
        }
    }
    let scratch = SCRATCH.address();
    if (scratch..scratch + 4096).contains(&frame.rip) {
        // SAFETY: that code was entered by a call and cannot have moved the stack: the address to return to is on top.
        frame.rip = unsafe { (frame.rsp as *const u64).read() };
        frame.rsp += 8;
        frame.r11 = frame.vector + 1;
        return true;
    }
    false
}
