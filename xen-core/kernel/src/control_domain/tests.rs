//! The privileged domain from good and bad files, on large and small machines.

use alloc::vec::Vec;

use kernel_image::sample;
use machine::fake::{Configuration, set_processor};
use machine::virtual_cpu::Exit;

use super::*;
use crate::testing::{self, TestKernel};

const ENTRY: u32 = 0x10_0002;
const BASE: u64 = 0x10_0000;

fn kernel(mebibytes: usize, options: &str) -> TestKernel {
    set_processor(0);
    let mut kernel = testing::kernel_on(&Configuration {
        memory_mib: mebibytes,
        ..Configuration::default()
    });
    kernel.options = crate::options::Options::parse(options);
    kernel
}

fn good() -> Vec<u8> {
    sample::elf(BASE, b"code", 0x3000, Some(ENTRY))
}

fn fault(kernel: &TestKernel, file: &[u8], initramfs: Option<&[u8]>) -> String {
    kernel
        .build_control_domain(file, "console=hvc0", initramfs)
        .expect_err("it cannot be built")
}

#[test]
fn a_tiny_kernel_is_started_as_pvh_prescribes() {
    let kernel = kernel(128, "dom0_mem=64M dom0_max_vcpus=3");
    let initramfs = [0x5a; 5000];
    kernel
        .build_control_domain(&good(), "console=hvc0", Some(&initramfs))
        .expect("a domain");
    let domain = kernel.domains.get(DomainId::CONTROL).expect("the domain");
    assert!(domain.privileged);
    assert_eq!(domain.vcpus.len(), 3);
    assert!(domain.vcpus[0].is_up() && !domain.vcpus[1].is_up());
    let tables = acpi_tables::SPACE / PAGE;
    assert_eq!(domain.owned_pages(&kernel.machine), 64 * 256 + tables);

    let vcpu = testing::vcpu(&domain, 0);
    let state = vcpu.context.lock().state;
    assert_eq!(
        (state.registers.rip, state.cr0, state.efer),
        (u64::from(ENTRY), 0x11, 0)
    );
    assert_eq!(
        (state.cs.attributes, state.ds.attributes, state.tr.attributes),
        (0xc9b, 0xc93, 0x8b)
    );
    assert_eq!(testing::peek::<[u8; 4]>(&domain, BASE), *b"code");
    let info_at = state.registers.general[register::RBX];
    let info: StartInfo = testing::peek(&domain, info_at);
    assert_eq!((info.magic, info.number_of_modules), (MAGIC, 1));
    assert_eq!(info.flags, start_flag::PRIVILEGED | start_flag::INITIAL_DOMAIN);
    assert_eq!(
        testing::peek::<[u8; 13]>(&domain, info.command_line_address),
        *b"console=hvc0\0"
    );
    let module: Module = testing::peek(&domain, info.modules_address);
    assert_eq!((module.size, module.address % PAGE), (5000, 0));
    assert_eq!(testing::peek::<[u8; 16]>(&domain, module.address), [0x5a; 16]);
    assert_eq!(testing::peek::<[u8; 8]>(&domain, info.rsdp_address), *b"RSD PTR ");
    let map: Vec<MemoryMapEntry> = (0..info.memory_map_entries.into())
        .map(|index: u64| {
            testing::peek(
                &domain,
                info.memory_map_address + index * size_of::<MemoryMapEntry>() as u64,
            )
        })
        .collect();
    assert!(map.is_sorted_by_key(|entry| entry.address));
    let ram: u64 = map
        .iter()
        .filter(|entry| entry.kind == memory_kind::RAM)
        .map(|entry| entry.size)
        .sum();
    assert_eq!(ram, 64 << 20);
    assert!(
        map.windows(2)
            .all(|pair| pair[0].address + pair[0].size <= pair[1].address),
        "no overlap"
    );

    // It runs, and only its first vCPU does.
    vcpu.context.lock().push_exit(Exit::CpuId);
    vcpu.context.lock().set_interrupts_enabled(true);
    kernel.step();
    assert_eq!(vcpu.context.lock().runs, 2);
}

#[test]
fn the_machines_memory_is_shared_out_when_nothing_is_said() {
    let kernel = kernel(128, "");
    kernel.build_control_domain(&good(), "", None).expect("a domain");
    let domain = kernel.domains.get(DomainId::CONTROL).expect("the domain");
    assert_eq!(domain.vcpus.len(), 2, "as many as processors");
    let vcpu = testing::vcpu(&domain, 0);
    let info_at = vcpu.context.lock().state.registers.general[register::RBX];
    let info: StartInfo = testing::peek(&domain, info_at);
    assert_eq!((info.number_of_modules, info.modules_address), (0, 0));
    assert!(kernel.machine.memory().free_frames() >= (SMALLEST_REST / 4 - (1 << 20)) / PAGE);
}

