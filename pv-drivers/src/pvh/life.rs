//! A kernel's life from entry to end, and its last words.

use core::fmt::{self, Write};
use core::mem::offset_of;
use core::panic::PanicInfo;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU64};

use hypercall_abi::DomainId;
use hypercall_abi::hvm::{self, Param, param};
use hypercall_abi::hypercall::number::{HVM_OP, SCHED_OP};
use hypercall_abi::sched::{self, Shutdown, shutdown};
use hypercall_abi::xen::{SharedInfo, VcpuInfo};

use super::{PVH, Pvh, bare, checked};
use crate::front::console::Console;
use crate::front::{Error, Platform};

/// How a guest can end (`SCHEDOP_shutdown`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Done.
    PowerOff,
    /// To be made anew.
    Reboot,
    /// Broken.
    Crash,
}

/// Runs a kernel: [`pvh_main!`](crate::pvh_main) has the entry code call this.
pub fn run(start_information: u64, main: fn(&'static Pvh) -> Result<(), Error>) -> ! {
    match Pvh::begin(start_information) {
        Ok(pvh) => match main(pvh) {
            Ok(()) => pvh.end(End::PowerOff),
            Err(error) => {
                last_words(format_args!("pv-drivers: {error}\n"));
                pvh.end(End::Crash)
            }
        },
        Err(error) => {
            let mut serial = Serial;
            let _ = writeln!(serial, "pv-drivers: this kernel cannot run here: {error}");
            if error != Error::NotOnXen {
                leave(shutdown::CRASH);
            }
            bare::reset_machine()
        }
    }
}

impl Pvh {
    /// Ends this guest.
    pub fn end(&self, end: End) -> ! {
        leave(match end {
            End::PowerOff => shutdown::POWEROFF,
            End::Reboot => shutdown::REBOOT,
            End::Crash => shutdown::CRASH,
        })
    }

    /// Lets the hypervisor interrupt this kernel when an event comes, by a vector of its own
    /// (`HVM_PARAM_CALLBACK_IRQ`), which wakes it from `hlt`, too. Counted by [`Pvh::upcalls`]; the events stay for
    /// [`Platform::take_event`].
    ///
    /// # Errors
    /// [`Error::Hypervisor`].
    pub fn enable_upcalls(&self) -> Result<(), Error> {
        let mut request = Param {
            domain: DomainId::SELF,
            index: param::CALLBACK_IRQ,
            value: param::callback_type::VECTOR << 56 | u64::from(bare::CALLBACK_VECTOR),
            ..Param::default()
        };
        let result = bare::operate(HVM_OP, hvm::op::SET_PARAM, &mut request);
        checked("set_param", result)?;
        bare::enable_interrupts();
        Ok(())
    }

    /// How many upcalls there were.
    pub fn upcalls(&self) -> u64 {
        UPCALLS.load(Relaxed)
    }
}

static UPCALLS: AtomicU64 = AtomicU64::new(0);

/// An event came: takes back the vCPU's flag and selectors, or the interrupt would repeat. Ports stay pending.
pub(super) fn upcall() {
    UPCALLS.fetch_add(1, Relaxed);
    if let Some(pvh) = PVH.get() {
        let vcpu = offset_of!(SharedInfo, vcpu_info);
        pvh.shared
            .clear_bits(vcpu + offset_of!(VcpuInfo, evtchn_upcall_pending), 0xff);
        for word in [0, 4] {
            pvh.shared
                .clear_bits(vcpu + offset_of!(VcpuInfo, evtchn_pending_sel) + word, u32::MAX);
        }
    }
}

/// An exception is this kernel's end.
pub(super) fn exception(vector: u64, error_code: u64, address: u64) -> ! {
    last_words(format_args!(
        "pv-drivers: exception {vector}, error code {error_code:#x}, at {address:#x}\n"
    ));
    leave(shutdown::CRASH)
}

/// A panic is, too.
pub fn panicked(information: &PanicInfo<'_>) -> ! {
    last_words(format_args!("pv-drivers: {information}\n"));
    leave(shutdown::CRASH)
}

fn leave(reason: u32) -> ! {
    loop {
        bare::operate(SCHED_OP, sched::op::SHUTDOWN, &mut Shutdown { reason });
    }
}

/// On the console, taken up anew whoever has it; without one on the hypervisor's. Only once: they may fail, too.
fn last_words(words: fmt::Arguments<'_>) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if SAID.swap(true, SeqCst) {
        return;
    }
    let console = PVH.get().and_then(|pvh| {
        let (page, port) = pvh.console.as_ref()?;
        Console::attach(pvh, page, *port).ok()
    });
    match console {
        Some(mut console) => {
            let _ = console.write_fmt(words);
            // A moment for the daemon to read them: a guest that is gone has no console.
            if let Some(pvh) = PVH.get() {
                pvh.wait(&[], pvh.now().saturating_add(50_000_000));
            }
        }
        None => {
            let _ = OnHypervisor.write_fmt(words);
        }
    }
}

struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        bare::print_on_serial(text);
        Ok(())
    }
}

struct OnHypervisor;

impl Write for OnHypervisor {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        bare::print_on_hypervisor(text.as_bytes());
        Ok(())
    }
}
