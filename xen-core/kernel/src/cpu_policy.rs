//! What CPUID and MSRs tell a domain.
//!
//! A policy is a table of CPUID leaves, made from the host's by keeping only what guests can be given: features that the
//! core can virtualise, switch and take away again. The toolstack may hand a domain a narrower one, never a wider. What
//! depends on who asks, and when (APIC id, OSXSAVE, the size of the extended state), is filled in at the answer.

use alloc::vec::Vec;

use hypercall_abi::{DomainId, Error};
use machine::Machine;

/// The MSR that a guest writes to have a page filled with hypercall entries; leaf 0x4000_0002 tells it.
pub const HYPERCALL_PAGE_MSR: u32 = 0x4000_0000;
const HYPERVISOR_BASE: u32 = 0x4000_0000;
const HYPERVISOR_LAST: u32 = 0x4000_0005;
const HIGHEST_BASIC: u32 = 0xd;
const HIGHEST_EXTENDED: u32 = 0x8000_001e;
const EXTENDED_STATE: u32 = 0xd;
/// x87, SSE, AVX: the extended state that is switched.
const EXTENDED_FEATURES: u64 = 7;

/// Leaves of the longest policy, serialised, that Xen's tools make room for.
pub const MOST_SERIALISED: usize = 120;

/// Leaves of which each subleaf is a table entry of its own, with how many.
const SUBLEAVES: [(u32, u32); 2] = [(7, 1), (EXTENDED_STATE, 3)];

// Feature words. Each bit kept here is one that needs nothing of the core, or that the core switches.
/// SSE3, PCLMUL, SSSE3, FMA, CX16, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE, AVX, F16C, RDRAND.
const BASIC_ECX: u32 = 0x76d8_3203;
/// x2APIC and "runs under a hypervisor": ours to give, whatever the host has.
const BASIC_ECX_ALWAYS: u32 = (1 << 21) | (1 << 31);
/// FPU, DE, PSE, TSC, MSR, PAE, MCE, CX8, APIC, SEP, MTRR, PGE, MCA, CMOV, PAT, PSE36, CLFLUSH, MMX, FXSR, SSE, SSE2.
const BASIC_EDX: u32 = 0x078b_fbfd;
const BASIC_ECX_OSXSAVE: u32 = 1 << 27;
const BASIC_EDX_APIC: u32 = 1 << 9;
/// FSGSBASE, BMI1, AVX2, SMEP, BMI2, ERMS, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA.
const STRUCTURED_EBX: u32 = 0x219c_03a9;
/// LAHF, ABM, SSE4A, misaligned SSE, 3DNow prefetch; CR8 by lock mov.
const EXTENDED_ECX: u32 = 0x0000_01f1;
/// As [`BASIC_EDX`] where AMD repeats it, SYSCALL, NX, MMX extensions, 1 GiB pages, RDTSCP, long mode.
const EXTENDED_EDX: u32 = 0x2dd3_fbfd;
/// XSAVEOPT and XGETBV with ecx 1.
const EXTENDED_STATE_SUBFEATURES: u32 = 0x5;
const INVARIANT_TSC: u32 = 1 << 8;
/// What four levels of tables translate.
const MOST_ADDRESS_BITS: u32 = 48;
const CR4_OSXSAVE: u64 = 1 << 18;

/// One leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leaf {
    /// Its number.
    pub leaf: u32,
    /// Its subleaf, or `u32::MAX` when it has none (the ABI's `XEN_CPUID_NO_SUBLEAF`).
    pub subleaf: u32,
    /// eax, ebx, ecx, edx.
    pub values: [u32; 4],
}

/// Leaf without subleaves.
pub const NO_SUBLEAF: u32 = u32::MAX;

/// Who executes CPUID, and in what state.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Its domain.
    pub domain: DomainId,
    /// Its number in the domain.
    pub vcpu: u32,
    /// Its APIC id.
    pub apic_id: u32,
    /// Its CR4.
    pub cr4: u64,
    /// Its XCR0.
    pub extended_control: u64,
    /// Its local APIC is on.
    pub apic_enabled: bool,
}

