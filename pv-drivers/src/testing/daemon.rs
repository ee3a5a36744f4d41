//! The store's daemon: a tree, watches, and the ring. It can be told to lie.

extern crate std;

use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::string::{String, ToString};
use std::vec::Vec;

use hypercall_abi::io::xenstore::{Header, message as kind};
use zerocopy::{FromBytes, IntoBytes};

use super::Pages;
use crate::ring::{ByteConsumer, ByteProducer, STORE_REQUEST, STORE_RESPONSE};

/// Where relative paths begin.
pub const HOME: &str = "/local/domain/5";

/// Changes the bytes of an answer, header included, before it is sent.
pub type Lie = Box<dyn FnMut(&mut Vec<u8>)>;

/// The daemon.
pub struct Daemon {
    requests: ByteConsumer<Pages>,
    responses: ByteProducer<Pages>,
    heard: Vec<u8>,
    to_say: Vec<u8>,
    nodes: BTreeMap<String, Vec<u8>>,
    watches: BTreeSet<(String, Vec<u8>)>,
    transactions: u32,
    /// How many commits are still to be refused with EAGAIN.
    pub conflicts: u32,
    /// Does not answer.
    pub silent: bool,
    /// What it does to its answers.
    pub lie: Option<Lie>,
    /// Requests that were answered.
    pub answered: u64,
}

impl Daemon {
    pub(super) fn new(page: Pages) -> Daemon {
        Daemon {
            requests: ByteConsumer::attach(STORE_REQUEST, page.clone()).expect("an empty ring"),
            responses: ByteProducer::attach(STORE_RESPONSE, page).expect("an empty ring"),
            heard: Vec::new(),
            to_say: Vec::new(),
            nodes: BTreeMap::new(),
            watches: BTreeSet::new(),
            transactions: 0,
            conflicts: 0,
            silent: false,
            lie: None,
            answered: 0,
        }
    }

    fn absolute(path: &str) -> String {
        if path.starts_with('/') {
            path.to_string()
        } else {
            std::format!("{HOME}/{path}")
        }
    }

    pub(super) fn set(&mut self, path: &str, value: &[u8]) {
        let path = Self::absolute(path);
        self.nodes.insert(path.clone(), value.to_vec());
        self.fire(&path);
    }

    pub(super) fn unset(&mut self, path: &str) {
        let path = Self::absolute(path);
        let below = std::format!("{path}/");
        let gone = |node: &String| *node == path || node.starts_with(&below);
        let removed: Vec<String> = self.nodes.keys().filter(|node| gone(node)).cloned().collect();
        // Each that is gone is told of.
        for node in removed {
            self.nodes.remove(&node);
            self.fire(&node);
        }
    }

    pub(super) fn get(&self, path: &str) -> Option<&[u8]> {
        self.nodes.get(&Self::absolute(path)).map(Vec::as_slice)
    }

    /// Bytes to be sent as they are, whatever they mean.
    pub fn say(&mut self, bytes: &[u8]) {
        self.to_say.extend_from_slice(bytes);
    }

    fn fire(&mut self, path: &str) {
        let watches = self.watches.clone();
        for (watched, token) in watches {
            if path == watched || path.starts_with(&std::format!("{watched}/")) {
                self.watch_event(path, &token);
            }
        }
    }

    fn watch_event(&mut self, path: &str, token: &[u8]) {
        let payload = [path.as_bytes(), b"\0", token, b"\0"].concat();
        self.send(
            Header {
                kind: kind::WATCH_EVENT,
                ..Header::default()
            },
            &payload,
        );
    }

    fn send(&mut self, header: Header, payload: &[u8]) {
        let header = Header {
            length: payload.len() as u32,
            ..header
        };
        let mut bytes = [header.as_bytes(), payload].concat();
        if let Some(lie) = &mut self.lie {
            lie(&mut bytes);
        }
        self.to_say.extend(bytes);
    }

    /// Reads requests and writes answers, as far as there is room. What a broken ring holds is not looked at.
    pub fn serve(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = self.requests.read(&mut buffer) {
            self.heard.extend_from_slice(&buffer[..length]);
            while let Some((header, payload)) = self.next_request() {
                if !self.silent {
                    self.answered += 1;
                    self.answer(header, &payload);
                }
            }
        }
        if let Ok(length) = self.responses.write(&self.to_say) {
            self.to_say.drain(..length);
        }
    }

    fn next_request(&mut self) -> Option<(Header, Vec<u8>)> {
        let (header, rest) = Header::read_from_prefix(&self.heard).ok()?;
        let payload = rest.get(..header.length as usize)?.to_vec();
        self.heard.drain(..size_of::<Header>() + payload.len());
        Some((header, payload))
    }

    fn answer(&mut self, header: Header, payload: &[u8]) {
        let mut parts = payload.splitn(2, |byte| *byte == 0);
        let path = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let path = Self::absolute(&path);
        let rest = parts.next().unwrap_or_default();
        let fails = |error: &str| Err(std::format!("{error}\0"));
        let answer: Result<Vec<u8>, String> = match header.kind {
            kind::READ => self.nodes.get(&path).cloned().ok_or_else(|| "ENOENT\0".into()),
            kind::DIRECTORY => Ok(self.children(&path)),
            kind::WRITE => {
                self.set(&path, rest);
                Ok(b"OK\0".to_vec())
            }
            kind::REMOVE => {
                self.unset(&path);
                Ok(b"OK\0".to_vec())
            }
            kind::WATCH => {
                let token = rest.strip_suffix(b"\0").unwrap_or(rest).to_vec();
                self.watches.insert((path.clone(), token.clone()));
                self.send(header, b"OK\0");
                self.watch_event(&path, &token);
                return;
            }
            kind::UNWATCH => {
                let token = rest.strip_suffix(b"\0").unwrap_or(rest).to_vec();
                match self.watches.remove(&(path, token)) {
                    true => Ok(b"OK\0".to_vec()),
                    false => fails("ENOENT"),
                }
            }
            kind::TRANSACTION_START => {
                self.transactions += 1;
                Ok(std::format!("{}\0", self.transactions).into_bytes())
            }
            kind::TRANSACTION_END if self.conflicts > 0 => {
                self.conflicts -= 1;
                fails("EAGAIN")
            }
            kind::TRANSACTION_END => Ok(b"OK\0".to_vec()),
            _ => fails("ENOSYS"),
        };
        match answer {
            Ok(payload) => self.send(header, &payload),
            Err(error) => self.send(
                Header {
                    kind: kind::ERROR,
                    ..header
                },
                error.as_bytes(),
            ),
        }
    }

    fn children(&self, path: &str) -> Vec<u8> {
        let below = std::format!("{path}/");
        let names: BTreeSet<&str> = self
            .nodes
            .keys()
            .filter_map(|node| node.strip_prefix(&below)?.split('/').next())
            .collect();
        names.iter().flat_map(|name| name.bytes().chain([0])).collect()
    }
}
