//! The bootable image: start the machine, run the kernel.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod metal {
    use kernel::Kernel;
    use machine::ProcessorId;
    use machine::bare::{self, BareMetal, Started};
    use machine::sync::Once;

    static KERNEL: Once<Kernel<BareMetal>> = Once::new();

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
        let kernel = KERNEL.call_once(|| Kernel::new(machine, &command_line));
        bare::logger::replace_sink(log);
        kernel.announce();
        if let Err(reason) = kernel.start_control_domain(&modules) {
            bare::crash::refuse(format_args!("{reason}"));
        }
        // Their memory is dom0's and the guests' from here on.
        drop(modules);
        bare::run_other_processors(work);
        kernel.run_processor()
    }

    fn log(record: &bare::logger::Record<'_>) {
        if let Some(kernel) = KERNEL.get() {
            kernel.log(record);
        }
    }

    /// What the other processors do. They start when the kernel is there.
    fn work(_: ProcessorId) {
        if let Some(kernel) = KERNEL.get() {
            kernel.run_processor();
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
