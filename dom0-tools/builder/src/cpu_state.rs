//! The first virtual CPU's state at entry, as records of the hypervisor's save format.
//!
//! PVH's entry state: 32-bit protected mode without paging, flat segments, EBX pointing to the start info.

use crate::error::Error;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

const TYPE_END: u16 = 0;
const TYPE_HEADER: u16 = 1;
const TYPE_CPU: u16 = 2;
const TYPE_MTRR: u16 = 14;
/// MTRRs on, everything write-back unless said otherwise.
const MTRR_DEFAULT_WRITE_BACK: u64 = 1 << 11 | 6;
/// CR0: protected mode, and the bit that is always set.
const PROTECTED_MODE: u64 = 0x11;
const CODE_SEGMENT: u32 = 0xc9b;
const DATA_SEGMENT: u32 = 0xc93;
const TASK_SEGMENT: u32 = 0x8b;
/// What the debug registers hold after reset.
const DR6_RESET: u64 = 0xffff_0ff0;
const DR7_RESET: u64 = 0x400;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[doc(alias = "hvm_save_descriptor")]
struct Descriptor {
    kind: u16,
    instance: u16,
    length: u32,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
#[doc(alias = "hvm_hw_cpu")]
struct Cpu {
    fpu: [u8; 512],
    /// RAX, RBX, RCX, RDX, RBP, RSI, RDI, RSP, R8 to R15.
    general: [u64; 16],
    rip: u64,
    rflags: u64,
    cr0: u64,
    cr2: u64,
    cr3: u64,
    cr4: u64,
    /// DR0 to DR3, DR6, DR7.
    debug: [u64; 6],
    selectors: [u32; 8],
    /// CS, DS, ES, FS, GS, SS, TR, LDTR, IDTR, GDTR.
    limits: [u32; 10],
    bases: [u64; 10],
    /// As the limits, up to LDTR.
    attributes: [u32; 8],
    sysenter: [u64; 3],
    shadow_gs: u64,
    msr_flags: u64,
    system_registers: [u64; 6],
    tsc: u64,
    pending_event: u32,
    error_code: u32,
    flags: u32,
    pad: u32,
}

const _: () = assert!(size_of::<Cpu>() == 1032);

const RBX: usize = 1;
const CS: usize = 0;
const DS: usize = 1;
const ES: usize = 2;
const SS: usize = 5;
const TR: usize = 6;

fn entry_state(entry: u64, start_info: u64) -> Cpu {
    let mut cpu = Cpu::new_zeroed();
    cpu.general[RBX] = start_info;
    cpu.rip = entry;
    cpu.rflags = 2;
    cpu.cr0 = PROTECTED_MODE;
    cpu.debug[4] = DR6_RESET;
    cpu.debug[5] = DR7_RESET;
    for segment in [CS, DS, ES, SS] {
        cpu.limits[segment] = u32::MAX;
        cpu.attributes[segment] = DATA_SEGMENT;
    }
    cpu.attributes[CS] = CODE_SEGMENT;
    cpu.limits[TR] = 0x67;
    cpu.attributes[TR] = TASK_SEGMENT;
    cpu
}

/// The records to load, made from those that the hypervisor saved of the fresh domain: its header, the entry
/// state of virtual CPU 0, and every virtual CPU's MTRRs switched on.
pub fn entry_records(saved: &[u8], entry: u64, start_info: u64) -> Result<Vec<u8>, Error> {
    let mut records = Vec::new();
    let mut rest = saved;
    loop {
        let (descriptor, behind) =
            Descriptor::read_from_prefix(rest).map_err(|_| Error::Context("a record is missing"))?;
        let (body, behind) = behind
            .split_at_checked(descriptor.length as usize)
            .ok_or(Error::Context("a record is incomplete"))?;
        rest = behind;
        match descriptor.kind {
            TYPE_END => break,
            TYPE_HEADER => {
                push(&mut records, TYPE_HEADER, 0, body);
                push(
                    &mut records,
                    TYPE_CPU,
                    0,
                    entry_state(entry, start_info).as_bytes(),
                );
            }
            TYPE_MTRR => push(
                &mut records,
                TYPE_MTRR,
                descriptor.instance,
                &with_mtrrs_on(body)?,
            ),
            _ => {}
        }
    }
    if records.is_empty() {
        return Err(Error::Context("it has no header"));
    }
    push(&mut records, TYPE_END, 0, &[]);
    Ok(records)
}

/// The default type is the record's last word.
fn with_mtrrs_on(body: &[u8]) -> Result<Vec<u8>, Error> {
    let mut body = body.to_vec();
    let last = body
        .last_chunk_mut::<8>()
        .ok_or(Error::Context("an MTRR record is too short"))?;
    *last = MTRR_DEFAULT_WRITE_BACK.to_le_bytes();
    Ok(body)
}

fn push(records: &mut Vec<u8>, kind: u16, instance: u16, body: &[u8]) {
    records.extend(
        Descriptor {
            kind,
            instance,
            length: body.len() as u32,
        }
        .as_bytes(),
    );
    records.extend(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_taken_from_the_saved_ones() {
        let mut saved = Vec::new();
        push(&mut saved, TYPE_HEADER, 0, &[1; 24]);
        push(&mut saved, 5, 0, &[2; 16]);
        push(&mut saved, TYPE_MTRR, 1, &[3; 240]);
        push(&mut saved, TYPE_END, 0, &[]);
        let records = entry_records(&saved, 0x1000, 0x2000).unwrap();
        assert_eq!(records.len(), 8 + 24 + 8 + 1032 + 8 + 240 + 8);
        assert_eq!(
            records[records.len() - 16..records.len() - 8],
            MTRR_DEFAULT_WRITE_BACK.to_le_bytes()
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(entry_records(&[], 0, 0).is_err());
        let mut saved = Vec::new();
        push(&mut saved, TYPE_HEADER, 0, &[1; 24]);
        assert!(entry_records(&saved[..20], 0, 0).is_err());
        push(&mut saved, TYPE_END, 0, &[]);
        assert!(entry_records(&saved, 0, 0).is_ok());
    }
}
