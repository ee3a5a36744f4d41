//! The privileged instructions that virtualisation needs, one function each.

use core::arch::asm;

/// Numbers of model-specific registers.
pub mod msr {
    pub const PREDICTION_COMMAND: u32 = 0x49;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const DEBUG_CONTROL: u32 = 0x1d9;
    pub const PAT: u32 = 0x277;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const SYSCALL_MASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
    pub const VM_CR: u32 = 0xc001_0114;
    pub const VM_HSAVE_PA: u32 = 0xc001_0117;
}

/// Read a model-specific register.
///
/// # Safety
/// The register exists.
pub unsafe fn read_msr(number: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller's contract; reading changes nothing.
    unsafe {
        asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Write a model-specific register.
///
/// # Safety
/// The register exists, takes the value, and what it changes is sound.
pub unsafe fn write_msr(number: u32, value: u64) {
    // SAFETY: the caller's contract.
    unsafe {
        asm!("wrmsr", in("ecx") number, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags));
    }
}

/// Read XCR0. Only where CR4.OSXSAVE is set.
pub fn read_extended_control() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading changes nothing.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Write XCR0.
///
/// # Safety
/// CR4.OSXSAVE is set and the processor takes the value.
pub unsafe fn write_extended_control(value: u64) {
    // SAFETY: the caller's contract.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags));
    }
}

/// Store the state that VMRUN does not switch (FS, GS, TR, LDTR, system call registers).
///
/// # Safety
/// SVM is on; `address` is a page of ours that nothing else uses.
pub unsafe fn vmsave(address: u64) {
    // SAFETY: the caller's contract.
    unsafe { asm!("vmsave rax", in("rax") address, options(nostack, preserves_flags)) };
}

/// Hold back every interrupt, NMIs too, and set IF: under the closed gate that takes nothing in, but it makes
/// interrupts end the guest that is entered next.
///
/// # Safety
/// The gate is opened again, with IF clear, by the world switch or by [`open_gate`].
#[inline(always)]
pub unsafe fn close_gate() {
    // SAFETY: the caller's contract.
    unsafe { asm!("clgi", "sti", options(nostack)) };
}

/// Undo [`close_gate`] where no guest is entered after all.
///
/// # Safety
/// [`close_gate`] ran before.
#[inline(always)]
pub unsafe fn open_gate() {
    // SAFETY: the caller's contract; IF is clear again before interrupts pass the gate.
    unsafe { asm!("cli", "stgi", options(nostack)) };
}

macro_rules! control_register {
    ($read:ident, $write:ident, $name:literal) => {
        #[doc = concat!("Read ", $name, ".")]
        pub fn $read() -> u64 {
            let value;
            // SAFETY: reading changes nothing.
            unsafe { asm!(concat!("mov {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }

        #[doc = concat!("Write ", $name, ".")]
        ///
        /// # Safety
        /// What it changes is sound for the code that runs.
        pub unsafe fn $write(value: u64) {
            // SAFETY: the caller's contract.
            unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
        }
    };
}

control_register!(read_cr0, write_cr0, "cr0");
control_register!(read_cr4, write_cr4, "cr4");

/// DR0 to DR3.
pub fn read_breakpoints() -> [u64; 4] {
    let mut addresses = [0; 4];
    // SAFETY: reading changes nothing.
    unsafe {
        asm!("mov {0}, dr0", "mov {1}, dr1", "mov {2}, dr2", "mov {3}, dr3", out(reg) addresses[0],
            out(reg) addresses[1], out(reg) addresses[2], out(reg) addresses[3], options(nomem, nostack, preserves_flags));
    }
    addresses
}

/// Set DR0 to DR3. Without DR7's switches, which the core leaves off, they do nothing to it.
pub fn write_breakpoints(addresses: &[u64; 4]) {
    // SAFETY: breakpoints are off while the core runs (VMEXIT clears DR7).
    unsafe {
        asm!("mov dr0, {0}", "mov dr1, {1}", "mov dr2, {2}", "mov dr3, {3}", in(reg) addresses[0], in(reg) addresses[1],
            in(reg) addresses[2], in(reg) addresses[3], options(nomem, nostack, preserves_flags));
    }
}
