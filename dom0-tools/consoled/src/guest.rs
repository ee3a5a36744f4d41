//! One guest's console: its ring, its log and its terminal.

use crate::log::Log;
use crate::ring::ConsoleRing;
use crate::terminal::Terminal;
use control::Port;
use pv_drivers::ring::Fault;
use std::time::{Duration, Instant};

/// A guest's notifications are counted per window of this length ...
const WINDOW: Duration = Duration::from_millis(200);
/// ... and this many are served in one: whoever prints without end waits for the next.
const ALLOWANCE: u32 = 400;

/// What came of looking at a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bytes moved: the guest is to be told.
    Moved,
    /// Nothing to do.
    Idle,
}

/// A guest whose console is served.
#[derive(Debug)]
pub struct Guest {
    /// What it is called in the file system.
    pub name: String,
    /// The guest's own end of the event channel.
    pub remote_port: Port,
    /// Our end; none once the console is broken.
    pub port: Option<Port>,
    /// Its terminal.
    pub terminal: Terminal,
    /// Served again, and its port unmasked, at this moment; it was too busy.
    pub resume_at: Option<Instant>,
    ring: Option<ConsoleRing>,
    log: Log,
    window: Instant,
    served: u32,
}

impl Guest {
    /// Begins to serve a console.
    pub fn new(name: String, ports: (Port, Port), ring: ConsoleRing, terminal: Terminal, log: Log) -> Self {
        let (remote_port, port) = ports;
        Guest {
            name,
            remote_port,
            port: Some(port),
            terminal,
            resume_at: None,
            ring: Some(ring),
            log,
            window: Instant::now(),
            served: 0,
        }
    }

    /// Takes what the guest printed, at most one ring full, and passes on what was typed.
    pub fn serve(&mut self) -> Result<Progress, Fault> {
        let printed = self.take_output()?;
        let typed = self.give_input()?;
        Ok(if printed || typed {
            Progress::Moved
        } else {
            Progress::Idle
        })
    }

    fn take_output(&mut self) -> Result<bool, Fault> {
        let Some(ring) = &mut self.ring else {
            return Ok(false);
        };
        let bytes = ring.read()?;
        self.log.write(&bytes);
        self.terminal.push(&bytes);
        self.terminal.flush();
        Ok(!bytes.is_empty())
    }

    fn give_input(&mut self) -> Result<bool, Fault> {
        let Some(ring) = &mut self.ring else {
            return Ok(false);
        };
        let room = ring.input_room()?;
        if room == 0 || !self.terminal.is_attached() {
            return Ok(false);
        }
        let bytes = self.terminal.read(room);
        ring.write(&bytes).map(|passed| passed > 0)
    }

    /// Whether what is typed now could be passed on.
    pub fn takes_input(&self) -> bool {
        self.ring
            .as_ref()
            .is_some_and(|ring| ring.input_room().is_ok_and(|room| room > 0))
    }

    /// Takes what is left in the ring of a guest that is gone.
    pub fn drain(&mut self) {
        // Twice: the indices of a dead guest do not move any more, but the rule that no guest keeps us is kept here, too.
        for _ in 0..2 {
            if self.take_output() != Ok(true) {
                return;
            }
        }
    }

    /// Gives up on the ring; the terminal and the log stay as they are.
    pub fn give_up(&mut self, reason: &str) {
        let line = format!("\r\n[consoled: this console is broken: {reason}]\r\n");
        self.log.write(line.as_bytes());
        self.terminal.push(line.as_bytes());
        self.terminal.flush();
        self.ring = None;
        self.resume_at = None;
    }

