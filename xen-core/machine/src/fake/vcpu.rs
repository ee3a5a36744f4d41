//! A vCPU whose guest is a script.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::ProcessorId;
use crate::virtual_cpu::{
    ArchitecturalState, BadState, CodeSize, Exception, Exit, PagingState, PortAccess, Registers, Segment,
    VirtualCpu, register,
};

const FLAGS_INTERRUPT: u64 = 1 << 9;
const FLAGS_FIXED: u64 = 1 << 1;
const CR0_AFTER_INIT: u64 = 0x6000_0010;
const CR0_PROTECTED: u64 = 1 << 0;
const CR0_PAGING: u64 = 1 << 31;
const EFER_LONG_MODE_ENABLE: u64 = 1 << 8;
const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;
const ATTRIBUTE_LONG: u16 = 1 << 9;
const ATTRIBUTE_BIG: u16 = 1 << 10;
const PAT_AFTER_RESET: u64 = 0x0007_0406_0007_0406;

/// What a guest does: called once for each run, to say how that run ended.
pub type Program = Box<dyn FnMut(&mut FakeVcpu) -> Exit + Send>;

/// A vCPU whose guest is a script: queued exits first, then a program, then HLT for ever.
pub struct FakeVcpu {
    /// The architectural state, open to tests.
    pub state: ArchitecturalState,
    /// Vectors of external interrupts that the guest took.
    pub taken: Vec<u8>,
    /// Exceptions that the guest took; double faults as vector 8.
    pub exceptions: Vec<Exception>,
    /// Non-maskable interrupts that the guest took.
    pub nmis: u64,
    /// Runs so far.
    pub runs: u64,
    /// What [`VirtualCpu::instruction_bytes`] answers.
    pub instruction: Vec<u8>,
    /// The guest's TSC minus the host's.
    pub tsc_offset: i64,
    script: VecDeque<Exit>,
    program: Option<Program>,
    loaded_on: Option<ProcessorId>,
    last_exit: Exit,
    shadow: bool,
    offered: Option<u8>,
    just_taken: Option<u8>,
    injected: Option<Exception>,
    nmi: bool,
    priority: u8,
    debug_control: u64,
    extended_control: u64,
}

impl FakeVcpu {
    pub(super) fn new() -> FakeVcpu {
        let mut vcpu = FakeVcpu {
            state: ArchitecturalState::default(),
            taken: Vec::new(),
            exceptions: Vec::new(),
            nmis: 0,
            runs: 0,
            instruction: Vec::new(),
            tsc_offset: 0,
            script: VecDeque::new(),
            program: None,
            loaded_on: None,
            last_exit: Exit::Interrupt,
            shadow: false,
            offered: None,
            just_taken: None,
            injected: None,
            nmi: false,
            priority: 0,
            debug_control: 0,
            extended_control: 1,
        };
        vcpu.reset();
        vcpu
    }

    /// Let the guest end one of its next runs so.
    pub fn push_exit(&mut self, exit: Exit) {
        self.script.push_back(exit);
    }

    /// Let a program say how each run ends once the queued exits are used up.
    pub fn set_program(&mut self, program: Program) {
        self.program = Some(program);
    }

    /// Put the guest into 64-bit code without paging: no processor has that mode, but in it the pointers of hypercalls
    /// are guest-physical addresses, which spares tests the page tables.
    pub fn enter_flat_long_mode(&mut self) {
        self.state.efer |= EFER_LONG_MODE_ENABLE | EFER_LONG_MODE_ACTIVE;
        self.state.cs.attributes |= ATTRIBUTE_LONG;
        self.state.cr0 = (self.state.cr0 | CR0_PROTECTED) & !CR0_PAGING;
    }

    /// Let the guest take interrupts or not.
    pub fn set_interrupts_enabled(&mut self, enabled: bool) {
        let flags = &mut self.state.registers.rflags;
        *flags = if enabled {
            *flags | FLAGS_INTERRUPT
        } else {
            *flags & !FLAGS_INTERRUPT
        };
    }

    /// Put the guest into an interrupt shadow, as after STI.
    pub fn set_shadow(&mut self) {
        self.shadow = true;
    }

    /// What interrupt is offered.
    pub fn offered(&self) -> Option<u8> {
        self.offered
    }

    pub(super) fn load_on(&mut self, processor: ProcessorId) {
        assert!(self.loaded_on.is_none(), "a vCPU loaded twice");
        self.loaded_on = Some(processor);
    }

    pub(super) fn check_loaded(&self, processor: ProcessorId) {
        assert_eq!(
            self.loaded_on,
            Some(processor),
            "a vCPU runs where it is not loaded"
        );
    }

