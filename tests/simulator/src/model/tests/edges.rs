//! Borders that random deeds seldom meet: exactly the limit and one more, every number of an operation, long tables.

use hypercall_abi::domctl::{self, Domctl, MaxMemory};
use hypercall_abi::event_channel::{self, BindIpi, ExpandArray, InitControl, SetPriority};
use hypercall_abi::grant_table::{
    self, GrantEntryV1, MapGrantRef, SetupTable, UnmapGrantRef, entry_flag, map_flag,
};
use hypercall_abi::hvm::{self, Param};
use hypercall_abi::hypercall::number;
use hypercall_abi::memory::{self, AddToPhysmap, MemoryReservation, map_space};
use hypercall_abi::sched::{self, RemoteShutdown, Shutdown};
use hypercall_abi::vcpu::{self, RegisterVcpuInfo};
use hypercall_abi::{DomainId, Error, GuestHandle};
use kernel::domain::DomainConfig;
use kernel::testing::{self, TestKernel};
use machine::fake::set_processor;
use zerocopy::{Immutable, IntoBytes};

use crate::model::{Agreement, Caller};

/// Where requests lie, and arrays.
const REQUEST: u64 = 0x1000;
const ARRAY: u64 = 0x2000;
const CONTROL: u16 = 0;
const GUEST: u16 = 1;
const PAGES: u64 = 16;

fn house(change: impl Fn(&mut DomainConfig)) -> TestKernel {
    set_processor(0);
    let kernel = testing::kernel();
    for id in [CONTROL, GUEST, 2] {
        let mut config = testing::configuration(2, id == CONTROL);
        change(&mut config);
        testing::domain_with(&kernel, id, &config, PAGES);
    }
    kernel
}

fn both<'k>(kernel: &'k TestKernel) -> Agreement<'k> {
    let mut agreement = Agreement::new(kernel);
    agreement.compare_all_after(1);
    agreement
}

/// Make a call of vCPU 0; what both answer.
fn call(agreement: &mut Agreement<'_>, domain: u16, number: u64, arguments: &[u64]) -> i64 {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    let called = agreement.call(Caller { domain, vcpu: 0 }, number, &all);
    called
        .unwrap_or_else(|differs| panic!("{differs}"))
        .expect("a call that is made")
}

