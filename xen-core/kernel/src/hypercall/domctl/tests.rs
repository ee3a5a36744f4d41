//! The toolstack's calls about one domain: asked well, badly, without privilege, and over a whole life.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use hypercall_abi::domctl::*;
use hypercall_abi::hvm::save::{Cpu, Descriptor, Header, Mtrr, kind};
use hypercall_abi::hypercall::number::{DOMCTL, MEMORY_OP, SYSCTL};
use hypercall_abi::memory::{MemoryReservation, op as memory};
use hypercall_abi::sysctl::{self, Sysctl};
use hypercall_abi::xen::{ArchDomainConfig, ControlBitmap, CpuidLeaf, MsrEntry, emulation, virq};
use hypercall_abi::{DomainId, Error, GuestHandle};
use machine::Machine;
use machine::fake::set_processor;
use machine::virtual_cpu::{Exit, register};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::testing::{self, TestDomain, TestKernel, TestVcpu};

/// Where arguments, and what they point to, lie in the privileged domain's memory.
const ARGUMENT: u64 = 0x100;
const BUFFER: u64 = 0x1000;
const PAGES: u64 = 32;

struct Tools {
    kernel: TestKernel,
    control: TestDomain,
    caller: TestVcpu,
}

impl Tools {
    fn new() -> Tools {
        set_processor(0);
        let kernel = testing::kernel();
        let control = testing::domain(&kernel, 0, 2, PAGES);
        let caller = testing::vcpu(&control, 0);
        Tools {
            kernel,
            control,
            caller,
        }
    }

    fn send(&self, request: &Domctl) -> (i64, Domctl) {
        testing::poke(&self.control, ARGUMENT, request);
        let result = testing::hypercall(&self.kernel, &self.caller, DOMCTL, &[ARGUMENT]);
        (result, testing::peek(&self.control, ARGUMENT))
    }

    fn call<T: IntoBytes + FromBytes + Immutable>(
        &self,
        command: u32,
        domain: DomainId,
        view: &T,
    ) -> (i64, T) {
        let mut request = Domctl::new(command, domain);
        request.set_view(view);
        let (result, reply) = self.send(&request);
        (result, reply.view())
    }

    fn plain(&self, command: u32, domain: DomainId) -> i64 {
        self.call(command, domain, &0u64).0
    }

    fn create(&self, wanted: &CreateDomain) -> Result<DomainId, i64> {
        let mut request = Domctl::new(op::CREATE_DOMAIN, DomainId(u16::MAX));
        request.set_view(wanted);
        match self.send(&request) {
            (0, reply) => Ok(reply.domain),
            (error, _) => Err(error),
        }
    }

    /// A domain with its vCPUs allotted, as the toolstack leaves it before it gives it memory.
    fn made(&self, vcpus: u32) -> DomainId {
        let id = self.create(&pvh(vcpus)).expect("a domain");
        assert_eq!(self.call(op::MAX_VCPUS, id, &MaxVcpus { max: vcpus }).0, 0);
        id
    }

    fn domain(&self, id: DomainId) -> TestDomain {
        self.kernel.domains.get(id).expect("a domain of that number")
    }

    fn info(&self, id: DomainId) -> DomainInfo {
        let (result, info) = self.call(op::GET_DOMAIN_INFO, id, &DomainInfo::default());
        assert_eq!(result, 0);
        info
    }

    fn free(&self) -> u64 {
        self.kernel.machine.memory().free_frames()
    }

    fn bytes(&self, at: u64, length: usize) -> Vec<u8> {
        (0..length as u64)
            .map(|offset| testing::peek(&self.control, at + offset))
            .collect()
    }
}

fn pvh(vcpus: u32) -> CreateDomain {
    CreateDomain {
        handle: [7; 16],
        flags: create_flag::HVM | create_flag::HAP,
        max_vcpus: vcpus,
        max_event_channel_port: 1023,
        max_grant_frames: -1,
        max_maptrack_frames: -1,
        grant_options: 2,
        arch: ArchDomainConfig {
            emulation_flags: emulation::LAPIC,
            misc_flags: 0,
        },
        ..CreateDomain::default()
    }
}

fn push(records: &mut Vec<u8>, kind: u16, instance: u16, body: &[u8]) {
    let descriptor = Descriptor {
        kind,
        instance,
        length: body.len() as u32,
    };
    records.extend_from_slice(descriptor.as_bytes());
    records.extend_from_slice(body);
}

