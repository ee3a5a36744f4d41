//! A request as a line of a script: the call's name, its sub-operation, and its arguments decoded.

use core::fmt;

use hypercall_abi::hypercall::{name, number};
use hypercall_abi::{
    domctl, event_channel, grant_table, hvm, memory, payload, platform, sched, sysctl, vcpu,
};
use zerocopy::FromBytes;

use super::{Call, Request};

/// Elements of an array that are shown.
const MOST_SHOWN: u64 = 3;

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, self, &self.call)?;
        for (index, call) in self.nested.iter().enumerate() {
            write!(f, "; [{index}] ")?;
            describe(f, self, call)?;
        }
        Ok(())
    }
}

fn describe(f: &mut fmt::Formatter<'_>, request: &Request, call: &Call) -> fmt::Result {
    match name(call.number) {
        Some(name) => write!(f, "{name}")?,
        None => write!(f, "hypercall {:#x}", call.number)?,
    }
    write!(f, ".{} {:?} (", call.operation, call.intent)?;
    for (index, argument) in call.arguments.iter().enumerate().take(4) {
        write!(f, "{}{argument:#x}", if index == 0 { "" } else { ", " })?;
    }
    write!(f, ")")?;
    let show = Show { request, call };
    match call.number {
        number::EVENT_CHANNEL_OP => show.events(f),
        number::GRANT_TABLE_OP => show.grants(f),
        number::MEMORY_OP => show.memory(f),
        number::SCHED_OP => show.sched(f),
        number::VCPU_OP => show.vcpu(f),
        number::HVM_OP => show.hvm(f),
        number::MULTICALL => write!(f, " {} calls", request.nested.len()),
        number::DOMCTL => show.domctl(f),
        number::SYSCTL => show.one::<sysctl::Sysctl>(f, call.arguments[0]),
        number::PLATFORM_OP => show.one::<platform::PlatformOp>(f, call.arguments[0]),
        _ => Ok(()),
    }
}

struct Show<'a> {
    request: &'a Request,
    call: &'a Call,
}

