//! A vCPU between its runs, on the host: what the kernel sees of it and what hardware would be given.

use super::features::Features;
use super::vcpu::Vcpu;
use super::vmcb::clean;
use crate::Machine;
use crate::address::HostFrame;
use crate::fake::{Configuration, FakeMachine};
use crate::virtual_cpu::{
    ArchitecturalState, BadState, CodeSize, Exception, PortAccess, Segment, VirtualCpu, register,
};

const FEATURES: Features = Features {
    asids: 16,
    next_rip: false,
    instruction_bytes: false,
    clean: clean::ALL,
    debug_control: false,
    keeps_shadow: true,
    disarms_breakpoints: true,
    extended_states: 7,
    restores_error_pointers: true,
    tsc_aux: true,
    prediction_barrier: false,
    efer: 0xd01,
    cr4: 0x37_07ff,
    physical_bits: 48,
    linear_bits: 48,
};

fn with_vcpu(test: impl FnOnce(&mut Vcpu)) {
    with_vcpu_on(&FEATURES, test);
}

fn with_vcpu_on(features: &Features, test: impl FnOnce(&mut Vcpu)) {
    let machine = FakeMachine::new(&Configuration::default());
    let before = machine.memory().free_frames();
    let mut vcpu = Vcpu::new(machine.memory(), features, HostFrame(1)).expect("there is memory");
    test(&mut vcpu);
    drop(vcpu);
    assert_eq!(
        machine.memory().free_frames(),
        before,
        "a vCPU gives back what it took"
    );
}

fn long_mode() -> ArchitecturalState {
    let flat = |attributes| Segment {
        selector: 8,
        attributes,
        limit: 0xffff_ffff,
        base: 0,
    };
    let mut state = super::state::after_reset();
    state.cs = flat(0xa9b);
    (state.ds, state.ss) = (flat(0xc93), flat(0xcf3));
    (state.cr0, state.cr3, state.cr4, state.efer) = (0x8005_0033, 0x1000, 0x6b0, 0xd01);
    state.registers.rip = 0xffff_ffff_8100_0000;
    state.registers.rflags = 0x202;
    state.registers.general[register::RSP] = 0x1234;
    state
}

#[test]
fn a_state_comes_back_as_it_was_set() {
    with_vcpu(|vcpu| {
        assert_eq!(vcpu.save(), super::state::after_reset());
        assert_eq!(vcpu.code_size(), CodeSize::Sixteen);
        vcpu.restore(&long_mode()).expect("a sound state");
        assert_eq!(vcpu.save(), long_mode());
        assert_eq!(
            (vcpu.code_size(), vcpu.paging().privilege),
            (CodeSize::SixtyFour, 3)
        );
        assert_eq!(vcpu.efer(), 0xd01, "SVM's own bit stays hidden");
        vcpu.reset();
        assert_eq!(vcpu.save(), super::state::after_reset());
    });
}

#[test]
fn states_that_hardware_would_refuse_are_refused() {
    let spoil: [fn(&mut ArchitecturalState); 14] = [
        |state| state.cr0 |= 1 << 32,
        |state| state.cr0 |= 1 << 29,
        |state| state.cr0 &= !1,
        |state| state.cr3 |= 1 << 50,
        |state| state.cr4 |= 1 << 30,
        |state| state.cr4 &= !(1 << 5),
        |state| state.efer |= 1 << 12,
        |state| state.efer &= !(1 << 10),
        |state| state.cs.attributes |= 1 << 10,
        |state| state.dr6 |= 1 << 32,
        |state| state.dr7 |= 1 << 32,
        |state| state.pat = 2,
        |state| state.lstar = 1 << 50,
        |state| state.registers.rflags |= 1 << 17,
    ];
    with_vcpu(|vcpu| {
        for (index, spoil) in spoil.iter().enumerate() {
            let mut state = long_mode();
            spoil(&mut state);
            assert_eq!(vcpu.restore(&state), Err(BadState), "number {index}");
        }
        assert_eq!(vcpu.save(), super::state::after_reset(), "nothing has changed");
    });
}

#[test]
fn efer_keeps_long_mode_while_paging_is_on() {
    with_vcpu(|vcpu| {
        vcpu.restore(&long_mode()).expect("a sound state");
        vcpu.set_efer(0x1800);
        assert_eq!(
            vcpu.efer(),
            0xd00,
            "LME, LMA stay; NXE is set, SCE cleared, SVME out of reach"
        );
    });
}

