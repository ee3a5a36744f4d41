//! The arguments of `domctl`: valid ones for a domain, as a toolstack would make them.

use hypercall_abi::domctl::{
    CpuPolicy, CreateDomain, Domctl, HvmContext, MaxMemory, MaxVcpus, NodeAffinity, PagingMempool,
    SchedCredit2, SchedulerOp, SendTrigger, SetDomainHandle, TscInfo, VcpuAffinity, VcpuInfo, affinity_flag,
    create_flag, op, scheduler, scheduler_command, trigger,
};
use hypercall_abi::hvm::save::{Cpu, Descriptor, Header, MAGIC, Mtrr, VERSION, kind};
use hypercall_abi::xen::{ArchDomainConfig, ControlBitmap, CpuidLeaf, MsrEntry, cpu_policy, emulation};
use hypercall_abi::{DomainId, GuestHandle, payload};
use zerocopy::IntoBytes;

use super::Maker;

/// The domain that an operation is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Its number.
    pub domain: DomainId,
    /// Its vCPUs.
    pub vcpus: u32,
    /// Its memory.
    pub pages: u64,
}

/// Bytes of a context of `vcpus` vCPUs, as it is written: header, registers and memory types of each, end.
const fn context_size(vcpus: u32) -> u64 {
    let each = 2 * size_of::<Descriptor>() + size_of::<Cpu>() + size_of::<Mtrr>();
    (2 * size_of::<Descriptor>() + size_of::<Header>()) as u64 + vcpus as u64 * each as u64
}

/// A new domain.
pub fn create(maker: &mut Maker<'_>, vcpus: u32) -> Domctl {
    let number = match maker.numbers.below(8) {
        0 => DomainId(maker.numbers.within(20, 60) as u16),
        // One whose frames may live on with others.
        1 => maker.board.ended.pick(maker.numbers).unwrap_or(DomainId(0)),
        _ => DomainId(0),
    };
    let mut request = Domctl::new(op::CREATE_DOMAIN, maker.domain(number));
    let extra = maker
        .numbers
        .pick(&[0, 0, 0, create_flag::STORE_DOMAIN, create_flag::OUT_OF_SYNC_OFF]);
    let valid = create_flag::HVM | create_flag::HAP | extra;
    let flags = if maker.wrong() {
        valid ^ (1 << maker.numbers.below(9))
    } else {
        valid
    };
    let max_vcpus = if maker.wrong() {
        maker.numbers.pick(&[0, 33, 64, 127, 128, 129, u32::MAX])
    } else {
        vcpus
    };
    let ports = maker.numbers.pick(&[1023, 1023, 1023, 63, 127, 4095, 8191]);
    let max_event_channel_port = maker.number32(ports);
    let frames = maker.numbers.pick(&[-1, 4, 8, 64]);
    let max_grant_frames = maker.number(frames as u64) as i32;
    let frames = maker.numbers.pick(&[-1, 1, 4, 1024]);
    let max_maptrack_frames = maker.number(frames as u64) as i32;
    let grant_options = maker.number32(1);
    let (iommu_options, vmtrace_size) = (maker.zero() as u32, maker.zero() as u32);
    let pool = maker.numbers.pick(&[0, 0, 0, 0, 0, 0, 1]);
    let cpupool_id = maker.number32(pool);
    let emulation_flags = maker.number32(emulation::LAPIC);
    request.set_view(&CreateDomain {
        handle: (u128::from(maker.numbers.next()) << 64 | 0x5eed).to_le_bytes(),
        flags,
        iommu_options,
        max_vcpus,
        max_event_channel_port,
        max_grant_frames,
        max_maptrack_frames,
        grant_options,
        vmtrace_size,
        cpupool_id,
        arch: ArchDomainConfig {
            emulation_flags,
            misc_flags: maker.zero() as u32,
        },
        ..CreateDomain::default()
    });
    request
}

