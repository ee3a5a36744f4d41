//! Firmware's tables: which processors and interrupt controllers there are, and how the machine is switched off.
//!
//! The `acpi` crate reads the tables that we use; the list of all tables, with their addresses, is walked here, because
//! dom0 is given most of them.

use alloc::vec::Vec;
use core::ptr::NonNull;

use acpi::address::AddressSpace;
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};

use super::layout::{DIRECT_MAP, LOW_MEMORY};
use super::{address_space, crash};
use crate::address::HostAddress;
use crate::{AcpiTable, InterruptOverride};

/// What firmware tells of the machine.
#[derive(Default)]
pub struct Firmware {
    /// The root pointer's address; 0 when only the loader's copy of it is known.
    pub root_pointer: u64,
    /// Every table.
    pub tables: Vec<AcpiTable>,
    /// The local APICs of processors that can be used.
    pub processors: Vec<u32>,
    /// I/O APICs, with the first line of each.
    pub io_apics: Vec<(HostAddress, u32)>,
    /// ISA interrupts that are not where they used to be.
    pub overrides: Vec<InterruptOverride>,
    /// PM1a and PM1b control ports; 0 is none.
    pub power_control: [u16; 2],
    /// PM timer port; 0 is none.
    pub power_timer: u16,
    /// The line of ACPI's own interrupt.
    pub power_line: u32,
    /// What to write to the control ports to switch off.
    pub soft_off: Option<[u8; 2]>,
    /// Port and value that make firmware hand over the power registers.
    pub enable: Option<(u16, u8)>,
    /// The reset register's port and the value that resets.
    pub reset: Option<(u16, u8)>,
}

/// The tables' root: an RSDT or an XSDT.
struct Root {
    revision: u8,
    table: u64,
}

const HEADER: usize = 36;
/// Larger tables are taken for garbage.
const TABLE_LIMIT: u32 = 16 << 20;

/// Read all of it. `copy` is the loader's copy of the root pointer.
pub fn read(copy: Option<&[u8]>) -> Firmware {
    let mut firmware = Firmware::default();
    let found = find_root_pointer();
    firmware.root_pointer = found.as_ref().map_or(0, |(address, _)| *address);
    let Some(root) = found
        .map(|(_, root)| root)
        .or_else(|| copy.and_then(parse_root_pointer))
    else {
        crash::refuse(format_args!(
            "firmware has no ACPI tables: switch ACPI on (QEMU: leave out -no-acpi)"
        ))
    };
    firmware.tables = list_tables(&root);
    // SAFETY: the root's checksum was right, so firmware put a table there.
    let tables = match unsafe { AcpiTables::from_rsdt(Mapped, root.revision, root.table as usize) } {
        Ok(tables) => tables,
        Err(error) => crash::refuse(format_args!(
            "firmware's ACPI tables are damaged ({error:?}): update it"
        )),
    };
    match tables.find_table::<Madt>() {
        Ok(table) => read_interrupts(&mut firmware, &table),
        Err(_) => crash::refuse(format_args!(
            "firmware's ACPI has no table of processors (MADT): switch the APIC on"
        )),
    }
    match tables.find_table::<Fadt>() {
        Ok(table) => read_power(&mut firmware, &table),
        Err(error) => {
            log::warn!("firmware has no power management table ({error:?}): switching off will not work")
        }
    }
    firmware
}

fn low_memory(start: u64, length: usize) -> &'static [u8] {
    debug_assert!(start + length as u64 <= LOW_MEMORY);
    // SAFETY: the direct map holds the first megabyte; firmware's part of it does not change any more.
    unsafe { core::slice::from_raw_parts((DIRECT_MAP + start) as *const u8, length) }
}

/// Where firmware of the old kind leaves the root pointer: at the start of its extended data, or below 1 MiB.
fn find_root_pointer() -> Option<(u64, Root)> {
    const SEGMENT_OF_DATA: u64 = 0x40e;
    let segment = low_memory(SEGMENT_OF_DATA, 2);
    let data = u64::from(u16::from_le_bytes([segment[0], segment[1]])) << 4;
    let areas = [(data, 1024), (0xe_0000, 0x2_0000)];
    areas
        .into_iter()
        .filter(|&(start, length)| start != 0 && start + length as u64 <= LOW_MEMORY)
        .find_map(|(start, length)| {
            let area = low_memory(start, length);
            let candidates = (0..length.saturating_sub(HEADER)).step_by(16);
            let mut roots =
                candidates.filter_map(|at| Some((start + at as u64, parse_root_pointer(&area[at..])?)));
            roots.next()
        })
}

fn parse_root_pointer(bytes: &[u8]) -> Option<Root> {
    let first = bytes.get(..20)?;
    if !first.starts_with(b"RSD PTR ") || first.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) != 0 {
        return None;
    }
    let rsdt = u64::from(u32::from_le_bytes(first[16..20].try_into().ok()?));
    let xsdt = bytes
        .get(24..32)
        .and_then(|field| field.try_into().ok())
        .map_or(0, u64::from_le_bytes);
    match first[15] {
        revision @ 2.. if xsdt != 0 => Some(Root {
            revision,
            table: xsdt,
        }),
        _ => Some(Root {
            revision: 0,
            table: rsdt,
        }),
    }
}

