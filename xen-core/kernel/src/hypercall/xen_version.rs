//! `xen_version`: who the hypervisor is and what it offers.

use hypercall_abi::Error;
use hypercall_abi::features::{
    AUTO_TRANSLATED_PHYSMAP, DOM0, HVM_CALLBACK_VECTOR, HVM_SAFE_PVCLOCK, MEMORY_OP_VNODE_SUPPORTED,
    NOT_DIRECT_MAPPED, SUBMAPS, WRITABLE_PAGE_TABLES,
};
use hypercall_abi::version::{
    CAPABILITIES_LENGTH, CHANGESET_LENGTH, COMMAND_LINE_LENGTH, CompileInfo, EXTRA_VERSION_LENGTH,
    FeatureInfo, PlatformParameters, op,
};
use machine::Machine;
use machine::address::PAGE_SIZE;

use super::{Answer, Call, DONE, Outcome};
use crate::{EXTRA_VERSION, VERSION};

/// The guest types that can be made: the toolstack chooses by these words. They name the mode that a guest is entered in;
/// PVH kernels are entered in 32-bit mode, whatever they become.
const CAPABILITIES: &str = "hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";
/// The source's revision, where the build was told it.
const CHANGESET: &str = match option_env!("XENOLITH_REVISION") {
    Some(revision) => revision,
    None => "unavailable",
};
/// What those are told who may not know.
const DENIED: &str = "<denied>";
/// Where the linear range begins that classic PV guests must leave alone: a constant of the ABI on x86_64.
const VIRTUAL_START: u64 = 0xffff_8000_0000_0000;

const fn bit(feature: u32) -> u32 {
    1 << feature
}

/// What every guest can rely on.
const FEATURES: u32 = bit(WRITABLE_PAGE_TABLES)
    | bit(AUTO_TRANSLATED_PHYSMAP)
    | bit(HVM_CALLBACK_VECTOR)
    | bit(HVM_SAFE_PVCLOCK)
    | bit(MEMORY_OP_VNODE_SUPPORTED)
    | bit(NOT_DIRECT_MAPPED);

/// Answer one question.
///
/// # Errors
/// ENOSYS for unknown questions, EFAULT, and what each answer says.
pub fn handle<M: Machine>(call: &mut Call<'_, M>) -> Answer {
    let [operation, argument, ..] = call.arguments;
    match operation as u32 {
        op::VERSION => {
            let (major, minor) = VERSION;
            return Ok(Outcome::Value(u64::from(major) << 16 | u64::from(minor)));
        }
        op::EXTRA_VERSION => call.write(argument, &text::<EXTRA_VERSION_LENGTH>(EXTRA_VERSION))?,
        op::COMPILE_INFO => call.write(argument, &compile_info())?,
        op::CAPABILITIES => call.write(argument, &text::<CAPABILITIES_LENGTH>(CAPABILITIES))?,
        op::CHANGESET => call.write(argument, &text::<CHANGESET_LENGTH>(CHANGESET))?,
        op::PLATFORM_PARAMETERS => call.write(
            argument,
            &PlatformParameters {
                virtual_start: VIRTUAL_START,
            },
        )?,
        op::GET_FEATURES => return features(call, argument),
        op::PAGE_SIZE => {
            // A question without an argument.
            let refused = argument != 0;
            return if refused {
                Err(Error::EINVAL)
            } else {
                Ok(Outcome::Value(PAGE_SIZE as u64))
            };
        }
        op::GUEST_HANDLE => {
            let handle = *call.domain().handle.lock();
            call.write(argument, &handle)?;
        }
        op::COMMAND_LINE => {
            let line = if call.domain().privileged {
                call.kernel.options.line.as_str()
            } else {
                DENIED
            };
            call.write(argument, &text::<COMMAND_LINE_LENGTH>(line))?;
        }
        op::BUILD_ID => {
            call.require_privilege()?;
            // The image carries no build id.
            return Err(Error::ENODATA);
        }
        _ => return Err(Error::ENOSYS),
    }
    DONE
}

fn features<M: Machine>(call: &mut Call<'_, M>, argument: u64) -> Answer {
    let mut request: FeatureInfo = call.read(argument)?;
    if request.submap_index >= SUBMAPS {
        return Err(Error::EINVAL);
    }
    request.submap = FEATURES | if call.domain().privileged { bit(DOM0) } else { 0 };
    call.write(argument, &request)?;
    DONE
}

