//! Each processor's segments: nothing but what 64-bit mode insists on, and the stacks for exceptions.

use alloc::boxed::Box;

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use super::stack;

/// Which of the task state's stacks an exception runs on.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum ExceptionStack {
    /// Double faults: perhaps the stack itself is gone.
    DoubleFault = 1,
    /// Non-maskable interrupts arrive at any instruction.
    NonMaskable = 2,
    /// Machine checks, likewise.
    MachineCheck = 3,
    /// Everything else that is an error of ours.
    Fault = 4,
}

/// The code segment.
pub const CODE: u16 = 0x08;

/// Give the calling processor its own segments and exception stacks. FS and GS bases become 0.
pub fn load() {
    let mut task = TaskStateSegment::new();
    for number in [
        ExceptionStack::DoubleFault,
        ExceptionStack::NonMaskable,
        ExceptionStack::MachineCheck,
        ExceptionStack::Fault,
    ] {
        let top = stack::make(stack::EXCEPTION_STACK);
        task.interrupt_stack_table[number as usize - 1] = VirtAddr::new(top);
    }
    let task: &'static TaskStateSegment = Box::leak(Box::new(task));
    let table: &'static mut GlobalDescriptorTable = Box::leak(Box::new(GlobalDescriptorTable::new()));
    let code = table.append(Descriptor::kernel_code_segment());
    let data = table.append(Descriptor::kernel_data_segment());
    let task = table.append(Descriptor::tss_segment(task));
    assert!(code.0 == CODE, "the gates name this selector");
    table.load();
    // SAFETY: the selectors are those of the table just loaded, which lives forever.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        for set in [DS::set_reg, ES::set_reg, FS::set_reg] {
            set(SegmentSelector::NULL);
        }
        load_tss(task);
    }
}