/// A domain's CPU policy.
#[derive(Clone, Debug, Default)]
pub struct CpuPolicy {
    /// Sorted by leaf and subleaf.
    leaves: Vec<Leaf>,
    tsc_khz: u32,
    address_bits: u32,
}

impl CpuPolicy {
    /// All that this machine can give a guest.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn of_machine<M: Machine>(machine: &M) -> Result<Self, Error> {
        let mut policy = CpuPolicy {
            leaves: Vec::new(),
            tsc_khz: machine.platform().tsc_khz,
            address_bits: (machine.cpuid(0x8000_0008, 0)[0] & 0xff).min(MOST_ADDRESS_BITS),
        };
        let basic = machine.cpuid(0, 0)[0].min(HIGHEST_BASIC);
        let extended = machine.cpuid(0x8000_0000, 0)[0].min(HIGHEST_EXTENDED);
        for leaf in (0..=basic).chain(0x8000_0000..=extended) {
            let count = SUBLEAVES
                .iter()
                .find(|(number, _)| *number == leaf)
                .map(|(_, count)| *count);
            match count {
                Some(count) => {
                    for subleaf in 0..count {
                        policy.add(leaf, subleaf, machine.cpuid(leaf, subleaf), basic, extended)?;
                    }
                }
                None => policy.add(leaf, NO_SUBLEAF, machine.cpuid(leaf, 0), basic, extended)?,
            }
        }
        Ok(policy)
    }

    fn add(
        &mut self,
        leaf: u32,
        subleaf: u32,
        host: [u32; 4],
        basic: u32,
        extended: u32,
    ) -> Result<(), Error> {
        let values = keep(leaf, subleaf, host, basic, extended);
        if values != [0; 4] || leaf == 0 {
            self.leaves.try_reserve(1).map_err(|_| Error::ENOMEM)?;
            self.leaves.push(Leaf {
                leaf,
                subleaf,
                values,
            });
        }
        Ok(())
    }

    /// The leaves, sorted.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The leaves as Xen's tools exchange them: every one up to the highest, empty ones too, and those of the hypervisor
    /// between. The tools write a policy back into as much room as it took when it came.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn serialised(&self) -> Result<Vec<Leaf>, Error> {
        const SECOND_HYPERVISOR: u32 = HYPERVISOR_BASE + 0x100;
        let highest = |leaf: u32, bound: u32| {
            self.exact(leaf, NO_SUBLEAF)
                .map_or(leaf, |index| self.leaves[index].values[0])
                .min(bound)
        };
        let mut all = Vec::new();
        all.try_reserve_exact(MOST_SERIALISED)
            .map_err(|_| Error::ENOMEM)?;
        let mut add = |leaf: u32, subleaf: u32| {
            let values = self
                .exact(leaf, subleaf)
                .map_or([0; 4], |index| self.leaves[index].values);
            all.push(Leaf {
                leaf,
                subleaf,
                values,
            });
        };
        for leaf in 0..=highest(0, HIGHEST_BASIC) {
            match leaf {
                4 => (0..6)
                    .filter(|&subleaf| self.exact(leaf, subleaf).is_some())
                    .for_each(|subleaf| add(leaf, subleaf)),
                7 => add(leaf, 0),
                0xb => (0..2).for_each(|subleaf| add(leaf, subleaf)),
                EXTENDED_STATE => (0..3).for_each(|subleaf| add(leaf, subleaf)),
                _ => add(leaf, NO_SUBLEAF),
            }
        }
        add(HYPERVISOR_BASE, NO_SUBLEAF);
        add(SECOND_HYPERVISOR, NO_SUBLEAF);
        for leaf in 0x8000_0000..=highest(0x8000_0000, HIGHEST_EXTENDED) {
            add(leaf, NO_SUBLEAF);
        }
        Ok(all)
    }

    /// A policy with the toolstack's leaves in place of these. Feature bits that these do not have are refused.
    ///
    /// # Errors
    /// EINVAL with the first leaf that asks for too much; ENOMEM.
    pub fn narrowed(&self, wanted: &[Leaf]) -> Result<CpuPolicy, (Error, Leaf)> {
        let mut policy = CpuPolicy {
            leaves: Vec::new(),
            ..*self
        };
        if policy.leaves.try_reserve_exact(self.leaves.len()).is_err() {
            return Err((Error::ENOMEM, wanted.first().copied().unwrap_or_default()));
        }
        policy.leaves.extend_from_slice(&self.leaves);
        for &leaf in wanted {
            if (HYPERVISOR_BASE..HYPERVISOR_BASE + 0x1_0000).contains(&leaf.leaf) {
                continue;
            }
            if !is_known(leaf) {
                return Err((Error::ERANGE, leaf));
            }
            let place = policy.exact(leaf.leaf, leaf.subleaf);
            match place {
                Some(index) => {
                    let allowed = policy.leaves[index].values;
                    if exceeds(leaf, allowed) {
                        return Err((Error::EINVAL, leaf));
                    }
                    policy.leaves[index].values = leaf.values;
                }
                // An empty leaf that we do not have is no wish.
                None if leaf.values == [0; 4] => {}
                None if exceeds(leaf, [0; 4]) => return Err((Error::EINVAL, leaf)),
                // It holds no features: the toolstack's word on topology or caches.
                None => {
                    policy.leaves.try_reserve(1).map_err(|_| (Error::ENOMEM, leaf))?;
                    let place = policy
                        .leaves
                        .partition_point(|entry| (entry.leaf, entry.subleaf) < (leaf.leaf, leaf.subleaf));
                    policy.leaves.insert(place, leaf);
                }
            }
        }
        Ok(policy)
    }

    /// Bits of a guest-physical address.
    pub fn address_bits(&self) -> u32 {
        self.address_bits
    }

    fn exact(&self, leaf: u32, subleaf: u32) -> Option<usize> {
        self.leaves
            .iter()
            .position(|entry| entry.leaf == leaf && entry.subleaf == subleaf)
    }

    fn find(&self, leaf: u32, subleaf: u32) -> Option<usize> {
        self.leaves
            .iter()
            .position(|entry| entry.leaf == leaf && (entry.subleaf == subleaf || entry.subleaf == NO_SUBLEAF))
    }

    /// XCR0 bits that may be set.
    pub fn extended_features(&self) -> u64 {
        self.find(EXTENDED_STATE, 0)
            .map_or(0, |index| u64::from(self.leaves[index].values[0]))
    }

    /// What CPUID answers.
    pub fn answer(&self, leaf: u32, subleaf: u32, asker: &Asker) -> [u32; 4] {
        if (HYPERVISOR_BASE..HYPERVISOR_BASE + 0x1_0000).contains(&leaf) {
            return self.hypervisor_leaf(leaf, subleaf, asker);
        }
        let Some(index) = self.find(leaf, subleaf) else {
            return [0; 4];
        };
        let mut values = self.leaves[index].values;
        match leaf {
            1 => {
                values[1] = (values[1] & 0x00ff_ffff) | (asker.apic_id << 24);
                if asker.cr4 & CR4_OSXSAVE != 0 {
                    values[2] |= BASIC_ECX_OSXSAVE;
                }
                if !asker.apic_enabled {
                    values[3] &= !BASIC_EDX_APIC;
                }
            }
            EXTENDED_STATE if subleaf == 0 => values[1] = self.state_size(asker.extended_control),
            _ => {}
        }
        values
    }

    /// Bytes that XSAVE writes for the features that are enabled.
    fn state_size(&self, enabled: u64) -> u32 {
        const LEGACY_AND_HEADER: u32 = 576;
        const AVX: u64 = 1 << 2;
        let avx = self.find(EXTENDED_STATE, 2).map_or(0, |index| {
            let [size, offset, ..] = self.leaves[index].values;
            size.saturating_add(offset)
        });
        if enabled & AVX != 0 {
            avx.max(LEGACY_AND_HEADER)
        } else {
            LEGACY_AND_HEADER
        }
    }

    /// The leaves in which a hypervisor speaks of itself (Xen's `arch-x86/cpuid.h`).
    fn hypervisor_leaf(&self, leaf: u32, subleaf: u32, asker: &Asker) -> [u32; 4] {
        const VCPU_ID_PRESENT: u32 = 1 << 3;
        const DOMAIN_ID_PRESENT: u32 = 1 << 4;
        const UPCALL_VECTOR: u32 = 1 << 6;
        let (major, minor) = crate::VERSION;
        match leaf - HYPERVISOR_BASE {
            // "XenVMMXenVMM".
            0 => [HYPERVISOR_LAST, 0x566e_6558, 0x6558_4d4d, 0x4d4d_566e],
            1 => [u32::from(major) << 16 | u32::from(minor), 0, 0, 0],
            // One page of hypercall entries, made by writing the MSR.
            2 => [1, HYPERCALL_PAGE_MSR, 0, 0],
            3 => match subleaf {
                0 => [0, 0, self.tsc_khz, 1],
                2 => [self.tsc_khz, 0, 0, 0],
                _ => [0; 4],
            },
            4 => [
                VCPU_ID_PRESENT | DOMAIN_ID_PRESENT | UPCALL_VECTOR,
                asker.vcpu,
                u32::from(asker.domain.0),
                0,
            ],
            5 => [0, self.address_bits, 0, 0],
            _ => [0; 4],
        }
    }
}

