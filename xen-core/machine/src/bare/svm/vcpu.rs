//! A virtual processor: its control block, and the registers that hardware does not switch.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use super::asid::Tag;
use super::bitmap::PortMap;
use super::exit;
use super::features::Features;
use super::fpu::Fpu;
use super::inject::{Combined, Event};
use super::instructions::{self, msr};
use super::processor_state::{ProcessorState, efer};
use super::state;
use super::vmcb::{NESTED_PAGING, SHADOW, Vmcb, WRITE_BREAKPOINTS, clean, first, second, virtual_interrupt};
use crate::address::{HostFrame, Order};
use crate::memory::{Memory, OutOfMemory};
use crate::virtual_cpu::{
    ArchitecturalState, BadState, CodeSize, Exception, PagingState, PortAccess, Registers, VirtualCpu,
    register,
};

const CR0_PROTECTED: u64 = 1 << 0;
const CR0_PAGING: u64 = 1 << 31;
const RFLAGS_TRAP: u64 = 1 << 8;
const RFLAGS_INTERRUPT: u64 = 1 << 9;
const RFLAGS_RESUME: u64 = 1 << 16;
const DR6_SINGLE_STEP: u64 = 1 << 14;
const CODE_LONG: u16 = 1 << 9;
const CODE_32: u16 = 1 << 10;
const DEBUG_EXCEPTION: Exception = Exception {
    vector: 1,
    error_code: None,
};

/// The next vCPU's number. Control blocks are used again; numbers are not.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// No processor's host area has this address.
const NOT_LOADED: u64 = u64::MAX;

/// What exits always.
pub(super) const INTERCEPT_FIRST: u32 = first::INTERRUPT
    | first::NMI
    | first::SMI
    | first::INIT
    | first::RDPMC
    | first::CPUID
    | first::INVD
    | first::HLT
    | first::INVLPGA
    | first::PORTS
    | first::MSRS
    | first::TASK_SWITCH
    | first::SHUTDOWN;
const INTERCEPT_SECOND: u32 = second::VMRUN
    | second::VMMCALL
    | second::VMLOAD
    | second::VMSAVE
    | second::STGI
    | second::CLGI
    | second::SKINIT
    | second::WBINVD
    | second::MONITOR
    | second::MWAIT
    | second::MWAIT_ARMED
    | second::XSETBV
    | second::RDPRU;

/// Which translations a TLB tag stands for: the tables, and their generation when it was taken.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Translations {
    pub root: u64,
    pub generation: u64,
}

/// A virtual processor's context.
pub struct Vcpu {
    /// General registers, rip and rflags: the truth outside [`Vcpu::run`]. The control block's own rax, rsp, rip and
    /// rflags are copies.
    pub(super) registers: Registers,
    control_block: NonNull<Vmcb>,
    /// The control block's physical address.
    pub(super) block_address: u64,
    frame: HostFrame,
    /// Which vCPU this is, of all there ever were.
    number: u64,
    pub(super) features: Features,
    /// Parts of the control block that have not changed since the last run on the same processor.
    pub(super) clean: u32,
    pub(super) tag: Tag,
    pub(super) translations: Translations,
    /// Something of the following is there for the next run.
    pub(super) attention: bool,
    /// The exception (or what else was interrupted in its delivery) for the next run.
    pub(super) pending: Option<Event>,
    pub(super) nmi_pending: bool,
    /// A third fault: there is nothing left to run.
    pub(super) broken: bool,
    pub(super) offered: Option<u8>,
    pub(super) taken: Option<u8>,
    /// Runs in a row that began in a shadow which VMRUN does not honour, and where the last of them began.
    pub(super) shadowed_runs: u8,
    pub(super) shadowed_at: u64,
    /// The processor whose state has its FPU and debug registers, by its host area; [`NOT_LOADED`] when none has.
    loaded_on: u64,
    /// The processor it was loaded on last.
    last_processor: u64,
    pub(super) tsc_aux: u64,
    breakpoints: [u64; 4],
    fpu: Fpu,
    memory: &'static Memory,
}

// SAFETY: the control block and the FPU's area are frames of this vCPU alone, reached from every processor alike.
unsafe impl Send for Vcpu {}

