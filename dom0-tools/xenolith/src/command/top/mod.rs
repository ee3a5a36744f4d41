//! `xenolith top`: what domains and their vCPUs use.

mod counters;
mod devices;
mod sample;
mod usage;
mod view;

use crate::arguments::Top;
use crate::domain;
use crate::failure::{Failure, Result};
use crate::machine::Machine;
use crate::output;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::isatty;
use sample::Sample;
use std::io::{Write, stdout};
use std::thread::sleep;
use std::time::Duration;
use usage::Usage;
use view::Detail;

/// Longer, and 32-bit counters of microseconds could start anew twice.
const DELAY_MAX: f64 = 3600.0;
const DELAY_MIN: f64 = 0.05;

/// Shows what is used, as often as wanted.
pub fn run(machine: &mut Machine, wanted: &Top, as_json: bool) -> Result<()> {
    if !(DELAY_MIN..=DELAY_MAX).contains(&wanted.delay) {
        return Err(
            Failure::new(format!("the delay cannot be {} seconds", wanted.delay))
                .advise(format!("give one from {DELAY_MIN} to {DELAY_MAX}")),
        );
    }
    let only = match &wanted.domain {
        Some(name) => Some(domain::find(machine, name)?.id()),
        None => None,
    };
    let detail = Detail {
        vcpus: wanted.vcpus,
        exits: wanted.exits,
    };
    let count = if wanted.once { Some(1) } else { wanted.count };
    // One after the other belongs into a file; on a terminal, each takes the place of the one before.
    let in_place = count.is_none() && !as_json && isatty(stdout());
    let mut before = Sample::take(machine)?;
    let mut shown = 0;
    while count.is_none_or(|count| shown < count) {
        sleep(Duration::from_secs_f64(wanted.delay));
        let after = Sample::take(machine)?;
        let mut usage = Usage::between(&before, &after);
        if let Some(only) = only {
            usage.domains.retain(|domain| domain.sample.domain.id() == only);
            if usage.domains.is_empty() {
                return Err(Failure::new(format!("domain {only} is gone")));
            }
        }
        if in_place {
            clear();
        }
        match as_json {
            true => output::document(&view::document(&usage)),
            false => view::show(&usage, detail),
        }
        if reader_is_gone() {
            return Ok(());
        }
        shown += 1;
        before = after;
    }
    Ok(())
}

/// `xenolith top | head` ends with `head`.
fn reader_is_gone() -> bool {
    let out = stdout();
    let mut fds = [PollFd::new(&out, PollFlags::empty())];
    let answer = poll(&mut fds, Some(&Timespec::default()));
    answer.is_ok() && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Home, and nothing below.
fn clear() {
    let _ = write!(stdout(), "\x1b[H\x1b[2J");
}
