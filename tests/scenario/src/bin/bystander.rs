//! The work of a well-behaved guest, for as long as it lives: a checked computation on each CPU, a disk, a network.
//!
//! Each unit of it is compared to the byte with what it must come to, so that a byte that anybody else changed, in memory,
//! in a register, on the disk or on the wire, is counted. A line every tenth of a second tells how far it is, by this
//! guest's own clock: `guest: work MILLISECONDS COMPUTED WRITTEN SENT WRONG`. `guest: bad WHAT` says what was wrong first.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// dom0 sends back what it gets here.
const ECHO: &str = "10.9.0.1:7";
const DISK: &str = "/dev/xvda";
/// The disk's blocks: 16 MiB of them.
const BLOCK: usize = 64 * 1024;
const BLOCKS: u64 = 256;
/// How often disk and network have their turn: the load that they are for dom0 is bounded.
const PACE: Duration = Duration::from_millis(100);

static COMPUTED: AtomicU64 = AtomicU64::new(0);
static WRITTEN: AtomicU64 = AtomicU64::new(0);
static SENT: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

fn main() {
    let started = Instant::now();
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get());
    for index in 0..cpus as u64 {
        std::thread::spawn(move || compute(index));
    }
    std::thread::spawn(|| disk().unwrap_or_else(|error| wrong(&format!("the disk: {error}"))));
    std::thread::spawn(|| network().unwrap_or_else(|error| wrong(&format!("the network: {error}"))));
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let [computed, written, sent, wrong] =
            [&COMPUTED, &WRITTEN, &SENT, &WRONG].map(|counter| counter.load(Ordering::Relaxed));
        println!(
            "guest: work {} {computed} {written} {sent} {wrong}",
            started.elapsed().as_millis()
        );
    }
}

fn wrong(what: &str) {
    if WRONG.fetch_add(1, Ordering::Relaxed) < 8 {
        println!("guest: bad {what}");
    }
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Bytes that only this seed gives.
fn pattern(seed: u64, into: &mut [u8]) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for bytes in into.chunks_mut(8) {
        let word = next(&mut state).to_le_bytes();
        bytes.copy_from_slice(&word[..bytes.len()]);
    }
}

/// Enciphers, deciphers and compares; sums in floating point, whose registers others use, too.
fn compute(index: u64) {
    const SIZE: usize = 4096;
    let mut plain = vec![0u8; SIZE];
    pattern(index, &mut plain);
    let expected = sum(&plain);
    let mut work = plain.clone();
    for round in 1.. {
        for _ in 0..2 {
            let mut state = round * 2 + 1;
            for bytes in work.chunks_exact_mut(8) {
                let word = u64::from_le_bytes(bytes.try_into().expect("eight bytes")) ^ next(&mut state);
                bytes.copy_from_slice(&word.to_le_bytes());
            }
        }
        if work != plain || sum(&work).to_bits() != expected.to_bits() {
            wrong(&format!("computation {round} on CPU {index}"));
            work.copy_from_slice(&plain);
        }
        COMPUTED.fetch_add(1, Ordering::Relaxed);
    }
}

/// A sum that depends on the order and on each rounding.
fn sum(bytes: &[u8]) -> f64 {
    bytes.chunks(64).enumerate().fold(1.0f64, |sum, (index, bytes)| {
        let part: f64 = bytes.iter().map(|&byte| f64::from(byte)).sum();
        (sum * 1.000_000_1 + part / (index as f64 + 3.7)).sqrt() * 31.0
    })
}

#[repr(align(4096))]
struct Aligned([u8; BLOCK]);

/// One block after the other, written past all caches and read back.
fn disk() -> std::io::Result<()> {
    const DIRECT: i32 = 0o40000; // O_DIRECT
    let disk = File::options()
        .read(true)
        .write(true)
        .custom_flags(DIRECT)
        .open(DISK)?;
    let (mut written, mut read) = (Box::new(Aligned([0; BLOCK])), Box::new(Aligned([0; BLOCK])));
    for round in 1u64.. {
        std::thread::sleep(PACE);
        let at = round % BLOCKS * BLOCK as u64;
        pattern(round, &mut written.0);
        written.0[..8].copy_from_slice(&round.to_le_bytes());
        disk.write_all_at(&written.0, at)?;
        disk.read_exact_at(&mut read.0, at)?;
        if read.0 != written.0 {
            wrong(&format!("block {}", round % BLOCKS));
        }
        WRITTEN.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// There and back again.
fn network() -> std::io::Result<()> {
    let mut connection = TcpStream::connect(ECHO)?;
    let (mut sent, mut received) = (vec![0; 8192], vec![0; 8192]);
    for round in 1u64.. {
        std::thread::sleep(PACE);
        pattern(!round, &mut sent);
        connection.write_all(&sent)?;
        connection.read_exact(&mut received)?;
        if received != sent {
            wrong(&format!("message {round}"));
        }
        SENT.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