/// PVH's entry state, as the domain builder writes it.
fn entry_state(rip: u64) -> Cpu {
    Cpu {
        rip,
        rflags: 2,
        rbx: 0x5000,
        cr0: 0x11,
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        cs_limit: u32::MAX,
        cs_attributes: 0xc9b,
        ds_limit: u32::MAX,
        ds_attributes: 0xc93,
        es_limit: u32::MAX,
        es_attributes: 0xc93,
        ss_limit: u32::MAX,
        ss_attributes: 0xc93,
        tr_limit: 0x67,
        tr_attributes: 0x8b,
        ..Cpu::default()
    }
}

/// What the kernel would have said of itself: the first record, as taken from a saved context.
fn header(tools: &Tools, id: DomainId) -> Vec<u8> {
    let saved = saved_context(tools, id);
    saved[size_of::<Descriptor>()..size_of::<Descriptor>() + size_of::<Header>()].to_vec()
}

fn saved_context(tools: &Tools, id: DomainId) -> Vec<u8> {
    let (result, sized) = tools.call(op::GET_HVM_CONTEXT, id, &HvmContext::default());
    assert_eq!(result, 0);
    let buffer = HvmContext {
        size: sized.size,
        buffer: GuestHandle::new(BUFFER),
        ..HvmContext::default()
    };
    let (result, got) = tools.call(op::GET_HVM_CONTEXT, id, &buffer);
    assert_eq!((result, got.size), (0, sized.size));
    tools.bytes(BUFFER, got.size as usize)
}

fn set_context(tools: &Tools, id: DomainId, records: &[u8]) -> i64 {
    testing::poke(&tools.control, BUFFER, records);
    let request = HvmContext {
        size: records.len() as u32,
        buffer: GuestHandle::new(BUFFER),
        ..HvmContext::default()
    };
    tools.call(op::SET_HVM_CONTEXT, id, &request).0
}

fn populate(tools: &Tools, id: DomainId, frames: &[u64]) -> i64 {
    testing::poke(&tools.control, BUFFER, frames);
    let request = MemoryReservation {
        extent_start: GuestHandle::new(BUFFER),
        number_of_extents: frames.len() as u64,
        domain: id,
        ..MemoryReservation::default()
    };
    testing::poke(&tools.control, ARGUMENT, &request);
    let arguments = [u64::from(memory::POPULATE_PHYSMAP), ARGUMENT];
    testing::hypercall(&tools.kernel, &tools.caller, MEMORY_OP, &arguments)
}

