//! The ACPI tables of the privileged domain: the host's, with an own MADT.
//!
//! Firmware's fixed tables and its byte code are shown where they lie. What describes processors is ours, since the
//! domain's are virtual; what describes devices that stay the hypervisor's (timers, IOMMUs, PCI configuration space) is
//! left out.

use alloc::vec::Vec;

use hypercall_abi::Error;
use machine::Machine;
use machine::address::HostAddress;

use crate::lapic::{self, apic_id};
use crate::{domain::DomainConfig, io_apic};

/// Host tables that the domain sees. DSDT and FACS hang below FACP.
const SHOWN: [[u8; 4]; 2] = [*b"FACP", *b"SSDT"];
/// Bytes set aside for our tables.
pub const SPACE: u64 = 4 * 4096;
const OEM: [u8; 6] = *b"XENLTH";
const HEADER: usize = 36;

fn checksum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0u8, |sum, &byte| sum.wrapping_add(byte))
        .wrapping_neg()
}

fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(signature);
    bytes.extend_from_slice(&((HEADER + body.len()) as u32).to_le_bytes());
    bytes.extend_from_slice(&[revision, 0]);
    bytes.extend_from_slice(&OEM);
    bytes.extend_from_slice(b"Xenolith");
    bytes.extend_from_slice(&1u32.to_le_bytes());
    bytes.extend_from_slice(b"XNLT");
    bytes.extend_from_slice(&1u32.to_le_bytes());
    bytes.extend_from_slice(body);
    set_checksum(&mut bytes, 9);
    bytes
}

/// Makes the sum of the bytes zero, by the one at `at`.
fn set_checksum(bytes: &mut [u8], at: usize) {
    let sum = checksum(bytes);
    if let Some(byte) = bytes.get_mut(at) {
        *byte = sum;
    }
}

/// The MADT: the domain's local APICs, the I/O APIC, the host's overrides of ISA interrupts.
fn madt<M: Machine>(machine: &M, vcpus: u32) -> Vec<u8> {
    const LOCAL_APIC: u8 = 0;
    const IO_APIC: u8 = 1;
    const OVERRIDE: u8 = 2;
    const LOCAL_X2APIC: u8 = 9;
    const ENABLED: u32 = 1;
    let mut body = Vec::new();
    body.extend_from_slice(&(lapic::DEFAULT_BASE as u32).to_le_bytes());
    // No 8259s behind it.
    body.extend_from_slice(&0u32.to_le_bytes());
    for vcpu in 0..vcpus {
        let id = apic_id(vcpu);
        // Ids from 255 on do not fit the older form.
        if id < 0xff {
            body.extend_from_slice(&[LOCAL_APIC, 8, vcpu as u8, id as u8]);
            body.extend_from_slice(&ENABLED.to_le_bytes());
        } else {
            body.extend_from_slice(&[LOCAL_X2APIC, 16, 0, 0]);
            for word in [id, ENABLED, vcpu] {
                body.extend_from_slice(&word.to_le_bytes());
            }
        }
    }
    body.extend_from_slice(&[IO_APIC, 12, 0, 0]);
    body.extend_from_slice(&(io_apic::BASE as u32).to_le_bytes());
    body.extend_from_slice(&0u32.to_le_bytes());
    for entry in &machine.platform().overrides {
        body.extend_from_slice(&[OVERRIDE, 10, 0, entry.source]);
        body.extend_from_slice(&entry.line.to_le_bytes());
        body.extend_from_slice(&entry.flags.to_le_bytes());
    }
    table(b"APIC", 3, &body)
}

/// RSDP, XSDT and MADT one after another, to be put at guest-physical address `base`; the RSDP is first.
///
/// # Errors
/// ENOMEM when they outgrow [`SPACE`].
pub fn build<M: Machine>(machine: &M, vcpus: u32, base: u64) -> Result<Vec<u8>, Error> {
    const RSDP: usize = 36;
    const ALIGNED: usize = 64;
    let madt = madt(machine, vcpus);
    let shown = machine
        .platform()
        .acpi_tables
        .iter()
        .filter(|table| SHOWN.contains(&table.signature));
    // Where they lie from the beginning.
    let madt_in = ALIGNED;
    let xsdt_in = madt_in.saturating_add(madt.len().div_ceil(ALIGNED).saturating_mul(ALIGNED));
    let [madt_at, xsdt_at] = [madt_in, xsdt_in].map(|offset| base.saturating_add(offset as u64));
    let mut pointers = Vec::new();
    pointers.extend_from_slice(&madt_at.to_le_bytes());
    shown.for_each(|table| pointers.extend_from_slice(&table.address.0.to_le_bytes()));
    let xsdt = table(b"XSDT", 1, &pointers);

    let mut bytes = Vec::new();
    bytes.extend_from_slice(b"RSD PTR ");
    bytes.push(0);
    bytes.extend_from_slice(&OEM);
    bytes.push(2);
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes.extend_from_slice(&(RSDP as u32).to_le_bytes());
    bytes.extend_from_slice(&xsdt_at.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    // The first checksum covers the part that revision 0 had, the second all.
    if let Some((first, _)) = bytes.split_at_mut_checked(20) {
        set_checksum(first, 8);
    }
    set_checksum(&mut bytes, 32);
    bytes.resize(madt_in, 0);
    bytes.extend_from_slice(&madt);
    bytes.resize(xsdt_in, 0);
    bytes.extend_from_slice(&xsdt);
    if bytes.len() as u64 > SPACE {
        Err(Error::ENOMEM)
    } else {
        Ok(bytes)
    }
}

/// The ports that firmware's fixed description gives to the operating system, for the domain to drive itself: power
/// management events and their timer, general-purpose events, the switch to ACPI mode. PM control and reset stay watched.
pub fn direct_ports<M: Machine>(machine: &M, config: &mut DomainConfig) {
    const SMI_COMMAND: usize = 48;
    const PM1_EVENT: [usize; 2] = [56, 60];
    const GPE: [(usize, usize); 2] = [(80, 92), (84, 93)];
    const PM_TIMER: (usize, usize) = (76, 91);
    const PM1_EVENT_LENGTH: usize = 88;
    const NEEDED: usize = 96;
    let Some(entry) = machine
        .platform()
        .acpi_tables
        .iter()
        .find(|table| &table.signature == b"FACP")
    else {
        return;
    };
    let mut fadt = [0; NEEDED];
    if (entry.length as usize) < NEEDED || !machine.read_firmware(HostAddress(entry.address.0), &mut fadt) {
        return;
    }
    let port = |at: usize| u16::from_le_bytes([fadt[at], fadt[at + 1]]);
    let mut allow = |first: u16, length: u8| {
        if first != 0 && length != 0 {
            config
                .direct_ports
                .push((first, first.saturating_add(u16::from(length) - 1)));
        }
    };
    allow(port(SMI_COMMAND), 2);
    PM1_EVENT
        .iter()
        .for_each(|&at| allow(port(at), fadt[PM1_EVENT_LENGTH]));
    // A counter that only counts: Linux checks it with thousands of reads, and each would be an exit.
    allow(port(PM_TIMER.0), fadt[PM_TIMER.1]);
    GPE.iter().for_each(|&(at, length)| allow(port(at), fadt[length]));
}

#[cfg(test)]
mod tests;
