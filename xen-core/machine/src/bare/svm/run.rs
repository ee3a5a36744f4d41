//! Into the guest and out again.
//!
//! This is the path that every exit pays for. What seldom happens (an event on its way in, new tables, a refusal) is kept
//! out of line behind one test each.

use core::arch::asm;

use super::bitmap::PortMap;
use super::exit::{self, decode};
use super::inject::{Event, Kind};
use super::instructions;
use super::processor_state::ProcessorState;
use super::state;
use super::vcpu::{INTERCEPT_FIRST, Translations, Vcpu};
use super::vmcb::{FLUSH_ALL, SHADOW, WRITE_CR3, clean, first, virtual_interrupt};
use crate::address::HostFrame;
use crate::bare::processor::Processor;
use crate::stage_two::TableRoot;
use crate::virtual_cpu::{Exit, Registers, register};

/// Instructions that a guest kernel runs often: intercepted for one run, they get it out soon after a shadow.
const SOON: u32 =
    first::RDTSC | first::PUSHF | first::POPF | first::IRET | first::SOFTWARE_INTERRUPT | first::PAUSE;

/// How often a vCPU may come out at the same instruction before we take that for a loop rather than for a shadow.
const SHADOWED_RUNS: u8 = 8;

impl Vcpu {
    /// Run until the guest exits. The vCPU is loaded on `processor`, which is the one that calls. An interrupt that
    /// ended the guest still waits when this returns: the caller opens a window for it.
    #[inline]
    pub fn run(&mut self, processor: &Processor, tables: &TableRoot, ports: &PortMap) -> Exit {
        assert!(
            self.is_loaded_on(&processor.svm),
            "a vCPU runs where it is not loaded"
        );
        let armed = self.attention;
        if armed {
            if self.broken {
                return self.shut_down();
            }
            self.arm();
        }
        self.use_ports(ports);
        // From here to VMRUN a kick waits outside the gate, and then VMRUN exits at once: none is lost.
        // SAFETY: opened again on both ways out of here.
        unsafe { instructions::close_gate() };
        if processor.has_pending() {
            // SAFETY: closed just now.
            unsafe { instructions::open_gate() };
            self.disarm_before_entry(armed);
            return Exit::Interrupt;
        }
        let generation = processor.presence.enter(tables);
        self.use_tables(&processor.svm, tables.root(), generation);
        self.copy_in();
        // SAFETY: SVM is on here (it is loaded), both control blocks are physical addresses of ours, the guest reaches
        // only memory that `tables` maps, and `tables` and `ports` are borrowed until it is left.
        unsafe { world_switch(&mut self.registers, self.block_address, processor.svm.host_area()) };
        processor.presence.leave();
        self.copy_out();
        if armed {
            self.disarm();
        }
        if let Some(event) = Event::interrupted(self.vmcb().exit_interrupt_info) {
            self.redo(event);
        }
        if self.in_shadow() {
            self.attention = true;
        }
        let exit = decode(self.vmcb());
        match exit {
            Exit::TripleFault => self.shut_down(),
            Exit::Invalid { .. } => self.refuse(&processor.svm, exit),
            _ => exit,
        }
    }

    /// Point at the tables as they are now, under a TLB tag that has seen nothing older.
    #[inline]
    fn use_tables(&mut self, processor: &ProcessorState, root: HostFrame, generation: u64) {
        let now = Translations {
            root: root.0,
            generation,
        };
        if self.translations != now || !processor.asids.holds(self.tag) {
            self.take_tag(processor, now);
        }
    }

    #[cold]
    fn take_tag(&mut self, processor: &ProcessorState, now: Translations) {
        let (tag, flush) = processor.asids.take();
        self.tag = tag;
        self.translations = now;
        self.changed(clean::ASID | clean::NESTED_PAGING);
        let vmcb = self.vmcb_mut();
        vmcb.nested_root = HostFrame(now.root).address().0;
        vmcb.asid = tag.asid;
        vmcb.tlb_control = if flush { FLUSH_ALL } else { 0 };
    }