    pub(super) fn unload_from(&mut self, processor: ProcessorId) {
        self.check_loaded(processor);
        self.loaded_on = None;
    }

    /// Run until the script's next exit.
    pub(super) fn step(&mut self, processor: ProcessorId) -> Exit {
        self.check_loaded(processor);
        self.runs += 1;
        self.deliver();
        self.last_exit = match self.script.pop_front() {
            Some(exit) => exit,
            // Taken out for the call, so that it may change everything else.
            None => match self.program.take() {
                Some(mut program) => {
                    let exit = program(self);
                    self.program.get_or_insert(program);
                    exit
                }
                None => Exit::Halt,
            },
        };
        self.last_exit
    }

    fn deliver(&mut self) {
        if let Some(exception) = self.injected.take() {
            self.exceptions.push(exception);
        }
        if core::mem::take(&mut self.nmi) {
            self.nmis += 1;
        }
        if let Some(vector) = self.offered
            && self.interrupts_enabled()
            && vector >> 4 > self.priority
        {
            self.offered = None;
            self.just_taken = Some(vector);
            self.taken.push(vector);
        }
    }

    fn msr(&mut self, number: u32) -> Option<&mut u64> {
        let state = &mut self.state;
        Some(match number {
            0x174 => &mut state.sysenter_cs,
            0x175 => &mut state.sysenter_esp,
            0x176 => &mut state.sysenter_eip,
            0x1d9 => &mut self.debug_control,
            0x277 => &mut state.pat,
            0xc000_0081 => &mut state.star,
            0xc000_0082 => &mut state.lstar,
            0xc000_0083 => &mut state.cstar,
            0xc000_0084 => &mut state.syscall_mask,
            0xc000_0100 => &mut state.fs.base,
            0xc000_0101 => &mut state.gs.base,
            0xc000_0102 => &mut state.kernel_gs_base,
            0xc000_0103 => &mut state.tsc_aux,
            _ => return None,
        })
    }
}

fn canonical(address: u64) -> bool {
    ((address << 16) as i64 >> 16) as u64 == address
}

impl VirtualCpu for FakeVcpu {
    fn registers(&self) -> &Registers {
        &self.state.registers
    }

    fn registers_mut(&mut self) -> &mut Registers {
        &mut self.state.registers
    }

    fn advance(&mut self) {
        let length = match self.last_exit {
            Exit::Hypercall | Exit::SetExtendedControl => 3,
            Exit::CpuId | Exit::ReadMsr | Exit::WriteMsr | Exit::WriteBackCaches => 2,
            _ => 1,
        };
        self.advance_by(length);
    }

    fn advance_by(&mut self, length: usize) {
        self.state.registers.rip = self.state.registers.rip.wrapping_add(length as u64);
        self.shadow = false;
    }

    fn complete_port(&mut self, access: &PortAccess, value: u32) {
        if access.read {
            let rax = &mut self.state.registers.general[register::RAX];
            *rax = match access.size {
                1 => (*rax & !0xff) | u64::from(value & 0xff),
                2 => (*rax & !0xffff) | u64::from(value & 0xffff),
                _ => u64::from(value),
            };
        }
        self.advance_by(1);
    }

    fn paging(&self) -> PagingState {
        PagingState {
            cr0: self.state.cr0,
            cr3: self.state.cr3,
            cr4: self.state.cr4,
            efer: self.state.efer,
            privilege: ((self.state.ss.attributes >> 5) & 3) as u8,
        }
    }

    fn code_size(&self) -> CodeSize {
        if self.state.efer & EFER_LONG_MODE_ACTIVE != 0 && self.state.cs.attributes & ATTRIBUTE_LONG != 0 {
            CodeSize::SixtyFour
        } else if self.state.cr0 & CR0_PROTECTED != 0 && self.state.cs.attributes & ATTRIBUTE_BIG != 0 {
            CodeSize::ThirtyTwo
        } else {
            CodeSize::Sixteen
        }
    }

    fn segment_base(&self, segment: usize) -> u64 {
        let state = &self.state;
        [state.es, state.cs, state.ss, state.ds, state.fs, state.gs]
            .get(segment)
            .map_or(0, |segment| segment.base)
    }

    fn instruction_bytes(&self) -> &[u8] {
        &self.instruction
    }

    fn inject(&mut self, exception: Exception) {
        self.injected = Some(match self.injected {
            None => exception,
            Some(_) => Exception {
                vector: 8,
                error_code: Some(0),
            },
        });
    }

    fn inject_nmi(&mut self) {
        self.nmi = true;
    }

