//! Measures from inside of a guest: PV disk and network, and what an access to an emulated device's port would cost.
//!
//! `cargo xtask bench pv` reads the lines `guest: pace WHAT = NUMBER UNIT`.
#![no_std]
#![no_main]

use core::arch::asm;
use core::fmt::Write;

use pv_drivers::front::block::{self, Block, SECTOR};
use pv_drivers::front::console::Console;
use pv_drivers::front::net::{self, Frame, Net};
use pv_drivers::front::{Error, Platform};
use pv_drivers::pvh::Pvh;

pv_drivers::pvh_main!(main);

const SECOND: u64 = 1_000_000_000;
const PATIENCE: u64 = 60 * SECOND;
const DISK: u32 = 51712;
/// The status register of a PC's first disk controller: nobody is there, which is looked up as for a device that is.
const PORT: u16 = 0x1f7;
/// Port accesses that a sector takes on such a controller: 256 words of data, and nine for the command and its status.
const ACCESSES: u64 = 256 + 9;

struct Pace {
    xen: &'static Pvh,
    console: Console<&'static Pvh>,
}

impl Pace {
    fn say(&mut self, what: &str, number: u64, unit: &str) {
        let _ = writeln!(self.console, "guest: pace {what} = {number} {unit}");
    }

    /// Times some work: nanoseconds, and hypercalls.
    fn time(&self, work: impl FnOnce() -> Result<(), Error>) -> Result<(u64, u64), Error> {
        let (began, calls) = (self.xen.now(), self.xen.hypercalls());
        work()?;
        Ok(((self.xen.now() - began).max(1), self.xen.hypercalls() - calls))
    }
}

fn main(xen: &'static Pvh) -> Result<(), Error> {
    let mut pace = Pace {
        xen,
        console: xen.console()?,
    };
    let mut store = xen.store()?;
    let config = block::Config {
        data_pages: 256,
        ..block::Config::default()
    };
    let mut disk = Block::open(xen, &mut store, DISK, config)?;
    let geometry = disk.wait_until_connected(&mut store, xen.now() + PATIENCE)?;
    let mut net = Net::open(xen, &mut store, 0, net::Config::default())?;
    net.wait_until_connected(&mut store, xen.now() + PATIENCE)?;
    pace.say("largest request", geometry.most as u64 * SECTOR as u64, "bytes");
    sequential(&mut pace, &mut disk, geometry.sectors)?;
    single(&mut pace, &mut disk, geometry.sectors)?;
    ports(&mut pace)?;
    frames(&mut pace, &mut net)?;
    upcalls(&mut pace, &mut disk)?;
    let _ = writeln!(pace.console, "guest: pace done");
    // The page of the console is read before it is gone.
    xen.wait(&[], xen.now() + SECOND / 5);
    Ok(())
}

/// The whole disk, in large requests.
fn sequential(pace: &mut Pace, disk: &mut Block<&'static Pvh>, sectors: u64) -> Result<(), Error> {
    const PIECE: usize = 128 * 1024;
    let mut buffer = [0; PIECE];
    let pieces = sectors * SECTOR as u64 / PIECE as u64;
    let deadline = pace.xen.now() + PATIENCE;
    let (time, calls) = pace.time(|| {
        (0..pieces).try_for_each(|piece| disk.read(piece * (PIECE / SECTOR) as u64, &mut buffer, deadline))
    })?;
    pace.say(
        "disk, sequential",
        pieces * PIECE as u64 * SECOND / time / 1024,
        "KiB/s",
    );
    pace.say(
        "disk, sequential, hypercalls for 100 sectors",
        calls * 100 * SECTOR as u64 / (pieces * PIECE as u64),
        "",
    );
    Ok(())
}

