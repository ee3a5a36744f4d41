//! The core's state beside the model's: maps, contents, ports, books.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::{Rc, Weak};
use std::sync::atomic::Ordering;

use hypercall_abi::DomainId;
use kernel::schedule::AtomicProcessorSet;
use kernel::testing::{TestDomain, TestKernel};
use kernel::vcpu::stop;
use machine::Machine;
use machine::address::GuestFrame;
use machine::memory::FrameReference;
use machine::stage_two::{EntryKind, Leaf, Permissions};

use super::memory::{Entry, Kind, PAGE_SIZE, Page, PageReference};
use super::{Domain, Model};

/// Nothing differs, or what does.
pub type Compared = Result<(), String>;

/// Which frame of the machine is which page of the model: one to one, at any moment.
#[derive(Default)]
pub struct Frames {
    pages: HashMap<u64, Weak<Page>>,
}

impl Frames {
    /// The page that a frame is known as.
    pub fn page(&self, frame: u64) -> Option<PageReference> {
        self.pages.get(&frame)?.upgrade()
    }

    /// A frame and a page are the same, or from now on are.
    pub fn same(&mut self, frame: u64, page: &PageReference) -> Compared {
        let known = self.page(frame);
        match (page.frame.get(), known) {
            (Some(before), _) if before != frame => Err(format!(
                "page {} is frame {frame:#x}, and was frame {before:#x}",
                page.identity
            )),
            (Some(_), _) => Ok(()),
            (None, Some(other)) => Err(format!(
                "frame {frame:#x} is page {}, and still is page {}",
                page.identity, other.identity
            )),
            (None, None) => {
                page.frame.set(Some(frame));
                self.pages.insert(frame, Rc::downgrade(page));
                Ok(())
            }
        }
    }

