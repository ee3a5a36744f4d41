//! Into the guest and out again.

use core::arch::naked_asm;
use core::sync::atomic::Ordering;

use super::bitmap::PortMap;
use super::exit::{self, decode};
use super::inject::{Event, Kind};
use super::instructions;
use super::processor_state::ProcessorState;
use super::state;
use super::vcpu::{INTERCEPT_FIRST, Translations, Vcpu};
use super::vmcb::{FLUSH_ALL, WRITE_CR3, clean, first, virtual_interrupt};
use crate::address::HostFrame;
use crate::bare::processor::Processor;
use crate::stage_two::TableRoot;
use crate::virtual_cpu::{Exit, Registers, register};

/// Instructions that a guest kernel runs often: intercepted for one run, they get it out soon after a shadow.
const SOON: u32 =
    first::RDTSC | first::PUSHF | first::POPF | first::IRET | first::SOFTWARE_INTERRUPT | first::PAUSE;

impl Vcpu {
    /// Run until the guest exits. The vCPU is loaded on `processor`, which is the one that calls. An interrupt that
    /// ended the guest still waits when this returns: the caller opens a window for it.
    #[inline]
    pub fn run(&mut self, processor: &Processor, tables: &TableRoot, ports: &PortMap) -> Exit {
        assert!(
            self.is_loaded_on(&processor.svm),
            "a vCPU runs where it is not loaded"
        );
        if self.broken {
            return self.shut_down();
        }
        self.use_ports(ports);
        // From here to VMRUN a kick waits outside the gate, and then VMRUN exits at once: none is lost.
        // SAFETY: opened again on both ways out of here.
        unsafe { instructions::close_gate() };
        if processor.has_pending() {
            // SAFETY: closed just now.
            unsafe { instructions::open_gate() };
            return Exit::Interrupt;
        }
        processor.enter_guest(tables.root());
        let generation = tables.generation().load(Ordering::SeqCst);
        self.use_tables(&processor.svm, tables.root(), generation);
        let offered = self.arm();
        // SAFETY: SVM is on here (it is loaded), both control blocks are physical addresses of ours, the guest reaches
        // only memory that `tables` maps, and `tables` and `ports` are borrowed until it is left.
        unsafe {
            world_switch(
                &mut self.registers,
                self.frame.address().0,
                processor.svm.host_area(),
            )
        };
        processor.leave_guest();
        self.settle(offered)
    }

    /// Point at the tables as they are now, under a TLB tag that has seen nothing older.
    #[inline]
    fn use_tables(&mut self, processor: &ProcessorState, root: HostFrame, generation: u64) {
        let now = Translations {
            processor: processor.host_area(),
            root: root.0,
            generation,
        };
        if self.translations == now && processor.asids.holds(self.tag) {
            return;
        }
        let (tag, flush) = processor.asids.take();
        self.tag = tag;
        self.translations = now;
        self.changed(clean::ASID | clean::NESTED_PAGING);
        let vmcb = self.vmcb_mut();
        vmcb.nested_root = root.address().0;
        vmcb.asid = tag.asid;
        vmcb.tlb_control = if flush { FLUSH_ALL } else { 0 };
    }

    /// Put what is on its way to the guest into the control block. Returns the interrupt that is offered in it.
    #[inline]
    fn arm(&mut self) -> Option<u8> {
        let event = match self.pending.take() {
            None if self.nmi_pending => {
                self.nmi_pending = false;
                Some(Event::NMI)
            }
            other => other,
        };
        let offered = self.offered.take();
        let hold = offered.is_some() && !self.features.keeps_shadow && self.in_shadow();
        let armed = if hold { None } else { offered };
        let mut interrupt = self.vmcb().virtual_interrupt & virtual_interrupt::TASK_PRIORITY
            | virtual_interrupt::MASKING
            | virtual_interrupt::IGNORE_TASK_PRIORITY;
        if let Some(vector) = armed {
            interrupt |= virtual_interrupt::REQUEST
                | virtual_interrupt::PRIORITY_HIGHEST
                | u64::from(vector) << virtual_interrupt::VECTOR_SHIFT;
        }
        if interrupt != self.vmcb().virtual_interrupt {
            self.vmcb_mut().virtual_interrupt = interrupt;
            self.changed(clean::VIRTUAL_INTERRUPT);
        }
        if hold {
            self.intercept_soon(true);
        }
        let registers = self.registers;
        let clean = self.clean & self.features.clean;
        let vmcb = self.vmcb_mut();
        vmcb.event_injection = event.map_or(0, Event::bits);
        vmcb.clean = clean;
        vmcb.rax = registers.general[register::RAX];
        vmcb.rsp = registers.general[register::RSP];
        vmcb.rip = registers.rip;
        vmcb.rflags = registers.rflags;
        armed
    }