/// The same by interrupts: the hypervisor calls when an answer comes.
fn upcalls(pace: &mut Pace, disk: &mut Block<&'static Pvh>) -> Result<(), Error> {
    const COUNT: u64 = 100;
    pace.xen.enable_upcalls()?;
    let before = pace.xen.upcalls();
    let mut buffer = [0; 8 * SECTOR];
    let deadline = pace.xen.now() + PATIENCE;
    let (time, _) =
        pace.time(|| (0..COUNT).try_for_each(|index| disk.read(index * 8, &mut buffer, deadline)))?;
    pace.say(
        "disk, 4 KiB at a time with upcalls, each",
        time / COUNT / 1000,
        "us",
    );
    let upcalls = pace.xen.upcalls() - before;
    pace.say("upcalls for 100 requests", upcalls * 100 / COUNT, "");
    Ok(())
}

/// Sectors here and there, one at a time: what a request takes there and back.
fn single(pace: &mut Pace, disk: &mut Block<&'static Pvh>, sectors: u64) -> Result<(), Error> {
    const COUNT: u64 = 500;
    let mut buffer = [0; 8 * SECTOR];
    let deadline = pace.xen.now() + PATIENCE;
    let (time, calls) = pace.time(|| {
        (0..COUNT).try_for_each(|index| disk.read(index * 7919 * 8 % (sectors - 8), &mut buffer, deadline))
    })?;
    pace.say("disk, 4 KiB at a time", COUNT * 4 * SECOND / time, "KiB/s");
    pace.say("disk, 4 KiB at a time, each", time / COUNT / 1000, "us");
    pace.say(
        "disk, 4 KiB at a time, hypercalls for 100",
        calls * 100 / COUNT,
        "",
    );
    Ok(())
}

/// Accesses to a port, each of which the hypervisor has to serve.
fn ports(pace: &mut Pace) -> Result<(), Error> {
    const COUNT: u64 = 20_000;
    let (time, _) = pace.time(|| {
        for _ in 0..COUNT {
            read_port();
        }
        Ok(())
    })?;
    let each = (time / COUNT).max(1);
    pace.say("port access", each, "ns");
    pace.say(
        "disk by programmed input, at best",
        SECOND / (each * ACCESSES) * SECTOR as u64 / 1024,
        "KiB/s",
    );
    Ok(())
}

fn read_port() {
    // SAFETY: reading a status register changes nothing, and nobody is there.
    unsafe { asm!("in al, dx", in("dx") PORT, out("al") _, options(nomem, nostack)) };
}

/// Frames to nobody: as fast as the backend takes them.
fn frames(pace: &mut Pace, net: &mut Net<&'static Pvh>) -> Result<(), Error> {
    const COUNT: u64 = 10_000;
    const LENGTH: usize = 1514;
    // A protocol that nobody speaks, to an address that nobody has.
    let mut frame = [0; LENGTH];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    frame[6..12].copy_from_slice(&net.offer().map(|offer| offer.address).unwrap_or_default());
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    let xen = pace.xen;
    let deadline = xen.now() + PATIENCE;
    let (time, calls) = pace.time(|| {
        for _ in 0..COUNT {
            while !net.can_send() {
                if xen.now() > deadline {
                    return Err(Error::Timeout {
                        waiting_for: "room to send",
                    });
                }
                let ports: [u32; 2] = {
                    let mut ports = net.ports();
                    [ports.next().unwrap_or(0), ports.next().unwrap_or(0)]
                };
                let used = if ports[1] == 0 { 1 } else { 2 };
                xen.wait(&ports[..used], deadline);
                for port in &ports[..used] {
                    xen.take_event(*port);
                }
            }
            net.send(&Frame {
                bytes: &frame,
                ..Frame::default()
            })?;
        }
        Ok(())
    })?;
    pace.say(
        "network, sending",
        COUNT * LENGTH as u64 * SECOND / time / 1024,
        "KiB/s",
    );
    pace.say(
        "network, sending, hypercalls for 100 frames",
        calls * 100 / COUNT,
        "",
    );
    Ok(())
}