impl Vcpu {
    /// A vCPU in the state after INIT.
    pub(super) fn new(
        memory: &'static Memory,
        features: &Features,
        msr_bitmap: HostFrame,
    ) -> Result<Vcpu, OutOfMemory> {
        let frame = memory.allocate_core(Order::PAGE).ok_or(OutOfMemory)?;
        let fpu = Fpu::new(memory, features).inspect_err(|_| {
            // SAFETY: just allocated, not used yet.
            unsafe { memory.free_core(frame, Order::PAGE) };
        })?;
        let control_block =
            NonNull::new(memory.pointer(frame.address()).cast::<Vmcb>()).ok_or(OutOfMemory)?;
        let mut vcpu = Vcpu {
            registers: Registers::default(),
            control_block,
            block_address: frame.address().0,
            frame,
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            features: *features,
            clean: 0,
            tag: Tag::default(),
            translations: Translations::default(),
            attention: false,
            pending: None,
            nmi_pending: false,
            broken: false,
            offered: None,
            taken: None,
            shadowed_runs: 0,
            shadowed_at: 0,
            loaded_on: NOT_LOADED,
            last_processor: 0,
            tsc_aux: 0,
            breakpoints: [0; 4],
            fpu,
            memory,
        };
        let debug_registers = if features.disarms_breakpoints {
            0
        } else {
            WRITE_BREAKPOINTS
        };
        let vmcb = vcpu.vmcb_mut();
        vmcb.intercept_exceptions = exit::INTERCEPTED_EXCEPTIONS;
        vmcb.intercept_first = INTERCEPT_FIRST;
        vmcb.intercept_second = INTERCEPT_SECOND;
        vmcb.intercept_debug_registers = debug_registers;
        vmcb.msr_bitmap = msr_bitmap.address().0;
        vmcb.nested_control = NESTED_PAGING;
        vmcb.virtual_interrupt = virtual_interrupt::MASKING | virtual_interrupt::IGNORE_TASK_PRIORITY;
        vcpu.set_state(&state::after_reset());
        Ok(vcpu)
    }

    #[inline(always)]
    pub(super) fn vmcb(&self) -> &Vmcb {
        // SAFETY: the block is this vCPU's own, zeroed at first, and all its fields are integers. Hardware writes it only
        // inside `run`, where no borrow of it lives.
        unsafe { self.control_block.as_ref() }
    }

    #[inline(always)]
    pub(super) fn vmcb_mut(&mut self) -> &mut Vmcb {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { self.control_block.as_mut() }
    }

    /// Hardware must look again at parts of the control block.
    #[inline]
    pub(super) fn changed(&mut self, parts: u32) {
        self.clean &= !parts;
    }

    /// Take a fresh TLB tag before the next run.
    pub(super) fn forget_translations(&mut self) {
        self.translations = Translations::default();
    }

    pub(super) fn forget_events(&mut self) {
        self.attention = false;
        self.pending = None;
        self.nmi_pending = false;
        self.broken = false;
        self.offered = None;
        self.taken = None;
    }

    /// Use this map of ports from now on.
    #[inline]
    pub(super) fn use_ports(&mut self, ports: &PortMap) {
        let address = ports.frame().address().0;
        if self.vmcb().io_bitmap != address {
            self.vmcb_mut().io_bitmap = address;
            self.changed(clean::BITMAPS);
        }
    }

    /// Bring the FPU and the debug registers into the processor whose state is given.
    pub fn load(&mut self, processor: &ProcessorState) {
        assert!(
            processor.host_area() != 0 && !self.loaded(),
            "loaded twice, or where SVM is off"
        );
        if self.last_processor != processor.host_area() {
            self.last_processor = processor.host_area();
            // The processor may remember an older version of this control block, and the TLB tag is another's here.
            self.changed(clean::ALL);
            self.forget_translations();
        }
        if processor.last_vcpu.swap(self.number, Ordering::Relaxed) != self.number
            && self.features.prediction_barrier
        {
            // SAFETY: CPUID reports the register's bit 0, which drops branch predictions and nothing else.
            unsafe { instructions::write_msr(msr::PREDICTION_COMMAND, 1) };
        }
        self.loaded_on = processor.host_area();
        self.load_registers();
    }