#[test]
fn a_whole_life_gives_everything_back() {
    let tools = Tools::new();
    let before = tools.free();
    let id = tools.create(&pvh(2)).expect("a domain");
    // What Xen's tools were seen to read of a new domain: hardware-assisted, paused, nothing known of its end.
    let info = tools.info(id);
    assert_eq!(info.flags, 0xffff_010a);
    assert_eq!(
        (info.max_vcpu_id, info.number_of_online_vcpus),
        (INVALID_MAX_VCPU_ID, 0)
    );
    assert_eq!(
        (info.domain, info.handle, info.guest_physical_address_bits),
        (id, [7; 16], 40)
    );

    assert_eq!(tools.call(op::MAX_VCPUS, id, &MaxVcpus { max: 2 }).0, 0);
    assert_eq!(
        tools.call(op::MAX_MEMORY, id, &MaxMemory { kibibytes: 1024 }).0,
        0
    );
    assert_eq!(tools.call(op::SET_TSC_INFO, id, &TscInfo::default()).0, 0);
    let pool = PagingMempool { bytes: 0x1c_0000 };
    assert_eq!(tools.call(op::SET_PAGING_MEMPOOL_SIZE, id, &pool).0, 0);
    assert_eq!(
        tools.call(op::GET_PAGING_MEMPOOL_SIZE, id, &PagingMempool::default()),
        (0, pool)
    );
    let frames: Vec<u64> = (0..100).collect();
    assert_eq!(populate(&tools, id, &frames), 100);
    let info = tools.info(id);
    assert_eq!(
        (info.total_pages, info.max_pages, info.max_vcpu_id),
        (100, 256, 1)
    );

    let mut records = Vec::new();
    push(&mut records, kind::HEADER, 0, &header(&tools, id));
    push(&mut records, kind::CPU, 0, entry_state(0x10_0000).as_bytes());
    push(&mut records, kind::END, 0, &[]);
    assert_eq!(set_context(&tools, id, &records), 0);
    let domain = tools.domain(id);
    let vcpu = testing::vcpu(&domain, 0);
    {
        let mut context = vcpu.context.lock();
        assert_eq!(
            (context.state.registers.rip, context.state.cs.attributes),
            (0x10_0000, 0xc9b)
        );
        assert_eq!(context.state.registers.general[register::RBX], 0x5000);
        context.set_program(alloc::boxed::Box::new(|vcpu| {
            vcpu.set_interrupts_enabled(true);
            Exit::Halt
        }));
    }
    // Paused: it gets no processor.
    tools.kernel.step();
    assert_eq!(vcpu.context.lock().runs, 0);
    assert_eq!(tools.plain(op::UNPAUSE_DOMAIN, id), 0);
    tools.kernel.step();
    assert_eq!(vcpu.context.lock().runs, 1);
    let info = tools.info(id);
    assert_eq!(
        info.number_of_online_vcpus, 1,
        "the second waits for its start-up"
    );
    assert_eq!(
        info.flags & 0xffff,
        info_flag::HVM_GUEST | info_flag::HAP | info_flag::BLOCKED
    );

    assert_eq!(tools.plain(op::PAUSE_DOMAIN, id), 0);
    assert_eq!(tools.plain(op::DESTROY_DOMAIN, id), 0);
    assert_eq!(tools.plain(op::GET_DOMAIN_INFO, id), Error::ESRCH.as_result());
    assert_eq!(tools.plain(op::DESTROY_DOMAIN, id), Error::ESRCH.as_result());
    drop((vcpu, domain));
    assert_eq!(tools.free(), before);
}

#[test]
fn the_end_of_a_domain_is_announced() {
    let tools = Tools::new();
    let port = tools.kernel.bind_virq(&tools.control, virq::DOMAIN_EXCEPTION, 0);
    let port = port.expect("a port");
    let id = tools.made(1);
    let domain = tools.domain(id);
    tools.kernel.shutdown_domain(&domain, 3);
    assert_eq!(tools.kernel.is_pending(&tools.control, port), Ok(true));
    let info = tools.info(id);
    assert_eq!(info.shutdown_reason(), Some(3));
    assert_eq!(info.flags >> info_flag::SHUTDOWN_SHIFT, 3);
    // A second end is none, and the reason stays.
    tools.kernel.shutdown_domain(&domain, 0);
    assert_eq!(tools.info(id).shutdown_reason(), Some(3));
}

#[test]
fn only_the_privileged_and_only_this_version() {
    let tools = Tools::new();
    let guest = testing::domain(&tools.kernel, 5, 1, 4);
    let outsider = testing::vcpu(&guest, 0);
    for command in 0..100 {
        for id in [0, 5, 99, DomainId::SELF.0] {
            testing::poke(&guest, ARGUMENT, &Domctl::new(command, DomainId(id)));
            let result = testing::hypercall(&tools.kernel, &outsider, DOMCTL, &[ARGUMENT]);
            assert_eq!(result, Error::EPERM.as_result(), "{command} of {id}");
        }
    }
    let mut request = Domctl::new(op::GET_DOMAIN_INFO, DomainId(0));
    request.interface_version = 0x14;
    assert_eq!(tools.send(&request).0, Error::EACCES.as_result());
    let fault = testing::hypercall(&tools.kernel, &tools.caller, DOMCTL, &[PAGES << 12]);
    assert_eq!(fault, Error::EFAULT.as_result());
    assert_eq!(tools.plain(9999, DomainId(5)), Error::ENOSYS.as_result());
    assert_eq!(tools.plain(9999, DomainId(98)), Error::ESRCH.as_result());
    assert_eq!(
        tools.plain(op::PAUSE_DOMAIN, DomainId::SELF),
        Error::ESRCH.as_result()
    );
}

