//! What a guest is told about its processor.
//!
//! The hypervisor's default policy is a good one; the tools only add the topology that belongs to even APIC IDs: every
//! virtual CPU is a core of its own, and the lowest bit of an APIC ID is a thread that is never there.

use control::{CpuPolicy, CpuidLeaf};

/// "More than one logical processor may share a package".
const HTT: u32 = 1 << 28;

/// The leaves that differ from the default.
pub fn adjustments(default: &CpuPolicy) -> CpuPolicy {
    let leaves = default.leaves.iter().filter_map(adjust).collect();
    CpuPolicy {
        leaves,
        registers: Vec::new(),
    }
}

fn adjust(leaf: &CpuidLeaf) -> Option<CpuidLeaf> {
    match leaf.leaf {
        1 => {
            let logical = (leaf.b >> 16 & 0xff).clamp(1, 127) * 2;
            Some(CpuidLeaf {
                b: leaf.b & !0x00ff_0000 | logical << 16,
                d: leaf.d | HTT,
                ..*leaf
            })
        }
        0x8000_0008 => {
            let cores = ((leaf.c & 0xff) << 1 | 1) & 0xff;
            let id_size = match leaf.c >> 12 & 0xf {
                0 => 0,
                size => (size + 1).min(0xf),
            };
            Some(CpuidLeaf {
                c: leaf.c & !0xf0ff | id_size << 12 | cores,
                ..*leaf
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topology_doubles() {
        let leaf = |number, b, c| CpuidLeaf {
            leaf: number,
            subleaf: u32::MAX,
            a: 0,
            b,
            c,
            d: 0,
        };
        let default = CpuPolicy {
            leaves: vec![leaf(0, 1, 1), leaf(1, 0x0800, 0), leaf(0x8000_0008, 0, 0)],
            registers: Vec::new(),
        };
        let changed = adjustments(&default);
        assert_eq!(changed.leaves.len(), 2);
        assert_eq!((changed.leaves[0].b, changed.leaves[0].d), (0x0002_0800, HTT));
        assert_eq!(changed.leaves[1].c, 1);
    }
}