/// Any other operation.
pub fn make(maker: &mut Maker<'_>, operation: u32, subject: &Subject) -> Domctl {
    let mut request = Domctl::new(operation, subject.domain);
    match operation {
        op::MAX_VCPUS => request.set_view(&MaxVcpus {
            max: maker.number32(subject.vcpus),
        }),
        op::MAX_MEMORY => {
            let valid = (subject.pages + maker.numbers.within(8, 64)) * 4;
            request.set_view(&MaxMemory {
                kibibytes: maker.number(valid),
            });
        }
        op::SET_DOMAIN_HANDLE => request.set_view(&SetDomainHandle {
            handle: u128::from(maker.numbers.next()).to_le_bytes(),
        }),
        op::SET_NODE_AFFINITY | op::GET_NODE_AFFINITY => {
            let nodes = bitmap(maker, 1);
            request.set_view(&NodeAffinity { nodes });
        }
        op::SCHEDULER_OP => scheduling(maker, &mut request),
        op::SET_PAGING_MEMPOOL_SIZE => {
            let valid = maker.numbers.below(1024) << 12;
            request.set_view(&PagingMempool {
                bytes: maker.number(valid),
            });
        }
        op::SET_VCPU_AFFINITY | op::GET_VCPU_AFFINITY => {
            let (vcpu, valid) = (maker.vcpu_of(subject.vcpus), maker.numbers.within(1, 3) as u32);
            let flags = maker.number32(valid);
            let all = maker.numbers.pick(&[u64::MAX, u64::MAX, 1, 2, 3]);
            let (hard, soft) = (bitmap(maker, all), bitmap(maker, all));
            request.set_view(&VcpuAffinity {
                vcpu,
                flags: flags
                    | if maker.numbers.chance(1, 8) {
                        affinity_flag::FORCE
                    } else {
                        0
                    },
                hard,
                soft,
            });
        }
        op::GET_VCPU_INFO => request.set_view(&VcpuInfo {
            vcpu: maker.vcpu_of(subject.vcpus),
            ..VcpuInfo::default()
        }),
        op::SEND_TRIGGER => {
            let (trigger, vcpu) = (maker.number32(trigger::NMI), maker.vcpu_of(subject.vcpus));
            request.set_view(&SendTrigger { trigger, vcpu });
        }
        op::GET_HVM_CONTEXT => {
            let needed = context_size(subject.vcpus);
            let asks = maker.numbers.chance(1, 4);
            let buffer = if asks { 0 } else { maker.room(needed) };
            request.set_view(&HvmContext {
                size: maker.number32(needed as u32),
                _padding: 0,
                buffer: GuestHandle::new(buffer),
            });
        }
        op::SET_HVM_CONTEXT => context(maker, &mut request, subject.vcpus),
        op::SET_CPU_POLICY => narrower_policy(maker, &mut request),
        op::GET_CPU_POLICY => {
            let asks = maker.numbers.chance(1, 4);
            let leaves = if asks {
                0
            } else {
                maker.room(128 * size_of::<CpuidLeaf>() as u64)
            };
            request.set_view(&CpuPolicy {
                number_of_leaves: maker.number32(128),
                number_of_msrs: maker.number32(8),
                leaves: GuestHandle::new(leaves),
                msrs: GuestHandle::new(if asks { 0 } else { maker.room(128) }),
                ..CpuPolicy::default()
            });
        }
        op::SET_TSC_INFO => {
            let valid = maker.numbers.pick(&[0, 2]);
            request.set_view(&TscInfo {
                mode: maker.number32(valid),
                ..TscInfo::default()
            });
        }
        op::CREATE_DOMAIN
        | op::DESTROY_DOMAIN
        | op::PAUSE_DOMAIN
        | op::UNPAUSE_DOMAIN
        | op::GET_DOMAIN_INFO
        | op::GET_PAGING_MEMPOOL_SIZE
        | op::GET_TSC_INFO
        | op::GET_ADDRESS_SIZE => {}
        _ => request.payload = core::array::from_fn(|_| maker.numbers.word()),
    }
    request
}

/// A set of CPUs or nodes.
pub fn bitmap(maker: &mut Maker<'_>, bits: u64) -> ControlBitmap {
    let valid = maker.numbers.pick(&[1, 2, 8, 64, 64, 64, 256]);
    let nr_bits = if maker.wrong() {
        maker.numbers.pick(&[0, 7, 4096, 4097, u32::MAX])
    } else {
        valid
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&bits.to_le_bytes());
    let address = maker.array(&bytes);
    ControlBitmap {
        bitmap: GuestHandle::new(address),
        nr_bits,
        _padding: 0,
    }
}

fn scheduling(maker: &mut Maker<'_>, request: &mut Domctl) {
    let weight = maker.numbers.pick(&[256, 256, 1, 16, 512, 2048, 65535]);
    let cap = maker.numbers.pick(&[0, 0, 0, 1, 25, 50, 100, 150]);
    let share = SchedCredit2 {
        weight: maker.number(weight) as u16,
        cap: maker.number(cap) as u16,
    };
    let valid = maker
        .numbers
        .pick(&[scheduler_command::GET_INFO, scheduler_command::PUT_INFO]);
    let command = maker.number32(valid);
    let kind = maker.numbers.pick(&[
        scheduler::CREDIT2,
        scheduler::CREDIT2,
        scheduler::CREDIT2,
        scheduler::NULL,
    ]);
    request.set_view(&SchedulerOp {
        scheduler: maker.number32(kind),
        command,
        parameters: payload::of(&share),
    });
}