#[test]
fn domains_that_cannot_be_are_not_made() {
    let tools = Tools::new();
    let before = tools.free();
    type Change = fn(&mut CreateDomain);
    let bad: [(Change, Error); 16] = [
        (|wanted| wanted.flags = 0, Error::EINVAL),
        (|wanted| wanted.flags |= create_flag::IOMMU, Error::EINVAL),
        (
            |wanted| wanted.flags |= create_flag::NESTED_VIRTUALISATION,
            Error::EINVAL,
        ),
        (|wanted| wanted.flags |= 1 << 31, Error::EINVAL),
        (|wanted| wanted.max_vcpus = 0, Error::EINVAL),
        (|wanted| wanted.max_vcpus = 129, Error::EINVAL),
        (|wanted| wanted.max_vcpus = u32::MAX, Error::EINVAL),
        (|wanted| wanted.arch.emulation_flags = 0, Error::EINVAL),
        (|wanted| wanted.arch.emulation_flags = u32::MAX, Error::EINVAL),
        (|wanted| wanted.arch.misc_flags = 1, Error::EINVAL),
        (|wanted| wanted.iommu_options = 1, Error::EINVAL),
        (|wanted| wanted.grant_options = 0, Error::EINVAL),
        (|wanted| wanted.grant_options = 3, Error::EINVAL),
        (|wanted| wanted.max_grant_frames = i32::MAX, Error::EINVAL),
        (|wanted| wanted.max_maptrack_frames = i32::MAX, Error::EINVAL),
        (|wanted| wanted.cpupool_id = 1, Error::ENOENT),
    ];
    for (index, (change, error)) in bad.into_iter().enumerate() {
        let mut wanted = pvh(1);
        change(&mut wanted);
        assert_eq!(tools.create(&wanted), Err(error.as_result()), "number {index}");
    }
    // A number that is taken, and one that is not.
    let mut request = Domctl::new(op::CREATE_DOMAIN, DomainId(9));
    request.set_view(&pvh(1));
    assert_eq!(tools.send(&request), (0, request));
    assert_eq!(tools.send(&request).0, Error::EEXIST.as_result());
    assert_eq!(tools.plain(op::DESTROY_DOMAIN, DomainId(9)), 0);
    tools.kernel.machine.set_heap_available(1000);
    assert_eq!(tools.create(&pvh(1)), Err(Error::ENOMEM.as_result()));
    assert_eq!(tools.free(), before);
}

#[test]
fn pauses_are_counted() {
    let tools = Tools::new();
    let id = tools.made(1);
    // One from creation; 255 is the limit.
    for _ in 1..255 {
        assert_eq!(tools.plain(op::PAUSE_DOMAIN, id), 0);
    }
    assert_eq!(tools.plain(op::PAUSE_DOMAIN, id), Error::EOVERFLOW.as_result());
    for _ in 0..254 {
        assert_eq!(tools.plain(op::UNPAUSE_DOMAIN, id), 0);
        assert!(tools.info(id).flags & info_flag::PAUSED != 0);
    }
    assert_eq!(tools.plain(op::UNPAUSE_DOMAIN, id), 0);
    assert_eq!(tools.plain(op::UNPAUSE_DOMAIN, id), Error::EINVAL.as_result());
    assert_eq!(tools.info(id).flags & info_flag::PAUSED, 0);
    for command in [op::PAUSE_DOMAIN, op::DESTROY_DOMAIN] {
        assert_eq!(tools.plain(command, DomainId(0)), Error::EINVAL.as_result());
    }
}

#[test]
fn limits_are_checked() {
    let tools = Tools::new();
    let id = tools.create(&pvh(2)).expect("a domain");
    for max in [0, 1, 3, u32::MAX] {
        assert_eq!(
            tools.call(op::MAX_VCPUS, id, &MaxVcpus { max }).0,
            Error::EINVAL.as_result()
        );
    }
    for bytes in [1, 4097, 1 << 44] {
        let pool = PagingMempool { bytes };
        assert_eq!(
            tools.call(op::SET_PAGING_MEMPOOL_SIZE, id, &pool).0,
            Error::EINVAL.as_result()
        );
    }
    let handle = SetDomainHandle { handle: [3; 16] };
    assert_eq!(tools.call(op::SET_DOMAIN_HANDLE, id, &handle).0, 0);
    assert_eq!(tools.info(id).handle, [3; 16]);
    let tsc = TscInfo {
        mode: 1,
        ..TscInfo::default()
    };
    assert_eq!(
        tools.call(op::SET_TSC_INFO, id, &tsc).0,
        Error::EOPNOTSUPP.as_result()
    );
    assert_eq!(
        tools.call(op::SET_TSC_INFO, DomainId(0), &TscInfo::default()).0,
        Error::EINVAL.as_result()
    );
    assert_eq!(
        tools.call(op::GET_ADDRESS_SIZE, id, &AddressSize::default()),
        (0, AddressSize { size: 64 })
    );
    assert_eq!(
        tools.plain(op::SET_VCPU_CONTEXT, id),
        Error::EOPNOTSUPP.as_result()
    );
}

