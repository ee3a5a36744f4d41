//! The ABI said once more, in plain data and obvious steps: what each hypercall answers, and what it leaves in memory.
//!
//! The core is compared with this model after every call ([`Agreement`]). The model knows no locks, no restarts, no
//! processors and no tables that hardware walks: a hypercall is one step here. It is written from Xen's public headers, from
//! docs/ABI.md and from what is documented of this core; where the two differ, one of them is wrong.
//!
//! Some of what guests see is no matter of the ABI: how many elements of a list are read before the first is acted on,
//! which free handle a mapping gets, which second-stage tables a map needs. Guests can tell, so it is said here as well,
//! as the core documents it. What only the machine knows (the time, where a frame lies) the model is told.

mod affinity;
mod agreement;
mod compare;
mod control;
mod copy;
mod domain;
mod event_channel;
mod fifo;
mod grant;
mod guest;
mod hvm;
mod import;
mod mapping;
mod memory;
mod pending;
mod placement;
mod play;
mod pools;
mod reservation;
mod scheduling;
mod script;
mod system;
mod vcpu;
mod version;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::rc::Rc;

use hypercall_abi::hypercall::number;
use hypercall_abi::memory::E820Entry;
use hypercall_abi::{DomainId, Error};

pub use agreement::Agreement;
pub use domain::Domain;
pub use memory::{Entry, House, Kind, Map, Page, PageReference};
pub use play::{Played, play, play_and_compare};
pub use script::Disagreement;
pub use vcpu::Vcpu;

/// Why a call has no plain result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The caller gets an error.
    Error(Error),
    /// The model does not judge such calls; a few words say which.
    Unjudged(&'static str),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Error(error)
    }
}

/// What a call comes to.
type Answer = Result<u64, Refusal>;

/// Success without a value.
const DONE: Answer = Ok(0);

/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// The domain's number.
    pub domain: u16,
    /// Its vCPU.
    pub vcpu: u32,
}

/// The order of blocks of which the model is told how many are free.
pub const SURE_ORDER: u32 = 3;

/// What the model is told of the machine, since no rule says it.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Nanoseconds since the start.
    pub now: u64,
    /// The counter at that time.
    pub tsc: u64,
    /// From ticks to nanoseconds: multiplier and shift.
    pub scale: (u32, i8),
    /// Seconds and nanoseconds at system time 0.
    pub wall_clock: (u64, u32),
    /// Processors.
    pub processors: u32,
    /// TSC ticks in a millisecond.
    pub tsc_khz: u32,
    /// The width of new domains' physical addresses.
    pub address_bits: u8,
    /// The core's command line.
    pub command_line: String,
    /// Firmware's memory map.
    pub memory_map: Vec<E820Entry>,
    /// Frames that were free at the start or are a domain's, in all.
    pub total_frames: u64,
    /// Of these, those that nobody the model knows has.
    pub unknown_frames: u64,
    /// One more than the highest frame.
    pub frame_count: u64,
    /// Frames installed.
    pub installed_frames: u64,
    /// What the core answered to the call: whether there was a free block of some size, nobody else can tell.
    pub result: i64,
    /// The same for the calls of a list.
    pub results: Vec<i64>,
    /// The call was cut wherever it can be: nothing of a list is read long before it is acted on.
    pub in_pieces: bool,
    /// What the calls of a list that was cut left of their arguments.
    pub arguments: Vec<[u64; 6]>,
    /// Before a call that is not in a list: free blocks of [`SURE_ORDER`] and more.
    pub free_blocks: u64,
    /// Blocks of several frames that were found during a list: domain and first guest frame.
    pub blocks: Vec<(u16, u64)>,
}

/// A hypervisor with its domains.
#[derive(Default)]
pub struct Model {
    /// What the model was told.
    pub told: Told,
    /// All domains, by number.
    pub domains: BTreeMap<u16, Domain>,
    /// Pools of processors, by number.
    pub pools: BTreeMap<u32, Pool>,
    /// All pages.
    pub house: Rc<House>,
    caller: Caller,
    next_number: u16,
    births: u64,
    births_seen: u64,
}

use pools::Pool;

impl Model {
    /// Make one whole hypercall. `None`: the model does not judge it; [`Model::why_not`] says why.
    pub fn hypercall(&mut self, caller: Caller, number: u64, arguments: &[u64; 6]) -> Option<i64> {
        self.judge(caller, number, arguments).ok()
    }