/// Write a structure down and make a call on it.
fn ask<T>(agreement: &mut Agreement<'_>, domain: u16, number: u64, operation: u32, request: &T) -> i64
where
    T: IntoBytes + Immutable + ?Sized,
{
    put(agreement, domain, REQUEST, request);
    match number {
        number::DOMCTL => call(agreement, domain, number, &[REQUEST]),
        number::GRANT_TABLE_OP => call(agreement, domain, number, &[operation.into(), REQUEST, 1]),
        _ => call(agreement, domain, number, &[operation.into(), REQUEST]),
    }
}

fn put<T: IntoBytes + Immutable + ?Sized>(agreement: &mut Agreement<'_>, domain: u16, at: u64, value: &T) {
    let stored = agreement.store(domain, at, value.as_bytes());
    stored.unwrap_or_else(|differs| panic!("{differs}"));
}

fn domctl<T: IntoBytes + Immutable>(
    agreement: &mut Agreement<'_>,
    command: u32,
    domain: u16,
    payload: &T,
) -> i64 {
    let mut request = Domctl::new(command, DomainId(domain));
    request.set_view(payload);
    ask(agreement, CONTROL, number::DOMCTL, 0, &request)
}

fn reservation(count: u64, order: u32, domain: u16) -> MemoryReservation {
    MemoryReservation {
        extent_start: GuestHandle::new(ARRAY),
        number_of_extents: count,
        extent_order: order,
        domain: DomainId(domain),
        ..MemoryReservation::default()
    }
}

#[test]
fn claims_and_allowances_to_the_last_page() {
    let kernel = house(|_| ());
    let agreement = &mut both(&kernel);
    let most = 40;
    domctl(
        agreement,
        domctl::op::MAX_MEMORY,
        GUEST,
        &MaxMemory { kibibytes: most * 4 },
    );
    let claim = |agreement: &mut Agreement<'_>, pages| {
        let request = MemoryReservation {
            number_of_extents: pages,
            domain: DomainId(GUEST),
            ..MemoryReservation::default()
        };
        ask(
            agreement,
            CONTROL,
            number::MEMORY_OP,
            memory::op::CLAIM_PAGES,
            &request,
        )
    };
    assert_eq!(claim(agreement, most + 1), Error::EINVAL.as_result());
    assert_eq!(claim(agreement, PAGES), Error::EINVAL.as_result());
    assert_eq!(claim(agreement, most), 0);
    assert_eq!(claim(agreement, most), Error::EINVAL.as_result(), "one at a time");
    assert_eq!(claim(agreement, 0), 0);
    assert_eq!(claim(agreement, most), 0);
    let frames: Vec<u64> = (100..200).collect();
    put(agreement, GUEST, ARRAY, frames.as_slice());
    let populate = |agreement: &mut Agreement<'_>, count, order| {
        let request = reservation(count, order, GUEST);
        ask(
            agreement,
            GUEST,
            number::MEMORY_OP,
            memory::op::POPULATE_PHYSMAP,
            &request,
        )
    };
    assert_eq!(populate(agreement, 3, 0), 3);
    assert_eq!(populate(agreement, 4, 1), 0, "100 is taken");
    assert_eq!(populate(agreement, 100, 0), 0);
    put(agreement, GUEST, ARRAY, &frames[10..]);
    assert_eq!(populate(agreement, 90, 0), 21, "as many as it may have");
    assert_eq!(populate(agreement, 1, 9), 0);
    let request = reservation(7, 0, GUEST);
    let released = ask(
        agreement,
        GUEST,
        number::MEMORY_OP,
        memory::op::DECREASE_RESERVATION,
        &request,
    );
    assert_eq!(released, 7);
}

#[test]
fn the_reason_of_an_end_is_the_first_one_told() {
    let kernel = house(|_| ());
    let agreement = &mut both(&kernel);
    for reason in [3, 0x101, 1] {
        let request = Shutdown { reason };
        assert_eq!(
            ask(
                agreement,
                GUEST,
                number::SCHED_OP,
                sched::op::SHUTDOWN_CODE,
                &request
            ),
            0
        );
    }
    for (domain, reason) in [(GUEST, 1), (2, 4), (GUEST, 2)] {
        let request = RemoteShutdown {
            domain: DomainId(domain),
            reason,
            ..RemoteShutdown::default()
        };
        assert_eq!(
            ask(
                agreement,
                CONTROL,
                number::SCHED_OP,
                sched::op::REMOTE_SHUTDOWN,
                &request
            ),
            0
        );
        domctl(agreement, domctl::op::GET_DOMAIN_INFO, domain, &0u64);
    }
    let ended = &agreement.model().domains;
    assert_eq!((ended[&GUEST].shutdown, ended[&2].shutdown), (Some(3), Some(4)));
}

#[test]
fn a_domain_is_paused_so_often_and_not_more() {
    let kernel = house(|_| ());
    let agreement = &mut Agreement::new(&kernel);
    for nth in 0..257 {
        let answer = domctl(agreement, domctl::op::PAUSE_DOMAIN, GUEST, &0u64);
        let expected = if nth < 255 {
            0
        } else {
            Error::EOVERFLOW.as_result()
        };
        assert_eq!(answer, expected);
    }
    let unpaused = (0..257).filter(|_| domctl(agreement, domctl::op::UNPAUSE_DOMAIN, GUEST, &0u64) == 0);
    assert_eq!(unpaused.count(), 255);
    agreement.compare_all().unwrap();
}

