//! The privileged domain's tables, read back as an operating system reads them.

use machine::fake::FakeMachine;
use machine::{AcpiTable, InterruptOverride, Machine};

use super::*;

const BASE: u64 = 0x7f_0000;
const FADT_AT: u64 = 0xe_0000;

fn machine() -> FakeMachine {
    let mut machine = FakeMachine::default();
    let platform = machine.platform_mut();
    platform.overrides.push(InterruptOverride {
        source: 0,
        line: 2,
        flags: 0,
    });
    for (signature, address) in [
        (*b"FACP", FADT_AT),
        (*b"HPET", 0xe_1000),
        (*b"IVRS", 0xe_2000),
        (*b"SSDT", 0xe_3000),
    ] {
        platform.acpi_tables.push(AcpiTable {
            signature,
            address: HostAddress(address),
            length: 0x100,
        });
    }
    machine
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn quad(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A table at a guest-physical address, checked.
fn table_at(bytes: &[u8], address: u64) -> &[u8] {
    let start = (address - BASE) as usize;
    let length = u32::from_le_bytes(bytes[start + 4..start + 8].try_into().unwrap()) as usize;
    let table = &bytes[start..start + length];
    assert_eq!(sum(table), 0, "the checksum");
    table
}

#[test]
fn the_tables_hang_together() {
    let machine = machine();
    let bytes = build(&machine, 3, BASE).expect("room");
    assert!(bytes.starts_with(b"RSD PTR "));
    assert_eq!((sum(&bytes[..20]), sum(&bytes[..36]), bytes[15]), (0, 0, 2));
    let xsdt = table_at(&bytes, quad(&bytes, 24));
    assert!(xsdt.starts_with(b"XSDT"));
    let pointers: Vec<u64> = xsdt[HEADER..].chunks(8).map(|chunk| quad(chunk, 0)).collect();
    // Ours, then the host's; timers and IOMMUs are not shown.
    assert_eq!(pointers[1..], [FADT_AT, 0xe_3000]);
    let madt = table_at(&bytes, pointers[0]);
    assert!(madt.starts_with(b"APIC"));
    let mut entries = Vec::new();
    let mut rest = &madt[HEADER + 8..];
    while let [kind, length, ..] = *rest {
        entries.push((kind, rest[..usize::from(length)].to_vec()));
        rest = &rest[usize::from(length)..];
    }
    let apics: Vec<(u8, u8)> = entries
        .iter()
        .filter(|(kind, _)| *kind == 0)
        .map(|(_, entry)| (entry[2], entry[3]))
        .collect();
    assert_eq!(apics, [(0, 0), (1, 2), (2, 4)], "ids as CPUID tells them");
    let io_apics: Vec<_> = entries.iter().filter(|(kind, _)| *kind == 1).collect();
    assert_eq!(io_apics[0].1[4..8], (io_apic::BASE as u32).to_le_bytes());
    assert_eq!(entries.iter().filter(|(kind, _)| *kind == 2).count(), 1);
    assert_eq!(madt[HEADER + 4] & 1, 0, "no 8259s");
}

#[test]
fn every_number_of_vcpus_fits() {
    let machine = machine();
    for vcpus in [1, 64, crate::domain::MAX_VCPUS] {
        let bytes = build(&machine, vcpus, BASE).expect("room");
        assert!(bytes.len() as u64 <= SPACE);
    }
    assert_eq!(build(&machine, 5000, BASE), Err(Error::ENOMEM));
}

#[test]
fn ports_come_from_the_fixed_description() {
    let machine = machine();
    let none = crate::testing::configuration(1, true);
    let mut config = none.clone();
    direct_ports(&machine, &mut config);
    assert!(config.direct_ports.is_empty(), "the description cannot be read");
    let mut fadt = [0; 0x100];
    let mut put = |at: usize, port: u16| fadt[at..at + 2].copy_from_slice(&port.to_le_bytes());
    put(48, 0xb2);
    put(56, 0x600);
    put(64, 0x604);
    put(76, 0x608);
    put(80, 0x620);
    (fadt[88], fadt[89], fadt[91], fadt[92]) = (4, 2, 4, 16);
    machine.put_firmware(HostAddress(FADT_AT), &fadt);
    direct_ports(&machine, &mut config);
    config.direct_ports.sort_unstable();
    assert_eq!(
        config.direct_ports,
        [(0xb2, 0xb3), (0x600, 0x603), (0x608, 0x60b), (0x620, 0x62f)]
    );
    assert!(
        !config
            .direct_ports
            .iter()
            .any(|&(first, last)| (first..=last).contains(&0x604)),
        "who switches the machine off is seen"
    );
    // A description whose ports would leave the range.
    fadt[56..58].copy_from_slice(&0xffff_u16.to_le_bytes());
    machine.put_firmware(HostAddress(FADT_AT), &fadt);
    let mut config = none;
    direct_ports(&machine, &mut config);
    assert!(config.direct_ports.contains(&(0xffff, 0xffff)));
    assert_eq!(machine.processors(), 2);
}