    /// Take stock after an exit: registers, what was interrupted on its way in, and why it stopped.
    #[inline]
    fn settle(&mut self, offered: Option<u8>) -> Exit {
        self.clean = clean::ALL;
        let vmcb = self.vmcb_mut();
        vmcb.tlb_control = 0;
        let (rax, rsp, rip, rflags) = (vmcb.rax, vmcb.rsp, vmcb.rip, vmcb.rflags);
        let interrupted = Event::interrupted(vmcb.exit_interrupt_info);
        let still_offered = vmcb.virtual_interrupt & virtual_interrupt::REQUEST != 0;
        let held = vmcb.intercept_first != INTERCEPT_FIRST;
        self.registers.general[register::RAX] = rax;
        self.registers.general[register::RSP] = rsp;
        self.registers.rip = rip;
        self.registers.rflags = rflags;
        self.taken = if still_offered { None } else { offered };
        if held {
            self.intercept_soon(false);
        }
        if let Some(event) = interrupted {
            self.redo(event);
        }
        let exit = decode(self.vmcb());
        match exit {
            Exit::TripleFault => self.shut_down(),
            Exit::Invalid { .. } => self.refuse(exit),
            _ => exit,
        }
    }

    /// An event's delivery was interrupted by the exit: see that it happens again.
    #[cold]
    fn redo(&mut self, event: Event) {
        match event.kind() {
            // Not taken, then: whoever offered it does so again. (Some emulators leave the request standing.)
            Kind::External => self.taken = None,
            Kind::Nmi => self.nmi_pending = true,
            _ if event.repeats_itself() => {}
            _ => self.pending = Some(event),
        }
    }

    /// Get the guest out soon, or no longer: an interrupt is held back until the instruction in a shadow has run, on
    /// machines that would deliver it too early.
    #[cold]
    fn intercept_soon(&mut self, soon: bool) {
        self.changed(clean::INTERCEPTS);
        let vmcb = self.vmcb_mut();
        vmcb.intercept_first = if soon {
            INTERCEPT_FIRST | SOON
        } else {
            INTERCEPT_FIRST
        };
        vmcb.intercept_control_registers = if soon { WRITE_CR3 } else { 0 };
    }

    /// A triple fault leaves the control block undefined: give it a defined state.
    #[cold]
    fn shut_down(&mut self) -> Exit {
        self.set_state(&state::after_reset());
        self.broken = true;
        Exit::TripleFault
    }

    /// The processor did not run the guest, or we do not know why it stopped.
    #[cold]
    fn refuse(&mut self, exit: Exit) -> Exit {
        if exit::refused(self.vmcb()) {
            self.taken = None;
            // Nothing of the control block may be taken for known.
            self.clean = 0;
            self.forget_translations();
        }
        exit
    }
}

/// Offset of a register in [`Registers`].
const fn offset(index: usize) -> usize {
    core::mem::offset_of!(Registers, general) + 8 * index
}

/// Load the guest's registers, run it, store them, come back with the gate open and interrupts off.
///
/// VMRUN switches segments, control registers, rflags, rip, rsp and rax; VMLOAD and VMSAVE the rest of what the core
/// relies on (GS, TR); these lines the general registers. The FPU and the debug registers stay the guest's.
///
/// # Safety
/// SVM is on and the gate is closed with IF set. `guest` and `host` are physical addresses of control blocks: the
/// guest's complete and pointing at tables and bitmaps that live, the host's filled by VMSAVE on this processor.
#[unsafe(naked)]
unsafe extern "sysv64" fn world_switch(registers: &mut Registers, guest: u64, host: u64) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdx",
        "push rdi",
        "mov rax, rsi",
        "mov rcx, [rdi + {rcx}]",
        "mov rdx, [rdi + {rdx}]",
        "mov rbx, [rdi + {rbx}]",
        "mov rbp, [rdi + {rbp}]",
        "mov rsi, [rdi + {rsi}]",
        "mov r8, [rdi + {r8}]",
        "mov r9, [rdi + {r9}]",
        "mov r10, [rdi + {r10}]",
        "mov r11, [rdi + {r11}]",
        "mov r12, [rdi + {r12}]",
        "mov r13, [rdi + {r13}]",
        "mov r14, [rdi + {r14}]",
        "mov r15, [rdi + {r15}]",
        "mov rdi, [rdi + {rdi}]",
        "vmload rax",
        "vmrun rax",
        "vmsave rax",
        // rax was the host's across VMRUN; it is free now. The stack holds the registers' place and the host's block.
        "pop rax",
        "mov [rax + {rcx}], rcx",
        "mov [rax + {rdx}], rdx",
        "mov [rax + {rbx}], rbx",
        "mov [rax + {rbp}], rbp",
        "mov [rax + {rsi}], rsi",
        "mov [rax + {rdi}], rdi",
        "mov [rax + {r8}], r8",
        "mov [rax + {r9}], r9",
        "mov [rax + {r10}], r10",
        "mov [rax + {r11}], r11",
        "mov [rax + {r12}], r12",
        "mov [rax + {r13}], r13",
        "mov [rax + {r14}], r14",
        "mov [rax + {r15}], r15",
        "pop rax",
        "vmload rax",
        "cli",
        "stgi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        rcx = const offset(register::RCX),
        rdx = const offset(register::RDX),
        rbx = const offset(register::RBX),
        rbp = const offset(register::RBP),
        rsi = const offset(register::RSI),
        rdi = const offset(register::RDI),
        r8 = const offset(register::R8),
        r9 = const offset(register::R9),
        r10 = const offset(10),
        r11 = const offset(11),
        r12 = const offset(12),
        r13 = const offset(13),
        r14 = const offset(14),
        r15 = const offset(15),
    )
}