#[test]
fn event_words_come_page_by_page_and_ports_wait_for_theirs() {
    let kernel = house(|config| config.max_event_port = 2100);
    let agreement = &mut Agreement::new(&kernel);
    let control = InitControl {
        control_frame: 5,
        offset: 8,
        ..InitControl::default()
    };
    let events = number::EVENT_CHANNEL_OP;
    assert_eq!(
        ask(
            agreement,
            GUEST,
            events,
            event_channel::op::INIT_CONTROL,
            &control
        ),
        0
    );
    let mut last = 0;
    while ask(
        agreement,
        GUEST,
        events,
        event_channel::op::BIND_IPI,
        &BindIpi::default(),
    ) == 0
    {
        last += 1;
    }
    assert_eq!(last, 2100);
    let send = |agreement: &mut Agreement<'_>| {
        for port in [1, 2, 3, 1023, 1024, 1025, 2047, 2048, 2100, 2101] {
            let request = event_channel::Send { port };
            ask(agreement, GUEST, events, event_channel::op::SEND, &request);
        }
    };
    let urgent = SetPriority { port: 2, priority: 0 };
    assert_eq!(
        ask(agreement, GUEST, events, event_channel::op::SET_PRIORITY, &urgent),
        0
    );
    let too_far = SetPriority {
        port: 2,
        priority: 16,
    };
    ask(
        agreement,
        GUEST,
        events,
        event_channel::op::SET_PRIORITY,
        &too_far,
    );
    send(agreement);
    for array_frame in [6, 7, 8, 8] {
        let request = ExpandArray { array_frame };
        assert_eq!(
            ask(
                agreement,
                GUEST,
                events,
                event_channel::op::EXPAND_ARRAY,
                &request
            ),
            0
        );
        agreement.compare_all().unwrap();
        send(agreement);
    }
    let reset = event_channel::Reset {
        domain: DomainId::SELF,
    };
    assert_eq!(ask(agreement, GUEST, events, event_channel::op::RESET, &reset), 0);
    agreement.compare_all().unwrap();
}

#[test]
fn grants_are_mapped_until_there_are_no_more_handles() {
    let kernel = house(|config| config.max_maptrack_frames = 1);
    let agreement = &mut Agreement::new(&kernel);
    let place = AddToPhysmap {
        domain: DomainId::SELF,
        space: map_space::GRANT_TABLE,
        guest_frame: 0x50,
        ..AddToPhysmap::default()
    };
    assert_eq!(
        ask(
            agreement,
            GUEST,
            number::MEMORY_OP,
            memory::op::ADD_TO_PHYSMAP,
            &place
        ),
        0
    );
    let entry = GrantEntryV1 {
        flags: entry_flag::PERMIT_ACCESS,
        domain: DomainId(2),
        frame: 9,
    };
    put(agreement, GUEST, 0x5_0000, &entry);
    let grants = number::GRANT_TABLE_OP;
    let mut status = 0;
    for nth in 0..300 {
        let request = MapGrantRef {
            host_address: (0x1000 + nth) << 12,
            flags: map_flag::HOST_MAP | if nth % 2 == 0 { map_flag::READ_ONLY } else { 0 },
            domain: DomainId(GUEST),
            ..MapGrantRef::default()
        };
        assert_eq!(
            ask(agreement, 2, grants, grant_table::op::MAP_GRANT_REF, &request),
            0
        );
        status = agreement.model().domains[&2].grants.mappings.len();
    }
    assert_eq!(status, 256);
    agreement.compare_all().unwrap();
    for handle in (0..300).rev() {
        let request = UnmapGrantRef {
            host_address: (0x1000 + u64::from(handle)) << 12,
            handle,
            ..UnmapGrantRef::default()
        };
        ask(agreement, 2, grants, grant_table::op::UNMAP_GRANT_REF, &request);
    }
    agreement.compare_all().unwrap();
    for number_of_frames in [0, 1, 63, 64, 65, u32::MAX] {
        let request = SetupTable {
            domain: DomainId::SELF,
            number_of_frames,
            frame_list: GuestHandle::new(ARRAY),
            ..SetupTable::default()
        };
        ask(agreement, GUEST, grants, grant_table::op::SETUP_TABLE, &request);
    }
    agreement.compare_all().unwrap();
}

