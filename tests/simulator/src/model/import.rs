//! The model's beginning: a kernel as it is, before anything was asked of it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use hypercall_abi::memory::E820Entry;
use kernel::cpu_policy::CpuPolicy;
use kernel::testing::{TestDomain, TestKernel};
use kernel::vcpu::stop;
use machine::Machine;
use machine::address::{GuestFrame, Order};
use machine::fake::FakeMachine;
use machine::memory::{FrameReference, FrameUse};
use machine::stage_two::EntryKind;

use super::compare::kind_of;
use super::event_channel::Events;
use super::grant::Grants;
use super::memory::{Entry, PAGE_SIZE, PageReference};
use super::{Agreement, Domain, Told};

impl Agreement<'_> {
    /// A domain that is there at the beginning.
    pub(super) fn take_in(&mut self, core: &TestDomain) {
        let (kernel, number) = (self.kernel, core.id.0);
        core.pauses.fetch_add(1, Ordering::SeqCst);
        let first = self.model.house.page(number, false);
        let grants = Grants::new(first, core.grants.max_frames(), core.grants.most_mappings() / 256);
        let grants = grants.expect("limits that the core accepted");
        let events = Events::new(core.events.max_port());
        let vcpus = core.vcpus.len() as u32;
        let mut domain = self.model.empty_domain(number, grants, events, vcpus);
        domain.privileged = core.privileged;
        domain.handle = *core.handle.lock();
        domain.allotted = core.allotted_vcpus.load(Ordering::SeqCst);
        domain.max_pages = core.max_pages.load(Ordering::SeqCst);
        domain.parameters = *core.hvm_parameters.lock();
        domain.pauses = core.pauses.load(Ordering::SeqCst);
        domain.toolstack_pauses = core.toolstack_pauses.load(Ordering::SeqCst);
        domain.pool = core.pool.load(Ordering::SeqCst);
        domain.address_bits = core.cpu_policy.lock().address_bits() as u8;
        domain.memory_map = core
            .memory_map
            .lock()
            .iter()
            .map(|&(start, length, kind)| E820Entry::new(start, length, kind))
            .collect();
        for (theirs, ours) in core.vcpus.iter().zip(&mut domain.vcpus) {
            ours.down = theirs.stops.load(Ordering::SeqCst) & stop::DOWN != 0;
            ours.initialised = theirs.initialised.load(Ordering::SeqCst);
            ours.runstate = theirs.runstate.lock().info;
        }
        copy(&core.shared_info, &domain.shared_info);
        let memory = kernel.machine.memory();
        for index in 0..core.grants.frames() {
            if index > 0 {
                let page = self.model.house.page(number, false);
                domain.grants.frames.push((page, u64::MAX));
            }
            let held = core
                .grants
                .frame(memory, u64::from(index))
                .expect("a frame that is there");
            let (page, place) = &mut domain.grants.frames[index as usize];
            copy(&held, page);
            *place = core.grants.place(index);
            self.frames
                .same(held.frame().0, page)
                .expect("a frame of its own");
        }
        let shared = (core.shared_info.frame().0, &domain.shared_info);
        self.frames.same(shared.0, shared.1).expect("a frame of its own");
        self.take_in_memory(core, &mut domain);
        self.model.domains.insert(number, domain);
        self.model.births_seen = self.model.births;
        assert!(
            core.grants.mappings() == 0 && core.grants.entries_in_use() == 0,
            "the domain has grants in use already"
        );
    }

    fn take_in_memory(&mut self, core: &TestDomain, domain: &mut Domain) {
        let tables = core.physmap.read();
        let mut superpages: HashMap<u64, Vec<PageReference>> = HashMap::new();
        let mut from = GuestFrame(0);
        while let Some((at, leaf)) = tables.next_mapped(from) {
            from = GuestFrame(at.0 + 1);
            if leaf.kind == EntryKind::Device {
                let entry = Entry {
                    page: None,
                    kind: kind_of(leaf.kind),
                    writable: leaf.permissions.write,
                };
                let _ = domain.map.put(at.0, entry, u64::MAX);
                continue;
            }
            let Some((held, _)) = tables.get(at) else { continue };
            let page = self.frames.page(leaf.frame.0).unwrap_or_else(|| {
                self.model
                    .house
                    .page(held.owner(), held.frame_use() == FrameUse::Ram)
            });
            copy(&held, &page);
            self.frames.same(leaf.frame.0, &page).expect("a frame of its own");
            if leaf.order == Order::PAGE {
                let entry = Entry::new(page, kind_of(leaf.kind), leaf.permissions.write);
                let _ = domain.map.put(at.0, entry, u64::MAX);
            } else {
                superpages.entry(at.0 & !511).or_default().push(page);
            }
        }
        for (first, pages) in superpages {
            let _ = domain.map.put_superpage(first, &pages, u64::MAX);
        }
        self.model.house.changed.take();
    }
}

/// What the model is told of the machine once.
pub fn told(kernel: &TestKernel) -> Told {
    let machine: &FakeMachine = &kernel.machine;
    let clock = *kernel.wall_clock.lock();
    let regions = machine.platform().memory_map.iter();
    Told {
        wall_clock: (clock.seconds, clock.nanoseconds),
        processors: machine.processors() as u32,
        tsc_khz: machine.platform().tsc_khz,
        address_bits: CpuPolicy::of_machine(machine).map_or(0, |policy| policy.address_bits() as u8),
        command_line: kernel.options.line.as_str().to_string(),
        memory_map: regions
            .map(|region| E820Entry::new(region.start.0, region.length, region.kind))
            .collect(),
        total_frames: machine.memory().total_frames(),
        frame_count: machine.memory().frame_count(),
        installed_frames: kernel.installed_frames(),
        ..Told::default()
    }
}

/// Copy a page of the core into one of the model.
pub fn copy(from: &FrameReference, into: &PageReference) {
    let mut bytes = [0; PAGE_SIZE];
    // A whole page is inside the page.
    let _ = from.read(0, &mut bytes);
    if !into.holds_at(0, &bytes) {
        into.write(0, &bytes);
    }
}
