//! Memory maps: a domain's own, as the toolstack left it, and the machine's.

use alloc::vec::Vec;

use hypercall_abi::Error;
use hypercall_abi::memory::{E820Entry, ForeignMemoryMap, MemoryMap};
use machine::Machine;

use super::super::{Answer, Call, DONE};

/// Entries that a domain's map may have.
const MOST_ENTRIES: u32 = 1024;

/// `XENMEM_memory_map`: the caller's own map.
pub fn read_own<M: Machine>(call: &Call<'_, M>) -> Answer {
    let mut request: MemoryMap = call.read(call.arguments[1])?;
    let map = call.domain().memory_map.lock();
    if map.is_empty() {
        return Err(Error::ENOSYS);
    }
    let room = request.number_of_entries as usize;
    let entries = map
        .iter()
        .take(room)
        .map(|&(start, length, kind)| E820Entry::new(start, length, kind));
    request.number_of_entries = write_entries(call, &request, entries)?;
    call.write(call.arguments[1], &request)?;
    DONE
}

/// `XENMEM_set_memory_map`: a map for a domain to read.
pub fn set<M: Machine>(call: &Call<'_, M>) -> Answer {
    let request: ForeignMemoryMap = call.read(call.arguments[1])?;
    let count = request.map.number_of_entries;
    if count > MOST_ENTRIES {
        return Err(Error::EINVAL);
    }
    let domain = super::living_target(call, request.domain)?;
    let mut entries = Vec::new();
    entries
        .try_reserve_exact(count as usize)
        .map_err(|_| Error::ENOMEM)?;
    for index in 0..u64::from(count) {
        let entry: E820Entry = call.read_element(request.map.buffer.address(), index)?;
        entries.push((entry.address(), entry.size(), entry.kind));
    }
    *domain.memory_map.lock() = entries;
    DONE
}

/// `XENMEM_machine_memory_map`: the firmware's map, for the privileged domain.
pub fn read_machine<M: Machine>(call: &Call<'_, M>) -> Answer {
    call.require_privilege()?;
    let mut request: MemoryMap = call.read(call.arguments[1])?;
    let map = &call.machine().platform().memory_map;
    if (request.number_of_entries as usize) < map.len() {
        return Err(Error::EINVAL);
    }
    let entries = map
        .iter()
        .map(|region| E820Entry::new(region.start.0, region.length, region.kind));
    request.number_of_entries = write_entries(call, &request, entries)?;
    call.write(call.arguments[1], &request)?;
    DONE
}

fn write_entries<M: Machine>(
    call: &Call<'_, M>,
    request: &MemoryMap,
    entries: impl Iterator<Item = E820Entry>,
) -> Result<u32, Error> {
    let mut count = 0;
    for entry in entries {
        call.write_element(request.buffer.address(), u64::from(count), &entry)?;
        count += 1;
    }
    Ok(count)
}
