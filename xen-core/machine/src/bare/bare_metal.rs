//! The machine as the kernel sees it.

use boot::ranges::Ranges;
use core::arch::x86_64::__cpuid_count;
use x86_64::registers::model_specific::Msr;

use super::svm::{PortMap, Svm, Vcpu};
use super::{
    address_space, clock, console, flush, heap, interrupts, layout, lines, local_apic, physical_memory,
    ports, power, processor, stack, timer,
};
use crate::address::{HostAddress, HostFrame, PAGE_SIZE};
use crate::memory::{Memory, OutOfMemory};
use crate::stage_two::{Flushed, NestedPaging, TableRoot};
use crate::{
    ClockParameters, DirectPorts, Exit, Interrupt, LineMode, Machine, Nanoseconds, Platform, ProcessorId,
    StackUse,
};

/// The real machine.
pub struct BareMetal {
    pub(super) memory: &'static Memory,
    pub(super) platform: Platform,
    pub(super) svm: &'static Svm,
    /// The interrupt controllers' registers: nobody else's to touch.
    pub(super) controllers: Ranges,
}

impl Machine for BareMetal {
    type Vcpu = Vcpu;
    type Format = NestedPaging;
    type PortMap = PortMap;

    fn memory(&self) -> &'static Memory {
        self.memory
    }

    fn platform(&self) -> &Platform {
        &self.platform
    }

    fn processors(&self) -> usize {
        processor::count()
    }

    fn current(&self) -> ProcessorId {
        processor::current().id
    }

    fn kick(&self, processor: ProcessorId) {
        let Some(target) = processor::get(processor) else {
            return;
        };
        if target.note_kick() && target.id != processor::current().id {
            local_apic::send_kick(target.apic_id);
        }
    }

    fn wait(&self) {
        interrupts::wait();
    }

    fn take_interrupt(&self) -> Option<Interrupt> {
        let current = processor::current();
        loop {
            match current.take_interrupt() {
                Some(Interrupt::Timer) if !timer::is_due(current) => {}
                other => return other,
            }
        }
    }

    fn now(&self) -> Nanoseconds {
        clock::now()
    }

    fn tsc(&self) -> u64 {
        clock::tsc()
    }

    fn clock_parameters(&self) -> ClockParameters {
        clock::parameters()
    }

    fn set_deadline(&self, deadline: Option<Nanoseconds>) {
        timer::set(processor::current(), deadline);
    }

    fn port_map(&self, ports: DirectPorts<'_>) -> Result<PortMap, OutOfMemory> {
        self.svm.port_map(ports)
    }

    fn new_vcpu(&self) -> Result<Vcpu, OutOfMemory> {
        self.svm.new_vcpu()
    }

    fn load(&self, vcpu: &mut Vcpu) {
        vcpu.load(&processor::current().svm);
    }

    #[inline]
    fn run(&self, vcpu: &mut Vcpu, tables: &TableRoot, ports: &PortMap) -> Exit {
        let current = processor::current();
        timer::notice(current);
        let exit = vcpu.run(current, tables, ports);
        if exit == Exit::Interrupt {
            interrupts::window();
        }
        exit
    }

    fn unload(&self, vcpu: &mut Vcpu) {
        vcpu.unload();
    }

    fn flush(&self, tables: &TableRoot) -> Flushed {
        flush::flush(tables)
    }

    fn console_write(&self, bytes: &[u8]) {
        console::write(bytes);
    }

    fn console_read(&self) -> Option<u8> {
        console::read()
    }

    fn route_line(&self, line: u32, route: Option<(LineMode, ProcessorId)>) {
        lines::route(line, route);
    }

    fn complete_line(&self, line: u32) {
        lines::complete(line);
    }

    fn read_port(&self, port: u16, size: u8) -> u32 {
        ports::read(&self.platform, port, size)
    }

    fn write_port(&self, port: u16, size: u8, value: u32) {
        ports::write(&self.platform, port, size, value);
    }

    fn read_firmware(&self, address: HostAddress, into: &mut [u8]) -> bool {
        // As many bits as every processor has; what CPUID says beyond that is no place for firmware's tables.
        const LIMIT: u64 = 1 << 40;
        let Some(end) = address
            .checked_add(into.len() as u64)
            .filter(|end| end.0 <= LIMIT)
        else {
            return false;
        };
        let range = address.0..end.0;
        if physical_memory::ram().overlaps(&range) || self.controllers.overlaps(&range) {
            return false;
        }
        address_space::copy_firmware(address, into);
        true
    }

    fn may_expose(&self, frame: HostFrame) -> bool {
        let Some(end) = frame
            .0
            .checked_add(1)
            .and_then(|next| next.checked_mul(PAGE_SIZE as u64))
        else {
            return false;
        };
        let range = frame.address().0..end;
        !physical_memory::ram().overlaps(&range)
            && !self.controllers.overlaps(&range)
            && !layout::image().contains(&range.start)
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let answer = __cpuid_count(leaf, subleaf);
        [answer.eax, answer.ebx, answer.ecx, answer.edx]
    }

    fn read_host_msr(&self, number: u32) -> Option<u64> {
        const TIME_STAMP_COUNTER: u32 = 0x10;
        const MICROCODE_REVISION: u32 = 0x8b;
        const PAGE_ATTRIBUTES: u32 = 0x277;
        const EXTENDED_FEATURES: u32 = 0xc000_0080;
        match number {
            TIME_STAMP_COUNTER | MICROCODE_REVISION | PAGE_ATTRIBUTES | EXTENDED_FEATURES => {
                // SAFETY: registers that every processor with AMD-V has, and that are harmless to read.
                Some(unsafe { Msr::new(number).read() })
            }
            _ => None,
        }
    }

    fn heap_available(&self) -> usize {
        heap::available()
    }

    fn core_frames(&self) -> u64 {
        let ram = physical_memory::ram().total() / PAGE_SIZE as u64;
        ram.saturating_sub(self.memory.total_frames())
            .saturating_add(self.memory.core_frames())
    }

    fn stack_use(&self) -> [StackUse; 3] {
        [
            ("boot", stack::used_by_boot(), stack::PROCESSOR_STACK),
            (
                "run loops",
                stack::most_used(stack::PROCESSOR_STACK),
                stack::PROCESSOR_STACK,
            ),
            (
                "exceptions",
                stack::most_used(stack::EXCEPTION_STACK),
                stack::EXCEPTION_STACK,
            ),
        ]
        .map(|(kind, most, size)| StackUse { kind, most, size })
    }

    fn power_off(&self) -> ! {
        power::off()
    }

    fn reboot(&self) -> ! {
        power::reboot()
    }
}
