//! A guest's console page, served by the console daemon.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use consoled::guest::{Guest, Progress};
use consoled::log::Log;
use consoled::ring::{ConsoleRing, OUTPUT_SIZE};
use consoled::terminal::Terminal;
use control::Port;
use guest_page::GuestPage;
use pv_drivers::ring::{ByteProducer, CONSOLE_OUTPUT, Memory};

use crate::input::Input;

/// Where the four indices lie: in_cons, in_prod, out_cons, out_prod.
const INDICES: [usize; 4] = [3072, 3076, 3080, 3084];
/// Small, so that logs are changed for new ones during a run.
const LOG_LIMIT: u64 = 8192;
/// Notifications that are served in a window of time.
const ALLOWANCE: u32 = 400;

/// A directory of this process for the guest's log, gone in the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        // Each thread's own: tests run side by side.
        let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "");
        // In memory where the system has such a place: on a disk the log takes most of the time.
        let memory = PathBuf::from("/dev/shm");
        let place = if memory.is_dir() {
            memory
        } else {
            std::env::temp_dir()
        };
        let path = place.join(format!("fuzz-console-{}-{thread}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary directory");
        Directory(path)
    }

    /// Bytes of the log and of the one before.
    fn logged(&self) -> [u64; 2] {
        ["web.log", "web.log.1"].map(|name| fs::metadata(self.0.join(name)).map_or(0, |file| file.size()))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

thread_local! {
    /// The last input's terminal: to make and end one takes longer than all the rest.
    static TERMINAL: Cell<Option<Terminal>> = const { Cell::new(None) };
}

fn terminal() -> Terminal {
    TERMINAL
        .take()
        .unwrap_or_else(|| Terminal::open().expect("a pseudo-terminal"))
}

/// The guest's deeds, one after the other, with the daemon looking in between.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let directory = Directory::new();
    let page = GuestPage::plain();
    let mut guest = Guest::new(
        "web".into(),
        (Port(1), Port(2)),
        ConsoleRing::attach(page.clone()).expect("an empty page is a console's"),
        terminal(),
        Log::open(&directory.0, "web", LOG_LIMIT),
    );
    let mut now = Instant::now();
    // As long as the guest keeps to the protocol, what it prints is what is logged.
    let mut honest = ByteProducer::attach(CONSOLE_OUTPUT, page.clone()).ok();
    let (mut printed, mut passed) = (0u64, 0u32);
    while !input.is_empty() {
        match input.byte() % 8 {
            0 | 1 => {
                let length = 16 * usize::from(input.byte());
                let bytes = vec![b'x'; length];
                if let Some(producer) = &mut honest {
                    printed += producer.write(&bytes).map_or(0, |count| count as u64);
                }
            }
            2 | 3 => serve(&mut guest, &directory),
            4 => {
                let index = INDICES[usize::from(input.byte() % 4)];
                page.set(
                    index,
                    page.get(index).wrapping_add_signed(i32::from(input.byte() as i8)),
                );
                honest = None;
            }
            5 => {
                let offset = input.number(2) as usize % 4096;
                for (place, byte) in (offset..4096).zip(input.bytes(8)) {
                    page.store_byte(place, *byte);
                }
                honest = None;
            }
            6 => {
                let waits = guest.count(now).is_some();
                passed = if waits { passed } else { passed + 1 };
                assert!(passed <= ALLOWANCE, "served more often than it has a right to");
            }
            _ => {
                now += Duration::from_millis(250);
                passed = 0;
            }
        }
    }
    serve(&mut guest, &directory);
    guest.drain();
    if honest.is_some() && printed <= LOG_LIMIT / 2 {
        assert_eq!(
            directory.logged()[0],
            printed,
            "what was printed is what is logged"
        );
    }
    TERMINAL.set(Some(guest.terminal));
}

fn serve(guest: &mut Guest, directory: &Directory) {
    let before = directory.logged();
    let served = guest.serve();
    let [now, last] = directory.logged();
    // Smaller: it is a new file.
    let grown = now.checked_sub(before[0]).unwrap_or(now);
    assert!(grown <= OUTPUT_SIZE as u64, "more than a ring at a time");
    assert!(
        now <= LOG_LIMIT + 4096 && last <= LOG_LIMIT + 4096,
        "a log without bounds"
    );
    match served {
        Ok(Progress::Moved | Progress::Idle) => {}
        Err(fault) => {
            guest.give_up(&fault.to_string());
            assert_eq!(guest.serve(), Ok(Progress::Idle), "a broken console does nothing");
            assert!(!guest.takes_input());
        }
    }
}

/// Printing as a guest does, and each index where it cannot be.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("printing", vec![0, 1, 2, 0, 30, 3, 6, 0, 200, 2, 2]),
        ("much", [0u8, 255, 2].repeat(12)),
        ("leap_of_the_producer", vec![0, 4, 2, 4, 3, 127, 2, 4, 3, 0x80, 2]),
        ("leap_of_the_consumer", vec![4, 0, 5, 2, 2]),
        (
            "every_index",
            vec![4, 0, 1, 2, 4, 1, 1, 2, 4, 2, 1, 2, 4, 3, 1, 2],
        ),
        (
            "anything",
            vec![5, 0, 12, 0, 8, 0, 0, 0xff, 0xff, 0xff, 0xff, 2, 6, 7],
        ),
        ("notifying", [6u8; 40].to_vec()),
    ]
}
