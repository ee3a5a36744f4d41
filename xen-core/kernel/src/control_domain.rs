//! The privileged domain, built from what the boot loader brought: a PVH kernel, its initial file system, command lines.
//!
//! Everything that can be wrong with them has one clear sentence, and then the machine stops: there is nobody else to
//! tell.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::atomic::Ordering;

use hypercall_abi::DomainId;
use hypercall_abi::start_info::{MAGIC, MemoryMapEntry, Module, StartInfo, VERSION, memory_kind};
use hypercall_abi::xen::start_flag;
use kernel_image::{Kernel as KernelImage, elf_file};
use machine::Machine;
use machine::address::{GuestAddress, GuestFrame, HostFrame, Order, PAGE_SIZE};
use machine::memory::FrameUse;
use machine::module::Modules;
use machine::stage_two::Permissions;
use machine::virtual_cpu::{ArchitecturalState, Registers, Segment, VirtualCpu, register};
use zerocopy::IntoBytes;

use crate::cpu_policy::CpuPolicy;
use crate::domain::{Domain, DomainConfig, VcpuHandle};
use crate::guest_memory::write_physical;
use crate::vcpu::stop;
use crate::{Kernel, acpi_tables};

const PAGE: u64 = PAGE_SIZE as u64;
/// Memory ends here in the first mebibyte; firmware's follows.
const LOW_END: u64 = 0xa_0000;
const ONE_MIB: u64 = 0x10_0000;
const FOUR_GIB: u64 = 1 << 32;
/// Left to the hypervisor and the guests' overheads when the command line does not say how much dom0 gets.
const SMALLEST_REST: u64 = 128 << 20;
/// What a kernel needs at the very least.
const SMALLEST: u64 = 16 << 20;
/// Event ports, grant frames and maptrack frames: Xen's limits for its dom0.
const MAX_EVENT_PORT: u32 = 131_071;
const MAX_GRANT_FRAMES: u32 = 64;
const MAX_MAPTRACK_FRAMES: u32 = 1024;

/// A stretch of the domain's memory map.
#[derive(Clone, Copy)]
struct Region {
    start: u64,
    end: u64,
    kind: u32,
}

