//! The processors' local interrupt controllers, as x2APIC where there is one, else through memory.

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use super::address_space;
use super::interrupts::vector;
use crate::address::HostAddress;

mod register {
    pub const ID: u32 = 0x20;
    pub const TASK_PRIORITY: u32 = 0x80;
    pub const END_OF_INTERRUPT: u32 = 0xb0;
    pub const SPURIOUS: u32 = 0xf0;
    pub const ERROR_STATUS: u32 = 0x280;
    pub const COMMAND: u32 = 0x300;
    pub const COMMAND_TARGET: u32 = 0x310;
    pub const TIMER: u32 = 0x320;
    pub const THERMAL: u32 = 0x330;
    pub const PERFORMANCE: u32 = 0x340;
    pub const LINT0: u32 = 0x350;
    pub const LINT1: u32 = 0x360;
    pub const ERROR: u32 = 0x370;
    pub const TIMER_INITIAL: u32 = 0x380;
    pub const TIMER_CURRENT: u32 = 0x390;
    pub const TIMER_DIVIDE: u32 = 0x3e0;
}

const BASE_MSR: u32 = 0x1b;
const ENABLE: u64 = 1 << 11;
const ENABLE_X2: u64 = 1 << 10;
const X2_MSRS: u32 = 0x800;
const MASKED: u32 = 1 << 16;
const TSC_DEADLINE: u32 = 1 << 18;
const TSC_DEADLINE_MSR: u32 = 0x6e0;
const DIVIDE_BY_1: u32 = 0b1011;

const NON_MASKABLE: u32 = 4 << 8;
const INIT: u32 = 5 << 8;
const STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const ALL_BUT_SELF: u32 = 3 << 18;
const BUSY: u32 = 1 << 12;

/// Where the registers are mapped; 0 for x2APIC, which has them in MSRs.
static REGISTERS: AtomicU64 = AtomicU64::new(0);

fn read(register: u32) -> u32 {
    match REGISTERS.load(Ordering::Relaxed) {
        // SAFETY: the x2APIC is on, and these are its registers.
        0 => unsafe { Msr::new(X2_MSRS + register / 16).read() as u32 },
        // SAFETY: the mapped registers of the local APIC.
        base => unsafe { (base as *const u32).byte_add(register as usize).read_volatile() },
    }
}

fn write(register: u32, value: u32) {
    match REGISTERS.load(Ordering::Relaxed) {
        // SAFETY: the x2APIC is on; the callers write values that the register takes.
        0 => unsafe { Msr::new(X2_MSRS + register / 16).write(u64::from(value)) },
        // SAFETY: the mapped registers of the local APIC.
        base => unsafe {
            (base as *mut u32)
                .byte_add(register as usize)
                .write_volatile(value)
        },
    }
}

/// Find the controllers' registers and silence the legacy controller.
pub fn start() {
    const ADDRESS: u64 = 0xf_ffff_f000;
    let x2 = raw_cpuid::CpuId::new()
        .get_feature_info()
        .is_some_and(|features| features.has_x2apic());
    if !x2 {
        // SAFETY: every processor with an APIC has this register.
        let address = HostAddress(unsafe { Msr::new(BASE_MSR).read() } & ADDRESS);
        REGISTERS.store(
            address_space::map_registers(address, 4096) as u64,
            Ordering::Relaxed,
        );
    }
    silence_legacy_controller();
}

/// Switch on the controller of the processor that calls.
pub fn start_on_this_processor() {
    let x2 = if REGISTERS.load(Ordering::Relaxed) == 0 {
        ENABLE_X2
    } else {
        0
    };
    // SAFETY: switches the APIC on, in the mode that `start` chose for all processors.
    unsafe {
        let base = Msr::new(BASE_MSR).read();
        Msr::new(BASE_MSR).write(base | ENABLE | x2);
    }
    write(register::SPURIOUS, 0x100 | u32::from(vector::SPURIOUS));
    write(register::TASK_PRIORITY, 0);
    for line in [
        register::TIMER,
        register::THERMAL,
        register::PERFORMANCE,
        register::LINT0,
    ] {
        write(line, MASKED);
    }
    write(register::LINT1, NON_MASKABLE);
    write(register::ERROR, u32::from(vector::APIC_ERROR));
    write(register::TIMER_DIVIDE, DIVIDE_BY_1);
}

