//! The well-behaved guest beside which others attack: its work as dom0 sees it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::guest::Guest;
use crate::tools;

const DISK: &str = "/tmp/bystander.img";
const BLOCK: usize = 64 * 1024;
const BLOCKS: usize = 256;
/// What it sends is sent back from here.
const ECHO: &str = "10.9.0.1:7";

/// How far it was at one moment of its own time.
#[derive(Clone, Copy)]
pub struct Progress {
    milliseconds: u64,
    computed: u64,
    written: u64,
    sent: u64,
}

/// The guest.
pub struct Bystander {
    guest: Guest,
}

impl Bystander {
    /// Makes it, and waits until it works.
    pub fn create(vcpus: u32) -> Result<Bystander> {
        File::create(DISK)?.set_len((BLOCK * BLOCKS) as u64)?;
        echo()?;
        let guest = Guest::linux("bystander", "/boot/vmlinuz-cloud", 192, "bystander")
            .with("vcpus", &vcpus.to_string())
            .with("disk", &format!("[ \"file:{DISK},xvda,w\" ]"))
            .with("vif", "[ \"mac=00:16:3e:00:00:02,bridge=xenbr0\" ]");
        let bystander = Bystander { guest };
        bystander.guest.create()?;
        bystander.await_progress(|progress| progress.written > 0 && progress.sent > 0)?;
        Ok(bystander)
    }

    /// How far it is: its last line.
    pub fn progress(&self) -> Result<Progress> {
        let line = self.guest.line("work ").context("it has told of no work")?;
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [milliseconds, computed, written, sent, wrong] = numbers[..] else {
            bail!("it says `work {line}`");
        };
        if wrong > 0 {
            let what = self.guest.line("bad ").unwrap_or_default();
            bail!("{wrong} of its results are wrong: {what}");
        }
        Ok(Progress {
            milliseconds,
            computed,
            written,
            sent,
        })
    }

    fn await_progress(&self, enough: impl Fn(&Progress) -> bool) -> Result<Progress> {
        let mut found = None;
        tools::wait_until(Duration::from_secs(90), "the bystander works", || {
            found = Some(self.progress()?);
            Ok(found.as_ref().is_some_and(&enough))
        })?;
        found.context("there is a line")
    }

    /// How many units it computes in a second, over so many milliseconds of its own time from now on.
    pub fn work_for(&self, milliseconds: u64) -> Result<f64> {
        let first = self.progress()?;
        let end = first.milliseconds + milliseconds;
        // Looking is work for dom0, and takes time from both.
        std::thread::sleep(Duration::from_millis(milliseconds));
        let mut last = first;
        tools::wait_until(
            Duration::from_millis(milliseconds * 20 + 60_000),
            "the bystander goes on working",
            || {
                last = self.progress()?;
                Ok(last.milliseconds >= end)
            },
        )?;
        let seconds = (last.milliseconds - first.milliseconds) as f64 / 1000.0;
        Ok((last.computed - first.computed) as f64 / seconds)
    }

    /// It still works, in each of its ways, and all of it is right.
    pub fn is_well(&self) -> Result<()> {
        let before = self.progress()?;
        self.await_progress(|now| {
            now.computed > before.computed && now.written > before.written && now.sent > before.sent
        })?;
        let ping = tools::output("ping", &["-c", "1", "-W", "5", "10.9.0.3"])?;
        ensure!(ping.contains(" 0% packet loss"), "it does not answer");
        Ok(())
    }

    /// Its end; then its disk must hold what it wrote, to the byte.
    pub fn destroy(&self) -> Result<()> {
        let last = self.progress();
        self.guest.destroy()?;
        let written = last?.written;
        let disk = File::open(DISK)?;
        let (mut found, mut expected) = (vec![0; BLOCK], vec![0; BLOCK]);
        let mut checked = 0;
        for index in 0..BLOCKS {
            disk.read_exact_at(&mut found, (index * BLOCK) as u64)?;
            let round = u64::from_le_bytes(found[..8].try_into()?);
            // The one that was under way at the end may be either.
            if round == 0 || round > written {
                continue;
            }
            pattern(round, &mut expected);
            expected[..8].copy_from_slice(&round.to_le_bytes());
            ensure!(
                round as usize % BLOCKS == index && found == expected,
                "block {index} of its disk is not what it wrote"
            );
            checked += 1;
        }
        ensure!(
            checked + 1 >= written.min(BLOCKS as u64),
            "{checked} blocks of its disk are there, it wrote {written}"
        );
        fs::remove_file(DISK)?;
        Ok(())
    }
}

/// Bytes that only this seed gives: as the guest makes them.
fn pattern(seed: u64, into: &mut [u8]) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for bytes in into.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.copy_from_slice(&state.to_le_bytes()[..bytes.len()]);
    }
}

/// Sends everything back, to everybody, for as long as this process runs.
fn echo() -> Result<()> {
    let listener = TcpListener::bind(ECHO).with_context(|| format!("cannot listen on {ECHO}"))?;
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 8192];
                while let Ok(length @ 1..) = connection.read(&mut buffer) {
                    if connection.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    Ok(())
}
