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
        bare::run_other_processors(|id| log::info!("processor {id} at work"));
        loop {
            machine.set_deadline(Some(machine.now() + 1_000_000_000));
            machine.wait();
            while let Some(interrupt) = machine.take_interrupt() {
                log::info!("{interrupt:?}");
                while let Some(byte) = machine.console_read() {
                    log::info!("read {byte:?}");
                }
            }
            if machine.now() > 5_000_000_000 {
                machine.power_off();
            }
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