#[test]
fn files_that_are_no_kernels_are_told_apart() {
    let garbage = [0x11; 4096];
    let truncated = &good()[..100];
    let plain = sample::elf(BASE, b"code", 4, None);
    let outside = sample::elf(BASE, b"code", 4, Some(0x20_0000));
    let cases: [(&[u8], &str); 5] = [
        (&[], "neither an ELF file nor a Linux bzImage"),
        (&garbage, "neither an ELF file nor a Linux bzImage"),
        (truncated, "ELF"),
        (&plain, "no PVH entry point"),
        (&outside, "lies in none of its segments"),
    ];
    for (file, words) in cases {
        let kernel = kernel(128, "");
        let message = fault(&kernel, file, None);
        assert!(
            message.starts_with("the dom0 kernel is unusable") && message.contains(words),
            "{message}"
        );
        assert!(
            kernel.domains.get(DomainId::CONTROL).is_none(),
            "nothing was begun"
        );
    }
}

#[test]
fn what_does_not_fit_says_so() {
    let huge = sample::elf(BASE, b"code", 1 << 40, Some(ENTRY));
    let message = fault(&kernel(128, ""), &huge, None);
    assert!(message.contains("give it more with dom0_mem="), "{message}");
    // Sums that leave 64 bits.
    let wrapping = sample::elf(u64::MAX - 0x1000, b"code", 0x3000, Some(ENTRY));
    assert!(fault(&kernel(128, ""), &wrapping, None).contains("unusable"));
    let endless = sample::elf(BASE, b"code", u64::MAX, Some(ENTRY));
    assert!(fault(&kernel(128, ""), &endless, None).contains("dom0_mem="));
    let initramfs = alloc::vec![0; 40 << 20];
    let message = fault(&kernel(128, "dom0_mem=32M"), &good(), Some(&initramfs));
    assert!(message.contains("need 42 MiB"), "{message}");
    // Where firmware is, no kernel can be.
    let low = sample::elf(0xa_0000, b"code", 0x1000, Some(0xa_0000));
    assert!(fault(&kernel(128, ""), &low, None).contains("has no memory at 0xa0000"));
}

#[test]
fn too_little_memory_is_named() {
    let message = fault(&kernel(32, ""), &good(), None);
    assert!(message.contains("too little for a kernel"), "{message}");
    let message = fault(&kernel(128, "dom0_mem=1G"), &good(), None);
    assert!(message.contains("dom0_mem asks for 1024 MiB"), "{message}");
    let message = fault(&kernel(128, "dom0_mem=1M"), &good(), None);
    assert!(message.contains("at least 16 MiB"), "{message}");
    let starved = kernel(128, "");
    starved.machine.set_heap_available(1000);
    assert!(fault(&starved, &good(), None).contains("dom0 cannot be made"));
}

#[test]
fn memory_goes_around_the_machines_holes() {
    set_processor(0);
    let mut machine = machine::fake::FakeMachine::new(&Configuration {
        memory_mib: 128,
        ..Configuration::default()
    });
    machine.platform_mut().memory_map.push(machine::MemoryRegion {
        start: machine::address::HostAddress(32 << 20),
        length: 1 << 20,
        kind: 2,
    });
    let kernel = Kernel::new(machine, "dom0_mem=48M");
    kernel.build_control_domain(&good(), "", None).expect("a domain");
    let domain = kernel.domains.get(DomainId::CONTROL).expect("the domain");
    let map = domain.memory_map.lock().clone();
    let ram: Vec<(u64, u64)> = map
        .iter()
        .filter(|entry| entry.2 == memory_kind::RAM)
        .map(|&(start, length, _)| (start, start + length))
        .collect();
    let low_end = (32 << 20) - acpi_tables::SPACE;
    let rest = (48 << 20) - LOW_END - (low_end - ONE_MIB);
    assert_eq!(
        ram,
        [(0, LOW_END), (ONE_MIB, low_end), (FOUR_GIB, FOUR_GIB + rest)]
    );
    assert!(map.contains(&(32 << 20, 1 << 20, 2)), "the hole is told");
    assert!(
        domain
            .physmap
            .lookup(GuestFrame((FOUR_GIB + rest) / PAGE - 1))
            .is_some()
    );
    assert!(
        domain
            .physmap
            .lookup(GuestFrame((FOUR_GIB + rest) / PAGE))
            .is_none()
    );
    // Firmware's first mebibyte shows through as a device; what is not there does not.
    let rom = domain
        .physmap
        .lookup(GuestFrame(LOW_END / PAGE))
        .expect("the ROM area");
    assert_eq!(rom.kind, machine::stage_two::EntryKind::Device);
}
