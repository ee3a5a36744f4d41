//! Who the hypervisor is and what it offers.

use hypercall_abi::Error;
use hypercall_abi::features::{
    AUTO_TRANSLATED_PHYSMAP, DOM0, HVM_CALLBACK_VECTOR, HVM_SAFE_PVCLOCK, MEMORY_OP_VNODE_SUPPORTED,
    NOT_DIRECT_MAPPED, WRITABLE_PAGE_TABLES,
};
use hypercall_abi::version::{CompileInfo, FeatureInfo, PlatformParameters, op};
use zerocopy::FromZeros;

use super::{Answer, DONE, Model};

const VERSION: u64 = 4 << 16 | 17;
const CAPABILITIES: &str = "hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";
const CHANGESET: Option<&str> = option_env!("XENOLITH_REVISION");
/// The start of what classic PV guests had to leave alone.
const VIRTUAL_START: u64 = 0xffff_8000_0000_0000;
const FEATURES: [u32; 6] = [
    WRITABLE_PAGE_TABLES,
    AUTO_TRANSLATED_PHYSMAP,
    HVM_CALLBACK_VECTOR,
    HVM_SAFE_PVCLOCK,
    MEMORY_OP_VNODE_SUPPORTED,
    NOT_DIRECT_MAPPED,
];

/// A zero-terminated text in its field.
fn text<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    let mut field = [0; LENGTH];
    let length = text.len().min(LENGTH - 1);
    field[..length].copy_from_slice(&text.as_bytes()[..length]);
    field
}

impl Model {
    pub(super) fn xen_version(&mut self, [operation, argument, ..]: [u64; 6]) -> Answer {
        match operation as u32 {
            op::VERSION => return Ok(VERSION),
            op::EXTRA_VERSION => {
                let extra = text::<16>(concat!("-xenolith-", env!("CARGO_PKG_VERSION")));
                self.write(argument, &extra)?;
            }
            op::COMPILE_INFO => {
                let info = CompileInfo {
                    compiler: text(concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"))),
                    ..CompileInfo::new_zeroed()
                };
                self.write(argument, &info)?;
            }
            op::CAPABILITIES => self.write(argument, &text::<1024>(CAPABILITIES))?,
            op::CHANGESET => self.write(argument, &text::<64>(CHANGESET.unwrap_or("unavailable")))?,
            op::PLATFORM_PARAMETERS => {
                let parameters = PlatformParameters {
                    virtual_start: VIRTUAL_START,
                };
                self.write(argument, &parameters)?;
            }
            op::GET_FEATURES => {
                let mut request: FeatureInfo = self.read(argument)?;
                if request.submap_index != 0 {
                    return Err(Error::EINVAL.into());
                }
                let control = self.me().privileged.then_some(DOM0);
                request.submap = FEATURES
                    .into_iter()
                    .chain(control)
                    .map(|feature| 1 << feature)
                    .sum();
                self.write(argument, &request)?;
            }
            op::PAGE_SIZE if argument != 0 => return Err(Error::EINVAL.into()),
            op::PAGE_SIZE => return Ok(4096),
            op::GUEST_HANDLE => self.write(argument, &self.me().handle)?,
            op::COMMAND_LINE => {
                let line = if self.me().privileged {
                    &self.told.command_line
                } else {
                    "<denied>"
                };
                self.write(argument, &text::<1024>(line))?;
            }
            op::BUILD_ID => {
                self.privileged()?;
                return Err(Error::ENODATA.into());
            }
            _ => return Err(Error::ENOSYS.into()),
        }
        DONE
    }
}
