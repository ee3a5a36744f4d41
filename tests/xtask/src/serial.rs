//! A running machine seen through its serial port: lines with wall-clock and CPU time, and the keyboard.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command;

/// One line of the serial port.
pub struct Line {
    /// Since the machine was switched on.
    pub at: Duration,
    /// What the emulator had used of CPU time by then.
    pub cpu: Duration,
    /// Without its end and without what cannot be printed.
    pub text: String,
}

/// What happened next.
pub enum Event {
    /// A line is complete.
    Line(Line),
    /// Nothing until the deadline.
    Deadline,
    /// The machine is off.
    Off,
}

/// A machine that is switched on; switched off when dropped.
pub struct Session {
    emulator: Child,
    started: Instant,
    chunks: Receiver<Vec<u8>>,
    waiting: Vec<u8>,
    log: File,
}

impl Session {
    /// Switches the machine on. All that it says goes to `log`, too, each line with its time.
    pub fn start(mut command: Command, log: &Path) -> Result<Session> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        writeln!(log, "# {}", command::shown(&command))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::from(log.try_clone()?));
        let mut emulator = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let started = Instant::now();
        let mut output = emulator.stdout.take().context("the emulator has an output")?;
        let (sender, chunks) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Session {
            emulator,
            started,
            chunks,
            waiting: Vec::new(),
            log,
        })
    }

    /// Since the machine was switched on.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The next line, or why there is none by the deadline (counted from switching on).
    pub fn next(&mut self, deadline: Duration) -> Result<Event> {
        loop {
            if let Some(end) = self.waiting.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.waiting.drain(..=end).collect();
                return self.line(&line).map(Event::Line);
            }
            match self.chunks.recv_timeout(deadline.saturating_sub(self.elapsed())) {
                Ok(chunk) => self.waiting.extend_from_slice(&chunk),
                Err(RecvTimeoutError::Timeout) => return Ok(Event::Deadline),
                Err(RecvTimeoutError::Disconnected) if self.waiting.is_empty() => return Ok(Event::Off),
                Err(RecvTimeoutError::Disconnected) => self.waiting.push(b'\n'),
            }
        }
    }

    /// The bytes that come next, lines or not, for a person at the keyboard. `None` when the machine is off.
    pub fn next_bytes(&mut self, patience: Duration) -> Result<Option<Vec<u8>>> {
        if !self.waiting.is_empty() {
            return Ok(Some(std::mem::take(&mut self.waiting)));
        }
        match self.chunks.recv_timeout(patience) {
            Ok(chunk) => {
                self.log.write_all(&chunk)?;
                Ok(Some(chunk))
            }
            Err(RecvTimeoutError::Timeout) => Ok(Some(Vec::new())),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
        }
    }

    /// The keyboard.
    pub fn keyboard(&mut self) -> Option<std::process::ChildStdin> {
        self.emulator.stdin.take()
    }

    fn line(&mut self, raw: &[u8]) -> Result<Line> {
        let text = printable(&String::from_utf8_lossy(raw));
        let line = Line {
            at: self.elapsed(),
            cpu: self.cpu_time(),
            text,
        };
        writeln!(self.log, "{:9.3} {}", line.at.as_secs_f64(), line.text)?;
        Ok(line)
    }

    /// User and system time of the emulator's process, from /proc; zero once it is gone.
    fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.emulator.id())).unwrap_or_default();
        // The name in parentheses may hold anything; what follows it is field 3.
        let fields = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace();
        let ticks: u64 = fields
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        const TICKS_PER_SECOND: u64 = 100; // USER_HZ, fixed on x86
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may be off already: then there is nothing to end.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

/// Without control characters and terminal sequences.
fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\x1b' && characters.peek() == Some(&'[') {
            characters
                .by_ref()
                .skip(1)
                .find(|next| next.is_ascii_alphabetic());
        } else if character == '\t' || !character.is_control() {
            clean.push(character);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    #[test]
    fn terminal_sequences_vanish() {
        assert_eq!(super::printable("\x1b[1;32mok\x1b[0m\x07 done\r\n"), "ok done");
    }
}
