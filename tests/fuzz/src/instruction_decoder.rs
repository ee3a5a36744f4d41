//! Instructions that touch device pages, holes and memory: fetched, decoded and carried out by the kernel for a guest
//! on the host's machine. What a plain read of the instruction's description says must and must not change is compared
//! with what changed.

use std::sync::{Arc, Mutex};

use iced_x86::{
    Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};
use kernel::lifecycle::Destruction;
use kernel::testing::{self, TestDomain, TestKernel, TestVcpu};
use kernel::vcpu::stop;
use machine::Machine;
use machine::address::GuestAddress;
use machine::fake::{FakeVcpu, set_processor};
use machine::virtual_cpu::{Exception, Exit, Registers};

use crate::input::Input;

const PAGES: u64 = 4;
const END: u64 = PAGES << 12;
/// Steps in one input: the local APIC's state builds up.
const STEPS: usize = 12;
const LOCAL_APIC: u64 = 0xfee0_0000;
const IO_APIC: u64 = 0xfec0_0000;
const HOLE: u64 = 0x4000_0000;
/// Carry, parity, auxiliary, zero, sign, overflow.
const ARITHMETIC_FLAGS: u64 = 0x8d5;

struct Guest {
    kernel: TestKernel,
    domain: TestDomain,
    vcpu: TestVcpu,
    bits: u32,
}

/// What the guest found when it went on.
struct Found {
    registers: Registers,
    exceptions: Vec<Exception>,
}

/// The first byte: the domain's kind and the code's size. Then steps: what is touched, how, by which bytes.
pub fn run(data: &[u8]) {
    set_processor(0);
    let mut input = Input::new(data);
    let guest = Guest::new(input.byte());
    let before = guest.kernel.machine.memory().free_frames();
    for _ in 0..STEPS {
        if input.is_empty() || !guest.step(&mut input) {
            break;
        }
        assert_eq!(guest.domain.owned_pages(&guest.kernel.machine), PAGES);
        assert_eq!(guest.kernel.machine.memory().free_frames(), before);
    }
    let Guest {
        kernel, domain, vcpu, ..
    } = guest;
    drop(vcpu);
    while kernel.destroy_domain(&domain) == Destruction::More {}
    assert_eq!(kernel.domains.count(), 0);
}

impl Guest {
    fn new(mode: u8) -> Self {
        let kernel = testing::kernel();
        // Number 0 is privileged, and has an I/O APIC.
        let id = u16::from(mode >> 7 == 0);
        let domain = testing::domain(&kernel, id, 1, PAGES);
        let vcpu = testing::vcpu(&domain, 0);
        let bits = [64, 64, 32, 16][usize::from(mode & 3)];
        {
            let mut context = vcpu.context.lock();
            match bits {
                64 => context.enter_flat_long_mode(),
                32 => {
                    context.state.cr0 |= 1;
                    context.state.cs.attributes |= 1 << 10;
                }
                _ => {}
            }
            // As before the first page: flat in each mode.
            context.state.cs.base = 0;
            context.set_interrupts_enabled(mode & 4 != 0);
            for (index, register) in context.state.registers.general.iter_mut().enumerate() {
                *register = 0x1122_3344_5566_7700 + index as u64 * 0x0101_0101_0101_0101;
            }
        }
        Guest {
            kernel,
            domain,
            vcpu,
            bits,
        }
    }

    /// One instruction; `false` when the guest is no more.
    fn step(&self, input: &mut Input<'_>) -> bool {
        let how = input.byte();
        let place = input.number(2);
        let address = match how & 3 {
            0 => LOCAL_APIC | place & 0xfff,
            1 => IO_APIC | place & 0xfff,
            2 => HOLE | place << 4,
            _ => place % (2 * END),
        };
        // Of these dom0 ends, and the machine with it.
        let fatal = if self.domain.privileged { 0 } else { how & 0x78 };
        let exit = Exit::StageTwoFault {
            address: GuestAddress(address),
            write: how & 4 != 0,
            fetch: fatal == 0x78,
            present: how & 8 != 0,
            table_walk: fatal == 0x70,
        };
        let length = usize::from(input.byte() % 16);
        let code = input.bytes(length);
        // At the beginning of a page, or cut off by the end of memory.
        let start = match how >> 7 {
            0 => 0x1000,
            _ => END - code.len().max(1) as u64 + (place & 1),
        };
        let fitting = code.len().min((END - start) as usize);
        testing::poke(&self.domain, start, &code[..fitting]);
        let before = self.prepare(start, exit, (how & 0x40 != 0).then_some(code));
        let Some(found) = self.let_it_run(before) else {
            assert!(
                self.domain.lifecycle.lock().shutdown.is_some(),
                "a guest that vanished"
            );
            return false;
        };
        let given = if how & 0x40 != 0 && !code.is_empty() {
            code.to_vec()
        } else {
            self.bytes_at(start)
        };
        self.check(&before, &found, &given, how & 3 == 2);
        true
    }

