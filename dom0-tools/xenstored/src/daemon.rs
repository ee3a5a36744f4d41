//! The loop that waits for clients and guests and serves them in turn.
//!
//! In each turn every client and every guest gets at most one request answered, so that nobody can keep the daemon to
//! himself. Nothing here blocks but the one `poll`.

use crate::hypervisor::{Event, Hypervisor};
use crate::permission::{Caller, DomainId};
use crate::store::{Store, log};
use crate::watch::ConnectionId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// Clients in dom0 that may be connected at a time.
const CLIENTS_MAX: usize = 800;

/// The store with its sockets.
pub struct Daemon<H: Hypervisor> {
    store: Store<H>,
    listener: UnixListener,
    clients: BTreeMap<ConnectionId, UnixStream>,
    /// Domains for which there may be something to do.
    busy_domains: BTreeSet<DomainId>,
}

/// Which files the kernel reported.
struct Reported {
    listener: bool,
    events: bool,
    clients: Vec<(ConnectionId, PollFlags)>,
}

impl<H: Hypervisor> Daemon<H> {
    /// Serves a store to whoever connects to the listener, and to the domains that it has.
    pub fn new(store: Store<H>, listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let busy_domains = store.introduced_domains().collect();
        Ok(Daemon {
            store,
            listener,
            clients: BTreeMap::new(),
            busy_domains,
        })
    }

    /// Serves for ever.
    pub fn run(&mut self) -> io::Result<()> {
        loop {
            self.turn()?;
        }
    }

    /// Waits until there is something to do, and does one round of it.
    pub fn turn(&mut self) -> io::Result<()> {
        let deadline = self.store.next_deadline(Instant::now());
        let reported = self.wait(deadline)?;
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            // Whoever was slowed down may go on; looking at all is simpler than remembering who it was.
            self.busy_domains.extend(self.store.introduced_domains());
        }
        if reported.events {
            self.take_events()?;
        }
        if reported.listener {
            self.accept();
        }
        for (id, flags) in reported.clients {
            self.serve_client(id, flags, now);
        }
        for domain in std::mem::take(&mut self.busy_domains) {
            if self.store.serve_domain(domain, now) {
                self.busy_domains.insert(domain);
            }
        }
        self.wake_waiting_domains();
        Ok(())
    }

    /// A request of one client may have left something to say for guests that had nothing to do.
    fn wake_waiting_domains(&mut self) {
        let speaking = self.store.domains_with_output();
        self.busy_domains.extend(speaking);
    }

    fn wait(&self, deadline: Option<Instant>) -> io::Result<Reported> {
        let now = Instant::now();
        let ready =
            !self.busy_domains.is_empty() || self.clients.keys().any(|id| self.store.is_ready(*id, now));
        let timeout = if ready {
            Some(Duration::ZERO)
        } else {
            deadline.map(|at| at - now.min(at))
        };
        let timeout = timeout.and_then(|duration| Timespec::try_from(duration).ok());
        let event_source = self.store.hypervisor().event_source();
        let accepting = if self.clients.len() < CLIENTS_MAX {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let mut files = vec![PollFd::new(&self.listener, accepting)];
        files.extend(event_source.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)));
        let first_client = files.len();
        for (id, stream) in &self.clients {
            files.push(PollFd::from_borrowed_fd(stream.as_fd(), self.interest(*id, now)));
        }
        match poll(&mut files, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags: Vec<PollFlags> = files.iter().map(PollFd::revents).collect();
        let clients = self
            .clients
            .keys()
            .copied()
            .zip(flags[first_client..].iter().copied());
        Ok(Reported {
            listener: flags[0].contains(PollFlags::IN),
            events: first_client > 1 && !flags[1].is_empty(),
            clients: clients
                .filter(|(id, flags)| !flags.is_empty() || self.store.is_ready(*id, now))
                .collect(),
        })
    }

    fn interest(&self, id: ConnectionId, now: Instant) -> PollFlags {
        let mut flags = PollFlags::empty();
        if let Some(connection) = self.store.connection(id) {
            if connection.input.space() > 0 && !connection.must_wait(self.store.outstanding_limit(), now) {
                flags |= PollFlags::IN;
            }
            if !connection.output.is_empty() {
                flags |= PollFlags::OUT;
            }
        }
        flags
    }

    fn take_events(&mut self) -> io::Result<()> {
        while let Some(event) = self.store.next_event()? {
            match event {
                Event::Notified(port) => self.busy_domains.extend(self.store.domain_at(port)),
                Event::DomainsChanged => self.store.check_domains(),
            }
        }
        Ok(())
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((stream, _)) => match stream.set_nonblocking(true) {
                Ok(()) => {
                    let id = self.store.connect(Caller::CONTROL);
                    self.clients.insert(id, stream);
                }
                Err(error) => log(&format!("a client is refused: {error}")),
            },
            Err(error) if is_temporary(&error) => {}
            Err(error) => log(&format!("a client cannot be accepted: {error}")),
        }
    }

    fn serve_client(&mut self, id: ConnectionId, flags: PollFlags, now: Instant) {
        if let Err(error) = self.move_and_process(id, flags, now) {
            if !matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ) {
                log(&format!("client {}: {error}", id.0));
            }
            self.clients.remove(&id);
            self.store.disconnect(id);
        }
    }

    fn move_and_process(&mut self, id: ConnectionId, flags: PollFlags, now: Instant) -> io::Result<()> {
        let Some(stream) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        if flags.contains(PollFlags::IN) {
            receive(&mut self.store, id, stream)?;
        } else if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.store.process(id, now);
        send(&mut self.store, id, stream)
    }
}

fn receive<H: Hypervisor>(store: &mut Store<H>, id: ConnectionId, stream: &mut UnixStream) -> io::Result<()> {
    let Some(connection) = store.connection_mut(id) else {
        return Err(ErrorKind::UnexpectedEof.into());
    };
    let mut buffer = [0; 4112];
    let room = connection.input.space().min(buffer.len());
    match stream.read(&mut buffer[..room]) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(length) => {
            connection.input.feed(&buffer[..length]);
            Ok(())
        }
        Err(error) if is_temporary(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn send<H: Hypervisor>(store: &mut Store<H>, id: ConnectionId, stream: &mut UnixStream) -> io::Result<()> {
    let Some(connection) = store.connection_mut(id) else {
        return Err(ErrorKind::UnexpectedEof.into());
    };
    if let Some(failure) = connection.failure() {
        return Err(io::Error::other(failure));
    }
    while !connection.output.is_empty() {
        match stream.write(connection.output.next()) {
            Ok(length) => connection.output.advance(length),
            Err(error) if is_temporary(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
