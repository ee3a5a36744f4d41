//! The first virtual CPU's state at entry, as records of the hypervisor's save format.
//!
//! PVH's entry state: 32-bit protected mode without paging, flat segments, EBX pointing to the start info.

use crate::error::Error;
use hypercall_abi::hvm::save::{Cpu, Descriptor, Mtrr, kind};
use zerocopy::{FromBytes, IntoBytes};

/// MTRRs on, everything write-back unless said otherwise.
const MTRR_DEFAULT_WRITE_BACK: u64 = 1 << 11 | 6;
/// CR0: protected mode, and the bit that is always set.
const PROTECTED_MODE: u64 = 0x11;
/// RFLAGS: the bit that is always set.
const RFLAGS_RESET: u64 = 2;
const CODE_SEGMENT: u32 = 0xc9b;
const DATA_SEGMENT: u32 = 0xc93;
const TASK_SEGMENT: u32 = 0x8b;
const TASK_SEGMENT_LIMIT: u32 = 0x67;
/// What the debug registers hold after reset.
const DR6_RESET: u64 = 0xffff_0ff0;
const DR7_RESET: u64 = 0x400;

fn entry_state(entry: u64, start_info: u64) -> Cpu {
    Cpu {
        rbx: start_info,
        rip: entry,
        rflags: RFLAGS_RESET,
        cr0: PROTECTED_MODE,
        dr6: DR6_RESET,
        dr7: DR7_RESET,
        cs_limit: u32::MAX,
        ds_limit: u32::MAX,
        es_limit: u32::MAX,
        ss_limit: u32::MAX,
        tr_limit: TASK_SEGMENT_LIMIT,
        cs_attributes: CODE_SEGMENT,
        ds_attributes: DATA_SEGMENT,
        es_attributes: DATA_SEGMENT,
        ss_attributes: DATA_SEGMENT,
        tr_attributes: TASK_SEGMENT,
        ..Cpu::default()
    }
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
            kind::END => break,
            kind::HEADER => {
                push(&mut records, kind::HEADER, 0, body);
                push(
                    &mut records,
                    kind::CPU,
                    0,
                    entry_state(entry, start_info).as_bytes(),
                );
            }
            kind::MTRR => push(
                &mut records,
                kind::MTRR,
                descriptor.instance,
                with_mtrrs_on(body)?.as_bytes(),
            ),
            _ => {}
        }
    }
    if records.is_empty() {
        return Err(Error::Context("it has no header"));
    }
    push(&mut records, kind::END, 0, &[]);
    Ok(records)
}

fn with_mtrrs_on(body: &[u8]) -> Result<Mtrr, Error> {
    let saved = Mtrr::read_from_bytes(body).map_err(|_| Error::Context("an MTRR record has another size"))?;
    Ok(Mtrr {
        default_type: MTRR_DEFAULT_WRITE_BACK,
        ..saved
    })
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
        push(&mut saved, kind::HEADER, 0, &[1; 24]);
        push(&mut saved, 5, 0, &[2; 16]);
        push(&mut saved, kind::MTRR, 1, &[3; 240]);
        push(&mut saved, kind::END, 0, &[]);
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
        push(&mut saved, kind::HEADER, 0, &[1; 24]);
        assert!(entry_records(&saved[..20], 0, 0).is_err());
        push(&mut saved, kind::END, 0, &[]);
        assert!(entry_records(&saved, 0, 0).is_ok());
    }
}
