//! The instruction decoder makes its tables with the first instruction that it sees. That takes memory, in a way that ends the
//! program where there is none: the first instruction must not be a guest's.

use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use machine::fake::Turns;
use machine::fake::failure::{FailingHeap, Source, counts};

#[global_allocator]
static HEAP: FailingHeap = FailingHeap;

#[test]
fn a_guests_first_fault_finds_the_decoders_tables_made() {
    let kernel = kernel::testing::kernel();
    let mut processors = Turns::new(1, |_| {
        let mut decoder = Decoder::with_ip(64, &[0x90], 0, DecoderOptions::NONE);
        assert_eq!(decoder.decode().mnemonic(), Mnemonic::Nop);
    });
    let (before, _) = counts(Source::Heap);
    processors.resume(0, 1000);
    let (after, _) = counts(Source::Heap);
    assert_eq!(after - before, 0, "allocations of the first instruction");
    drop(kernel);
}
