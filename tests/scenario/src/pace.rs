//! How fast PV devices are: for `pv-drivers`, for Linux's own frontends, and beside accesses to an emulated device's ports.
//!
//! One disk, one backend, one guest at a time.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::guest::Guest;
use crate::machine::Baseline;
use crate::report::Report;

const DISK: &str = "/tmp/pace.img";
const MIB: usize = 1 << 20;
/// MiB of the disk; the guests' init reads as much.
const SIZE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(180);

/// Plays both guests and prints what they measured.
pub fn play(report: &mut Report) -> Result<()> {
    // Every page is there: what a hole costs is not asked.
    let bytes: Vec<u8> = (0..MIB).map(|index| (index ^ index >> 8) as u8).collect();
    let disk = File::create(DISK)?;
    for place in 0..SIZE {
        disk.write_all_at(&bytes, (place * MIB) as u64)?;
    }
    let baseline = Baseline::take()?;
    let ours = Guest::new("pace", "/boot/pv/pace", 32);
    measure(report, ours, 2, "pv-drivers", of_ours);
    let linux = Guest::linux("linux", "/boot/vmlinuz-cloud", 256, "pace");
    measure(report, linux, 1, "Linux", of_linux);
    baseline.check_restored_quickly(report);
    let _ = std::fs::remove_file(DISK);
    Ok(())
}

type Figures = Vec<(String, f64)>;

fn measure(report: &mut Report, guest: Guest, index: u8, who: &str, read: fn(&str) -> Result<Figures>) {
    let guest = guest
        .with("disk", &format!("[ \"file:{DISK},xvda,r\" ]"))
        .with(
            "vif",
            &format!("[ \"mac=00:16:3e:00:01:{index:02},bridge=xenbr0\" ]"),
        )
        .with("on_poweroff", "\"preserve\"");
    let mut figures = Figures::new();
    report.step(&format!("{who} measures"), || {
        guest.create()?;
        guest.await_line("pace done", PATIENCE)?;
        figures = read(&guest.said())?;
        let upcalls = figures.iter().find(|(name, _)| name.starts_with("upcalls"));
        ensure!(
            upcalls.is_none_or(|(_, count)| *count > 0.0),
            "no event was told by an upcall"
        );
        Ok(())
    });
    for (name, value) in figures {
        report.figure(&format!("{who}: {name}"), value);
    }
    report.step(&format!("the guest of {who} is taken away"), || guest.destroy());
}

/// `guest: pace WHAT = NUMBER UNIT`.
fn of_ours(said: &str) -> Result<Figures> {
    let lines = said
        .lines()
        .filter_map(|line| line.split_once("guest: pace ")?.1.split_once(" = "));
    lines
        .map(|(what, value)| {
            let (number, unit) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
            let name = format!("{what} {unit}");
            Ok((
                name.trim().to_owned(),
                number.parse().with_context(|| format!("no number: {value}"))?,
            ))
        })
        .collect()
}

/// `guest: pace WHAT: BYTES bytes in NANOSECONDS ns`.
fn of_linux(said: &str) -> Result<Figures> {
    let rate = |what: &str| {
        let line = said
            .lines()
            .find_map(|line| line.split_once(&format!("guest: pace {what}: ")))
            .with_context(|| format!("it does not say {what}"))?
            .1;
        let numbers: Vec<f64> = line
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [bytes, nanoseconds] = numbers[..] else {
            bail!("it says {line}");
        };
        Ok(bytes / 1024.0 / (nanoseconds.max(1.0) / 1e9))
    };
    Ok(vec![
        ("disk, sequential KiB/s".to_owned(), rate("sequential")?),
        ("disk, 4 KiB at a time KiB/s".to_owned(), rate("single")?),
    ])
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_both_say_is_understood() {
        let ours = super::of_ours("guest: pace port access = 812 ns\r\nguest: pace done\r\n").unwrap();
        assert_eq!(ours, [("port access ns".to_owned(), 812.0)]);
        let line = "16777216 bytes in 500000000 ns";
        let linux = format!("guest: pace sequential: {line}\r\nguest: pace single: {line}\r\n");
        assert_eq!(super::of_linux(&linux).unwrap()[1].1, 32768.0);
        assert!(super::of_linux("guest: pace sequential: dd: invalid").is_err());
    }
}
