//! vCPUs: why one does not run, where it is told of events and time, its timers.

use hypercall_abi::Error;
use hypercall_abi::sched::shutdown;
use hypercall_abi::vcpu::{
    GetPhysicalId, RegisterMemoryArea, RegisterVcpuInfo, RunstateInfo, SINGLESHOT_FUTURE, SetPeriodicTimer,
    SetSingleshotTimer, op, runstate,
};
use hypercall_abi::xen::VcpuTimeInfo;
use zerocopy::IntoBytes;

use super::memory::{Kind, PAGE_SIZE, PageReference};
use super::{Answer, DONE, Model};

/// vCPUs whose `vcpu_info` is in the shared page.
const LEGACY_VCPUS: u32 = 32;
/// Size of `vcpu_info`, and where in it the time is.
const INFO_SIZE: usize = 64;
const TIME_IN_INFO: usize = 32;
const SHORTEST_PERIOD: u64 = 1_000_000;

/// A vCPU.
pub struct Vcpu {
    /// Its index.
    pub index: u32,
    /// It was not started, or went down.
    pub down: bool,
    /// It waits for an event.
    pub blocked: bool,
    /// It waits in a poll.
    pub polls: bool,
    /// The domain has shut down.
    pub shut_down: bool,
    /// The port (plus one) that it polls for, or did; all ones for several.
    pub polling: u32,
    /// It waits for a processor.
    pub queued: bool,
    /// It has a state to start from.
    pub initialised: bool,
    /// An NMI waits.
    pub nmi: bool,
    /// The page of its `vcpu_info`, and where in it.
    pub info: (PageReference, usize),
    /// The guest chose that place.
    pub registered: bool,
    /// Its vector for events.
    pub upcall_vector: u8,
    /// The one-shot timer.
    pub singleshot: Option<u64>,
    /// The periodic timer's next tick.
    pub periodic: Option<u64>,
    /// Its period.
    pub period: u64,
    /// The poll's end.
    pub poll_end: Option<u64>,
    /// Where its time went.
    pub runstate: RunstateInfo,
    /// Where the guest has a copy of that: pieces of pages, one after another.
    pub runstate_area: Vec<(PageReference, usize, usize)>,
    /// Where the guest has a copy of its time.
    pub time_area: Option<(PageReference, usize)>,
    /// Processors it may run on; all ones for any.
    pub hard_affinity: u64,
    /// Processors it should run on.
    pub soft_affinity: u64,
}

impl Vcpu {
    /// One that is down.
    pub fn new(index: u32, shared_info: &PageReference, now: u64) -> Vcpu {
        let offset = if index < LEGACY_VCPUS {
            index as usize * INFO_SIZE
        } else {
            0
        };
        Vcpu {
            index,
            down: true,
            blocked: false,
            polls: false,
            shut_down: false,
            polling: 0,
            queued: false,
            initialised: false,
            nmi: false,
            info: (shared_info.clone(), offset),
            registered: false,
            upcall_vector: 0,
            singleshot: None,
            periodic: None,
            period: 0,
            poll_end: None,
            runstate: RunstateInfo {
                state: runstate::OFFLINE,
                state_entry_time: now,
                ..RunstateInfo::default()
            },
            runstate_area: Vec::new(),
            time_area: None,
            hard_affinity: u64::MAX,
            soft_affinity: u64::MAX,
        }
    }

    /// Whether it has a `vcpu_info`.
    pub fn has_info(&self) -> bool {
        self.index < LEGACY_VCPUS || self.registered
    }

    /// Whether its `vcpu_info` says that an event waits.
    pub fn upcall_pending(&self) -> bool {
        let (page, offset) = &self.info;
        self.has_info() && page.load::<u8>(*offset) != 0
    }

    /// Note which word of the pending bitmap to look at; whether that is news.
    pub fn select(&self, word: u32) -> bool {
        let (page, offset) = &self.info;
        let bit = 1u64 << word;
        self.has_info() && page.set_bits(offset + 8, bit) & bit == 0
    }

    /// Where its time went, up to now.
    fn runstate_at(&self, now: u64) -> RunstateInfo {
        let mut info = self.runstate;
        info.time[info.state as usize] += now.saturating_sub(info.state_entry_time);
        info
    }

    fn publish_runstate(&self) {
        let mut bytes = self.runstate.as_bytes();
        for (page, offset, length) in &self.runstate_area {
            let (part, rest) = bytes.split_at(*length);
            page.write(*offset, part);
            bytes = rest;
        }
    }
}

