//! A guest that fills its store and console rings with garbage and rings the bells, again and again.
//!
//! dom0's daemons must neither fall over nor let others wait; the scenario checks that.
#![no_std]
#![no_main]

use guests::console::parameter;
use guests::{Random, halt, page, shared};

guests::micro_guest!(main);

const STORE_FRAME: u32 = 1;
const STORE_PORT: u32 = 2;
const CONSOLE_FRAME: u32 = 17;
const CONSOLE_PORT: u32 = 18;

/// Offsets of the producer and consumer indices.
const STORE_INDICES: [u64; 4] = [2048, 2052, 2056, 2060];
const CONSOLE_INDICES: [u64; 4] = [3072, 3076, 3080, 3084];

fn main(_: u64) -> ! {
    let (store, store_port) = (parameter(STORE_FRAME) << 12, parameter(STORE_PORT) as u32);
    let (console, console_port) = (parameter(CONSOLE_FRAME) << 12, parameter(CONSOLE_PORT) as u32);
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    for round in (0..=u32::MAX).cycle() {
        requests(store, &mut random, round);
        shared::send(store_port);
        scribble(console, 3072, &mut random);
        indices(console, CONSOLE_INDICES, &mut random, round);
        shared::send(console_port);
        for _ in 0..100_000 {
            core::hint::spin_loop();
        }
    }
    halt() // never reached: until it is destroyed
}

/// Sometimes well-formed headers with absurd lengths, sometimes only noise, then absurd indices.
fn requests(store: u64, random: &mut Random, round: u32) {
    scribble(store, 1024, random);
    if round.is_multiple_of(2) {
        let header = [
            random.next() as u32 % 24,
            round,
            0,
            if round.is_multiple_of(4) { u32::MAX } else { 4000 },
        ];
        for (index, word) in header.into_iter().enumerate() {
            page::write(store + index as u64 * 4, word);
        }
        page::write(store + STORE_INDICES[0], 0u32);
        page::write(store + STORE_INDICES[1], 1024u32);
    } else {
        indices(store, STORE_INDICES, random, round);
    }
}

fn scribble(ring: u64, length: u64, random: &mut Random) {
    for offset in (0..length).step_by(8) {
        page::write(ring + offset, random.next());
    }
}

fn indices(ring: u64, offsets: [u64; 4], random: &mut Random, round: u32) {
    for offset in offsets {
        let value = if round.is_multiple_of(3) {
            u32::MAX
        } else {
            random.next() as u32
        };
        page::write(ring + offset, value);
    }
}