#[test]
fn exceptions_pile_up_to_a_shutdown() {
    let page_fault = Exception {
        vector: 14,
        error_code: Some(2),
    };
    with_vcpu(|vcpu| {
        vcpu.restore(&long_mode()).expect("a sound state");
        vcpu.inject(page_fault);
        assert_eq!(vcpu.pending.map(|event| event.bits()), Some(0x2_8000_0b0e));
        vcpu.inject(page_fault);
        assert_eq!(vcpu.pending.map(|event| event.vector()), Some(8));
        vcpu.inject(page_fault);
        assert!(vcpu.broken && vcpu.attention);
    });
}

#[test]
fn moving_on_wraps_ends_shadows_and_steps() {
    with_vcpu(|vcpu| {
        vcpu.registers_mut().rip = 0xffff_ffff;
        vcpu.registers_mut().rflags |= 1 << 16 | 1 << 9;
        vcpu.vmcb_mut().interrupt_shadow = 1;
        assert!(!vcpu.interrupts_enabled());
        vcpu.advance_by(2);
        assert_eq!(vcpu.registers().rip, 1, "outside of 64-bit code rip has 32 bits");
        assert!(vcpu.interrupts_enabled() && vcpu.registers().rflags & 1 << 16 == 0);
        assert!(vcpu.pending.is_none());
        vcpu.registers_mut().rflags |= 1 << 8;
        vcpu.advance_by(2);
        assert_eq!(vcpu.pending.map(|event| event.vector()), Some(1));
        assert_ne!(vcpu.save().dr6 & 1 << 14, 0);
    });
}

#[test]
fn sti_hlt_can_be_woken() {
    with_vcpu(|vcpu| {
        vcpu.registers_mut().rflags |= 1 << 9;
        vcpu.vmcb_mut().interrupt_shadow = 1;
        vcpu.vmcb_mut().exit_code = super::exit::code::HLT;
        assert!(vcpu.interrupts_enabled());
    });
}

#[test]
fn port_reads_fill_their_part_of_rax() {
    with_vcpu(|vcpu| {
        for (size, expected) in [
            (1, 0x1122_3344_5566_77ef),
            (2, 0x1122_3344_5566_beef),
            (4, 0xdead_beef),
        ] {
            vcpu.registers_mut().general[register::RAX] = 0x1122_3344_5566_7788;
            vcpu.vmcb_mut().exit_code = super::exit::code::PORT;
            vcpu.vmcb_mut().exit_info_2 = 0x42;
            let access = PortAccess {
                port: 0x60,
                size,
                read: true,
                string: false,
                repeat: false,
            };
            vcpu.complete_port(&access, 0xdead_beef);
            assert_eq!(
                (vcpu.registers().general[register::RAX], vcpu.registers().rip),
                (expected, 0x42)
            );
        }
    });
}

#[test]
fn kept_registers_refuse_what_would_fault() {
    with_vcpu(|vcpu| {
        assert!(vcpu.write_msr(0xc000_0082, 0xffff_8000_0000_0000));
        assert_eq!(vcpu.read_msr(0xc000_0082), Some(0xffff_8000_0000_0000));
        assert!(!vcpu.write_msr(0xc000_0082, 1 << 48), "not canonical");
        assert!(!vcpu.write_msr(0x277, 0x0202), "no such memory type");
        assert!(!vcpu.write_msr(0xc000_0103, 1 << 32), "TSC_AUX has 32 bits");
        assert!(
            !vcpu.write_msr(0x1d9, 1),
            "no DEBUGCTL of its own without hardware's help"
        );
        assert_eq!(
            (vcpu.read_msr(0xc000_0080), vcpu.write_msr(0xc000_0080, 0)),
            (None, false),
            "EFER has its own way"
        );
    });
}

#[test]
fn breakpoints_that_would_outlive_the_guest_are_not_armed() {
    let emulated = Features {
        disarms_breakpoints: false,
        ..FEATURES
    };
    with_vcpu_on(&emulated, |vcpu| {
        assert_eq!(vcpu.vmcb().intercept_debug_registers, 0xa0_0000, "DR5 and DR7");
        vcpu.set_breakpoints(0xffff_27ff);
        assert_eq!(vcpu.vmcb().dr7, 0xffff_0700);
        let mut state = long_mode();
        state.dr7 = 0x402;
        vcpu.restore(&state).expect("a sound state");
        assert_eq!(vcpu.vmcb().dr7, 0x400, "nor by a toolstack");
    });
    with_vcpu(|vcpu| {
        assert_eq!(vcpu.vmcb().intercept_debug_registers, 0);
        let mut state = long_mode();
        state.dr7 = 0x402;
        vcpu.restore(&state).expect("a sound state");
        assert_eq!(vcpu.vmcb().dr7, 0x402, "a processor disarms them itself");
    });
}