    /// Counts a notification. Returns when the guest is to be served if it has had its share for now.
    pub fn count(&mut self, now: Instant) -> Option<Instant> {
        if now.duration_since(self.window) >= WINDOW {
            (self.window, self.served) = (now, 0);
        }
        self.served += 1;
        self.resume_at = (self.served > ALLOWANCE).then(|| self.window + WINDOW);
        self.resume_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_page::GuestPage;
    use proptest::prelude::*;
    use pv_drivers::ring::{ByteConsumer, ByteProducer, CONSOLE_INPUT, CONSOLE_OUTPUT};
    use std::fs::{self, File};
    use std::io::{Read, Write};
    use std::path::PathBuf;

    /// Where the four indices lie.
    const INDICES: [usize; 4] = [3072, 3076, 3080, 3084];

    struct Fixture {
        guest: Guest,
        page: GuestPage,
        directory: PathBuf,
    }

    impl Fixture {
        fn new(name: &str) -> Self {
            let directory =
                std::env::temp_dir().join(format!("consoled-guest-{}-{name}", std::process::id()));
            fs::create_dir_all(&directory).unwrap();
            let page = GuestPage::plain();
            let ring = ConsoleRing::attach(page.clone()).unwrap();
            let log = Log::open(&directory, "web", 1 << 20);
            let guest = Guest::new(
                "web".into(),
                (Port(1), Port(2)),
                ring,
                Terminal::open().unwrap(),
                log,
            );
            Fixture {
                guest,
                page,
                directory,
            }
        }

        fn logged(&self) -> Vec<u8> {
            fs::read(self.directory.join("web.log")).unwrap()
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }

    #[test]
    fn what_a_guest_prints_is_logged_and_shown() {
        let mut fixture = Fixture::new("prints");
        let mut guest = ByteProducer::attach(CONSOLE_OUTPUT, fixture.page.clone()).unwrap();
        guest.write(b"hello\n").unwrap();
        assert_eq!(fixture.guest.serve(), Ok(Progress::Moved));
        assert_eq!(fixture.guest.serve(), Ok(Progress::Idle));
        assert_eq!(fixture.logged(), b"hello\n");
        let mut reader = File::open(fixture.guest.terminal.path()).unwrap();
        fixture.guest.terminal.look();
        fixture.guest.terminal.flush();
        let mut bytes = [0; 6];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello\n");
    }

    #[test]
    fn a_guest_prints_without_a_reader_as_much_as_it_likes() {
        let mut fixture = Fixture::new("endless");
        let mut guest = ByteProducer::attach(CONSOLE_OUTPUT, fixture.page.clone()).unwrap();
        for _ in 0..200 {
            assert_eq!(guest.write(&[b'x'; 2048]), Ok(2048));
            assert_eq!(fixture.guest.serve(), Ok(Progress::Moved));
        }
        assert_eq!(fixture.logged().len(), 200 * 2048);
    }

    #[test]
    fn what_is_typed_arrives_even_if_the_guest_reads_late() {
        let mut fixture = Fixture::new("typed");
        let mut guest = ByteConsumer::attach(CONSOLE_INPUT, fixture.page.clone()).unwrap();
        let mut writer = File::options()
            .write(true)
            .open(fixture.guest.terminal.path())
            .unwrap();
        fixture.guest.terminal.look();
        let typed: Vec<u8> = (0..3000_u32).map(|index| index as u8).collect();
        writer.write_all(&typed).unwrap();
        let mut arrived = Vec::new();
        for _ in 0..100 {
            fixture.guest.serve().unwrap();
            let mut bytes = [0; 100];
            let length = guest.read(&mut bytes).unwrap();
            arrived.extend_from_slice(&bytes[..length]);
        }
        assert_eq!(arrived, typed);
    }

    #[test]
    fn the_last_words_of_a_dead_guest_are_logged() {
        let mut fixture = Fixture::new("last");
        let mut guest = ByteProducer::attach(CONSOLE_OUTPUT, fixture.page.clone()).unwrap();
        guest.write(b"Kernel panic").unwrap();
        fixture.guest.drain();
        assert_eq!(fixture.logged(), b"Kernel panic");
    }

    #[test]
    fn a_broken_console_says_so_and_does_nothing_more() {
        let mut fixture = Fixture::new("broken");
        fixture.page.set(INDICES[3], 5000);
        let fault = fixture.guest.serve().unwrap_err();
        fixture.guest.give_up(&fault.to_string());
        assert!(String::from_utf8_lossy(&fixture.logged()).contains("broken"));
        assert_eq!(fixture.guest.serve(), Ok(Progress::Idle));
        assert!(!fixture.guest.takes_input());
    }

    #[test]
    fn a_guest_that_notifies_without_end_has_to_wait() {
        let mut fixture = Fixture::new("busy");
        let start = Instant::now();
        fixture.guest.window = start;
        assert!((0..ALLOWANCE).all(|_| fixture.guest.count(start).is_none()));
        assert_eq!(fixture.guest.count(start), Some(start + WINDOW));
        assert_eq!(fixture.guest.count(start + WINDOW), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_the_indices_are_no_more_than_a_ring_is_taken(
            values in proptest::collection::vec((0_usize..4, any::<u32>()), 1..8)
        ) {
            let mut fixture = Fixture::new("hostile");
            for (which, value) in values {
                fixture.page.set(INDICES[which], value);
                let before = fixture.logged().len();
                if fixture.guest.serve().is_err() {
                    fixture.guest.give_up("index");
                    break;
                }
                prop_assert!(fixture.logged().len() - before <= 2048);
            }
        }
    }
}
