//! Where a vCPU's time went, kept for the toolstack and for the guest that asked for a copy.

use hypercall_abi::vcpu::{RUNSTATE_UPDATE, RunstateInfo, runstate};
use machine::Nanoseconds;
use machine::address::PAGE_SIZE;
use machine::memory::FrameReference;
use zerocopy::IntoBytes;

/// The guest's copy: up to two pages, since the structure may straddle a boundary.
#[derive(Debug)]
pub struct RunstateArea {
    /// The page that holds the first byte.
    pub first: FrameReference,
    /// The page after it, if the structure goes on there.
    pub second: Option<FrameReference>,
    /// Where it begins in the first page.
    pub offset: usize,
}

/// Where a vCPU's time went.
#[derive(Debug)]
pub struct Runstate {
    /// As the ABI has it.
    pub info: RunstateInfo,
    /// The guest's copy.
    pub area: Option<RunstateArea>,
    /// When it began, for audits.
    #[cfg(any(test, feature = "testing", debug_assertions))]
    pub(crate) created: Nanoseconds,
}

impl Runstate {
    /// Offline since `now`.
    pub fn new(now: Nanoseconds) -> Self {
        let info = RunstateInfo {
            state: runstate::OFFLINE,
            state_entry_time: now,
            ..RunstateInfo::default()
        };
        Runstate {
            info,
            area: None,
            #[cfg(any(test, feature = "testing", debug_assertions))]
            created: now,
        }
    }

    /// Enter a state at `now`; `mark` says that the guest wants the update bracketed by its flag.
    pub fn change(&mut self, state: i32, now: Nanoseconds, mark: bool) {
        let spent = now.saturating_sub(self.info.state_entry_time);
        if let Some(total) = self.info.time.get_mut(self.info.state as usize) {
            *total = total.wrapping_add(spent);
        }
        self.info.state = state;
        self.info.state_entry_time = now;
        self.publish(mark);
    }

    /// Write the guest's copy.
    pub fn publish(&self, mark: bool) {
        let Some(area) = &self.area else { return };
        const ENTRY_TIME: usize = 8;
        let mut copy = self.info;
        if mark {
            copy.state_entry_time |= RUNSTATE_UPDATE;
            area.write(ENTRY_TIME, copy.state_entry_time.as_bytes());
        }
        area.write(0, copy.as_bytes());
        if mark {
            copy.state_entry_time &= !RUNSTATE_UPDATE;
            area.write(ENTRY_TIME, copy.state_entry_time.as_bytes());
        }
    }

    /// The state at `now`, with the current one's time counted in.
    pub fn at(&self, now: Nanoseconds) -> RunstateInfo {
        let mut info = self.info;
        if let Some(total) = info.time.get_mut(info.state as usize) {
            *total = total.wrapping_add(now.saturating_sub(info.state_entry_time));
        }
        info
    }
}

impl RunstateArea {
    fn write(&self, at: usize, bytes: &[u8]) {
        let start = self.offset.saturating_add(at);
        let in_first = PAGE_SIZE.saturating_sub(start).min(bytes.len());
        let (head, tail) = bytes.split_at(in_first);
        // Both ranges were checked at registration to lie inside the pages; the guest alone suffers otherwise.
        if !head.is_empty() {
            let _ = self.first.write(start, head);
        }
        if let (Some(second), false) = (&self.second, tail.is_empty()) {
            let beyond = start.saturating_add(in_first).saturating_sub(PAGE_SIZE);
            let _ = second.write(beyond, tail);
        }
    }
}