fn read_header(address: u64) -> Option<AcpiTable> {
    let mut header = [0; HEADER];
    address_space::copy_firmware(HostAddress(address), &mut header);
    let signature = header[..4].try_into().ok()?;
    let length = u32::from_le_bytes(header[4..8].try_into().ok()?);
    let sound = (HEADER as u32..=TABLE_LIMIT).contains(&length);
    sound.then_some(AcpiTable {
        signature,
        address: HostAddress(address),
        length,
    })
}

/// A whole table's bytes.
fn read_table(table: &AcpiTable) -> Vec<u8> {
    let mut bytes = alloc::vec![0; table.length as usize];
    address_space::copy_firmware(table.address, &mut bytes);
    bytes
}

fn list_tables(root: &Root) -> Vec<AcpiTable> {
    let Some(table) = read_header(root.table) else {
        return Vec::new();
    };
    let bytes = read_table(&table);
    let size = if root.revision == 0 { 4 } else { 8 };
    let pointer = |entry: &[u8]| {
        let mut address = [0; 8];
        address[..size].copy_from_slice(entry);
        u64::from_le_bytes(address)
    };
    let pointers = bytes.get(HEADER..).unwrap_or_default();
    pointers
        .chunks_exact(size)
        .map(pointer)
        .filter_map(read_header)
        .collect()
}

fn read_interrupts(firmware: &mut Firmware, table: &PhysicalMapping<Mapped, Madt>) {
    const ENABLED: u32 = 1;
    for entry in table.get().entries() {
        match entry {
            MadtEntry::LocalApic(entry) if entry.flags & ENABLED != 0 => {
                firmware.processors.push(u32::from(entry.apic_id));
            }
            MadtEntry::LocalX2Apic(entry) if entry.flags & ENABLED != 0 => {
                firmware.processors.push(entry.x2apic_id)
            }
            MadtEntry::IoApic(entry) => {
                let address = HostAddress(u64::from(entry.io_apic_address));
                firmware
                    .io_apics
                    .push((address, entry.global_system_interrupt_base));
            }
            MadtEntry::InterruptSourceOverride(entry) => firmware.overrides.push(InterruptOverride {
                source: entry.irq,
                line: entry.global_system_interrupt,
                flags: entry.flags,
            }),
            _ => {}
        }
    }
}

fn read_power(firmware: &mut Firmware, table: &PhysicalMapping<Mapped, Fadt>) {
    let table: &Fadt = table;
    let port = |address: Option<acpi::address::GenericAddress>| {
        address
            .filter(|address| address.address_space == AddressSpace::SystemIo)
            .map_or(0, |address| address.address as u16)
    };
    firmware.power_control = [
        port(table.pm1a_control_block().ok()),
        port(table.pm1b_control_block().ok().flatten()),
    ];
    firmware.power_timer = port(table.pm_timer_block().ok().flatten());
    firmware.power_line = u32::from(table.sci_interrupt);
    if table.smi_cmd_port != 0 && table.acpi_enable != 0 {
        firmware.enable = Some((table.smi_cmd_port as u16, table.acpi_enable));
    }
    let flags = table.flags;
    let reset = if flags.supports_system_reset_via_fadt() {
        port(table.reset_register().ok())
    } else {
        0
    };
    firmware.reset = (reset != 0).then_some((reset, table.reset_value));
    if let Some(dsdt) = table
        .dsdt_address()
        .ok()
        .and_then(|address| read_header(address as u64))
    {
        firmware.soft_off = find_soft_off(&read_table(&dsdt));
    }
}

/// The sleep types of `\_S5`, the state "off", found by the bytes of its definition: an interpreter for one constant
/// would be the largest part of the core.
fn find_soft_off(definitions: &[u8]) -> Option<[u8; 2]> {
    const PACKAGE: u8 = 0x12;
    let name = definitions
        .windows(5)
        .position(|bytes| bytes == [b'_', b'S', b'5', b'_', PACKAGE])?;
    let package = definitions.get(name + 5..)?;
    // The length's own size is in its top two bits; the number of elements follows.
    let mut elements = package
        .get(usize::from(package.first()? >> 6) + 2..)?
        .iter()
        .copied();
    let mut number = || match elements.next()? {
        0x0a => elements.next(),
        constant @ 0..=1 => Some(constant),
        _ => None,
    };
    let first = number()?;
    Some([first, number().unwrap_or(first)])
}

/// Maps tables for the `acpi` crate. They stay mapped: there are few.
#[derive(Clone)]
struct Mapped;

impl AcpiHandler for Mapped {
    unsafe fn map_physical_region<T>(&self, address: usize, size: usize) -> PhysicalMapping<Self, T> {
        let at = address_space::map_firmware(HostAddress(address as u64), size as u64);
        let at = NonNull::new(at.cast_mut().cast()).expect("device space is not at zero");
        // SAFETY: mapped for reading, for good, for this many bytes.
        unsafe { PhysicalMapping::new(address, at, size, size, Mapped) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}
