//! The metal: from the loader's handover to a machine that the kernel can run on.

mod acpi;
mod address_space;
mod bare_metal;
mod clock;
pub mod console;
pub mod crash;
mod exceptions;
mod flush;
mod heap;
pub mod interrupts;
mod io_apic;
mod layout;
mod lines;
mod local_apic;
pub mod logger;
mod other_processors;
mod physical_memory;
mod platform;
mod ports;
mod power;
pub mod processor;
mod real_time_clock;
mod requirements;
mod segments;
mod stack;
mod start_code;
pub mod svm;
mod timer;
mod traps;

use alloc::boxed::Box;
use alloc::string::String;

use boot::{BootInfo, Handover};

pub use bare_metal::BareMetal;
pub use other_processors::run as run_other_processors;

use crate::memory::Memory;
use crate::module::Modules;
use crate::sync::Once;
use processor::Processor;
use svm::Svm;

/// What starting the machine gives.
pub struct Started {
    /// The machine, all its processors running and waiting for work.
    pub machine: BareMetal,
    /// What the loader brought along.
    pub modules: Modules,
    /// The words it was given for us.
    pub command_line: String,
}

static SVM: Once<Svm> = Once::new();

/// Start the machine and go on with `main`. Runs on the boot processor, straight from the entry code.
pub fn start(handover: Handover, main: fn(Started) -> !) -> ! {
    console::start();
    logger::start();
    let info = read_boot_info(handover);
    requirements::check_processor();
    let memory = physical_memory::start(&info);
    let stack = stack::make(stack::PROCESSOR_STACK);
    stack::continue_on(stack, Box::new(move || main(start_on_own_stack(info, memory))))
}

fn read_boot_info(handover: Handover) -> BootInfo {
    match handover.read(&physical_memory::FirstMapped) {
        Ok(info) => {
            console::choose(&info.command_line);
            info
        }
        Err(error) => crash::refuse(format_args!("{error}")),
    }
}

fn start_on_own_stack(info: BootInfo, memory: &'static Memory) -> Started {
    local_apic::start();
    let svm = start_virtualization(memory);
    prepare_processor(Box::leak(Box::new(Processor::new(0, local_apic::id()))));
    let firmware = acpi::read(info.root_pointer.as_deref());
    power::start(&firmware);
    clock::start(firmware.power_timer);
    let (lines, controllers) = platform::start_interrupt_controllers(&firmware);
    other_processors::start(&firmware.processors);
    platform::start_console_input(&firmware);
    let platform = platform::describe(&info, firmware, lines);
    let modules = physical_memory::modules(&info, memory);
    Started {
        machine: BareMetal {
            memory,
            platform,
            svm,
            controllers,
        },
        modules,
        command_line: info.command_line,
    }
}

fn start_virtualization(memory: &'static Memory) -> &'static Svm {
    match Svm::new(memory) {
        Ok(svm) => SVM.call_once(|| svm),
        Err(error) => crash::refuse(format_args!("{error}")),
    }
}

/// What every processor does for itself before it can do anything for others.
fn prepare_processor(own: &'static Processor) {
    segments::load();
    traps::load();
    processor::adopt(own);
    address_space::prepare_processor();
    local_apic::start_on_this_processor();
    timer::start_on_this_processor();
    if let Some(Err(error)) = SVM.get().map(|svm| svm.enable_on_this_processor(&own.svm)) {
        crash::refuse(format_args!("processor {}: {error}", own.id));
    }
}
