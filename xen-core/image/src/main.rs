//! The bootable image: start the machine, run the kernel.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod metal {
    use machine::Machine;
    use machine::bare::{self, Started};

    boot::start_at!(start);

    fn start(handover: boot::Handover) -> ! {
        bare::start(handover, run)
    }

    fn run(started: Started) -> ! {
        let Started {
            machine,
            modules,
            command_line,
        } = started;
        log::info!(
            "{} processors, {} modules, command line '{command_line}'",
            machine.processors(),
            modules.len()
        );
        loop {
            machine.wait();
            while machine.take_interrupt().is_some() {}
        }
    }

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        bare::crash::panic(info)
    }
}

/// On the host there is nothing to start.
#[cfg(not(target_os = "none"))]
fn main() {}