    /// The same, with the reason why there is no result.
    ///
    /// # Errors
    /// What kind of call it is that the model does not judge.
    pub fn judge(&mut self, caller: Caller, number: u64, arguments: &[u64; 6]) -> Result<i64, &'static str> {
        self.caller = caller;
        match self.dispatch(number, *arguments) {
            Ok(value) => Ok(value as i64),
            Err(Refusal::Error(error)) => Ok(error.as_result()),
            Err(Refusal::Unjudged(what)) => Err(what),
        }
    }

    fn dispatch(&mut self, number: u64, arguments: [u64; 6]) -> Answer {
        match number {
            number::EVENT_CHANNEL_OP => self.event_channel_op(arguments),
            number::GRANT_TABLE_OP => self.grant_table_op(arguments),
            number::MEMORY_OP => self.memory_op(arguments),
            number::VCPU_OP => self.vcpu_op(arguments),
            number::SCHED_OP => self.sched_op(arguments),
            number::HVM_OP => self.hvm_op(arguments),
            number::VM_ASSIST => self.vm_assist(arguments),
            number::XEN_VERSION => self.xen_version(arguments),
            number::MULTICALL => self.multicall(arguments),
            number::DOMCTL => self.domctl(arguments),
            number::SYSCTL => self.sysctl(arguments),
            number::PLATFORM_OP => self.platform_op(arguments),
            number::CONSOLE_IO => self.console_io(arguments),
            _ => Err(Error::ENOSYS.into()),
        }
    }

    /// A list of calls; the results lie in it. It is read and answered entry by entry.
    fn multicall(&mut self, [list, count, ..]: [u64; 6]) -> Answer {
        const ENTRY: u64 = 64;
        for index in 0..u64::from(count as u32) {
            // A list may end where the address space does.
            let at = list.wrapping_add(index.wrapping_mul(ENTRY));
            let entry: hypercall_abi::xen::MulticallEntry = self.read(at)?;
            self.told.result = self.told.results.get(index as usize).copied().unwrap_or(0);
            let answer = match entry.op {
                number::MULTICALL => Err(Error::EINVAL.into()),
                other => self.dispatch(other, entry.args),
            };
            let result = match answer {
                Ok(value) => value,
                Err(Refusal::Error(error)) => error.as_result() as u64,
                Err(unjudged) => return Err(unjudged),
            };
            self.write(at + 8, &result)?;
            if let Some(arguments) = self.told.arguments.get(index as usize) {
                self.write(at + 16, arguments)?;
            }
        }
        DONE
    }

    /// Whether a call ends the control domain, and the machine with it. Lists are looked through as they are now.
    pub fn ends_the_machine(&self, number: u64, arguments: &[u64; 6]) -> bool {
        use hypercall_abi::sched::{RemoteShutdown, op as sched};
        use hypercall_abi::vcpu::op as vcpu;
        if !self.me().privileged {
            return false;
        }
        let [operation, argument, ..] = *arguments;
        match (number, operation as u32) {
            (number::SCHED_OP, sched::SHUTDOWN) | (number::VCPU_OP, vcpu::DOWN) => true,
            (number::SCHED_OP, sched::REMOTE_SHUTDOWN) => {
                let request = self.read::<RemoteShutdown>(argument);
                request.is_ok_and(|request| {
                    self.domains
                        .get(&request.domain.0)
                        .is_some_and(|target| target.privileged)
                })
            }
            (number::MULTICALL, _) => {
                let entry = |index| self.read_element::<hypercall_abi::xen::MulticallEntry>(operation, index);
                (0..u64::from(argument as u32))
                    .map_while(|index| entry(index).ok())
                    .any(|entry| {
                        let listed = matches!(entry.op, number::SCHED_OP | number::VCPU_OP);
                        listed && self.ends_the_machine(entry.op, &entry.args)
                    })
            }
            _ => false,
        }
    }

    /// The calling domain.
    fn me(&self) -> &Domain {
        self.at(self.caller.domain)
    }

    fn me_mut(&mut self) -> &mut Domain {
        self.at_mut(self.caller.domain)
    }

    /// A domain that is there.
    fn at(&self, number: u16) -> &Domain {
        &self.domains[&number]
    }

    fn at_mut(&mut self, number: u16) -> &mut Domain {
        self.domains.get_mut(&number).expect("a domain that is there")
    }

    fn exists(&self, id: DomainId) -> bool {
        self.domains.contains_key(&id.0)
    }

    fn privileged(&self) -> Result<(), Error> {
        if self.me().privileged {
            Ok(())
        } else {
            Err(Error::EPERM)
        }
    }

    /// The domain that the caller means by a number: itself, or any if it is privileged.
    fn target(&self, id: DomainId) -> Result<u16, Error> {
        if id == DomainId::SELF || id.0 == self.caller.domain {
            return Ok(self.caller.domain);
        }
        self.privileged()?;
        if self.exists(id) {
            Ok(id.0)
        } else {
            Err(Error::ESRCH)
        }
    }

    /// Free frames of the machine.
    pub fn free_frames(&self) -> u64 {
        let tables: u64 = self.domains.values().map(|domain| domain.map.tables()).sum();
        (self.told.total_frames - self.told.unknown_frames).saturating_sub(self.house.pages.get() + tables)
    }
}
