//! The caller's memory. Without paging an address is a guest-physical one below 4 GiB.

use hypercall_abi::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Model;
use super::memory::PAGE_SIZE;

impl Model {
    /// Copy bytes from the caller.
    pub(super) fn read_bytes(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        let map = &self.me().map;
        let mut done = 0;
        while done < into.len() {
            let at = address.checked_add(done as u64).ok_or(Error::EFAULT)? & 0xffff_ffff;
            let (page, _) = map.page(at >> 12).ok_or(Error::EFAULT)?;
            let offset = at as usize % PAGE_SIZE;
            let part = (PAGE_SIZE - offset).min(into.len() - done);
            page.read(offset, &mut into[done..done + part]);
            done += part;
        }
        Ok(())
    }

    /// Copy bytes to the caller, as far as the first page that it may not write.
    pub(super) fn write_bytes(&self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        let map = &self.me().map;
        let mut done = 0;
        while done < bytes.len() {
            let at = address.checked_add(done as u64).ok_or(Error::EFAULT)? & 0xffff_ffff;
            let (page, entry) = map.page(at >> 12).ok_or(Error::EFAULT)?;
            if !entry.writable {
                return Err(Error::EFAULT);
            }
            let offset = at as usize % PAGE_SIZE;
            let part = (PAGE_SIZE - offset).min(bytes.len() - done);
            page.write(offset, &bytes[done..done + part]);
            done += part;
        }
        Ok(())
    }

    /// Copy a structure from the caller.
    pub(super) fn read<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, Error> {
        let mut value = T::new_zeroed();
        self.read_bytes(address, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copy a structure to the caller.
    pub(super) fn write<T: IntoBytes + Immutable>(&self, address: u64, value: &T) -> Result<(), Error> {
        self.write_bytes(address, value.as_bytes())
    }

    /// Copy an element of an array from the caller.
    pub(super) fn read_element<T: FromBytes + IntoBytes>(&self, array: u64, index: u64) -> Result<T, Error> {
        self.read(element::<T>(array, index)?)
    }

    /// Copy an element of an array to the caller.
    pub(super) fn write_element<T: IntoBytes + Immutable>(
        &self,
        array: u64,
        index: u64,
        value: &T,
    ) -> Result<(), Error> {
        self.write(element::<T>(array, index)?, value)
    }
}

fn element<T>(array: u64, index: u64) -> Result<u64, Error> {
    let offset = index.checked_mul(size_of::<T>() as u64);
    offset
        .and_then(|offset| array.checked_add(offset))
        .ok_or(Error::EFAULT)
}