impl Model {
    pub(super) fn vcpu_op(&mut self, [operation, index, argument, ..]: [u64; 6]) -> Answer {
        let index = u32::try_from(index).map_err(|_| Error::ENOENT)?;
        if !self.me().has_vcpu(index) {
            return Err(Error::ENOENT.into());
        }
        let (me, itself, now) = (self.caller.domain, index == self.caller.vcpu, self.told.now);
        match operation as u32 {
            op::IS_UP => return Ok(u64::from(!self.vcpu(me, index).down)),
            op::GET_RUNSTATE_INFO => {
                let info = self.vcpu(me, index).runstate_at(now);
                self.write(argument, &info)?;
            }
            op::REGISTER_RUNSTATE_MEMORY_AREA => self.register_runstate(index, argument)?,
            op::REGISTER_VCPU_TIME_MEMORY_AREA => self.register_time(index, argument)?,
            op::REGISTER_VCPU_INFO => self.register_info(index, argument)?,
            op::SET_PERIODIC_TIMER => {
                let request: SetPeriodicTimer = self.read(argument)?;
                if request.period_ns < SHORTEST_PERIOD {
                    return Err(Error::EINVAL.into());
                }
                let vcpu = self.vcpu_mut(me, index);
                vcpu.period = request.period_ns;
                vcpu.periodic = Some(now.saturating_add(request.period_ns));
            }
            op::STOP_PERIODIC_TIMER => self.vcpu_mut(me, index).periodic = None,
            op::SET_SINGLESHOT_TIMER | op::STOP_SINGLESHOT_TIMER if !itself => {
                return Err(Error::EINVAL.into());
            }
            op::SET_SINGLESHOT_TIMER => {
                let request: SetSingleshotTimer = self.read(argument)?;
                if request.flags & SINGLESHOT_FUTURE != 0 && request.timeout_abs_ns < now {
                    return Err(Error::ETIME.into());
                }
                self.vcpu_mut(me, index).singleshot = Some(request.timeout_abs_ns);
            }
            op::STOP_SINGLESHOT_TIMER => self.vcpu_mut(me, index).singleshot = None,
            op::SEND_NMI => {
                self.vcpu_mut(me, index).nmi = true;
                self.unblock(me, index);
            }
            op::DOWN => {
                // The last one takes the domain with it.
                let others = self
                    .me()
                    .vcpus()
                    .iter()
                    .any(|other| other.index != index && !other.down);
                if others {
                    self.vcpu_mut(me, index).down = true;
                } else {
                    self.shut_down(me, shutdown::POWEROFF as u8)?;
                }
            }
            op::UP => {
                if !self.vcpu(me, index).initialised {
                    return Err(Error::EINVAL.into());
                }
                self.vcpu_mut(me, index).down = false;
                self.reconsider(me, index);
            }
            op::GET_PHYSICAL_ID => {
                self.privileged()?;
                // APIC ids are even.
                let physical_id = u64::from(index * 2) | u64::from(index) << 32;
                self.write(argument, &GetPhysicalId { physical_id })?;
            }
            _ => return Err(Error::ENOSYS.into()),
        }
        DONE
    }

    pub(super) fn vcpu(&self, domain: u16, vcpu: u32) -> &Vcpu {
        &self.at(domain).vcpus[vcpu as usize]
    }

    pub(super) fn vcpu_mut(&mut self, domain: u16, vcpu: u32) -> &mut Vcpu {
        &mut self.at_mut(domain).vcpus[vcpu as usize]
    }

    /// Something happened that ends a vCPU's wait, for an event or in a poll.
    pub(super) fn unblock(&mut self, domain: u16, index: u32) {
        let vcpu = self.vcpu_mut(domain, index);
        let waited = vcpu.blocked || vcpu.polls;
        (vcpu.blocked, vcpu.polls) = (false, false);
        if waited {
            self.reconsider(domain, index);
        }
    }

    /// A vCPU that nothing keeps from running any more waits for a processor from now on.
    pub(super) fn reconsider(&mut self, domain: u16, index: u32) {
        let (now, paused) = (self.told.now, self.at(domain).pauses != 0);
        let vcpu = self.vcpu_mut(domain, index);
        if vcpu.queued || paused || vcpu.down || vcpu.blocked || vcpu.polls || vcpu.shut_down {
            return;
        }
        vcpu.queued = true;
        vcpu.runstate = RunstateInfo {
            state: runstate::RUNNABLE,
            state_entry_time: now,
            ..vcpu.runstate_at(now)
        };
        vcpu.publish_runstate();
    }

