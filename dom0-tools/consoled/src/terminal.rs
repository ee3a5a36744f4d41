//! The pseudo-terminal through which people look at a guest's console.
//!
//! While nobody has it open, the newest output is kept, a screen or two of it, and everything older is forgotten; who
//! opens it gets that first. The daemon itself does not keep the terminal open, for otherwise it could not tell.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How much output waits for a reader.
const BACKLOG: usize = 16 << 10;

/// A terminal of which we hold the master's side.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    path: PathBuf,
    /// Output that no reader has taken.
    backlog: VecDeque<u8>,
    attached: bool,
}

impl Terminal {
    /// Makes a terminal that passes every byte as it is.
    pub fn open() -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = PathBuf::from(OsString::from_vec(ptsname(&master, Vec::new())?.into_bytes()));
        // Opened once: the modes stay with the terminal, and from now on the master can tell that nobody has it open.
        let slave = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NOCTTY.bits() as i32)
            .open(&path)?;
        let mut modes = tcgetattr(&slave)?;
        modes.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &modes)?;
        Ok(Terminal {
            master,
            path,
            backlog: VecDeque::new(),
            attached: false,
        })
    }

    /// What readers open.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody has it open, as far as is known since [`look`](Self::look).
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// Looks whether somebody has it open.
    pub fn look(&mut self) {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut file = [PollFd::new(&self.master, PollFlags::OUT)];
        let known = poll(&mut file, Some(&now)).is_ok();
        self.attached = known && !file[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
    }

    /// Whether output waits for a reader.
    pub fn has_output(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Adds output; the oldest is forgotten when too much waits.
    pub fn push(&mut self, bytes: &[u8]) {
        self.backlog.extend(bytes);
        let excess = self.backlog.len().saturating_sub(BACKLOG);
        self.backlog.drain(..excess);
    }

    /// Passes output on, as far as somebody takes it.
    pub fn flush(&mut self) {
        while self.attached && self.has_output() {
            let (first, _) = self.backlog.as_slices();
            match rustix::io::write(&self.master, first) {
                Ok(count) => drop(self.backlog.drain(..count)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => self.attached = false,
            }
        }
    }

    /// What was typed, at most `room` bytes of it.
    pub fn read(&mut self, room: usize) -> Vec<u8> {
        let mut bytes = vec![0; room];
        let length = match rustix::io::read(&self.master, &mut bytes) {
            Ok(length) => length,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
            Err(_) => {
                self.attached = false;
                0
            }
        };
        bytes.truncate(length);
        bytes
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn reader(terminal: &Terminal) -> File {
        File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NOCTTY.bits() as i32)
            .open(terminal.path())
            .unwrap()
    }

    #[test]
    fn without_a_reader_the_newest_output_is_kept() {
        let mut terminal = Terminal::open().unwrap();
        terminal.look();
        assert!(!terminal.is_attached());
        for index in 0..100_000 {
            terminal.push(format!("{index:07}\n").as_bytes());
            terminal.flush();
        }
        assert_eq!(terminal.backlog.len(), BACKLOG);
        let mut file = reader(&terminal);
        terminal.look();
        assert!(terminal.is_attached());
        terminal.flush();
        let mut bytes = [0; 8];
        file.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, format!("{:07}\n", 100_000 - BACKLOG / 8).as_bytes());
    }

    #[test]
    fn bytes_pass_unchanged_both_ways() {
        let mut terminal = Terminal::open().unwrap();
        let mut file = reader(&terminal);
        terminal.look();
        let every: Vec<u8> = (0..=255).collect();
        terminal.push(&every);
        terminal.flush();
        let mut back = vec![0; 256];
        file.read_exact(&mut back).unwrap();
        assert_eq!(back, every);
        file.write_all(&every).unwrap();
        assert_eq!(terminal.read(100), every[..100]);
        assert_eq!(terminal.read(1000), every[100..]);
        assert!(terminal.read(10).is_empty());
        assert!(terminal.is_attached());
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nothing_up() {
        let mut terminal = Terminal::open().unwrap();
        let _idle = reader(&terminal);
        terminal.look();
        for _ in 0..1000 {
            terminal.push(&[b'x'; 1000]);
            terminal.flush();
        }
        assert!(terminal.is_attached());
        assert!(terminal.backlog.len() <= BACKLOG);
    }

    #[test]
    fn a_reader_that_leaves_is_noticed() {
        let mut terminal = Terminal::open().unwrap();
        let file = reader(&terminal);
        terminal.look();
        drop(file);
        assert!(terminal.read(10).is_empty());
        assert!(!terminal.is_attached());
    }
}
