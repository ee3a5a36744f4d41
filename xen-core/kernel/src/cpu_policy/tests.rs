//! Policies: what is kept of a host, what a toolstack may change, what a guest is answered.

use machine::Machine;
use machine::fake::FakeMachine;

use super::*;

/// A processor with everything: what is not kept is what we do not offer.
fn lavish() -> FakeMachine {
    let machine = FakeMachine::default();
    machine.set_cpuid(0, 0, [0x20, 1, 2, 3]);
    machine.set_cpuid(0x8000_0000, 0, [0x8000_0028, 1, 2, 3]);
    for leaf in (1..=0x20).chain(0x8000_0001..=0x8000_0028) {
        for subleaf in 0..4 {
            machine.set_cpuid(leaf, subleaf, [u32::MAX; 4]);
        }
    }
    machine.set_cpuid(0xd, 2, [0x100, 0x240, 0, 0]);
    machine.set_cpuid(0x8000_0008, 0, [0x3030, u32::MAX, u32::MAX, 0]);
    machine
}

fn asker() -> Asker {
    Asker {
        domain: DomainId(7),
        vcpu: 3,
        apic_id: 6,
        cr4: 0,
        extended_control: 1,
        apic_enabled: true,
    }
}

fn leaf_of(policy: &CpuPolicy, leaf: u32) -> Leaf {
    *policy
        .leaves()
        .iter()
        .find(|entry| entry.leaf == leaf)
        .expect("a leaf")
}

#[test]
fn of_a_host_with_everything_only_what_is_virtualised_is_kept() {
    let policy = CpuPolicy::of_machine(&lavish()).unwrap();
    let answer = |leaf: u32, subleaf: u32| policy.answer(leaf, subleaf, &asker());
    assert_eq!(answer(0, 0)[0], HIGHEST_BASIC);
    assert_eq!(answer(0x8000_0000, 0)[0], HIGHEST_EXTENDED);
    let [_, _, ecx, edx] = answer(1, 0);
    for (bit, name) in [
        (3, "MONITOR"),
        (5, "VMX"),
        (7, "EIST"),
        (15, "PDCM"),
        (18, "DCA"),
        (24, "TSC deadline"),
    ] {
        assert_eq!(ecx >> bit & 1, 0, "{name}");
    }
    assert_eq!(ecx >> 31, 1, "a hypervisor is there");
    for (bit, name) in [(1, "VME"), (18, "PSN"), (21, "DS"), (28, "HTT"), (29, "TM")] {
        assert_eq!(edx >> bit & 1, 0, "{name}");
    }
    let [_, _, extended_ecx, extended_edx] = answer(0x8000_0001, 0);
    for (bit, name) in [
        (2, "SVM"),
        (10, "IBS"),
        (12, "SKINIT"),
        (22, "topology"),
        (23, "counters"),
        (29, "MONITORX"),
    ] {
        assert_eq!(extended_ecx >> bit & 1, 0, "{name}");
    }
    assert_eq!(extended_edx >> 29 & 1, 1, "long mode");
    assert_eq!(answer(7, 0)[2..], [0, 0]);
    assert_eq!(answer(7, 1), [0; 4]);
    assert_eq!(answer(0xd, 0)[0], 7, "no state beyond AVX");
    for leaf in [
        0xa,
        0x14,
        0x20,
        0x8000_000a,
        0x8000_001b,
        0x8000_001f,
        0x8000_0026,
    ] {
        assert_eq!(answer(leaf, 0), [0; 4], "{leaf:#x}");
    }
    assert_eq!(answer(0x8000_0008, 0), [0x3030, 0, 0, 0]);
    assert_eq!(answer(0x8000_0007, 0), [0, 0, 0, INVARIANT_TSC]);
    assert_eq!(policy.address_bits(), 48);
}

#[test]
fn answers_depend_on_who_asks_and_when() {
    let policy = CpuPolicy::of_machine(&lavish()).unwrap();
    let quiet = policy.answer(1, 0, &asker());
    assert_eq!(
        (
            quiet[1] >> 24,
            quiet[2] & BASIC_ECX_OSXSAVE,
            quiet[3] & BASIC_EDX_APIC
        ),
        (6, 0, BASIC_EDX_APIC)
    );
    let loud = Asker {
        cr4: CR4_OSXSAVE,
        apic_enabled: false,
        extended_control: 7,
        ..asker()
    };
    let answer = policy.answer(1, 0, &loud);
    assert_eq!(
        (answer[2] & BASIC_ECX_OSXSAVE, answer[3] & BASIC_EDX_APIC),
        (BASIC_ECX_OSXSAVE, 0)
    );
    assert_eq!(policy.answer(0xd, 0, &asker())[1], 576);
    assert_eq!(policy.answer(0xd, 0, &loud)[1], 832);
    // Leaves without subleaves answer the same for any.
    assert_eq!(policy.answer(0, 5, &asker()), policy.answer(0, 0, &asker()));
}

#[test]
fn a_hypervisor_speaks_of_itself() {
    let policy = CpuPolicy::of_machine(&FakeMachine::default()).unwrap();
    let answer = |leaf: u32| policy.answer(leaf, 0, &asker());
    assert_eq!(answer(0x4000_0002)[..2], [1, HYPERCALL_PAGE_MSR]);
    assert_eq!(answer(0x4000_0003)[2], policy.tsc_khz);
    assert_eq!(answer(0x4000_0004), [0x58, 3, 7, 0]);
    assert_eq!(answer(0x4000_0005)[1], 40);
    for leaf in [0x4000_0006, 0x4000_00ff, 0x4000_0100, 0x4000_ff00] {
        assert_eq!(answer(leaf), [0; 4]);
    }
}