    #[inline]
    fn copy_in(&mut self) {
        let clean = self.clean & self.features.clean;
        let Registers { general, rip, rflags } = &self.registers;
        let (rax, rsp, rip, rflags) = (general[register::RAX], general[register::RSP], *rip, *rflags);
        let vmcb = self.vmcb_mut();
        vmcb.clean = clean;
        vmcb.rax = rax;
        vmcb.rsp = rsp;
        vmcb.rip = rip;
        vmcb.rflags = rflags;
    }

    #[inline]
    fn copy_out(&mut self) {
        self.clean = clean::ALL;
        let vmcb = self.vmcb_mut();
        vmcb.tlb_control = 0;
        let (rax, rsp, rip, rflags) = (vmcb.rax, vmcb.rsp, vmcb.rip, vmcb.rflags);
        self.registers.general[register::RAX] = rax;
        self.registers.general[register::RSP] = rsp;
        self.registers.rip = rip;
        self.registers.rflags = rflags;
    }

    /// Put what is on its way to the guest into the control block.
    #[cold]
    fn arm(&mut self) {
        self.attention = false;
        self.taken = None;
        let event = match self.pending.take() {
            None if self.nmi_pending => {
                self.nmi_pending = false;
                Some(Event::NMI)
            }
            other => other,
        };
        self.vmcb_mut().event_injection = event.map_or(0, Event::bits);
        let shadow = !self.features.keeps_shadow && self.in_shadow();
        self.shadowed_runs = if shadow {
            self.shadowed_runs.saturating_add(1)
        } else {
            0
        };
        self.shadowed_at = self.registers.rip;
        let Some(vector) = self.offered else { return };
        if shadow {
            self.offered = None;
            self.intercept_soon(true);
            return;
        }
        self.changed(clean::VIRTUAL_INTERRUPT);
        let vmcb = self.vmcb_mut();
        vmcb.virtual_interrupt = vmcb.virtual_interrupt & !virtual_interrupt::OFFER
            | virtual_interrupt::REQUEST
            | virtual_interrupt::PRIORITY_HIGHEST
            | u64::from(vector) << virtual_interrupt::VECTOR_SHIFT;
    }

    /// Undo [`Vcpu::arm`] after a run: was the interrupt taken?
    #[cold]
    fn disarm(&mut self) {
        if self.vmcb().intercept_first != INTERCEPT_FIRST {
            self.intercept_soon(false);
        }
        let offered = self.offered.take();
        // An exit before the shadowed instruction has run has forgotten the shadow, too.
        let same =
            (1..=SHADOWED_RUNS).contains(&self.shadowed_runs) && self.shadowed_at == self.registers.rip;
        let vmcb = self.vmcb_mut();
        if same {
            vmcb.interrupt_shadow = SHADOW;
        }
        vmcb.event_injection = 0;
        let waits = vmcb.virtual_interrupt & virtual_interrupt::REQUEST != 0;
        vmcb.virtual_interrupt &= !virtual_interrupt::OFFER;
        self.taken = if waits { None } else { offered };
        self.changed(clean::VIRTUAL_INTERRUPT);
    }

    /// Undo [`Vcpu::arm`] without a run: events wait for the next one.
    fn disarm_before_entry(&mut self, armed: bool) {
        if !armed {
            return;
        }
        if let Some(event) = Event::interrupted(self.vmcb().event_injection) {
            self.redo(event);
        }
        self.disarm();
        self.taken = None;
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
        self.attention = true;
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
        self.attention = true;
        Exit::TripleFault
    }

    /// The processor did not run the guest, or we do not know why it stopped.
    #[cold]
    fn refuse(&mut self, processor: &ProcessorState, exit: Exit) -> Exit {
        if exit::refused(self.vmcb()) {
            self.taken = None;
            // Nothing of the control block may be taken for known.
            self.clean = 0;
            self.forget_translations();
            processor.asids.distrust();
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
#[inline(always)]
unsafe fn world_switch(registers: &mut Registers, guest: u64, host: u64) {
    // SAFETY: the caller's contract. Every register that changes is saved here or declared; the two words that are
    // pushed over the guest's run (the host's block, the registers' place) are popped after it.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "push rdx",
            "push rdi",
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
            // rax was the host's across VMRUN, and is free from here on.
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
            "pop rbp",
            "pop rbx",
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
            inout("rax") guest => _,
            inout("rdx") host => _,
            inout("rdi") registers => _,
            out("rcx") _,
            out("rsi") _,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
        );
    }
}
