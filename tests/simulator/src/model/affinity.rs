//! Where vCPUs may run, and sets of processors and nodes in the caller's memory.

use hypercall_abi::Error;
use hypercall_abi::domctl::{VcpuAffinity, affinity_flag};
use hypercall_abi::xen::ControlBitmap;

use super::{Model, Vcpu};

const MOST_BITS: u32 = 4096;

impl Model {
    pub(super) fn existing_vcpu(&self, number: u16, vcpu: u32) -> Result<&Vcpu, Error> {
        let domain = self.at(number);
        match domain.vcpus.get(vcpu as usize) {
            None => Err(Error::EINVAL),
            Some(_) if !domain.has_vcpu(vcpu) => Err(Error::ESRCH),
            Some(vcpu) => Ok(vcpu),
        }
    }

    pub(super) fn all_processors(&self) -> u64 {
        u64::MAX >> (64 - self.told.processors.min(64))
    }

    pub(super) fn set_affinity(&mut self, number: u16, wanted: &VcpuAffinity) -> Result<(), Error> {
        self.existing_vcpu(number, wanted.vcpu)?;
        let [hard_meant, soft_meant] = meant(wanted)?;
        let online = self.processors_of(number);
        let hard = if hard_meant {
            Some(self.read_bitmap(&wanted.hard)?)
        } else {
            None
        };
        if hard.is_some_and(|hard| hard & online == 0) {
            return Err(Error::EINVAL);
        }
        let soft = if soft_meant {
            Some(self.read_bitmap(&wanted.soft)?)
        } else {
            None
        };
        if let Some(hard) = hard {
            let everywhere = hard & online == online;
            self.vcpu_mut(number, wanted.vcpu).hard_affinity = if everywhere { u64::MAX } else { hard };
            self.write_bitmap(&wanted.hard, hard & online)?;
        }
        if let Some(soft) = soft {
            self.vcpu_mut(number, wanted.vcpu).soft_affinity = soft;
            self.write_bitmap(&wanted.soft, soft & online)?;
        }
        Ok(())
    }

    pub(super) fn get_affinity(&mut self, number: u16, wanted: &VcpuAffinity) -> Result<(), Error> {
        let vcpu = self.existing_vcpu(number, wanted.vcpu)?;
        let [hard_meant, soft_meant] = meant(wanted)?;
        let online = self.all_processors();
        let (hard, soft) = (vcpu.hard_affinity & online, vcpu.soft_affinity & online);
        if hard_meant {
            self.write_bitmap(&wanted.hard, hard)?;
        }
        if soft_meant {
            self.write_bitmap(&wanted.soft, soft)?;
        }
        Ok(())
    }

    pub(super) fn read_bitmap(&self, bitmap: &ControlBitmap) -> Result<u64, Error> {
        if bitmap.nr_bits > MOST_BITS {
            return Err(Error::EINVAL);
        }
        // As many as there can ever be, of which this machine has no more than 64.
        let mut bytes = [0; 32];
        let length = (bitmap.nr_bits.div_ceil(8) as usize).min(bytes.len());
        self.read_bytes(bitmap.bitmap.address(), &mut bytes[..length])?;
        let known = u64::MAX.checked_shr(64 - bitmap.nr_bits.min(64)).unwrap_or(0);
        let first = bytes.first_chunk().copied().unwrap_or_default();
        Ok(u64::from_le_bytes(first) & known)
    }

    pub(super) fn write_bitmap(&self, bitmap: &ControlBitmap, bits: u64) -> Result<(), Error> {
        if bitmap.nr_bits > MOST_BITS {
            return Err(Error::EINVAL);
        }
        let mut bytes = [0; MOST_BITS as usize / 8];
        bytes[..8].copy_from_slice(&bits.to_le_bytes());
        self.write_bytes(
            bitmap.bitmap.address(),
            &bytes[..bitmap.nr_bits.div_ceil(8) as usize],
        )
    }
}

/// Which sets are meant; they must be there.
fn meant(wanted: &VcpuAffinity) -> Result<[bool; 2], Error> {
    let hard = wanted.flags & affinity_flag::HARD != 0;
    let soft = wanted.flags & affinity_flag::SOFT != 0;
    let missing = (hard && wanted.hard.bitmap.is_null()) || (soft && wanted.soft.bitmap.is_null());
    if missing || !(hard || soft) {
        return Err(Error::EINVAL);
    }
    Ok([hard, soft])
}
