//! Finds the guests in the store and serves their consoles.

use crate::guest::{Guest, Progress};
use crate::log::{Log, file_name};
use crate::ring::ConsoleRing;
use crate::terminal::Terminal;
use anyhow::Context;
use control::{DomainId, EventChannels, GrantReference, Hypervisor, Port};
use guest_page::GuestPage;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::inotify;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use store_client::Store;

/// Where things go in the file system.
#[derive(Clone, Debug)]
pub struct Places {
    /// The logs.
    pub logs: PathBuf,
    /// How large a log may become before it is put aside.
    pub log_limit: u64,
    /// Links to the guests' terminals, by name.
    pub links: PathBuf,
}

/// The daemon.
pub struct Daemon {
    store: Store,
    hypervisor: Hypervisor,
    events: EventChannels,
    /// Tells when somebody opens a terminal.
    openings: OwnedFd,
    places: Places,
    /// Domains whose console nodes are watched.
    watched: BTreeSet<DomainId>,
    guests: BTreeMap<DomainId, Guest>,
    /// Consoles that could not be connected, by the port it was tried with: tried again at every event, told once.
    refused: BTreeMap<DomainId, Port>,
}

const DOMAINS: &str = "domains";

impl Daemon {
    /// Connects to the store and the drivers, and to the guests that are already there.
    pub fn start(places: Places) -> anyhow::Result<Self> {
        for directory in [&places.logs, &places.links] {
            fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        }
        let mut store = Store::connect()?;
        store.watch("@introduceDomain", DOMAINS)?;
        store.watch("@releaseDomain", DOMAINS)?;
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let mut daemon = Daemon {
            store,
            hypervisor: Hypervisor::open()?,
            events: EventChannels::open()?,
            openings: inotify::init(flags).context("watching for readers")?,
            places,
            watched: BTreeSet::new(),
            guests: BTreeMap::new(),
            refused: BTreeMap::new(),
        };
        daemon.look_for_domains()?;
        Ok(daemon)
    }

    /// Serves for ever.
    pub fn run(&mut self) -> anyhow::Result<()> {
        loop {
            self.take_store_events()?;
            let terminals = self.wait()?;
            let now = Instant::now();
            self.look_who_attached();
            self.take_notifications(now)?;
            self.resume_the_busy(now);
            for domain in terminals {
                // It may be that the reader left, also when nothing can be passed on.
                if let Some(guest) = self.guests.get_mut(&domain) {
                    guest.terminal.look();
                }
                self.serve(domain);
            }
        }
    }