    fn offer_interrupt(&mut self, vector: Option<u8>) {
        self.offered = vector;
    }

    fn interrupt_taken(&mut self) -> Option<u8> {
        self.just_taken.take()
    }

    fn interrupts_enabled(&self) -> bool {
        self.state.registers.rflags & FLAGS_INTERRUPT != 0 && !self.shadow
    }

    fn task_priority(&self) -> u8 {
        self.priority
    }

    fn set_task_priority(&mut self, priority: u8) {
        self.priority = priority & 0xf;
    }

    fn efer(&self) -> u64 {
        self.state.efer
    }

    fn set_efer(&mut self, value: u64) {
        self.state.efer = value;
    }

    fn read_msr(&self, number: u32) -> Option<u64> {
        let state = &self.state;
        Some(match number {
            0x174 => state.sysenter_cs,
            0x175 => state.sysenter_esp,
            0x176 => state.sysenter_eip,
            0x1d9 => self.debug_control,
            0x277 => state.pat,
            0xc000_0081 => state.star,
            0xc000_0082 => state.lstar,
            0xc000_0083 => state.cstar,
            0xc000_0084 => state.syscall_mask,
            0xc000_0100 => state.fs.base,
            0xc000_0101 => state.gs.base,
            0xc000_0102 => state.kernel_gs_base,
            0xc000_0103 => state.tsc_aux,
            _ => return None,
        })
    }

    fn write_msr(&mut self, number: u32, value: u64) -> bool {
        let is_address = matches!(
            number,
            0x175 | 0x176 | 0xc000_0082 | 0xc000_0083 | 0xc000_0100..=0xc000_0102
        );
        if is_address && !canonical(value) {
            return false;
        }
        if number == 0x277
            && value
                .to_le_bytes()
                .iter()
                .any(|kind| !matches!(kind, 0 | 1 | 4..=7))
        {
            return false;
        }
        match self.msr(number) {
            Some(place) => {
                *place = value;
                true
            }
            None => false,
        }
    }

    fn save(&self) -> ArchitecturalState {
        assert!(self.loaded_on.is_none(), "the state of a loaded vCPU is saved");
        self.state
    }

    fn restore(&mut self, state: &ArchitecturalState) -> Result<(), BadState> {
        assert!(self.loaded_on.is_none(), "the state of a loaded vCPU is replaced");
        let paging_unprotected = state.cr0 & CR0_PAGING != 0 && state.cr0 & CR0_PROTECTED == 0;
        if paging_unprotected || state.cr0 >> 32 != 0 {
            return Err(BadState);
        }
        self.state = *state;
        Ok(())
    }

    fn reset(&mut self) {
        let data = Segment {
            selector: 0,
            attributes: 0x93,
            limit: 0xffff,
            base: 0,
        };
        self.state = ArchitecturalState {
            registers: Registers {
                rip: 0xfff0,
                rflags: FLAGS_FIXED,
                ..Registers::default()
            },
            cs: Segment {
                selector: 0xf000,
                attributes: 0x9b,
                limit: 0xffff,
                base: 0xffff_0000,
            },
            ds: data,
            es: data,
            fs: data,
            gs: data,
            ss: data,
            tr: Segment {
                attributes: 0x8b,
                limit: 0xffff,
                ..Segment::default()
            },
            ldtr: Segment {
                attributes: 0x82,
                limit: 0xffff,
                ..Segment::default()
            },
            gdtr: Segment {
                limit: 0xffff,
                ..Segment::default()
            },
            idtr: Segment {
                limit: 0xffff,
                ..Segment::default()
            },
            cr0: CR0_AFTER_INIT,
            dr6: 0xffff_0ff0,
            dr7: 0x400,
            pat: PAT_AFTER_RESET,
            ..ArchitecturalState::default()
        };
        self.shadow = false;
        self.offered = None;
        self.just_taken = None;
        self.injected = None;
        self.nmi = false;
        self.priority = 0;
        self.debug_control = 0;
        self.extended_control = 1;
    }

    fn extended_control(&self) -> u64 {
        self.extended_control
    }

    fn set_extended_control(&mut self, value: u64) -> bool {
        let sse_without_avx_rule = value & 4 != 0 && value & 2 == 0;
        if value & 1 == 0 || value & !7 != 0 || sse_without_avx_rule {
            return false;
        }
        self.extended_control = value;
        true
    }

    fn set_breakpoints(&mut self, value: u32) {
        self.state.dr7 = u64::from(value);
    }

    fn set_tsc_offset(&mut self, offset: i64) {
        self.tsc_offset = offset;
    }
}