    fn load_registers(&mut self) {
        self.fpu.load();
        instructions::write_breakpoints(&self.breakpoints);
        if self.features.tsc_aux {
            // SAFETY: the register exists, the value has 32 bits, and the core does not use it.
            unsafe { instructions::write_msr(msr::TSC_AUX, self.tsc_aux) };
        }
    }

    /// Take back from the processor what [`Vcpu::load`] brought there.
    pub fn unload(&mut self) {
        debug_assert!(self.loaded(), "not loaded");
        self.fpu.unload();
        self.breakpoints = instructions::read_breakpoints();
        self.loaded_on = NOT_LOADED;
    }

    /// Whether some processor has its FPU and debug registers.
    pub(super) fn loaded(&self) -> bool {
        self.loaded_on != NOT_LOADED
    }

    /// Whether it is loaded on this processor.
    #[inline]
    pub(super) fn is_loaded_on(&self, processor: &ProcessorState) -> bool {
        self.loaded_on == processor.host_area()
    }

    /// The guest runs the next instruction before any interrupt.
    #[inline]
    pub(super) fn in_shadow(&self) -> bool {
        self.vmcb().interrupt_shadow & SHADOW != 0
    }

    fn long_mode(&self) -> bool {
        self.vmcb().efer & efer::LONG_MODE_ACTIVE != 0
    }

    fn move_to(&mut self, rip: u64) {
        let long_code = self.long_mode() && self.vmcb().cs.attributes & CODE_LONG != 0;
        self.registers.rip = if long_code { rip } else { rip & 0xffff_ffff };
        self.vmcb_mut().interrupt_shadow = 0;
        if self.registers.rflags & (RFLAGS_TRAP | RFLAGS_RESUME) != 0 {
            self.registers.rflags &= !RFLAGS_RESUME;
            if self.registers.rflags & RFLAGS_TRAP != 0 {
                self.vmcb_mut().dr6 |= DR6_SINGLE_STEP;
                self.changed(clean::DEBUG_REGISTERS);
                self.inject(DEBUG_EXCEPTION);
            }
        }
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        // SAFETY: both frames are this vCPU's own, and it runs nowhere: `run` borrows it.
        unsafe {
            self.memory.free_core(self.fpu.frame(), Order::PAGE);
            self.memory.free_core(self.frame, Order::PAGE);
        }
    }
}

impl VirtualCpu for Vcpu {
    #[inline]
    fn registers(&self) -> &Registers {
        &self.registers
    }

    #[inline]
    fn registers_mut(&mut self) -> &mut Registers {
        &mut self.registers
    }

    #[inline]
    fn advance(&mut self) {
        let vmcb = self.vmcb();
        let next = if vmcb.exit_code == exit::code::PORT {
            vmcb.exit_info_2
        } else if self.features.next_rip && vmcb.next_rip != 0 {
            vmcb.next_rip
        } else {
            self.registers
                .rip
                .wrapping_add(exit::known_length(vmcb.exit_code))
        };
        self.move_to(next);
    }

    fn advance_by(&mut self, length: usize) {
        self.move_to(self.registers.rip.wrapping_add(length as u64));
    }

    fn complete_port(&mut self, access: &PortAccess, value: u32) {
        if access.read {
            let rax = &mut self.registers.general[register::RAX];
            *rax = match access.size {
                1 => *rax & !0xff | u64::from(value as u8),
                2 => *rax & !0xffff | u64::from(value as u16),
                _ => u64::from(value),
            };
        }
        self.advance();
    }

    fn paging(&self) -> PagingState {
        let vmcb = self.vmcb();
        PagingState {
            cr0: vmcb.cr0,
            cr3: vmcb.cr3,
            cr4: vmcb.cr4,
            efer: vmcb.efer & !efer::SVM,
            privilege: vmcb.privilege & 3,
        }
    }

    fn code_size(&self) -> CodeSize {
        let attributes = self.vmcb().cs.attributes;
        if self.long_mode() && attributes & CODE_LONG != 0 {
            CodeSize::SixtyFour
        } else if attributes & CODE_32 != 0 {
            CodeSize::ThirtyTwo
        } else {
            CodeSize::Sixteen
        }
    }

    fn segment_base(&self, segment: usize) -> u64 {
        self.vmcb().segment(segment).map_or(0, |record| record.base)
    }