/// A host's leaf without what guests are not given.
fn keep(leaf: u32, subleaf: u32, host: [u32; 4], basic: u32, extended: u32) -> [u32; 4] {
    let [eax, ebx, ecx, edx] = host;
    match leaf {
        0 => [basic, ebx, ecx, edx],
        1 => [
            eax,
            ebx & 0xff00,
            (ecx & BASIC_ECX) | BASIC_ECX_ALWAYS,
            (edx & BASIC_EDX) | BASIC_EDX_APIC,
        ],
        2 => host,
        7 if subleaf == 0 => [0, ebx & STRUCTURED_EBX, 0, 0],
        EXTENDED_STATE => match subleaf {
            0 => {
                let features = eax & EXTENDED_FEATURES as u32;
                let size = if features & 4 != 0 { 832 } else { 576 };
                [features, size, size, 0]
            }
            1 => [eax & EXTENDED_STATE_SUBFEATURES, 0, 0, 0],
            _ => host,
        },
        0x8000_0000 => [extended, ebx, ecx, edx],
        0x8000_0001 => [eax, 0, ecx & EXTENDED_ECX, edx & EXTENDED_EDX],
        0x8000_0002..=0x8000_0006 => host,
        0x8000_0007 => [0, 0, 0, edx & INVARIANT_TSC],
        // Widths of addresses.
        0x8000_0008 => [(eax & 0xff00) | (eax & 0xff).min(MOST_ADDRESS_BITS), 0, 0, 0],
        _ => [0; 4],
    }
}