    /// Forget frames whose pages are gone.
    pub fn tidy(&mut self) {
        self.pages.retain(|_, page| page.strong_count() != 0);
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: impl Fn() -> String, core: T, model: T) -> Compared {
    if core == model {
        Ok(())
    } else {
        Err(format!(
            "{}: the core has {core:x?}, the model {model:x?}",
            what()
        ))
    }
}

/// A kind in the core's words.
pub fn kind_of(kind: EntryKind) -> Kind {
    match kind {
        EntryKind::Populated => Kind::Own,
        EntryKind::Foreign => Kind::Foreign,
        EntryKind::Grant => Kind::Granted,
        EntryKind::Shared => Kind::Shared,
        EntryKind::Device => Kind::Device,
    }
}

/// What a domain may do with a page: code runs in its own memory only.
fn permissions(entry: &Entry) -> Permissions {
    Permissions {
        write: entry.writable,
        execute: entry.kind == Kind::Own && entry.writable,
    }
}

/// One guest frame.
pub fn frame(frames: &mut Frames, core: &TestDomain, model: &Domain, at: u64) -> Compared {
    let what = |part: &str| format!("domain {} guest frame {at:#x}, {part}", model.number);
    let leaf = core.physmap.lookup(GuestFrame(at));
    let entry = model.map.get(at);
    let (Some(leaf), Some(entry)) = (leaf, entry) else {
        return equal(
            || what("kind"),
            leaf.map(|leaf| kind_of(leaf.kind)),
            entry.map(|entry| entry.kind),
        );
    };
    same_leaf(frames, &what, &leaf, entry)
}

fn same_leaf(frames: &mut Frames, what: &dyn Fn(&str) -> String, leaf: &Leaf, entry: &Entry) -> Compared {
    equal(|| what("kind"), kind_of(leaf.kind), entry.kind)?;
    let Some(page) = &entry.page else { return Ok(()) };
    equal(|| what("permissions"), leaf.permissions, permissions(entry))?;
    frames
        .same(leaf.frame.0, page)
        .map_err(|error| format!("{}: {error}", what("identity")))
}

/// The bytes of a page.
pub fn contents(core: &FrameReference, page: &Page, what: impl Fn() -> String) -> Compared {
    part(core, page, 0..PAGE_SIZE, &what)
}

/// Some bytes of a page.
fn part(core: &FrameReference, page: &Page, range: Range<usize>, what: &dyn Fn() -> String) -> Compared {
    const SHORT: usize = 256;
    if range.len() <= SHORT {
        same_bytes(core, page, range.clone(), &mut [0; SHORT][..range.len()], what)
    } else {
        same_bytes(
            core,
            page,
            range.clone(),
            &mut [0; PAGE_SIZE][..range.len()],
            what,
        )
    }
}

fn same_bytes(
    core: &FrameReference,
    page: &Page,
    range: Range<usize>,
    bytes: &mut [u8],
    what: &dyn Fn() -> String,
) -> Compared {
    // A part of a page is inside the page.
    let _ = core.read(range.start, bytes);
    if page.holds_at(range.start, bytes) {
        return Ok(());
    }
    let mut modelled = vec![0; range.len()];
    page.read(range.start, &mut modelled);
    let first = (0..range.len())
        .find(|&at| bytes[at] != modelled[at])
        .unwrap_or(0);
    let last = (0..range.len())
        .rfind(|&at| bytes[at] != modelled[at])
        .unwrap_or(0);
    let shown = first..(first + 16).min(range.len());
    Err(format!(
        "{}: bytes {:#x} to {:#x} differ; from there on the core has {:02x?}, the model {:02x?}",
        what(),
        range.start + first,
        range.start + last,
        &bytes[shown.clone()],
        &modelled[shown],
    ))
}

/// What the last call wrote to a page, by a place where it is mapped.
pub fn written(kernel: &TestKernel, model: &Model, page: &PageReference) -> Compared {
    let range = page.take_written();
    let place = page.place.get().and_then(|(number, at)| {
        let domain = model.domains.get(&number)?;
        let (there, _) = domain.map.page(at)?;
        Rc::ptr_eq(there, page).then_some((number, at))
    });
    if let Some((number, at)) = place
        && let Some(domain) = kernel.domains.get(DomainId(number))
        && let Some((core, _)) = domain.physmap.get(GuestFrame(at))
    {
        return part(&core, page, range, &|| {
            format!("domain {number} guest frame {at:#x}")
        });
    }
    // Not mapped there any more; one more place is worth a look for each call that sends events.
    let core = kernel.domains.get(DomainId(page.owner));
    match (core, model.domains.get(&page.owner)) {
        (Some(core), Some(owner)) if Rc::ptr_eq(&owner.shared_info, page) => {
            let what = || format!("domain {} shared info", owner.number);
            part(&core.shared_info, page, range, &what)
        }
        _ => Ok(()),
    }
}

/// All of a domain.
pub fn domain(kernel: &TestKernel, frames: &mut Frames, core: &TestDomain, model: &Model) -> Compared {
    let number = core.id.0;
    let domain = &model.domains[&number];
    frames.same(core.shared_info.frame().0, &domain.shared_info)?;
    contents(&core.shared_info, &domain.shared_info, || {
        format!("domain {number} shared info")
    })?;
    memory(frames, core, domain)?;
    ports(kernel, core, model)?;
    grants(kernel, frames, core, domain)?;
    vcpus(core, domain)?;
    books(kernel, core, model)
}

fn memory(frames: &mut Frames, core: &TestDomain, model: &Domain) -> Compared {
    let number = model.number;
    let tables = core.physmap.read();
    equal(
        || format!("domain {number} tables"),
        tables.table_frames(),
        model.map.tables(),
    )?;
    let mut mapped = 0;
    let mut from = GuestFrame(0);
    while let Some((at, leaf)) = tables.next_mapped(from) {
        let what = |part: &str| format!("domain {number} guest frame {:#x}, {part}", at.0);
        let Some(entry) = model.map.get(at.0) else {
            return Err(format!("{}: nothing is there in the model", what("kind")));
        };
        same_leaf(frames, &what, &leaf, entry)?;
        if let (Some(page), Some((core, _))) = (&entry.page, tables.get(at)) {
            contents(&core, page, || what("contents"))?;
            // The one that was just taken does not count. Each user of a page holds it once, in both.
            equal(
                || what("users"),
                core.count() as usize - 1,
                Rc::strong_count(page),
            )?;
        }
        mapped += 1;
        from = GuestFrame(at.0 + 1);
    }
    equal(
        || format!("domain {number} mapped pages"),
        mapped,
        model.map.entries().len(),
    )
}

fn ports(kernel: &TestKernel, core: &TestDomain, model: &Model) -> Compared {
    let number = core.id.0;
    for port in 0.. {
        let (theirs, ours) = (
            kernel.port_status(core, port).ok(),
            model.port_status(number, port),
        );
        equal(|| format!("domain {number} port {port}"), theirs, ours)?;
        if ours.is_none() {
            return Ok(());
        }
        let pending = (
            kernel.is_pending(core, port).ok(),
            model.is_pending(number, port).ok(),
        );
        equal(
            || format!("domain {number} port {port} pending"),
            pending.0,
            pending.1,
        )?;
    }
    Ok(())
}

fn grants(kernel: &TestKernel, frames: &mut Frames, core: &TestDomain, model: &Domain) -> Compared {
    let number = model.number;
    let (theirs, ours) = (&core.grants, &model.grants);
    equal(
        || format!("domain {number} grant frames"),
        theirs.frames() as usize,
        ours.frames.len(),
    )?;
    for (index, (page, place)) in ours.frames.iter().enumerate() {
        let what = || format!("domain {number} grant frame {index}");
        equal(what, theirs.place(index as u32), *place)?;
        let held = theirs.frame(kernel.machine.memory(), index as u64);
        let held = held.map_err(|error| format!("{}: {error:?}", what()))?;
        frames.same(held.frame().0, page)?;
        contents(&held, page, what)?;
        equal(
            || format!("{} users", what()),
            held.count() as usize - 1,
            Rc::strong_count(page),
        )?;
    }
    equal(
        || format!("domain {number} entries in use"),
        theirs.entries_in_use(),
        ours.pins.len(),
    )?;
    equal(
        || format!("domain {number} mappings"),
        theirs.mappings() as usize,
        ours.mappings.len(),
    )
}

fn vcpus(core: &TestDomain, model: &Domain) -> Compared {
    equal(
        || format!("domain {} vCPUs", model.number),
        core.vcpus.len(),
        model.vcpus.len(),
    )?;
    for (theirs, ours) in core.vcpus.iter().zip(&model.vcpus) {
        let what = |part: &'static str| move || format!("domain {} vCPU {} {part}", model.number, ours.index);
        let bits = [
            (ours.down, stop::DOWN),
            (ours.blocked, stop::BLOCKED),
            (ours.polls, stop::POLLING),
            (ours.shut_down, stop::SHUTDOWN),
        ];
        let stops: u32 = bits
            .into_iter()
            .map(|(holds, bit)| if holds { bit } else { 0 })
            .sum();
        // A cap stops whom no call stopped.
        let theirs_stops = theirs.stops.load(Ordering::SeqCst) & !stop::CAPPED;
        equal(what("stops"), theirs_stops, stops)?;
        if ours.polls {
            equal(
                what("polling"),
                theirs.polling.load(Ordering::SeqCst),
                ours.polling,
            )?;
        }
        equal(what("nmi"), theirs.nmi_pending.load(Ordering::SeqCst), ours.nmi)?;
        equal(
            what("state"),
            theirs.initialised.load(Ordering::SeqCst),
            ours.initialised,
        )?;
        equal(
            what("vector"),
            theirs.upcall_vector.load(Ordering::SeqCst),
            ours.upcall_vector,
        )?;
        equal(
            what("affinity"),
            first_word(&theirs.hard_affinity),
            ours.hard_affinity,
        )?;
        let deadlines = *theirs.deadlines.lock();
        equal(what("one-shot timer"), deadlines.singleshot, ours.singleshot)?;
        equal(what("periodic timer"), deadlines.periodic, ours.periodic)?;
        equal(what("poll's end"), deadlines.poll, ours.poll_end)?;
        equal(what("runstate"), theirs.runstate.lock().info, ours.runstate)?;
        let info = theirs.info.lock();
        equal(
            what("info"),
            (info.offset, info.registered),
            (ours.info.1, ours.registered),
        )?;
        if info.registered {
            contents(&info.page, &ours.info.0, what("info page"))?;
        }
        let area = theirs.time_area.lock();
        equal(what("time area"), area.is_some(), ours.time_area.is_some())?;
        if let (Some(theirs), Some((page, offset))) = (&*area, &ours.time_area) {
            equal(what("time area"), theirs.offset, *offset)?;
            contents(&theirs.page, page, what("time page"))?;
        }
    }
    Ok(())
}

/// The first 64 processors of a set: a simulated machine has no more.
fn first_word(set: &AtomicProcessorSet) -> u64 {
    let bytes = set.load().to_bytes();
    bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

fn books(kernel: &TestKernel, core: &TestDomain, model: &Model) -> Compared {
    let ours = &model.domains[&core.id.0];
    let what = |part: &'static str| move || format!("domain {} {part}", ours.number);
    let load = |value: &machine::sync::atomic::AtomicU64| value.load(Ordering::SeqCst);
    equal(
        what("owned pages"),
        core.owned_pages(&kernel.machine),
        model.house.owned(ours.number),
    )?;
    equal(what("allowance"), load(&core.max_pages), ours.max_pages)?;
    equal(what("claim"), load(&core.claimed), ours.claimed)?;
    equal(what("paging pool"), load(&core.paging_pool), ours.paging_pool)?;
    equal(
        what("share"),
        (core.share.weight(), core.share.cap()),
        (u32::from(ours.share.0), u32::from(ours.share.1)),
    )?;
    equal(what("pool"), core.pool.load(Ordering::SeqCst), ours.pool)?;
    equal(what("callback"), load(&core.callback), ours.parameters[0])?;
    equal(what("parameters"), *core.hvm_parameters.lock(), ours.parameters)?;
    let allotted = core.allotted_vcpus.load(Ordering::SeqCst);
    equal(what("allotted vCPUs"), allotted, ours.allotted)?;
    let pauses = (
        core.pauses.load(Ordering::SeqCst),
        core.toolstack_pauses.load(Ordering::SeqCst),
    );
    equal(what("pauses"), pauses, (ours.pauses, ours.toolstack_pauses))?;
    let lifecycle = *core.lifecycle.lock();
    equal(
        what("shutdown"),
        (lifecycle.shutdown, lifecycle.shutdown_code),
        (ours.shutdown, ours.shutdown_code),
    )?;
    equal(what("end"), (lifecycle.dying, lifecycle.dead), (false, false))
}
