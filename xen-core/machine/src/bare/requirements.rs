//! What a processor must offer. Everything is checked before anything depends on it.

use raw_cpuid::CpuId;
use x86_64::registers::model_specific::Msr;

use super::crash;

const VM_CR: u32 = 0xc001_0114;
const SVM_DISABLED: u64 = 1 << 4;

/// Refuse to go on when this processor lacks something.
pub fn check_processor() {
    let processor = CpuId::new();
    let extended = processor.get_extended_processor_and_feature_identifiers();
    if !extended.is_some_and(|features| features.has_svm()) {
        crash::refuse(format_args!(
            "this processor has no AMD-V (SVM): use an AMD processor, or in QEMU -cpu EPYC,+svm,+npt"
        ));
    }
    if !processor
        .get_svm_info()
        .is_some_and(|svm| svm.has_nested_paging())
    {
        crash::refuse(format_args!(
            "this processor's AMD-V has no nested paging (NPT): use a newer one, or in QEMU add +npt to -cpu"
        ));
    }
    // SAFETY: every processor with SVM has this register.
    if unsafe { Msr::new(VM_CR).read() } & SVM_DISABLED != 0 {
        crash::refuse(format_args!(
            "AMD-V (SVM) is switched off: switch it on in the firmware's setup"
        ));
    }
    let features = processor.get_feature_info();
    if !features
        .is_some_and(|features| features.has_tsc() && features.has_apic() && features.has_fxsave_fxstor())
    {
        crash::refuse(format_args!(
            "this processor lacks a time stamp counter, a local APIC or FXSAVE: use a newer one"
        ));
    }
}