#[test]
fn the_toolstack_takes_away_and_never_adds() {
    let policy = CpuPolicy::of_machine(&FakeMachine::default()).unwrap();
    let basic = leaf_of(&policy, 1);
    let less = Leaf {
        values: [basic.values[0], 2 << 16, 0, 1],
        ..basic
    };
    let narrow = policy.narrowed(&[less]).expect("less is fine");
    assert_eq!(leaf_of(&narrow, 1), less);
    assert_eq!(
        narrow.answer(1, 0, &asker())[1],
        6 << 24 | 2 << 16,
        "logical processors as told"
    );
    // What it took away stays away.
    assert_eq!(narrow.narrowed(&[basic]).map(drop), Err((Error::EINVAL, basic)));
    let refused = |leaf: u32, subleaf: u32, values: [u32; 4]| {
        let wish = Leaf {
            leaf,
            subleaf,
            values,
        };
        assert_eq!(
            policy.narrowed(&[wish]).map(drop),
            Err((Error::EINVAL, wish)),
            "{leaf:#x}"
        );
    };
    refused(0, NO_SUBLEAF, [0x20, 0, 0, 0]);
    refused(1, NO_SUBLEAF, [0, 0, 1 << 5, 0]);
    refused(7, 0, [0, 1 << 16, 0, 0]);
    refused(7, 1, [1, 0, 0, 0]);
    refused(0xd, 0, [0xff, 0, 0, 0]);
    refused(0xd, 1, [8, 0, 0, 0]);
    refused(0x8000_0000, NO_SUBLEAF, [0x8000_0100, 0, 0, 0]);
    refused(0x8000_0001, NO_SUBLEAF, [0, 0, 1 << 2, 0]);
    refused(0x8000_0007, NO_SUBLEAF, [0, 0, 0, 1 << 8]);
    refused(0x8000_0008, NO_SUBLEAF, [0, 1 << 12, 0, 0]);
}

#[test]
fn leaves_without_features_are_the_toolstacks_word() {
    let policy = CpuPolicy::of_machine(&FakeMachine::default()).unwrap();
    let caches = Leaf {
        leaf: 4,
        subleaf: 1,
        values: [0x121, 1, 2, 3],
    };
    let topology = Leaf {
        leaf: 0xb,
        subleaf: 0,
        values: [1, 2, 0x100, 0],
    };
    let told = policy
        .narrowed(&[topology, caches])
        .expect("no features in there");
    assert_eq!(told.answer(4, 1, &asker()), caches.values);
    assert_eq!(told.answer(4, 0, &asker()), [0; 4]);
    assert_eq!(told.answer(0xb, 0, &asker()), topology.values);
    assert!(
        told.leaves()
            .is_sorted_by_key(|entry| (entry.leaf, entry.subleaf))
    );
    // Xen's leaves are ours to answer; what else is there is not known.
    let own = Leaf {
        leaf: 0x4000_0000,
        subleaf: NO_SUBLEAF,
        values: [1; 4],
    };
    assert_eq!(
        policy
            .narrowed(&[own])
            .expect("ignored")
            .answer(0x4000_0000, 0, &asker())[0],
        0x4000_0005
    );
    for (leaf, subleaf) in [
        (0x40, NO_SUBLEAF),
        (0x9000_0000, NO_SUBLEAF),
        (1, 0),
        (7, NO_SUBLEAF),
        (7, 3),
        (0xd, 63),
    ] {
        let unknown = Leaf {
            leaf,
            subleaf,
            values: [0; 4],
        };
        assert_eq!(
            policy.narrowed(&[unknown]).map(drop),
            Err((Error::ERANGE, unknown))
        );
    }
}

#[test]
fn the_whole_policy_can_be_given_back() {
    for machine in [FakeMachine::default(), lavish()] {
        let policy = CpuPolicy::of_machine(&machine).unwrap();
        let again = policy
            .narrowed(policy.leaves())
            .expect("nothing more than it has");
        assert_eq!(again.leaves(), policy.leaves());
        assert_eq!(again.extended_features(), policy.extended_features());
        assert_eq!(machine.processors(), 2);
    }
}

#[test]
fn policies_are_exchanged_as_xens_tools_do() {
    let machine = lavish();
    machine.set_cpuid(0x8000_0000, 0, [0x8000_001e, 1, 2, 3]);
    let policy = CpuPolicy::of_machine(&machine).unwrap();
    let all = policy.serialised().expect("room");
    // As many as Xen 4.17 had on the same processor.
    assert_eq!(all.len(), 49);
    assert!(all.is_sorted_by_key(|leaf| (leaf.leaf, leaf.subleaf)));
    assert!(policy.leaves().iter().all(|leaf| all.contains(leaf)));
    let again = policy.narrowed(&all).expect("nothing more than it has");
    for leaf in &all {
        assert_eq!(
            again.answer(leaf.leaf, leaf.subleaf, &asker()),
            policy.answer(leaf.leaf, leaf.subleaf, &asker())
        );
    }
}
