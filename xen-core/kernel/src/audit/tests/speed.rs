//! What an audit costs: in release builds, and only when asked for (`cargo test --release -- --ignored --nocapture audit`).

use std::time::Instant;

use super::*;

/// 4096 frames, five small domains of 64 pages with something of everything.
#[test]
#[ignore = "a measurement"]
fn how_long_it_takes() {
    set_processor(0);
    let kernel = ManuallyDrop::new(testing::kernel_on(&Configuration {
        memory_mib: 16,
        ..Configuration::default()
    }));
    let domains = ManuallyDrop::new([0, 1, 2, 3, 4].map(|id| testing::domain(&kernel, id, 2, 64)));
    for domain in domains.iter() {
        for vcpu in &domain.vcpus {
            vcpu.stops.store(stop::BLOCKED, Ordering::SeqCst);
        }
        register(domain);
    }
    let three = [0, 1, 2].map(|index: usize| domains[index].clone());
    lend(&kernel, &three);
    connect(&kernel, &three);
    let mut auditor = Auditor::default();
    let mut measure = |name: &str, parts: Parts| {
        const ROUNDS: u32 = 20_000;
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            auditor.audit_parts(&kernel, parts).unwrap();
        }
        println!("{name}: {} ns", (begin.elapsed() / ROUNDS).as_nanos());
    };
    measure("everything", Parts::ALL);
    measure("domains", Parts::DOMAINS);
    measure("memory", Parts::MEMORY);
    measure("events", Parts::EVENTS);
    measure("schedule", Parts::SCHEDULE);
    measure("timers", Parts::TIMERS);
}
