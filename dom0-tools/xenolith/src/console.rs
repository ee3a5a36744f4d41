//! Attaching to a guest's console: the terminal that the console daemon made for it.

use crate::failure::{Context, Failure, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io::{Read, Stdin, Write, stdin, stdout};
use std::os::unix::fs::OpenOptionsExt;

/// Ctrl-].
const DETACH: u8 = 0x1d;

/// Puts the user's terminal back as it was, however the session ends.
struct RawTerminal {
    before: Option<Termios>,
}

impl RawTerminal {
    fn enter() -> Result<Self> {
        if !isatty(stdin()) {
            return Ok(Self { before: None });
        }
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before: Some(before) })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

/// Copies between the user's terminal and the guest's until the user detaches or the guest is gone.
pub fn attach(tty: &str, name: &str) -> Result<()> {
    let mut guest = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NOCTTY.bits() as i32)
        .open(tty)
        .context(format_args!("cannot open {tty}"))?;
    make_raw(&guest);
    if isatty(stdin()) {
        eprintln!("Console of {name}; Ctrl-] detaches.");
    }
    let terminal = RawTerminal::enter()?;
    let end = copy(&mut guest, &mut stdin())?;
    drop(terminal);
    if isatty(stdin()) {
        eprintln!("\n{end}");
    }
    Ok(())
}

/// The guest does its own echo and line editing.
fn make_raw(guest: &File) {
    if let Ok(mut settings) = tcgetattr(guest) {
        settings.make_raw();
        let _ = tcsetattr(guest, OptionalActions::Now, &settings);
    }
}

fn copy(guest: &mut File, user: &mut Stdin) -> Result<&'static str> {
    let mut buffer = [0; 4096];
    let mut user_is_there = true;
    loop {
        let interest = if user_is_there {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let mut fds = [PollFd::new(guest, PollFlags::IN), PollFd::new(user, interest)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let (from_guest, from_user) = (fds[0].revents(), fds[1].revents());
        if !from_guest.is_empty() {
            match guest.read(&mut buffer) {
                Ok(0) | Err(_) => return Ok("The guest is gone."),
                Ok(count) => {
                    stdout()
                        .write_all(&buffer[..count])
                        .and_then(|()| stdout().flush())?;
                }
            }
        }
        if user_is_there && !from_user.is_empty() {
            let count = rustix::io::read(&*user, &mut buffer)?;
            let typed = &buffer[..count];
            user_is_there = count > 0;
            let (typed, detach) = match typed.iter().position(|byte| *byte == DETACH) {
                Some(position) => (&typed[..position], true),
                None => (typed, false),
            };
            guest
                .write_all(typed)
                .map_err(|error| Failure::new(format!("the guest's console: {error}")))?;
            if detach {
                return Ok("Detached.");
            }
        }
    }
}
