//! The bitmaps that say which model-specific registers and ports exit.

use super::instructions::msr;
use crate::DirectPorts;
use crate::address::{HostFrame, Order};
use crate::memory::{Memory, OutOfMemory};

/// Registers that belong to the guest alone: VMLOAD and VMSAVE switch them, and hardware refuses bad values itself.
/// All others exit: PAT, too, as its virtual copy is not used by every implementation of nested paging.
const DIRECT_MSRS: [u32; 10] = [
    msr::SYSENTER_CS,
    msr::SYSENTER_ESP,
    msr::SYSENTER_EIP,
    msr::STAR,
    msr::LSTAR,
    msr::CSTAR,
    msr::SYSCALL_MASK,
    msr::FS_BASE,
    msr::GS_BASE,
    msr::KERNEL_GS_BASE,
];

/// 8 KiB: two bits (read, write) per register, in three ranges of 8192 registers.
const MSR_BITMAP_ORDER: Order = Order::new(1).unwrap();
/// 12 KiB and a little: a bit per port, and three more for accesses that reach past the last one.
const PORT_BITMAP_ORDER: Order = Order::new(2).unwrap();

/// Where a register's two bits are: byte, and shift in it. `None`: outside the map, always exits.
fn msr_position(number: u32) -> Option<(usize, u32)> {
    let range = match number {
        0..=0x1fff => 0,
        0xc000_0000..=0xc000_1fff => 1,
        0xc001_0000..=0xc001_1fff => 2,
        _ => return None,
    };
    let index = range * 0x2000 + (number & 0x1fff) as usize;
    Some((index / 4, (index as u32 % 4) * 2))
}

/// The one bitmap of registers that all vCPUs share.
pub fn msr_bitmap(memory: &Memory) -> Result<HostFrame, OutOfMemory> {
    filled(memory, MSR_BITMAP_ORDER, |bytes| {
        for number in DIRECT_MSRS {
            if let Some((byte, shift)) = msr_position(number) {
                bytes[byte] &= !(3 << shift);
            }
        }
    })
}

/// The bitmap of a guest that drives no port itself.
pub fn closed_ports(memory: &Memory) -> Result<HostFrame, OutOfMemory> {
    filled(memory, PORT_BITMAP_ORDER, |_| ())
}

/// Memory for a bitmap in which everything exits but what `open` clears.
fn filled(memory: &Memory, order: Order, open: impl FnOnce(&mut [u8])) -> Result<HostFrame, OutOfMemory> {
    let frame = memory.allocate_core(order).ok_or(OutOfMemory)?;
    let length = (order.frames() as usize) * crate::address::PAGE_SIZE;
    // SAFETY: the block was just allocated for us alone, the direct map reaches all of it, and no hardware sees it yet.
    let bytes = unsafe { core::slice::from_raw_parts_mut(memory.pointer(frame.address()), length) };
    bytes.fill(0xff);
    open(bytes);
    Ok(frame)
}

/// Which ports a domain drives itself.
pub struct PortMap {
    frame: HostFrame,
    owner: Option<&'static Memory>,
}

impl PortMap {
    /// A map with the given ports open; `closed` is the shared map with none.
    pub(super) fn new(
        memory: &'static Memory,
        closed: HostFrame,
        ports: DirectPorts<'_>,
    ) -> Result<PortMap, OutOfMemory> {
        if ports.ranges.is_empty() {
            return Ok(PortMap {
                frame: closed,
                owner: None,
            });
        }
        let frame = filled(memory, PORT_BITMAP_ORDER, |bytes| {
            for port in ports.ranges.iter().flat_map(|&(first, last)| first..=last) {
                bytes[usize::from(port / 8)] &= !(1 << (port % 8));
            }
        })?;
        Ok(PortMap {
            frame,
            owner: Some(memory),
        })
    }

    #[inline]
    pub(super) fn frame(&self) -> HostFrame {
        self.frame
    }
}

impl Drop for PortMap {
    fn drop(&mut self) {
        if let Some(memory) = self.owner {
            // SAFETY: ours since `new`. Hardware reads a map only while `run` borrows it.
            unsafe { memory.free_core(self.frame, PORT_BITMAP_ORDER) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_positions() {
        assert_eq!(msr_position(0x174), Some((0x5d, 0)));
        assert_eq!(msr_position(0xc000_0081), Some((0x800 + 0x20, 2)));
        assert_eq!(msr_position(0xc001_1fff), Some((0x17ff, 6)));
        assert_eq!(msr_position(0x4000_0000), None);
    }
}