impl Region {
    fn length(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// Where the domain's memory is.
struct Layout {
    regions: Vec<Region>,
    /// Our ACPI tables.
    tables: u64,
    /// The end of memory that a kernel can be loaded to.
    low_end: u64,
}

impl<M: Machine> Kernel<M> {
    /// Build the privileged domain and let it run.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub fn start_control_domain(&self, modules: &Modules) -> Result<(), String> {
        let file = modules.bytes(0).ok_or_else(|| {
            String::from(
                "no dom0 kernel: give one to the loader as the first module (QEMU: -initrd \"vmlinuz console=hvc0,initramfs\")",
            )
        })?;
        self.build_control_domain(file, modules.command_line(0).unwrap_or(""), modules.bytes(1))
    }

    fn build_control_domain(
        &self,
        file: &[u8],
        command_line: &str,
        initramfs: Option<&[u8]>,
    ) -> Result<(), String> {
        let memory = self.control_memory()?;
        let elf = elf_file(file, memory).map_err(|fault| format!("the dom0 kernel is unusable: {fault}"))?;
        let kernel =
            KernelImage::parse(&elf).map_err(|fault| format!("the dom0 kernel is unusable: {fault}"))?;

        let domain = self.create_control_domain()?;
        let layout = self.lay_out(memory);
        self.populate(&domain, &layout)?;
        self.show_firmware(&domain);
        let start_info = load(&domain, &layout, &elf, &kernel, initramfs, command_line)?;
        drop(elf);
        self.write_tables(&domain, &layout)?;
        *domain.memory_map.lock() = layout
            .regions
            .iter()
            .map(|region| (region.start, region.length(), region.kind))
            .collect();
        self.enter_kernel(&domain, kernel.entry, start_info)?;
        log::info!(
            "dom0: {} MiB, {} vCPUs, kernel entry {:#x}, '{command_line}'",
            memory >> 20,
            domain.vcpus.len(),
            kernel.entry
        );
        domain.toolstack_pauses.store(0, Ordering::SeqCst);
        self.unpause_domain(&domain);
        Ok(())
    }

    /// How much memory the domain gets, in bytes.
    fn control_memory(&self) -> Result<u64, String> {
        let free = self.machine.memory().free_frames().saturating_mul(PAGE);
        let rest = (free / 16).clamp(SMALLEST_REST / 4, SMALLEST_REST);
        let available = free.saturating_sub(rest);
        let wanted = self.options.control_memory.unwrap_or(available) & !(PAGE - 1);
        if wanted < SMALLEST {
            return Err(format!(
                "dom0 would have {} MiB of memory, too little for a kernel: give the machine more, or ask for at least {} MiB with dom0_mem=",
                wanted >> 20,
                SMALLEST >> 20
            ));
        }
        if wanted > available {
            return Err(format!(
                "dom0_mem asks for {} MiB, but only {} MiB are free: ask for less, or give the machine more memory",
                wanted >> 20,
                available >> 20
            ));
        }
        Ok(wanted)
    }

    fn create_control_domain(&self) -> Result<Arc<Domain<M>>, String> {
        let vcpus = self
            .options
            .control_vcpus
            .unwrap_or(self.machine.processors() as u32);
        let mut config = DomainConfig {
            pool: 0,
            handle: [0; 16],
            max_vcpus: vcpus.min(crate::domain::MAX_VCPUS),
            max_event_port: MAX_EVENT_PORT,
            max_grant_frames: MAX_GRANT_FRAMES,
            max_maptrack_frames: MAX_MAPTRACK_FRAMES,
            privileged: true,
            // The delay ports: nothing listens there.
            direct_ports: alloc::vec![(0x80, 0x80), (0xed, 0xed)],
        };
        acpi_tables::direct_ports(&self.machine, &mut config);
        let policy = CpuPolicy::of_machine(&self.machine)
            .map_err(|error| format!("dom0's CPU policy: {}", error.description()))?;
        let policy = Arc::new(policy);
        let domain = self
            .create_domain(Some(DomainId::CONTROL), &config, policy)
            .map_err(|error| format!("dom0 cannot be made: {}", error.description()))?;
        domain.allotted_vcpus.store(config.max_vcpus, Ordering::SeqCst);
        domain.max_pages.store(u64::from(u32::MAX), Ordering::SeqCst);
        Ok(domain)
    }

    /// The memory map: the host's holes stay holes, so that firmware's tables can be shown where they lie.
    fn lay_out(&self, memory: u64) -> Layout {
        let hole = self
            .machine
            .platform()
            .memory_map
            .iter()
            .filter(|region| region.kind != 1 && region.start.0 >= ONE_MIB)
            .map(|region| region.start.0 & !(PAGE - 1))
            .chain([FOUR_GIB - (1 << 30)])
            .min()
            .unwrap_or(ONE_MIB);
        let mut left = memory;
        let mut regions = Vec::new();
        let mut take = |start: u64, limit: u64| {
            let end = start.saturating_add(left).min(limit).max(start);
            left = left.saturating_sub(end.saturating_sub(start));
            regions.push(Region {
                start,
                end,
                kind: memory_kind::RAM,
            });
            end
        };
        take(0, LOW_END);
        let low_end = take(ONE_MIB, hole.saturating_sub(acpi_tables::SPACE));
        let high_end = take(FOUR_GIB, u64::MAX);
        if high_end == FOUR_GIB {
            regions.pop();
        }
        regions.push(Region {
            start: LOW_END,
            end: ONE_MIB,
            kind: memory_kind::RESERVED,
        });
        regions.push(Region {
            start: low_end,
            end: low_end.saturating_add(acpi_tables::SPACE),
            kind: memory_kind::ACPI,
        });
        for region in &self.machine.platform().memory_map {
            let start = region.start.0;
            if region.kind != 1 && start >= ONE_MIB {
                regions.push(Region {
                    start,
                    end: start.saturating_add(region.length),
                    kind: region.kind,
                });
            }
        }
        regions.sort_unstable_by_key(|region| region.start);
        Layout {
            regions,
            tables: low_end,
            low_end,
        }
    }

    fn populate(&self, domain: &Arc<Domain<M>>, layout: &Layout) -> Result<(), String> {
        let ours = |region: &&Region| region.kind == memory_kind::RAM || region.start == layout.tables;
        for region in layout.regions.iter().filter(ours) {
            let mut frame = region.start / PAGE;
            let end = region.end / PAGE;
            while frame < end {
                let largest = Order::largest(frame, end.saturating_sub(frame));
                let mut orders = core::iter::successors(Some(largest), |order| order.half());
                let block = orders
                    .find_map(|order| self.machine.memory().allocate(domain.id.0, FrameUse::Ram, order))
                    .ok_or("out of memory while dom0's was populated")?;
                let frames = block.order().frames();
                domain
                    .physmap
                    .populate(GuestFrame(frame), block)
                    .map_err(|error| format!("dom0's memory cannot be mapped: {}", error.description()))?;
                frame = frame.saturating_add(frames);
            }
        }
        Ok(())
    }

    /// Show the domain firmware's tables and the ROM area below 1 MiB, where they lie.
    fn show_firmware(&self, domain: &Arc<Domain<M>>) {
        const E820_RESERVED: u32 = 2;
        const E820_NVS: u32 = 4;
        let shown = self
            .machine
            .platform()
            .memory_map
            .iter()
            .filter(|region| (E820_RESERVED..=E820_NVS).contains(&region.kind) && region.start.0 >= ONE_MIB)
            // Large reserved stretches are address space, not tables.
            .filter(|region| region.length <= 64 << 20)
            .map(|region| {
                (
                    region.start.0 / PAGE,
                    region.start.0.saturating_add(region.length).div_ceil(PAGE),
                )
            })
            .chain([(LOW_END / PAGE, ONE_MIB / PAGE)]);
        for (first, end) in shown {
            for frame in first..end {
                if self.machine.may_expose(HostFrame(frame)) {
                    // Where dom0 has memory of its own instead, that stays.
                    let _ = domain.physmap.insert_device(
                        GuestFrame(frame),
                        HostFrame(frame),
                        Permissions::READ_WRITE,
                    );
                }
            }
        }
    }

    fn write_tables(&self, domain: &Arc<Domain<M>>, layout: &Layout) -> Result<(), String> {
        let tables = acpi_tables::build(&self.machine, domain.vcpus.len() as u32, layout.tables)
            .map_err(|_| "dom0's ACPI tables do not fit their place")?;
        write(domain, layout.tables, &tables)
    }

    /// The boot vCPU in the state that PVH prescribes: 32-bit protected mode, flat, paging off, start_info in ebx.
    fn enter_kernel(&self, domain: &Arc<Domain<M>>, entry: u64, start_info: u64) -> Result<(), String> {
        let vcpu = VcpuHandle::new(domain, 0).ok_or("dom0 has no vCPU")?;
        let code = Segment {
            selector: 0,
            attributes: 0xc9b,
            limit: u32::MAX,
            base: 0,
        };
        let data = Segment {
            attributes: 0xc93,
            ..code
        };
        let task = Segment {
            selector: 0,
            attributes: 0x8b,
            limit: 0x67,
            base: 0,
        };
        let mut registers = Registers {
            rip: entry,
            rflags: 2,
            ..Registers::default()
        };
        registers.general[register::RBX] = start_info;
        let mut context = vcpu.context.lock();
        let state = ArchitecturalState {
            registers,
            cs: code,
            ds: data,
            es: data,
            ss: data,
            tr: task,
            cr0: 0x11,
            cr4: 0,
            efer: 0,
            ..context.save()
        };
        context
            .restore(&state)
            .map_err(|_| "dom0's entry state was refused by the processor")?;
        drop(context);
        vcpu.initialised.store(true, Ordering::SeqCst);
        vcpu.stops.fetch_and(!stop::DOWN, Ordering::SeqCst);
        Ok(())
    }
}

fn write<M: Machine>(domain: &Arc<Domain<M>>, at: u64, bytes: &[u8]) -> Result<(), String> {
    write_physical(&domain.physmap, GuestAddress(at), bytes).map_err(|_| {
        format!(
            "dom0 has no memory at {at:#x}, where its kernel or files must go: give it more with dom0_mem="
        )
    })
}

/// Addresses given out one after the other, from this one on. Past the end of all addresses it stays there, where nothing fits.
struct Places(u64);

impl Places {
    fn take(&mut self, length: usize) -> u64 {
        let at = self.0;
        self.0 = at.saturating_add(length as u64);
        at
    }