    fn register_info(&mut self, index: u32, argument: u64) -> Result<(), Error> {
        let request: RegisterVcpuInfo = self.read(argument)?;
        let offset = request.offset as usize;
        if offset > PAGE_SIZE - INFO_SIZE || !offset.is_multiple_of(8) {
            return Err(Error::EINVAL);
        }
        let me = self.caller.domain;
        let (page, entry) = self.me().map.page(request.guest_frame).ok_or(Error::EINVAL)?;
        // Not what others lent it.
        if !matches!(entry.kind, Kind::Own | Kind::Shared) || !entry.writable {
            return Err(Error::EINVAL);
        }
        let page = page.clone();
        let vcpu = self.vcpu(me, index);
        if (index != self.caller.vcpu && !vcpu.down) || vcpu.registered {
            return Err(Error::EINVAL);
        }
        // What was there moves along.
        let mut contents = [0; INFO_SIZE];
        if index < LEGACY_VCPUS {
            vcpu.info.0.read(vcpu.info.1, &mut contents);
        }
        page.write(offset, &contents);
        let vcpu = self.vcpu_mut(me, index);
        vcpu.info = (page, offset);
        vcpu.registered = true;
        self.publish_time(me, index);
        if index >= LEGACY_VCPUS {
            self.raise_upcall(me, index);
        }
        Ok(())
    }

    /// Write a vCPU's time where the guest reads it.
    fn publish_time(&self, domain: u16, index: u32) {
        let vcpu = self.vcpu(domain, index);
        if vcpu.has_info() {
            self.write_time(&vcpu.info.0, vcpu.info.1 + TIME_IN_INFO);
        }
        if let Some((page, offset)) = &vcpu.time_area {
            self.write_time(page, *offset);
        }
    }

    fn write_time(&self, page: &PageReference, offset: usize) {
        let version: u32 = page.load(offset);
        let (tsc_to_system_mul, tsc_shift) = self.told.scale;
        let time = VcpuTimeInfo {
            // Odd while it is written, and then the next even number.
            version: (version | 1).wrapping_add(1),
            _padding: page.load(offset + 4),
            tsc_timestamp: self.told.tsc,
            system_time: self.told.now,
            tsc_to_system_mul,
            tsc_shift,
            ..VcpuTimeInfo::default()
        };
        page.store(offset, time);
    }

    /// A writable page that is the caller's, whatever it is mapped as.
    fn page_of_caller(&self, address: u64) -> Result<(PageReference, usize), Error> {
        let address = address & 0xffff_ffff;
        let (page, entry) = self.me().map.page(address >> 12).ok_or(Error::EFAULT)?;
        if !entry.writable || page.owner != self.caller.domain {
            return Err(Error::EFAULT);
        }
        Ok((page.clone(), address as usize % PAGE_SIZE))
    }

    fn register_runstate(&mut self, index: u32, argument: u64) -> Result<(), Error> {
        let request: RegisterMemoryArea = self.read(argument)?;
        let mut area = Vec::new();
        if request.address != 0 {
            let (page, offset) = self.page_of_caller(request.address)?;
            let size = size_of::<RunstateInfo>();
            let first = size.min(PAGE_SIZE - offset);
            area.push((page, offset, first));
            if first < size {
                let next = request.address.checked_add(first as u64).ok_or(Error::EFAULT)?;
                area.push((self.page_of_caller(next)?.0, 0, size - first));
            }
        }
        let vcpu = self.vcpu_mut(self.caller.domain, index);
        vcpu.runstate_area = area;
        vcpu.publish_runstate();
        Ok(())
    }

    fn register_time(&mut self, index: u32, argument: u64) -> Result<(), Error> {
        let request: RegisterMemoryArea = self.read(argument)?;
        let (page, offset) = self.page_of_caller(request.address)?;
        if offset + size_of::<VcpuTimeInfo>() > PAGE_SIZE || !offset.is_multiple_of(8) {
            return Err(Error::EINVAL);
        }
        self.vcpu_mut(self.caller.domain, index).time_area = Some((page, offset));
        self.publish_time(self.caller.domain, index);
        Ok(())
    }
}
