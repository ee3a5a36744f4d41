//! The least: version, features, CPUID leaves, the start information.
#![no_std]
#![no_main]

use core::arch::x86_64::__cpuid;

use guests::{Checks, Page, hypercall, page, println};
use hypercall_abi::hypercall::number::XEN_VERSION;

guests::micro_guest!(main);

static TEXT: Page = Page::new();

fn main(start_information: u64) -> ! {
    let mut checks = Checks::begin("hello");
    checks.equal(
        "start information has its magic number",
        page::read::<u32>(start_information),
        0x336e_c578,
    );
    cpuid(&mut checks);
    version(&mut checks);
    checks.end()
}

fn cpuid(checks: &mut Checks) {
    let first = __cpuid(0x4000_0000);
    let signature = [first.ebx, first.ecx, first.edx].map(u32::to_le_bytes);
    checks.equal(
        "the CPU says XenVMMXenVMM",
        signature.as_flattened(),
        b"XenVMMXenVMM".as_slice(),
    );
    checks.check(
        "there are leaves up to 0x40000002 at least",
        first.eax >= 0x4000_0002,
    );
    let version = __cpuid(0x4000_0001).eax;
    println!("CPUID: version {}.{}", version >> 16, version & 0xffff);
    checks.equal(
        "version in CPUID",
        version,
        hypercall::raw(XEN_VERSION, [0; 5]) as u32,
    );
    checks.check("the CPU says that it is virtual", __cpuid(1).ecx >> 31 == 1);
}

fn version(checks: &mut Checks) {
    const GET_FEATURES: u64 = 6;
    const EXTRA_VERSION: u64 = 1;
    const CAPABILITIES: u64 = 3;
    let version = hypercall::raw(XEN_VERSION, [0; 5]);
    checks.equal("version is 4.17", version, 4 << 16 | 17);
    checks.equal(
        "extra version",
        hypercall::raw(XEN_VERSION, [EXTRA_VERSION, TEXT.address(), 0, 0, 0]),
        0,
    );
    let capabilities = hypercall::raw(XEN_VERSION, [CAPABILITIES, TEXT.address(), 0, 0, 0]);
    checks.equal("capabilities", capabilities, 0);
    TEXT.write(0, 0u32); // submap 0
    checks.equal(
        "features",
        hypercall::raw(XEN_VERSION, [GET_FEATURES, TEXT.address(), 0, 0, 0]),
        0,
    );
    let features: u32 = TEXT.read(4);
    println!("features {features:#x}");
    const HVM_CALLBACK_VECTOR: u32 = 1 << 8;
    const DOM0: u32 = 1 << 11;
    checks.check("feature: callback vector", features & HVM_CALLBACK_VECTOR != 0);
    checks.check("feature: dom0", features & DOM0 != 0);
}