    fn prepare(&self, rip: u64, exit: Exit, given: Option<&[u8]>) -> Registers {
        let mut context = self.vcpu.context.lock();
        context.state.registers.rip = rip;
        context.exceptions.clear();
        context.instruction = given.map(<[u8]>::to_vec).unwrap_or_default();
        context.push_exit(exit);
        context.state.registers
    }

    /// Lets the guest run until its instruction is done, and a little time pass.
    fn let_it_run(&self, before: Registers) -> Option<Found> {
        let found: Arc<Mutex<Option<Found>>> = Arc::default();
        let place = found.clone();
        let program = move |context: &mut FakeVcpu| {
            place.lock().expect("one thread").get_or_insert_with(|| Found {
                registers: context.state.registers,
                exceptions: context.exceptions.clone(),
            });
            // With interrupts disabled it would be the guest's end.
            context.set_interrupts_enabled(true);
            Exit::Halt
        };
        self.vcpu.context.lock().set_program(Box::new(program));
        self.kernel.machine.advance(1000);
        self.vcpu
            .stops
            .fetch_and(!stop::BLOCKED, std::sync::atomic::Ordering::SeqCst);
        self.kernel.reconsider(&self.vcpu);
        for _ in 0..8 {
            self.kernel.step();
            if let Some(found) = found.lock().expect("one thread").take() {
                self.vcpu.context.lock().state.registers = Registers {
                    rip: before.rip,
                    ..found.registers
                };
                return Some(found);
            }
        }
        None
    }

    /// The bytes at rip, as far as there is memory.
    fn bytes_at(&self, start: u64) -> Vec<u8> {
        (start..(start + 15).min(END))
            .map(|address| testing::peek::<u8>(&self.domain, address))
            .collect()
    }

    fn check(&self, before: &Registers, found: &Found, code: &[u8], hole: bool) {
        let after = &found.registers;
        if after.rip == before.rip {
            // Tried again, or refused: then nothing but an exception came of it.
            assert_eq!(after, before, "an instruction that was refused changed something");
            assert!(found.exceptions.len() <= 1);
            return;
        }
        let instruction = Decoder::with_ip(self.bits, code, before.rip, DecoderOptions::NONE).decode();
        assert!(found.exceptions.is_empty(), "carried out and refused");
        assert!(
            !instruction.is_invalid(),
            "an invalid instruction was carried out"
        );
        assert_eq!(after.rip, before.rip.wrapping_add(instruction.len() as u64));
        assert!(
            (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory),
            "{instruction:?} touches no memory"
        );
        for (index, may_change) in written(&instruction).into_iter().enumerate() {
            let changed = before.general[index] ^ after.general[index];
            assert_eq!(
                changed & !may_change,
                0,
                "{:?}: register {index}",
                instruction.code()
            );
        }
        let flags = if instruction.rflags_modified() == 0 {
            0
        } else {
            ARITHMETIC_FLAGS
        };
        assert_eq!(
            (before.rflags ^ after.rflags) & !flags,
            0,
            "{:?}: flags",
            instruction.code()
        );
        if hole {
            reads_as_ones(&instruction, before, after);
        }
    }
}

/// The bits of each general register that an instruction may change.
fn written(instruction: &Instruction) -> [u64; 16] {
    let mut bits = [0; 16];
    let mut factory = InstructionInfoFactory::new();
    for used in factory.info(instruction).used_registers() {
        let writes = matches!(
            used.access(),
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        );
        let which = used.register();
        if !writes || !which.is_gpr() {
            continue;
        }
        let index = which.full_register().number() & 15;
        bits[index] |= mask(which);
    }
    bits
}

/// A register's place in the whole one; writing 32 bits clears those above.
fn mask(which: Register) -> u64 {
    let high = matches!(which, Register::AH | Register::CH | Register::DH | Register::BH);
    match which.size() {
        1 if high => 0xff00,
        1 => 0xff,
        2 => 0xffff,
        _ => u64::MAX,
    }
}

fn ones(size: usize) -> u64 {
    u64::MAX >> (64 - 8 * size.clamp(1, 8))
}

/// In a hole nothing answers: what is loaded is all ones, extended as the instruction says.
fn reads_as_ones(instruction: &Instruction, before: &Registers, after: &Registers) {
    let size = instruction.memory_size().size();
    let register = match instruction.mnemonic() {
        Mnemonic::Xchg => instruction.op1_register(),
        _ => instruction.op0_register(),
    };
    let expected = match instruction.mnemonic() {
        Mnemonic::Mov if instruction.op0_kind() == OpKind::Register => ones(size),
        Mnemonic::Movzx | Mnemonic::Xchg => ones(size),
        Mnemonic::Movsx | Mnemonic::Movsxd => ones(register.size()),
        Mnemonic::Or => return assert_eq!(after.rflags & ARITHMETIC_FLAGS, 0x84, "sign, parity"),
        Mnemonic::And | Mnemonic::Test | Mnemonic::Xor | Mnemonic::Mov => return,
        other => panic!("{other:?} was carried out"),
    };
    let index = register.full_register().number() & 15;
    let place = mask(register);
    let value = (after.general[index] & place) >> place.trailing_zeros();
    assert_eq!(value, expected, "{:?} from a hole", instruction.code());
    let others = before.general[index] & !place;
    assert_eq!(after.general[index] & !place, others);
}