/// Leaves that a toolstack may bring, with the highest subleaf of those that have some.
fn is_known(wanted: Leaf) -> bool {
    const CACHES: u32 = 4;
    const STRUCTURED: u32 = 7;
    const TOPOLOGY: u32 = 0xb;
    let highest = match wanted.leaf {
        CACHES => 5,
        STRUCTURED => 2,
        TOPOLOGY => 1,
        EXTENDED_STATE => 62,
        0..=HIGHEST_BASIC | 0x8000_0000..=0x8000_0021 => return wanted.subleaf == NO_SUBLEAF,
        _ => return false,
    };
    wanted.subleaf <= highest
}

/// Whether a wished leaf has feature bits that are not allowed. Leaves that hold no features are not compared.
fn exceeds(wanted: Leaf, allowed: [u32; 4]) -> bool {
    let beyond = |index: usize| wanted.values[index] & !allowed[index] != 0;
    match (wanted.leaf, wanted.subleaf) {
        (1, _) => {
            (wanted.values[2] & !BASIC_ECX_OSXSAVE) & !allowed[2] != 0
                || (wanted.values[3] & !(1 << 28)) & !allowed[3] != 0
        }
        // The highest leaf: none that is not offered comes into sight.
        (0 | 0x8000_0000, _) => wanted.values[0] > allowed[0],
        (7, 0) => (1..4).any(beyond),
        (7, _) => (0..4).any(beyond),
        (0x8000_0007, _) => beyond(3),
        (0x8000_0008, _) => beyond(1),
        (EXTENDED_STATE, 0) => beyond(0),
        (EXTENDED_STATE, 1) => beyond(0),
        (0x8000_0001, _) => beyond(2) || beyond(3),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