/// What every guest has and may lose: the last bits of the feature words are left alone.
fn narrower_policy(maker: &mut Maker<'_>, request: &mut Domctl) {
    let mut leaves: heapless::Vec<CpuidLeaf, 8> = heapless::Vec::new();
    for _ in 0..maker.numbers.within(1, 4) {
        // Topology, caches, names: leaves whose contents are not features; or features that are all taken away.
        let (leaf, subleaf) = maker.numbers.pick(&[
            (4, 0),
            (4, 1),
            (0xb, 0),
            (0xb, 1),
            (2, cpu_policy::NO_SUBLEAF),
            (0, cpu_policy::NO_SUBLEAF),
            (1, cpu_policy::NO_SUBLEAF),
            (0xd, 0),
            (0xd, 2),
            (0x4000_0000, cpu_policy::NO_SUBLEAF),
            (0x8000_0001, cpu_policy::NO_SUBLEAF),
            (0x8000_0008, cpu_policy::NO_SUBLEAF),
            (7, 0),
            (7, 1),
            (0xd, 1),
            (0x8000_0002, cpu_policy::NO_SUBLEAF),
            (0x8000_0007, cpu_policy::NO_SUBLEAF),
        ]);
        let features = matches!(leaf, 0 | 1 | 7 | 0xd | 0x8000_0001 | 0x8000_0007 | 0x8000_0008);
        let values: [u32; 4] =
            core::array::from_fn(|_| if features { 0 } else { maker.numbers.next() as u32 });
        let [a, b, c, d] = values;
        let entry = CpuidLeaf {
            leaf: maker.number32(leaf),
            subleaf: maker.number32(subleaf),
            a: maker.number32(a),
            b,
            c,
            d: maker.number32(d),
        };
        // There is room for four.
        let _ = leaves.push(entry);
    }
    let count = maker.number32(leaves.len() as u32);
    let address = maker.array(&leaves);
    let msr = MsrEntry {
        index: 0xce,
        flags: maker.zero() as u32,
        value: maker.zero(),
    };
    let with_msr = maker.numbers.chance(1, 3);
    let msrs = if with_msr { maker.array(&[msr]) } else { 0 };
    request.set_view(&CpuPolicy {
        number_of_leaves: count,
        number_of_msrs: maker.number32(u32::from(with_msr)),
        leaves: GuestHandle::new(address),
        msrs: GuestHandle::new(msrs),
        ..CpuPolicy::default()
    });
}

/// The state of vCPU 0 and perhaps others at their first instruction: 64-bit code without paging, the mode in which the
/// guests of simulated machines call.
fn context(maker: &mut Maker<'_>, request: &mut Domctl, vcpus: u32) {
    let mut bytes: heapless::Vec<u8, 4096> = heapless::Vec::new();
    let header = Header {
        magic: maker.number32(MAGIC),
        version: maker.number32(VERSION),
        changeset: 0,
        cpuid: 0x0060_0fb1,
        tsc_khz: 1_000_000,
    };
    record(maker, &mut bytes, kind::HEADER, 0, header.as_bytes());
    for vcpu in 0..vcpus.min(3) {
        let cpu = flat_state(maker);
        let instance = maker.number32(vcpu) as u16;
        record(maker, &mut bytes, kind::CPU, instance, cpu.as_bytes());
    }
    // What Xen's tools set as well, and the core knows already.
    if maker.numbers.chance(1, 3) {
        record(maker, &mut bytes, kind::MTRR, 0, Mtrr::default().as_bytes());
    }
    let kind = if maker.wrong() {
        maker.numbers.below(24) as u16
    } else {
        kind::END
    };
    record(maker, &mut bytes, kind, 0, &[]);
    let size = maker.number32(bytes.len() as u32);
    let address = maker.array(&bytes);
    request.set_view(&HvmContext {
        size,
        _padding: 0,
        buffer: GuestHandle::new(address),
    });
}

fn record(maker: &mut Maker<'_>, bytes: &mut heapless::Vec<u8, 4096>, kind: u16, instance: u16, body: &[u8]) {
    let descriptor = Descriptor {
        kind,
        instance,
        length: maker.number32(body.len() as u32),
    };
    // Three vCPUs' records fit.
    let _ = bytes.extend_from_slice(descriptor.as_bytes());
    let _ = bytes.extend_from_slice(body);
}

fn flat_state(maker: &mut Maker<'_>) -> Cpu {
    /// Long mode enabled and active.
    const EFER: u64 = (1 << 8) | (1 << 10);
    const FLAGS: u64 = (1 << 9) | 2;
    const CODE: u32 = 0xa9b;
    const DATA: u32 = 0xc93;
    Cpu {
        rip: 0x1000,
        rflags: FLAGS,
        cr0: if maker.wrong() {
            maker.numbers.pick(&[1 << 31, u64::MAX, 1 << 32, 0])
        } else {
            0x11
        },
        msr_efer: EFER,
        cs_limit: u32::MAX,
        ds_limit: u32::MAX,
        ss_limit: u32::MAX,
        tr_limit: 0x67,
        cs_attributes: CODE,
        ds_attributes: DATA,
        es_attributes: DATA,
        ss_attributes: DATA,
        tr_attributes: 0x8b,
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        ..Cpu::default()
    }
}
