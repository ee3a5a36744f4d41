//! The daemon itself, over its socket: clients at the same time, and clients that misbehave.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use xenstored::wire::{HEADER_SIZE, Header, MessageType, encode};
use zerocopy::{FromBytes, IntoBytes};

struct Daemon {
    process: Child,
    directory: PathBuf,
}

impl Daemon {
    fn start(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("xenstored-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_xenstored"))
            .args(["--no-fork", "--no-domain-init", "--socket"])
            .arg(directory.join("socket"))
            .spawn()
            .unwrap();
        Daemon { process, directory }
    }

    fn connect(&self) -> Client {
        let start = Instant::now();
        loop {
            match UnixStream::connect(self.directory.join("socket")) {
                Ok(stream) => return Client(stream),
                Err(_) if start.elapsed() < Duration::from_secs(20) => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("the daemon does not come up: {error}"),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

struct Client(UnixStream);

impl Client {
    fn ask(&mut self, kind: MessageType, transaction: u32, payload: &str) -> Result<String, String> {
        let payload = payload.replace('|', "\0");
        self.0
            .write_all(&encode(kind, 1, transaction, payload.as_bytes()))
            .unwrap();
        let (header, answer) = self.receive();
        if header.kind == MessageType::Error as u32 {
            Err(answer)
        } else {
            Ok(answer)
        }
    }

    fn receive(&mut self) -> (Header, String) {
        let mut head = [0; HEADER_SIZE];
        self.0.read_exact(&mut head).unwrap();
        let header = Header::read_from_bytes(&head).unwrap();
        let mut payload = vec![0; header.length as usize];
        self.0.read_exact(&mut payload).unwrap();
        (header, String::from_utf8(payload).unwrap().replace('\0', "|"))
    }

    /// Adds one to a counter, in as many transactions as it takes; returns how many failed.
    fn count_up(&mut self) -> u32 {
        let mut failed = 0;
        loop {
            let transaction = self.ask(MessageType::TransactionStart, 0, "|").unwrap();
            let transaction = transaction.trim_end_matches('|').parse().unwrap();
            let value: u32 = self
                .ask(MessageType::Read, transaction, "/counter|")
                .unwrap()
                .parse()
                .unwrap();
            let next = format!("/counter|{}", value + 1);
            self.ask(MessageType::Write, transaction, &next).unwrap();
            match self.ask(MessageType::TransactionEnd, transaction, "T|") {
                Ok(_) => return failed,
                Err(error) => assert_eq!(error, "EAGAIN|"),
            }
            failed += 1;
        }
    }
}

#[test]
fn no_increment_of_many_clients_is_lost() {
    let daemon = Daemon::start("counter");
    daemon.connect().ask(MessageType::Write, 0, "/counter|0").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let mut client = daemon.connect();
            scope.spawn(move || (0..50).map(|_| client.count_up()).sum::<u32>());
        }
    });
    assert_eq!(
        daemon.connect().ask(MessageType::Read, 0, "/counter|"),
        Ok("400".into())
    );
}

#[test]
fn a_client_that_breaks_the_protocol_or_leaves_is_dropped_alone() {
    let daemon = Daemon::start("broken");
    let mut good = daemon.connect();
    good.ask(MessageType::Watch, 0, "/a|t|").unwrap();
    good.receive();
    let mut bad = daemon.connect();
    let header = Header {
        kind: 2,
        length: 1 << 30,
        ..Header::default()
    };
    bad.0.write_all(header.as_bytes()).unwrap();
    assert_eq!(bad.0.read(&mut [0; 10]).unwrap(), 0);
    for _ in 0..100 {
        let mut short = daemon.connect();
        short.ask(MessageType::Watch, 0, "/|t|").unwrap();
        short.ask(MessageType::TransactionStart, 0, "|").unwrap();
        short.0.write_all(&[0; 7]).unwrap();
    }
    daemon.connect().ask(MessageType::Write, 0, "/a/b|").unwrap();
    assert_eq!(good.receive().1, "/a/b|t|");
    let start = Instant::now();
    while !good
        .ask(MessageType::Control, 0, "memreport|")
        .unwrap()
        .contains("watches 1\n")
    {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "watches of clients that left remain"
        );
    }
}

#[test]
fn a_client_that_does_not_read_does_not_hold_others_up() {
    let daemon = Daemon::start("silent");
    let mut silent = daemon.connect();
    silent
        .0
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let request = encode(MessageType::Directory, 1, 0, b"/\0").repeat(1000);
    while silent.0.write(&request).is_ok() {}
    let mut good = daemon.connect();
    good.ask(MessageType::Write, 0, "/a|1").unwrap();
    assert_eq!(good.ask(MessageType::Read, 0, "/a|"), Ok("1".into()));
}

#[test]
fn a_second_daemon_at_the_same_socket_is_refused() {
    let daemon = Daemon::start("second");
    daemon.connect();
    let second = Command::new(env!("CARGO_BIN_EXE_xenstored"))
        .args(["--no-fork", "--no-domain-init", "--socket"])
        .arg(daemon.directory.join("socket"))
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("already listens"));
    daemon.connect().ask(MessageType::Read, 0, "/tool|").unwrap();
}