fn compile_info() -> CompileInfo {
    CompileInfo {
        compiler: text(concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"))),
        // Builds of one source are the same bytes, whoever makes them, wherever and whenever.
        compile_by: text(""),
        compile_domain: text(""),
        compile_date: text(""),
    }
}

/// A zero-terminated text in a field of fixed size; what does not fit is cut off.
fn text<const LENGTH: usize>(value: &str) -> [u8; LENGTH] {
    let mut field = [0; LENGTH];
    for (place, byte) in field.iter_mut().take(LENGTH.saturating_sub(1)).zip(value.bytes()) {
        *place = byte;
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, TestVcpu, hypercall, hypercall_with, peek};
    use hypercall_abi::hypercall::number::XEN_VERSION;

    fn setting() -> (testing::TestKernel, TestVcpu, TestVcpu) {
        let kernel = crate::Kernel::new(machine::fake::FakeMachine::default(), "dom0_mem=512M");
        let control = testing::vcpu(&testing::domain(&kernel, 0, 1, 2), 0);
        let guest = testing::vcpu(&testing::domain(&kernel, 1, 1, 2), 0);
        (kernel, control, guest)
    }

    fn ask<const LENGTH: usize>(kernel: &testing::TestKernel, vcpu: &TestVcpu, operation: u32) -> String {
        assert_eq!(
            hypercall(kernel, vcpu, XEN_VERSION, &[u64::from(operation), 0]),
            0
        );
        let bytes: [u8; LENGTH] = peek(vcpu.domain(), 0);
        let end = bytes.iter().position(|&byte| byte == 0).expect("terminated");
        String::from_utf8(bytes[..end].to_vec()).unwrap()
    }

    #[test]
    fn it_says_who_it_is() {
        let (kernel, control, guest) = setting();
        assert_eq!(hypercall(&kernel, &guest, XEN_VERSION, &[0, 0]), 0x40011);
        assert_eq!(
            ask::<EXTRA_VERSION_LENGTH>(&kernel, &guest, op::EXTRA_VERSION),
            EXTRA_VERSION
        );
        assert!(
            ask::<CAPABILITIES_LENGTH>(&kernel, &guest, op::CAPABILITIES)
                .contains("hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64")
        );
        assert_eq!(ask::<CHANGESET_LENGTH>(&kernel, &guest, op::CHANGESET), CHANGESET);
        assert_eq!(
            ask::<COMMAND_LINE_LENGTH>(&kernel, &control, op::COMMAND_LINE),
            "dom0_mem=512M"
        );
        assert_eq!(
            ask::<COMMAND_LINE_LENGTH>(&kernel, &guest, op::COMMAND_LINE),
            DENIED
        );
        assert!(ask::<64>(&kernel, &guest, op::COMPILE_INFO).starts_with("rustc "));
    }

    #[test]
    fn features_are_those_that_linux_saw_on_xen() {
        let (kernel, control, guest) = setting();
        let request = FeatureInfo {
            submap_index: 0,
            submap: 0,
        };
        let of = |vcpu| hypercall_with(&kernel, vcpu, XEN_VERSION, op::GET_FEATURES, request);
        assert_eq!(of(&control).1.submap, 0x12b05);
        assert_eq!(of(&guest).1.submap, 0x12305);
        let past = FeatureInfo {
            submap_index: 1,
            submap: 0,
        };
        let (result, _) = hypercall_with(&kernel, &guest, XEN_VERSION, op::GET_FEATURES, past);
        assert_eq!(result, Error::EINVAL.as_result());
    }

    #[test]
    fn odd_questions() {
        let (kernel, control, guest) = setting();
        *guest.domain().handle.lock() = [7; 16];
        let (result, handle) = hypercall_with(&kernel, &guest, XEN_VERSION, op::GUEST_HANDLE, [0u8; 16]);
        assert_eq!((result, handle), (0, [7; 16]));
        assert_eq!(
            hypercall(&kernel, &guest, XEN_VERSION, &[u64::from(op::PAGE_SIZE), 0]),
            4096
        );
        let with_argument = [u64::from(op::PAGE_SIZE), 8];
        assert_eq!(
            hypercall(&kernel, &guest, XEN_VERSION, &with_argument),
            Error::EINVAL.as_result()
        );
        let build_id = [u64::from(op::BUILD_ID), 0];
        assert_eq!(
            hypercall(&kernel, &guest, XEN_VERSION, &build_id),
            Error::EPERM.as_result()
        );
        assert_eq!(
            hypercall(&kernel, &control, XEN_VERSION, &build_id),
            Error::ENODATA.as_result()
        );
        assert_eq!(
            hypercall(&kernel, &guest, XEN_VERSION, &[11, 0]),
            Error::ENOSYS.as_result()
        );
        let nowhere = [u64::from(op::EXTRA_VERSION), 0x7000_0000];
        assert_eq!(
            hypercall(&kernel, &guest, XEN_VERSION, &nowhere),
            Error::EFAULT.as_result()
        );
    }

    #[test]
    fn the_extra_version_fits_its_field() {
        assert!(EXTRA_VERSION.len() < EXTRA_VERSION_LENGTH);
    }
}