/// An instruction of each kind, in each size of code, on each kind of page.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let step = |how: u8, place: u16, code: &[u8]| {
        let mut bytes = vec![how];
        bytes.extend(place.to_le_bytes());
        bytes.push(code.len() as u8);
        bytes.extend(code);
        bytes
    };
    let whole = |mode: u8, steps: &[Vec<u8>]| [vec![mode], steps.concat()].concat();
    vec![
        (
            "loads",
            whole(
                0,
                &[
                    step(2, 1, &[0x8b, 0x08]),
                    step(2, 2, &[0x48, 0x8b, 0x18]),
                    step(2, 3, &[0x8a, 0x20]),
                ],
            ),
        ),
        (
            "extended_loads",
            whole(
                0,
                &[
                    step(2, 1, &[0x0f, 0xb6, 0x08]),
                    step(2, 1, &[0x0f, 0xbf, 0x08]),
                    step(2, 1, &[0x48, 0x63, 0x08]),
                ],
            ),
        ),
        (
            "stores",
            whole(
                0,
                &[
                    step(6, 1, &[0x89, 0x08]),
                    step(6, 1, &[0xc7, 0x00, 1, 2, 3, 4]),
                    step(6, 1, &[0x66, 0xa3, 0, 0, 0, 0, 0, 0, 0, 0]),
                ],
            ),
        ),
        (
            "modifications",
            whole(
                0,
                &[
                    step(6, 1, &[0x83, 0x08, 1]),
                    step(6, 1, &[0x21, 0x08]),
                    step(6, 1, &[0x34, 0x08]),
                    step(6, 1, &[0x87, 0x08]),
                    step(6, 1, &[0xf6, 0x00, 1]),
                ],
            ),
        ),
        (
            "segment_register",
            whole(0, &[step(6, 1, &[0x8c, 0x18]), step(2, 1, &[0x8e, 0x18])]),
        ),
        (
            "local_apic",
            whole(
                4,
                &[
                    step(0, 0x20, &[0x8b, 0x08]),
                    step(4, 0x80, &[0xc7, 0x00, 0x20, 0, 0, 0]),
                    step(4, 0x300, &[0xc7, 0x00, 0x31, 0, 4, 0]),
                    step(4, 0xb0, &[0x89, 0x08]),
                ],
            ),
        ),
        (
            "local_apic_timer",
            whole(
                4,
                &[
                    step(4, 0xf0, &[0xc7, 0x00, 0xff, 1, 0, 0]),
                    step(4, 0x320, &[0xc7, 0x00, 0x40, 0, 2, 0]),
                    step(4, 0x380, &[0xc7, 0x00, 1, 0, 0, 0]),
                    step(0, 0x390, &[0x8b, 0x08]),
                ],
            ),
        ),
        (
            "io_apic",
            whole(
                0x80,
                &[
                    step(5, 0, &[0xc7, 0x00, 0x10, 0, 0, 0]),
                    step(5, 0x10, &[0xc7, 0x00, 0x31, 0, 0, 0]),
                    step(1, 0x10, &[0x8b, 0x08]),
                ],
            ),
        ),
        (
            "cut_off",
            whole(
                0,
                &[
                    step(0x82, 0, &[0x8b, 0x08]),
                    step(0x82, 1, &[0xc7, 0x00, 1]),
                    step(0x86, 0, &[0xf0, 0x83, 0x08, 1]),
                ],
            ),
        ),
        (
            "given_bytes",
            whole(0, &[step(0x42, 0, &[0x8b, 0x08]), step(0x46, 0, &[0xf3, 0xa4])]),
        ),
        (
            "thirty_two",
            whole(
                2,
                &[step(2, 1, &[0x8b, 0x08]), step(6, 1, &[0xa3, 0, 0, 0, 0x40])],
            ),
        ),
        (
            "sixteen",
            whole(
                3,
                &[step(2, 1, &[0x8b, 0x07]), step(2, 1, &[0x67, 0x66, 0x8b, 0x00])],
            ),
        ),
        (
            "memory",
            whole(
                0,
                &[step(3, 0x10, &[0x8b, 0x08]), step(0x0f, 0x10, &[0x89, 0x08])],
            ),
        ),
        ("code_in_a_hole", whole(0, &[step(0x7a, 0, &[0x90])])),
    ]
}