#[test]
fn listing_walks_from_one_domain_to_the_next() {
    let tools = Tools::new();
    let first = tools.made(1);
    let second = tools.made(1);
    assert_eq!(tools.info(DomainId(0)).domain, DomainId(0));
    assert_eq!(tools.info(DomainId(1)).domain, first);
    assert_eq!(tools.info(DomainId(first.0 + 1)).domain, second);
    let (result, _) = tools.call(
        op::GET_DOMAIN_INFO,
        DomainId(second.0 + 1),
        &DomainInfo::default(),
    );
    assert_eq!(result, Error::ESRCH.as_result());
    let (result, _) = tools.call(op::GET_DOMAIN_INFO, DomainId::SELF, &DomainInfo::default());
    assert_eq!(result, Error::EINVAL.as_result());
    let control = tools.info(DomainId(0));
    assert_eq!(
        control.arch_config.emulation_flags,
        emulation::LAPIC | emulation::IOAPIC
    );
}

#[test]
fn a_domain_has_a_weight_and_a_cap() {
    let tools = Tools::new();
    let id = tools.made(1);
    let ask = SchedulerOp {
        scheduler: scheduler::CREDIT2,
        command: scheduler_command::GET_INFO,
        ..SchedulerOp::default()
    };
    let (result, mut got) = tools.call(op::SCHEDULER_OP, id, &ask);
    assert_eq!((result, got.parameters[0]), (0, 256));
    got.command = scheduler_command::PUT_INFO;
    for (weight, cap, answer) in [
        (65535, 0, 0),
        (1, 100, 0),
        (512, 25, 0),
        (0, 25, Error::EINVAL.as_result()),
        (512, 101, Error::EINVAL.as_result()),
    ] {
        got.parameters[0] = weight | (cap << 16);
        assert_eq!(tools.call(op::SCHEDULER_OP, id, &got).0, answer, "{weight} {cap}");
    }
    let (_, kept) = tools.call(op::SCHEDULER_OP, id, &ask);
    assert_eq!(
        kept.parameters[0],
        512 | (25 << 16),
        "what is refused changes nothing"
    );
    got.command = scheduler_command::GET_VCPU_INFO;
    assert_eq!(
        tools.call(op::SCHEDULER_OP, id, &got).0,
        Error::EOPNOTSUPP.as_result()
    );
    got.scheduler = scheduler::RTDS;
    assert_eq!(
        tools.call(op::SCHEDULER_OP, id, &got).0,
        Error::EINVAL.as_result()
    );
}

fn bitmap(at: u64, bits: u32) -> ControlBitmap {
    ControlBitmap {
        bitmap: GuestHandle::new(at),
        nr_bits: bits,
        ..ControlBitmap::default()
    }
}