    fn align(&mut self) {
        self.0 = self.0.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
    }
}

/// Put kernel, start info and initial file system into memory. Returns where the start info is.
fn load<M: Machine>(
    domain: &Arc<Domain<M>>,
    layout: &Layout,
    elf: &[u8],
    kernel: &KernelImage,
    initramfs: Option<&[u8]>,
    command_line: &str,
) -> Result<u64, String> {
    let too_large = |end: u64| {
        format!(
            "dom0's kernel and initramfs need {} MiB, but it has {} MiB of memory below 4 GiB: give it more with dom0_mem=",
            end.div_ceil(1 << 20),
            layout.low_end >> 20
        )
    };
    // The headers' sums first: they come from a file, and what follows adds to them.
    if kernel.end() > layout.low_end {
        return Err(too_large(kernel.end()));
    }
    for segment in &kernel.segments {
        let bytes = elf
            .get(segment.file.clone())
            .ok_or("the dom0 kernel is truncated")?;
        write(domain, segment.address, bytes)?;
    }
    let mut places = Places(kernel.end());
    places.align();
    let info_at = places.take(size_of::<StartInfo>());
    let module_at = places.take(initramfs.map_or(0, |_| size_of::<Module>()));
    let map: Vec<MemoryMapEntry> = layout
        .regions
        .iter()
        .map(|region| MemoryMapEntry {
            address: region.start,
            size: region.length(),
            kind: region.kind,
            _reserved: 0,
        })
        .collect();
    let map_at = places.take(size_of_val(map.as_slice()));
    let line_at = places.take(command_line.len().saturating_add(1));
    places.align();
    let files_at = places.take(initramfs.map_or(0, <[u8]>::len));
    if places.0 > layout.low_end {
        return Err(too_large(places.0));
    }
    let info = StartInfo {
        magic: MAGIC,
        version: VERSION,
        flags: start_flag::PRIVILEGED | start_flag::INITIAL_DOMAIN,
        number_of_modules: u32::from(initramfs.is_some()),
        modules_address: if initramfs.is_some() { module_at } else { 0 },
        command_line_address: line_at,
        rsdp_address: layout.tables,
        memory_map_address: map_at,
        memory_map_entries: map.len() as u32,
        _reserved: 0,
    };
    write(domain, info_at, info.as_bytes())?;
    if let Some(bytes) = initramfs {
        let module = Module {
            address: files_at,
            size: bytes.len() as u64,
            ..Module::default()
        };
        write(domain, module_at, module.as_bytes())?;
        write(domain, files_at, bytes)?;
    }
    write(domain, map_at, map.as_bytes())?;
    write(domain, line_at, command_line.as_bytes())?;
    Ok(info_at)
}

#[cfg(test)]
mod tests;