    /// Waits until there is something to do; returns the guests whose terminals have something.
    fn wait(&self) -> anyhow::Result<Vec<DomainId>> {
        let deadline = self.guests.values().filter_map(|guest| guest.resume_at).min();
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|duration| Timespec::try_from(duration).ok());
        let mut files = vec![
            PollFd::new(&self.store, PollFlags::IN),
            PollFd::new(&self.events, PollFlags::IN),
            PollFd::new(&self.openings, PollFlags::IN),
        ];
        let fixed = files.len();
        let attached: Vec<(DomainId, &Guest)> = self
            .guests
            .iter()
            .filter(|(_, guest)| guest.terminal.is_attached())
            .map(|(domain, guest)| (*domain, guest))
            .collect();
        for (_, guest) in &attached {
            let mut interest = PollFlags::empty();
            interest.set(PollFlags::IN, guest.takes_input());
            interest.set(PollFlags::OUT, guest.terminal.has_output());
            files.push(PollFd::from_borrowed_fd(guest.terminal.as_fd(), interest));
        }
        match poll(&mut files, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context("waiting"),
        }
        let ready = files[fixed..]
            .iter()
            .zip(&attached)
            .filter(|(file, _)| !file.revents().is_empty());
        Ok(ready.map(|(_, (domain, _))| *domain).collect())
    }

    fn take_store_events(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.store.next_event(Duration::ZERO)? {
            match event.token.parse() {
                Ok(number) => self.connect_if_ready(DomainId(number))?,
                Err(_) => self.look_for_domains()?,
            }
        }
        Ok(())
    }

    /// Compares the guests that are served with the domains that exist.
    fn look_for_domains(&mut self) -> anyhow::Result<()> {
        let children = self.store.children("/local/domain")?;
        let present: BTreeSet<DomainId> = children
            .iter()
            .filter_map(|name| name.parse().ok().map(DomainId))
            .collect();
        for domain in present
            .iter()
            .copied()
            .filter(|domain| *domain != DomainId::CONTROL)
        {
            if self.watched.insert(domain) {
                // Its first event comes at once and connects the guest if its console is there already.
                self.store.watch(&console_path(domain), &domain.0.to_string())?;
            }
        }
        for domain in self.watched.clone() {
            if !self.exists(domain) {
                self.forget(domain, present.contains(&domain))?;
            }
        }
        Ok(())
    }

    fn exists(&self, domain: DomainId) -> bool {
        match self.hypervisor.domain_info(domain) {
            Ok(info) => info.is_some_and(|info| !info.dying),
            Err(error) => {
                eprintln!("consoled: domain {domain}: {error}");
                true
            }
        }
    }

    fn forget(&mut self, domain: DomainId, still_in_store: bool) -> anyhow::Result<()> {
        if let Some(mut guest) = self.guests.remove(&domain) {
            guest.drain();
            if let Some(port) = guest.port {
                // Closed already with the domain, or by this.
                let _ = self.events.unbind(port);
            }
            self.remove_link(&guest);
        }
        self.refused.remove(&domain);
        // While the toolstack has not removed the nodes, the domain would be taken for a new one again and again.
        if !still_in_store && self.watched.remove(&domain) {
            self.store.unwatch(&console_path(domain), &domain.0.to_string())?;
        }
        Ok(())
    }

    /// Connects a guest's console once the toolstack has written all there is to know, or again when that changes.
    fn connect_if_ready(&mut self, domain: DomainId) -> anyhow::Result<()> {
        let Some(remote_port) = self.console_port(domain)? else {
            return Ok(());
        };
        let served = self.guests.get(&domain).map(|guest| guest.remote_port);
        if served == Some(remote_port) || !self.exists(domain) {
            return Ok(());
        }
        if served.is_some() {
            self.forget(domain, true)?;
        }
        match self.connect(domain, remote_port) {
            Ok(guest) => {
                let tty = guest.terminal.path().display().to_string();
                self.make_link(&guest);
                self.refused.remove(&domain);
                self.guests.insert(domain, guest);
                // A guest that printed before we came has nobody else to tell us.
                self.serve(domain);
                self.announce(domain, &tty)?;
            }
            Err(error) => {
                if self.refused.insert(domain, remote_port) != Some(remote_port) {
                    eprintln!("consoled: domain {domain}: its console cannot be connected: {error:#}");
                }
            }
        }
        Ok(())
    }

    /// Writes where the terminal is; but not if the toolstack has just removed the guest, whose nodes this would bring
    /// back to life.
    fn announce(&mut self, domain: DomainId, tty: &str) -> anyhow::Result<()> {
        let path = console_path(domain);
        self.store.transaction(|store| {
            if store.read(&format!("{path}/port"))?.is_some() {
                store.write(&format!("{path}/tty"), tty)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// The port of a console that is ours to serve: a device model serves others.
    fn console_port(&mut self, domain: DomainId) -> anyhow::Result<Option<Port>> {
        let path = console_path(domain);
        let ours = self
            .store
            .read(&format!("{path}/type"))?
            .is_none_or(|kind| kind == "xenconsoled");
        let ring = self.store.read(&format!("{path}/ring-ref"))?;
        let port = self.store.read(&format!("{path}/port"))?;
        let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
        Ok(port.filter(|_| ours && ring.is_some()).map(Port))
    }

    fn connect(&mut self, domain: DomainId, remote: Port) -> anyhow::Result<Guest> {
        let name = self.store.read(&format!("/local/domain/{}/name", domain.0))?;
        let name = name
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| domain.0.to_string());
        let name = file_name(&name);
        let page = GuestPage::granted(domain, GrantReference::CONSOLE)?;
        let ring = ConsoleRing::attach(page)?;
        let terminal = Terminal::open().context("making a terminal")?;
        inotify::add_watch(&self.openings, terminal.path(), inotify::WatchFlags::OPEN)
            .context("watching for readers")?;
        let log = Log::open(&self.places.logs, &name, self.places.log_limit);
        let port = self.events.bind_interdomain(domain, remote)?;
        Ok(Guest::new(name, (remote, port), ring, terminal, log))
    }

    fn make_link(&self, guest: &Guest) {
        let link = self.places.links.join(&guest.name);
        let _ = fs::remove_file(&link);
        if let Err(error) = symlink(guest.terminal.path(), &link) {
            eprintln!("consoled: {}: {error}", link.display());
        }
    }

    /// Removes a guest's link, unless a namesake has taken it over.
    fn remove_link(&self, guest: &Guest) {
        let link = self.places.links.join(&guest.name);
        if fs::read_link(&link).is_ok_and(|target| target == Path::new(guest.terminal.path())) {
            let _ = fs::remove_file(&link);
        }
    }

    /// Looks at all terminals when somebody opened one: which it was is not worth remembering.
    fn look_who_attached(&mut self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.openings, &mut buffer);
        let mut opened = false;
        while reader.next().is_ok() {
            opened = true;
        }
        if opened {
            for guest in self.guests.values_mut() {
                guest.terminal.look();
                guest.terminal.flush();
            }
        }
    }

    fn take_notifications(&mut self, now: Instant) -> anyhow::Result<()> {
        while let Some(port) = self.events.pending()? {
            let found = self.guests.iter_mut().find(|(_, guest)| guest.port == Some(port));
            let Some((domain, guest)) = found else { continue };
            let domain = *domain;
            // A port stays masked until its guest is served.
            if guest.count(now).is_none() {
                self.serve(domain);
                self.unmask(port);
            }
        }
        Ok(())
    }

    fn resume_the_busy(&mut self, now: Instant) {
        let due: Vec<(DomainId, Port)> = self
            .guests
            .iter_mut()
            .filter(|(_, guest)| guest.resume_at.is_some_and(|at| at <= now))
            .filter_map(|(domain, guest)| {
                guest.resume_at = None;
                Some((*domain, guest.port?))
            })
            .collect();
        for (domain, port) in due {
            self.serve(domain);
            self.unmask(port);
        }
    }

    fn unmask(&self, port: Port) {
        // A port whose console just broke is closed; there is nothing to unmask.
        if self.guests.values().any(|guest| guest.port == Some(port)) {
            let _ = self.events.unmask(port);
        }
    }

    /// Moves a guest's bytes. A guest whose ring makes no sense is given up; nobody else notices.
    fn serve(&mut self, domain: DomainId) {
        let Some(guest) = self.guests.get_mut(&domain) else {
            return;
        };
        guest.terminal.flush();
        match guest.serve() {
            Ok(Progress::Moved) => {
                if let Some(port) = guest.port {
                    // Fails only for a guest that is gone, which the store tells us about.
                    let _ = self.events.notify(port);
                }
            }
            Ok(Progress::Idle) => {}
            Err(fault) => {
                eprintln!("consoled: domain {domain}: its console is broken: {fault}");
                guest.give_up(&fault.to_string());
                if let Some(port) = guest.port.take() {
                    let _ = self.events.unbind(port);
                }
            }
        }
    }
}

fn console_path(domain: DomainId) -> String {
    format!("/local/domain/{}/console", domain.0)
}