#[test]
fn affinity_is_set_and_read() {
    let tools = Tools::new();
    let id = tools.made(1);
    let place = |flags: u32, vcpu: u32| VcpuAffinity {
        vcpu,
        flags,
        hard: bitmap(BUFFER, 64),
        soft: bitmap(BUFFER + 16, 64),
    };
    testing::poke(&tools.control, BUFFER, &[2u64, 0, 1, 0]);
    assert_eq!(
        tools
            .call(
                op::SET_VCPU_AFFINITY,
                id,
                &place(affinity_flag::HARD | affinity_flag::SOFT, 0)
            )
            .0,
        0
    );
    testing::poke(&tools.control, BUFFER, &[u64::MAX; 4]);
    assert_eq!(
        tools
            .call(
                op::GET_VCPU_AFFINITY,
                id,
                &place(affinity_flag::HARD | affinity_flag::SOFT, 0)
            )
            .0,
        0
    );
    assert_eq!(
        testing::peek::<[u64; 3]>(&tools.control, BUFFER),
        [2, u64::MAX, 1]
    );
    // Nowhere that exists, no flags, no buffer, no such vCPU.
    testing::poke(&tools.control, BUFFER, &[4u64]);
    let refused = |request: &VcpuAffinity| tools.call(op::SET_VCPU_AFFINITY, id, request).0;
    assert_eq!(refused(&place(affinity_flag::HARD, 0)), Error::EINVAL.as_result());
    assert_eq!(refused(&place(0, 0)), Error::EINVAL.as_result());
    assert_eq!(refused(&place(affinity_flag::SOFT, 1)), Error::EINVAL.as_result());
    let nowhere = VcpuAffinity {
        soft: bitmap(0, 64),
        ..place(affinity_flag::SOFT, 0)
    };
    assert_eq!(refused(&nowhere), Error::EINVAL.as_result());
    let long = VcpuAffinity {
        soft: bitmap(BUFFER, u32::MAX),
        ..place(affinity_flag::SOFT, 0)
    };
    assert_eq!(refused(&long), Error::EINVAL.as_result());
    let nodes = |at: u64| NodeAffinity {
        nodes: bitmap(at, 64),
    };
    testing::poke(&tools.control, BUFFER, &[1u64]);
    assert_eq!(tools.call(op::SET_NODE_AFFINITY, id, &nodes(BUFFER)).0, 0);
    testing::poke(&tools.control, BUFFER, &[2u64]);
    assert_eq!(
        tools.call(op::SET_NODE_AFFINITY, id, &nodes(BUFFER)).0,
        Error::EINVAL.as_result()
    );
    assert_eq!(tools.call(op::GET_NODE_AFFINITY, id, &nodes(BUFFER)).0, 0);
    assert_eq!(testing::peek::<u64>(&tools.control, BUFFER), 1);
    assert_eq!(
        tools.call(op::GET_NODE_AFFINITY, id, &nodes(PAGES << 12)).0,
        Error::EFAULT.as_result()
    );
}

#[test]
fn one_vcpu_as_the_toolstack_sees_it() {
    let tools = Tools::new();
    let id = tools.made(1);
    let (result, info) = tools.call(op::GET_VCPU_INFO, id, &VcpuInfo::default());
    assert_eq!((result, info.online, info.running), (0, 0, 0));
    let beyond = VcpuInfo {
        vcpu: 1,
        ..VcpuInfo::default()
    };
    assert_eq!(
        tools.call(op::GET_VCPU_INFO, id, &beyond).0,
        Error::EINVAL.as_result()
    );
    let nmi = SendTrigger {
        trigger: trigger::NMI,
        vcpu: 0,
    };
    assert_eq!(tools.call(op::SEND_TRIGGER, id, &nmi).0, 0);
    assert!(tools.domain(id).vcpus[0].nmi_pending.load(Ordering::SeqCst));
    let power = SendTrigger {
        trigger: trigger::POWER,
        vcpu: 0,
    };
    assert_eq!(
        tools.call(op::SEND_TRIGGER, id, &power).0,
        Error::ENOSYS.as_result()
    );
    let nobody = SendTrigger {
        trigger: trigger::NMI,
        vcpu: 1,
    };
    assert_eq!(
        tools.call(op::SEND_TRIGGER, id, &nobody).0,
        Error::ESRCH.as_result()
    );
}