/// The legacy controllers out of the way: their vectors moved off the exceptions, all lines masked.
fn silence_legacy_controller() {
    const SEQUENCE: [(u16, u8); 10] = [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, 0x20),
        (0xa1, 0x28),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0x21, 0xff),
        (0xa1, 0xff),
    ];
    for (port, value) in SEQUENCE {
        // SAFETY: the controllers' fixed ports, in the order they want for initialisation.
        unsafe { Port::new(port).write(value) };
    }
}

/// The number of the calling processor's controller.
pub fn id() -> u32 {
    match REGISTERS.load(Ordering::Relaxed) {
        0 => read(register::ID),
        _ => read(register::ID) >> 24,
    }
}

/// The interrupt in service is done with.
#[inline]
pub fn acknowledge() {
    write(register::END_OF_INTERRUPT, 0);
}

/// Set the priority to what it is: the controller then considers again what waits.
pub fn look_again() {
    write(register::TASK_PRIORITY, 0);
}

/// Forget errors that the controller noted.
pub fn clear_error() {
    write(register::ERROR_STATUS, 0);
}

fn command(target: u32, command: u32) {
    if REGISTERS.load(Ordering::Relaxed) == 0 {
        // SAFETY: the x2APIC's command register takes target and command at once.
        unsafe {
            Msr::new(X2_MSRS + register::COMMAND / 16).write((u64::from(target) << 32) | u64::from(command))
        };
        return;
    }
    while read(register::COMMAND) & BUSY != 0 {
        core::hint::spin_loop();
    }
    write(register::COMMAND_TARGET, target << 24);
    write(register::COMMAND, command);
}

/// Interrupt another processor so that it leaves its guest or its wait.
pub fn send_kick(target: u32) {
    command(target, ASSERT | u32::from(vector::KICK));
}

/// Put another processor into its initial state.
pub fn send_init(target: u32) {
    command(target, ASSERT | INIT);
}

/// Start another processor in real mode at a page of low memory.
pub fn send_startup(target: u32, page: HostAddress) {
    command(target, ASSERT | STARTUP | (page.frame().0 as u32 & 0xff));
}

/// Stop all others by a non-maskable interrupt.
pub fn stop_others() {
    command(0, ASSERT | NON_MASKABLE | ALL_BUT_SELF);
}

/// Have the timer fire once after `ticks` of its own; 0 stops it.
pub fn set_timer(ticks: u32) {
    write(register::TIMER, u32::from(vector::TIMER));
    write(register::TIMER_INITIAL, ticks);
}

/// Have the timer count down from its highest value, silently.
pub fn start_counting() {
    write(register::TIMER, MASKED | u32::from(vector::TIMER));
    write(register::TIMER_INITIAL, u32::MAX);
}

/// Ticks since [`start_counting`].
pub fn counted() -> u32 {
    u32::MAX - read(register::TIMER_CURRENT)
}

/// Switch the timer to the mode in which it compares with the TSC.
pub fn use_tsc_deadline() {
    write(register::TIMER, TSC_DEADLINE | u32::from(vector::TIMER));
    // The mode must be in place before the first deadline is written.
    core::sync::atomic::fence(Ordering::SeqCst);
}

/// Have the timer fire when the TSC gets to `tsc`; 0 stops it.
pub fn set_tsc_deadline(tsc: u64) {
    // SAFETY: only called where the processor offers it.
    unsafe { Msr::new(TSC_DEADLINE_MSR).write(tsc) };
}