impl Show<'_> {
    fn one<T: FromBytes + fmt::Debug>(&self, f: &mut fmt::Formatter<'_>, address: u64) -> fmt::Result {
        match self.request.writes.get::<T>(address) {
            Some(value) => write!(f, " {value:?}"),
            None => write!(f, " not written"),
        }
    }

    /// The first elements of an array.
    fn some<T: FromBytes + fmt::Debug>(
        &self,
        f: &mut fmt::Formatter<'_>,
        array: u64,
        count: u64,
    ) -> fmt::Result {
        for index in 0..count.min(MOST_SHOWN) {
            self.one::<T>(f, array.wrapping_add(index * size_of::<T>() as u64))?;
        }
        if count > MOST_SHOWN {
            write!(f, " and {} more", count - MOST_SHOWN)?;
        }
        Ok(())
    }

    fn events(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use event_channel::*;
        let at = self.call.arguments[1];
        match self.call.operation {
            op::SEND => self.one::<Send>(f, at),
            op::UNMASK => self.one::<Unmask>(f, at),
            op::CLOSE => self.one::<Close>(f, at),
            op::STATUS => self.one::<Status>(f, at),
            op::ALLOC_UNBOUND => self.one::<AllocUnbound>(f, at),
            op::BIND_INTERDOMAIN => self.one::<BindInterdomain>(f, at),
            op::BIND_VIRQ => self.one::<BindVirq>(f, at),
            op::BIND_PIRQ => self.one::<BindPirq>(f, at),
            op::BIND_IPI => self.one::<BindIpi>(f, at),
            op::BIND_VCPU => self.one::<BindVcpu>(f, at),
            op::RESET => self.one::<Reset>(f, at),
            op::INIT_CONTROL => self.one::<InitControl>(f, at),
            op::EXPAND_ARRAY => self.one::<ExpandArray>(f, at),
            op::SET_PRIORITY => self.one::<SetPriority>(f, at),
            _ => Ok(()),
        }
    }

    fn grants(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use grant_table::*;
        let [_, array, count, ..] = self.call.arguments;
        match self.call.operation {
            op::MAP_GRANT_REF => self.some::<MapGrantRef>(f, array, count),
            op::UNMAP_GRANT_REF => self.some::<UnmapGrantRef>(f, array, count),
            op::UNMAP_AND_REPLACE => self.some::<UnmapAndReplace>(f, array, count),
            op::COPY => self.some::<grant_table::Copy>(f, array, count),
            op::SWAP_GRANT_REF => self.some::<SwapGrantRef>(f, array, count),
            op::TRANSFER => self.some::<Transfer>(f, array, count),
            op::CACHE_FLUSH => self.some::<CacheFlush>(f, array, count),
            op::SETUP_TABLE => self.one::<SetupTable>(f, array),
            op::QUERY_SIZE => self.one::<QuerySize>(f, array),
            op::SET_VERSION => self.one::<SetVersion>(f, array),
            op::GET_VERSION => self.one::<GetVersion>(f, array),
            op::GET_STATUS_FRAMES => self.one::<GetStatusFrames>(f, array),
            _ => Ok(()),
        }
    }

    fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use memory::*;
        let at = self.call.arguments[1];
        match self.call.operation {
            op::POPULATE_PHYSMAP | op::DECREASE_RESERVATION | op::INCREASE_RESERVATION | op::CLAIM_PAGES => {
                self.one::<MemoryReservation>(f, at)?;
                let list = self.request.writes.get::<MemoryReservation>(at);
                list.map_or(Ok(()), |list| {
                    self.some::<u64>(f, list.extent_start.address(), list.number_of_extents)
                })
            }
            op::ADD_TO_PHYSMAP => self.one::<AddToPhysmap>(f, at),
            op::ADD_TO_PHYSMAP_BATCH => {
                self.one::<AddToPhysmapBatch>(f, at)?;
                let list = self.request.writes.get::<AddToPhysmapBatch>(at);
                list.map_or(Ok(()), |list| {
                    self.some::<u64>(f, list.indices.address(), u64::from(list.size))?;
                    write!(f, " at")?;
                    self.some::<u64>(f, list.guest_frames.address(), u64::from(list.size))
                })
            }
            op::REMOVE_FROM_PHYSMAP => self.one::<RemoveFromPhysmap>(f, at),
            op::ACQUIRE_RESOURCE => self.one::<AcquireResource>(f, at),
            op::MEMORY_MAP | op::MACHINE_MEMORY_MAP => self.one::<MemoryMap>(f, at),
            op::SET_MEMORY_MAP => self.one::<ForeignMemoryMap>(f, at),
            op::CURRENT_RESERVATION | op::MAXIMUM_RESERVATION | op::MAXIMUM_GPFN => {
                self.one::<MemoryDomain>(f, at)
            }
            op::SET_POD_TARGET | op::GET_POD_TARGET => self.one::<PodTarget>(f, at),
            _ => Ok(()),
        }
    }

    fn sched(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use sched::*;
        let at = self.call.arguments[1];
        match self.call.operation {
            op::SHUTDOWN | op::SHUTDOWN_CODE => self.one::<Shutdown>(f, at),
            op::REMOTE_SHUTDOWN => self.one::<RemoteShutdown>(f, at),
            op::POLL => {
                self.one::<Poll>(f, at)?;
                let poll = self.request.writes.get::<Poll>(at);
                poll.map_or(Ok(()), |poll| {
                    self.some::<u32>(f, poll.ports.address(), u64::from(poll.number_of_ports))
                })
            }
            _ => Ok(()),
        }
    }

    fn vcpu(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use vcpu::*;
        let at = self.call.arguments[2];
        match self.call.operation {
            op::REGISTER_VCPU_INFO => self.one::<RegisterVcpuInfo>(f, at),
            op::REGISTER_RUNSTATE_MEMORY_AREA | op::REGISTER_VCPU_TIME_MEMORY_AREA => {
                self.one::<RegisterMemoryArea>(f, at)
            }
            op::SET_PERIODIC_TIMER => self.one::<SetPeriodicTimer>(f, at),
            op::SET_SINGLESHOT_TIMER => self.one::<SetSingleshotTimer>(f, at),
            _ => Ok(()),
        }
    }

    fn hvm(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.call.arguments[1];
        match self.call.operation {
            hvm::op::SET_PARAM | hvm::op::GET_PARAM => self.one::<hvm::Param>(f, at),
            hvm::op::SET_EVTCHN_UPCALL_VECTOR => self.one::<hvm::EventUpcallVector>(f, at),
            _ => Ok(()),
        }
    }

    fn domctl(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use domctl::*;
        let Some(request) = self.request.writes.get::<Domctl>(self.call.arguments[0]) else {
            return write!(f, " not written");
        };
        write!(f, " {:?}", request.domain)?;
        let block = &request.payload;
        match request.command {
            op::CREATE_DOMAIN => write!(f, " {:?}", payload::read::<CreateDomain, 16>(block)),
            op::MAX_VCPUS => write!(f, " {:?}", payload::read::<MaxVcpus, 16>(block)),
            op::MAX_MEMORY => write!(f, " {:?}", payload::read::<MaxMemory, 16>(block)),
            op::SET_VCPU_AFFINITY | op::GET_VCPU_AFFINITY => {
                write!(f, " {:?}", payload::read::<VcpuAffinity, 16>(block))
            }
            op::GET_HVM_CONTEXT | op::SET_HVM_CONTEXT => {
                write!(f, " {:?}", payload::read::<HvmContext, 16>(block))
            }
            op::GET_CPU_POLICY | op::SET_CPU_POLICY => {
                write!(f, " {:?}", payload::read::<CpuPolicy, 16>(block))
            }
            op::SCHEDULER_OP => write!(f, " {:?}", payload::read::<SchedulerOp, 16>(block)),
            op::SEND_TRIGGER => write!(f, " {:?}", payload::read::<SendTrigger, 16>(block)),
            _ => Ok(()),
        }
    }
}