#[test]
fn vcpus_past_the_shared_page_have_their_info_where_they_put_it() {
    let kernel = house(|config| config.max_vcpus = 40);
    let agreement = &mut both(&kernel);
    for (vcpu, offset) in [
        (0, 0),
        (31, 64),
        (32, 128),
        (39, 4032),
        (40, 0),
        (33, 4033),
        (34, 4040),
    ] {
        let request = RegisterVcpuInfo {
            guest_frame: 6,
            offset,
            _reserved: 0,
        };
        put(agreement, GUEST, REQUEST, &request);
        let caller = Caller {
            domain: GUEST,
            vcpu: 39.min(vcpu as u32),
        };
        let arguments = [u64::from(vcpu::op::REGISTER_VCPU_INFO), vcpu, REQUEST, 0, 0, 0];
        agreement.call(caller, number::VCPU_OP, &arguments).unwrap();
        let request = BindIpi {
            vcpu: vcpu as u32,
            port: 0,
        };
        ask(
            agreement,
            GUEST,
            number::EVENT_CHANNEL_OP,
            event_channel::op::BIND_IPI,
            &request,
        );
        for port in 1..8 {
            let request = event_channel::Send { port };
            ask(
                agreement,
                GUEST,
                number::EVENT_CHANNEL_OP,
                event_channel::op::SEND,
                &request,
            );
        }
    }
}

#[test]
fn every_parameter_is_set_and_read_by_its_domain_and_by_the_toolstack() {
    let kernel = house(|_| ());
    let agreement = &mut both(&kernel);
    for index in 0..41 {
        for (caller, domain) in [
            (GUEST, DomainId::SELF),
            (CONTROL, DomainId(GUEST)),
            (GUEST, DomainId(2)),
        ] {
            for value in [0, 1, 6, u64::MAX] {
                let request = Param {
                    domain,
                    index,
                    value,
                    _padding: 0,
                };
                ask(agreement, caller, number::HVM_OP, hvm::op::SET_PARAM, &request);
                ask(agreement, caller, number::HVM_OP, hvm::op::GET_PARAM, &request);
            }
        }
    }
}

#[test]
fn every_number_of_every_family_is_answered_alike() {
    let kernel = house(|_| ());
    let agreement = &mut Agreement::new(&kernel);
    let families = [
        number::MEMORY_OP,
        number::XEN_VERSION,
        number::CONSOLE_IO,
        number::GRANT_TABLE_OP,
        number::VM_ASSIST,
        number::VCPU_OP,
        number::SCHED_OP,
        number::EVENT_CHANNEL_OP,
        number::PHYSDEV_OP,
        number::HVM_OP,
    ];
    let nowhere = 0x7000_0000;
    for domain in [GUEST, CONTROL] {
        for family in families {
            for operation in (0..70).chain([1 << 6, 1 << 12, u64::from(u32::MAX), u64::MAX]) {
                for argument in [0, REQUEST, nowhere] {
                    put(agreement, domain, REQUEST, &[0u64; 32]);
                    for third in [0, 1, REQUEST] {
                        let arguments = [operation, argument, third, 0, 0, 0];
                        agreement
                            .call(Caller { domain, vcpu: 1 }, family, &arguments)
                            .unwrap();
                    }
                }
            }
        }
        for number in 0..70 {
            agreement
                .call(Caller { domain, vcpu: 0 }, number, &[0; 6])
                .unwrap();
        }
        agreement.compare_all().unwrap();
    }
    for command in (0..95).chain([1000, 1003, u32::MAX]) {
        for target in [CONTROL, 2, 9, DomainId::SELF.0] {
            domctl(agreement, command, target, &0u64);
        }
    }
    agreement.compare_all().unwrap();
}
