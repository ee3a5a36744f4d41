//! What the toolstack is told that is counted.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hypercall_abi::hypercall::number::SYSCTL;
use hypercall_abi::sysctl::*;
use hypercall_abi::{Error, GuestHandle};
use machine::fake::set_processor;
use machine::sync::atomic::Ordering;

use super::COLUMNS;
use crate::testing::{self, TestDomain, TestKernel};

const ARGUMENT: u64 = 0x100;
const DESCRIPTIONS: u64 = 0x1000;
const VALUES: u64 = 0x4000;

fn machine() -> (TestKernel, TestDomain) {
    set_processor(0);
    let kernel = testing::kernel();
    let control = testing::domain(&kernel, 0, 1, 16);
    (kernel, control)
}

fn query(
    kernel: &TestKernel,
    control: &TestDomain,
    wanted: PerformanceCounterOp,
) -> (i64, PerformanceCounterOp) {
    let mut request = Sysctl::new(op::PERFORMANCE_COUNTER_OP);
    request.set_view(&wanted);
    testing::poke(control, ARGUMENT, &request);
    let result = testing::hypercall(kernel, &testing::vcpu(control, 0), SYSCTL, &[ARGUMENT]);
    (result, testing::peek::<Sysctl>(control, ARGUMENT).view())
}

fn with_room(counters: u32, values: u32) -> PerformanceCounterOp {
    PerformanceCounterOp {
        command: performance_counter::QUERY,
        number_of_counters: counters,
        number_of_values: values,
        descriptions: GuestHandle::new(DESCRIPTIONS),
        values: GuestHandle::new(VALUES),
        ..Default::default()
    }
}

fn description(control: &TestDomain, index: u64) -> (String, u32) {
    let size = size_of::<PerformanceCounterDescription>() as u64;
    let found: PerformanceCounterDescription = testing::peek(control, DESCRIPTIONS + index * size);
    let name = found.name.split(|byte| *byte == 0).next().unwrap_or_default();
    (String::from_utf8_lossy(name).to_string(), found.number_of_values)
}

#[test]
fn every_vcpu_has_its_row_under_named_columns() {
    let (kernel, control) = machine();
    let guest = testing::domain(&kernel, 3, 2, 4);
    testing::vcpu(&guest, 1).exits[6].store(7, Ordering::Relaxed);
    testing::vcpu(&guest, 1).exits[0].store((1 << 32) + 2, Ordering::Relaxed);
    let (result, size) = query(
        &kernel,
        &control,
        PerformanceCounterOp {
            command: performance_counter::QUERY,
            ..Default::default()
        },
    );
    assert_eq!(result, 0);
    let columns = COLUMNS as u32;
    assert_eq!(
        (size.number_of_counters, size.number_of_values),
        (columns + 3, columns * 3)
    );

    let (result, told) = query(
        &kernel,
        &control,
        with_room(size.number_of_counters, size.number_of_values),
    );
    assert_eq!(result, 0);
    assert_eq!(
        (told.number_of_counters, told.number_of_values),
        (columns + 3, columns * 3)
    );
    assert_eq!(
        description(&control, 0),
        ("vcpu column runnable us".to_string(), 0)
    );
    assert_eq!(
        description(&control, 7),
        ("vcpu column exits halt".to_string(), 0)
    );
    let rows: Vec<_> = (0..3)
        .map(|row| description(&control, u64::from(columns) + row))
        .collect();
    assert_eq!(
        rows,
        ["vcpu 0.0", "vcpu 3.0", "vcpu 3.1"].map(|name| (name.to_string(), columns))
    );
    let last: [u32; COLUMNS] = testing::peek(&control, VALUES + 2 * 4 * u64::from(columns));
    assert_eq!((last[7], last[1]), (7, 2), "exits by reason, their low halves");
}

#[test]
fn no_more_is_written_than_there_is_room_for() {
    let (kernel, control) = machine();
    let _guest = testing::domain(&kernel, 3, 2, 4);
    let columns = COLUMNS as u32;
    // For two rows' names, and one's values.
    testing::poke(&control, VALUES + 4 * u64::from(columns), &0xaaaa_aaaa_u32);
    let (result, told) = query(&kernel, &control, with_room(columns + 2, 2 * columns - 1));
    assert_eq!(
        (result, told.number_of_counters, told.number_of_values),
        (0, columns + 1, columns)
    );
    assert_eq!(
        testing::peek::<u32>(&control, VALUES + 4 * u64::from(columns)),
        0xaaaa_aaaa
    );
    // For some of the columns' names only.
    testing::poke(&control, DESCRIPTIONS + 2 * 84, &0xaaaa_aaaa_u32);
    let (result, told) = query(&kernel, &control, with_room(2, u32::MAX));
    assert_eq!(
        (result, told.number_of_counters, told.number_of_values),
        (0, 2, 0)
    );
    assert_eq!(testing::peek::<u32>(&control, DESCRIPTIONS + 2 * 84), 0xaaaa_aaaa);
}

#[test]
fn counters_are_not_reset() {
    let (kernel, control) = machine();
    for command in [performance_counter::RESET, 0, 3] {
        let wanted = PerformanceCounterOp {
            command,
            ..Default::default()
        };
        assert_eq!(query(&kernel, &control, wanted).0, Error::EOPNOTSUPP.as_result());
    }
}
