//! The ACPI tables of a PVH guest: just enough to name its processors.
//!
//! The machine is declared hardware-reduced, without legacy devices: there is no interrupt controller but the
//! local APICs, no timer and no power-management hardware, and Linux does not go looking for any.

use crate::layout::ACPI_TABLES;

const HEADER: usize = 36;
const FADT_SIZE: usize = 268;
const ROOT_POINTER_SIZE: usize = 36;
/// No VGA, no CMOS clock; and, the bits being clear, no 8042 and no other legacy device.
const NO_LEGACY_DEVICES: u16 = 1 << 2 | 1 << 5;
/// WBINVD works; power and sleep buttons are no fixed hardware; and there is none at all.
const HARDWARE_REDUCED: u32 = 1 | 1 << 4 | 1 << 5 | 1 << 20;

/// The tables and the address of the root pointer among them.
pub struct Tables {
    /// For loading at [`ACPI_TABLES`].
    pub bytes: Vec<u8>,
    /// Where the root pointer is.
    #[doc(alias = "RSDP")]
    pub root: u64,
}

/// Tables for so many virtual CPUs.
pub fn tables(vcpus: u32) -> Tables {
    let mut bytes = Vec::new();
    let dsdt = append(&mut bytes, table(b"DSDT", 2, &[]));
    let fadt = append(&mut bytes, fixed_description(dsdt));
    let madt = append(&mut bytes, processors(vcpus));
    let pointers: Vec<u8> = [fadt, madt]
        .iter()
        .flat_map(|address| address.to_le_bytes())
        .collect();
    let xsdt = append(&mut bytes, table(b"XSDT", 1, &pointers));
    let root = append(&mut bytes, root_pointer(xsdt));
    Tables { bytes, root }
}

fn append(bytes: &mut Vec<u8>, table: Vec<u8>) -> u64 {
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    let address = ACPI_TABLES + bytes.len() as u64;
    bytes.extend(table);
    address
}

/// A table: the common header, the contents, and the checksum that makes all bytes add up to zero.
fn table(signature: &[u8; 4], revision: u8, contents: &[u8]) -> Vec<u8> {
    let mut table = signature.to_vec();
    table.extend(((HEADER + contents.len()) as u32).to_le_bytes());
    table.extend([revision, 0]);
    table.extend(b"XENO  XENOLITH");
    table.extend(1_u32.to_le_bytes());
    table.extend(b"XENO");
    table.extend(1_u32.to_le_bytes());
    table.extend(contents);
    table[9] = checksum(&table);
    table
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0_u8, |sum, byte| sum.wrapping_add(*byte))
        .wrapping_neg()
}

#[doc(alias = "FADT")]
fn fixed_description(dsdt: u64) -> Vec<u8> {
    let mut contents = vec![0; FADT_SIZE - HEADER];
    let mut put = |offset: usize, bytes: &[u8]| {
        contents[offset - HEADER..offset - HEADER + bytes.len()].copy_from_slice(bytes);
    };
    put(40, &(dsdt as u32).to_le_bytes());
    put(109, &NO_LEGACY_DEVICES.to_le_bytes());
    put(112, &HARDWARE_REDUCED.to_le_bytes());
    put(131, &[1]);
    put(140, &dsdt.to_le_bytes());
    table(b"FACP", 5, &contents)
}

/// All are enabled, also those that are not to be online at first: of a disabled one Linux does not keep the APIC ID, and could never bring it
/// up. Which ones are wanted it reads from the store, and takes the others down before its userspace runs.
#[doc(alias = "MADT")]
fn processors(vcpus: u32) -> Vec<u8> {
    const ENABLED: u32 = 1;
    let mut contents = 0xfee0_0000_u32.to_le_bytes().to_vec();
    contents.extend(0_u32.to_le_bytes());
    for vcpu in 0..vcpus {
        // Xen gives each virtual CPU an even APIC ID.
        let apic = vcpu * 2;
        match u8::try_from(apic) {
            Ok(apic) if apic < 0xff => {
                contents.extend([0, 8, vcpu as u8, apic]);
                contents.extend(ENABLED.to_le_bytes());
            }
            _ => {
                contents.extend([9, 16, 0, 0]);
                for word in [apic, ENABLED, vcpu] {
                    contents.extend(word.to_le_bytes());
                }
            }
        }
    }
    table(b"APIC", 4, &contents)
}

fn root_pointer(xsdt: u64) -> Vec<u8> {
    let mut pointer = b"RSD PTR \0XENO  \x02".to_vec();
    pointer.extend(0_u32.to_le_bytes());
    pointer.extend((ROOT_POINTER_SIZE as u32).to_le_bytes());
    pointer.extend(xsdt.to_le_bytes());
    pointer.extend([0; 4]);
    pointer[8] = checksum(&pointer[..20]);
    pointer[32] = checksum(&pointer);
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::ACPI_SIZE;

    #[test]
    fn checksums_hold_and_everything_fits() {
        let tables = tables(128);
        assert!((tables.bytes.len() as u64) < ACPI_SIZE);
        let at = |address: u64| &tables.bytes[(address - ACPI_TABLES) as usize..];
        let root = at(tables.root);
        assert_eq!(root.len(), ROOT_POINTER_SIZE);
        assert_eq!(checksum(&root[..20]), 0);
        assert_eq!(checksum(root), 0);
        let xsdt = at(u64::from_le_bytes(root[24..32].try_into().unwrap()));
        for pointer in xsdt[HEADER..HEADER + 16].as_chunks::<8>().0 {
            let table = at(u64::from_le_bytes(*pointer));
            let length = u32::from_le_bytes(table[4..8].try_into().unwrap()) as usize;
            assert_eq!(checksum(&table[..length]), 0);
        }
    }
}