    fn instruction_bytes(&self) -> &[u8] {
        let vmcb = self.vmcb();
        let saved = self.features.instruction_bytes && vmcb.exit_code == exit::code::NESTED_FAULT;
        let length = if saved {
            usize::from(vmcb.fetched_bytes & 15)
        } else {
            0
        };
        &vmcb.instruction[..length]
    }

    fn inject(&mut self, exception: Exception) {
        let protected = self.vmcb().cr0 & CR0_PROTECTED != 0;
        // In real mode nothing pushes an error code.
        let error_code = exception.error_code.filter(|_| protected);
        let second = Event::exception(Exception {
            error_code,
            ..exception
        });
        match self
            .pending
            .map_or(Combined::Event(second), |first| first.combine(second))
        {
            Combined::Event(event) => self.pending = Some(event),
            Combined::TripleFault => self.broken = true,
        }
        self.attention = true;
    }

    fn inject_nmi(&mut self) {
        self.nmi_pending = true;
        self.attention = true;
    }

    #[inline]
    fn offer_interrupt(&mut self, vector: Option<u8>) {
        self.offered = vector;
        if vector.is_some() {
            self.attention = true;
        }
    }

    #[inline]
    fn interrupt_taken(&mut self) -> Option<u8> {
        self.taken.take()
    }

    fn interrupts_enabled(&self) -> bool {
        // A HLT in a shadow ends it: that is what STI; HLT is for.
        let halted = self.vmcb().exit_code == exit::code::HLT;
        self.registers.rflags & RFLAGS_INTERRUPT != 0 && (halted || !self.in_shadow())
    }

    fn task_priority(&self) -> u8 {
        (self.vmcb().virtual_interrupt & 0xf) as u8
    }

    #[inline]
    fn set_task_priority(&mut self, priority: u8) {
        let vmcb = self.vmcb_mut();
        let others = vmcb.virtual_interrupt & !virtual_interrupt::TASK_PRIORITY;
        let value = others | u64::from(priority & 0xf);
        // The kernel sets it before each run.
        if value != vmcb.virtual_interrupt {
            vmcb.virtual_interrupt = value;
            self.changed(clean::VIRTUAL_INTERRUPT);
        }
    }

    fn efer(&self) -> u64 {
        self.vmcb().efer & !efer::SVM
    }

    fn set_efer(&mut self, value: u64) {
        let mut settable = self.features.efer & !efer::LONG_MODE_ACTIVE;
        let vmcb = self.vmcb_mut();
        if vmcb.cr0 & CR0_PAGING != 0 {
            // WRMSR would fault: long mode is entered and left with paging off.
            settable &= !efer::LONG_MODE_ENABLE;
        }
        vmcb.efer = vmcb.efer & !settable | value & settable;
        self.changed(clean::CONTROL_REGISTERS);
    }

    fn read_msr(&self, number: u32) -> Option<u64> {
        self.read_kept_msr(number)
    }

    fn write_msr(&mut self, number: u32, value: u64) -> bool {
        self.write_kept_msr(number, value)
    }

    fn save(&self) -> ArchitecturalState {
        self.save_state()
    }

    fn restore(&mut self, state: &ArchitecturalState) -> Result<(), BadState> {
        state::check(state, &self.features)?;
        self.set_state(state);
        Ok(())
    }

    fn reset(&mut self) {
        self.set_state(&state::after_reset());
        self.set_task_priority(0);
        self.breakpoints = [0; 4];
        if self.loaded() {
            // What is in the processor goes to the area first: that also opens XCR0 for all of it.
            self.fpu.unload();
        }
        self.fpu.reset();
        if self.loaded() {
            self.load_registers();
        }
    }

    fn extended_control(&self) -> u64 {
        self.fpu.control(self.loaded())
    }

    fn set_extended_control(&mut self, value: u64) -> bool {
        self.fpu.set_control(value, self.loaded())
    }

    fn set_breakpoints(&mut self, value: u32) {
        self.vmcb_mut().dr7 = self.breakpoints_offered(u64::from(value));
        self.changed(clean::DEBUG_REGISTERS);
    }

    fn set_tsc_offset(&mut self, offset: i64) {
        self.vmcb_mut().tsc_offset = offset as u64;
        self.changed(clean::INTERCEPTS);
    }
}