#[test]
fn a_context_has_what_domain_builders_look_for() {
    let tools = Tools::new();
    let id = tools.made(2);
    let saved = saved_context(&tools, id);
    let mut kinds = Vec::new();
    let mut rest = saved.as_slice();
    while let Ok((descriptor, behind)) = Descriptor::read_from_prefix(rest) {
        kinds.push((descriptor.kind, descriptor.instance, descriptor.length as usize));
        rest = &behind[descriptor.length as usize..];
    }
    let (cpu, mtrr) = (size_of::<Cpu>(), size_of::<Mtrr>());
    let expected = [
        (kind::HEADER, 0, size_of::<Header>()),
        (kind::CPU, 0, cpu),
        (kind::CPU, 1, cpu),
        (kind::MTRR, 0, mtrr),
        (kind::MTRR, 1, mtrr),
        (kind::END, 0, 0),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(set_context(&tools, id, &saved), 0, "what was saved can be loaded");
    let small = HvmContext {
        size: saved.len() as u32 - 1,
        buffer: GuestHandle::new(BUFFER),
        ..HvmContext::default()
    };
    assert_eq!(
        tools.call(op::GET_HVM_CONTEXT, id, &small).0,
        Error::ENOSPC.as_result()
    );
    assert_eq!(
        tools.call(op::GET_HVM_CONTEXT, DomainId(0), &small).0,
        Error::EINVAL.as_result()
    );
}

#[test]
fn contexts_that_make_no_sense_change_nothing() {
    let tools = Tools::new();
    let id = tools.made(1);
    let header = header(&tools, id);
    let good = entry_state(0x1234);
    let records = |parts: &[(u16, u16, &[u8])]| {
        let mut records = Vec::new();
        parts
            .iter()
            .for_each(|&(kind, instance, body)| push(&mut records, kind, instance, body));
        records
    };
    let cpu = (kind::CPU, 0, good.as_bytes());
    let head = (kind::HEADER, 0, header.as_slice());
    let end = (kind::END, 0, &[][..]);
    let mut wrong_magic = header.clone();
    wrong_magic[0] ^= 1;
    let unpaged = Cpu { cr0: 1 << 31, ..good };
    let wrong: [(Vec<u8>, Error); 9] = [
        (Vec::new(), Error::EINVAL),
        (records(&[head, cpu]), Error::EINVAL),
        (records(&[cpu, end]), Error::EINVAL),
        (
            records(&[(kind::HEADER, 0, &wrong_magic), cpu, end]),
            Error::EINVAL,
        ),
        (
            records(&[head, (kind::CPU, 1, good.as_bytes()), end]),
            Error::EINVAL,
        ),
        (
            records(&[head, (kind::CPU, 0, &good.as_bytes()[1..]), end]),
            Error::EINVAL,
        ),
        (
            records(&[head, (kind::CPU, 0, unpaged.as_bytes()), end]),
            Error::EINVAL,
        ),
        (
            records(&[head, cpu, (kind::MTRR, 0, &[0; 8]), end]),
            Error::EINVAL,
        ),
        (
            records(&[head, cpu, (kind::HPET, 0, &[0; 8]), end]),
            Error::EOPNOTSUPP,
        ),
    ];
    for (index, (records, error)) in wrong.iter().enumerate() {
        assert_eq!(
            set_context(&tools, id, records),
            error.as_result(),
            "number {index}"
        );
    }
    let domain = tools.domain(id);
    assert!(!domain.vcpus[0].is_up());
    assert_ne!(domain.vcpus[0].context.lock().state.registers.rip, 0x1234);
    // Lengths that lie.
    let huge = HvmContext {
        size: u32::MAX,
        buffer: GuestHandle::new(BUFFER),
        ..HvmContext::default()
    };
    assert_eq!(
        tools.call(op::SET_HVM_CONTEXT, id, &huge).0,
        Error::EINVAL.as_result()
    );
    let mut records = records(&[head]);
    records.extend_from_slice(
        Descriptor {
            kind: kind::CPU,
            instance: 0,
            length: u32::MAX,
        }
        .as_bytes(),
    );
    assert_eq!(set_context(&tools, id, &records), Error::EINVAL.as_result());
    let hole = HvmContext {
        size: 64,
        buffer: GuestHandle::new(PAGES << 12),
        ..HvmContext::default()
    };
    assert_eq!(
        tools.call(op::SET_HVM_CONTEXT, id, &hole).0,
        Error::EFAULT.as_result()
    );
}

/// The default policy as the toolstack gets it: by asking how much, then for all.
fn default_leaves(tools: &Tools) -> Vec<CpuidLeaf> {
    let mut wanted = sysctl::CpuPolicy {
        index: sysctl::policy::HVM_DEFAULT,
        ..Default::default()
    };
    for _ in 0..2 {
        let mut request = Sysctl::new(sysctl::op::GET_CPU_POLICY);
        request.set_view(&wanted);
        testing::poke(&tools.control, ARGUMENT, &request);
        assert_eq!(
            testing::hypercall(&tools.kernel, &tools.caller, SYSCTL, &[ARGUMENT]),
            0
        );
        wanted = testing::peek::<Sysctl>(&tools.control, ARGUMENT).view();
        if wanted.leaves.is_null() {
            // Room for any policy, as Xen's tools write theirs into a buffer of that size.
            assert_eq!((wanted.number_of_leaves, wanted.number_of_msrs), (120, 2));
        }
        wanted.leaves = GuestHandle::new(BUFFER);
        wanted.msrs = GuestHandle::new(BUFFER + 0x4000);
    }
    assert_eq!(wanted.number_of_msrs, 0);
    let count = u64::from(wanted.number_of_leaves);
    (0..count)
        .map(|index| testing::peek(&tools.control, BUFFER + index * size_of::<CpuidLeaf>() as u64))
        .collect()
}

fn set_policy(tools: &Tools, id: DomainId, leaves: &[CpuidLeaf], msrs: &[MsrEntry]) -> (i64, CpuPolicy) {
    const MSRS: u64 = BUFFER + 0x4000;
    testing::poke(&tools.control, BUFFER, leaves);
    testing::poke(&tools.control, MSRS, msrs);
    let request = CpuPolicy {
        number_of_leaves: leaves.len() as u32,
        number_of_msrs: msrs.len() as u32,
        leaves: GuestHandle::new(BUFFER),
        msrs: GuestHandle::new(MSRS),
        ..CpuPolicy::default()
    };
    tools.call(op::SET_CPU_POLICY, id, &request)
}

#[test]
fn policies_are_narrowed_by_the_toolstack() {
    let tools = Tools::new();
    let id = tools.made(1);
    let mut leaves = default_leaves(&tools);
    // The whole of it back, with the topology that the builder sets.
    let basic = leaves.iter_mut().find(|leaf| leaf.leaf == 1).expect("leaf 1");
    (basic.b, basic.d) = (basic.b | 2 << 16, basic.d | 1 << 28);
    let basic = *basic;
    let (result, reply) = set_policy(&tools, id, &leaves, &[]);
    assert_eq!(
        (result, reply.error_leaf, reply.error_subleaf, reply.error_msr),
        (0, u32::MAX, u32::MAX, u32::MAX)
    );
    let mut got = CpuPolicy {
        number_of_leaves: 64,
        leaves: GuestHandle::new(BUFFER),
        ..CpuPolicy::default()
    };
    assert_eq!(tools.call(op::GET_CPU_POLICY, id, &got).0, 0);
    let stored: Vec<CpuidLeaf> = (0..3)
        .map(|index| testing::peek(&tools.control, BUFFER + index * size_of::<CpuidLeaf>() as u64))
        .collect();
    assert!(stored.contains(&basic));
    got.number_of_leaves = 2;
    assert_eq!(
        tools.call(op::GET_CPU_POLICY, id, &got).0,
        Error::ENOBUFS.as_result()
    );

    // A feature that this machine cannot give, by name.
    let greedy = CpuidLeaf {
        c: basic.c | 1 << 5,
        ..basic
    };
    let (result, reply) = set_policy(&tools, id, &[greedy], &[]);
    assert_eq!((result, reply.error_leaf), (Error::EINVAL.as_result(), 1));
    let unknown = CpuidLeaf {
        leaf: 0x1234_5678,
        ..basic
    };
    let (result, reply) = set_policy(&tools, id, &[unknown], &[]);
    assert_eq!(
        (result, reply.error_leaf),
        (Error::ERANGE.as_result(), 0x1234_5678)
    );
    let msr = MsrEntry {
        index: 0xce,
        value: 1,
        ..MsrEntry::default()
    };
    let (result, reply) = set_policy(&tools, id, &[], &[msr]);
    assert_eq!((result, reply.error_msr), (Error::EINVAL.as_result(), 0xce));
    let absurd = CpuPolicy {
        number_of_leaves: u32::MAX,
        ..CpuPolicy::default()
    };
    assert_eq!(
        tools.call(op::SET_CPU_POLICY, id, &absurd).0,
        Error::E2BIG.as_result()
    );
    assert_eq!(
        set_policy(&tools, DomainId(0), &[], &[]).0,
        Error::EINVAL.as_result()
    );

    // Once it runs, what it was told stays true.
    assert_eq!(tools.plain(op::UNPAUSE_DOMAIN, id), 0);
    assert_eq!(set_policy(&tools, id, &leaves, &[]).0, Error::EEXIST.as_result());
}
