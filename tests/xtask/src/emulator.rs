//! The emulated machine: QEMU's command line for Xenolith and for Xen.
//!
//! Always TCG, one host thread (`thread=single`): the multi-threaded one loses interrupts and VMCB state around
//! world switches. Never KVM: it has no part in what is tested.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::core_image::Flavour;
use crate::house::House;
use crate::packages;

/// What runs dom0.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Hypervisor {
    /// Ours.
    Xenolith,
    /// Debian's Xen 4.17: the reference.
    Xen,
}

impl Hypervisor {
    /// The name as typed after `--on`.
    pub fn name(self) -> &'static str {
        match self {
            Hypervisor::Xenolith => "xenolith",
            Hypervisor::Xen => "xen",
        }
    }

    /// CPUs of a machine unless told. Real Xen trips over the emulator's interrupt bugs with more than one.
    pub fn usual_cpus(self) -> u32 {
        match self {
            Hypervisor::Xenolith => 2,
            Hypervisor::Xen => 1,
        }
    }
}

/// One boot of the machine.
pub struct Machine {
    /// Who runs dom0.
    pub hypervisor: Hypervisor,
    /// Which of ours.
    pub flavour: Flavour,
    /// Physical CPUs.
    pub cpus: u32,
    /// dom0's virtual ones.
    pub dom0_vcpus: u32,
    /// MiB of the machine.
    pub memory: u32,
    /// MiB of dom0.
    pub dom0_memory: u32,
    /// The CPU, where it is not the usual model.
    pub cpu_model: Option<&'static str>,
    /// A medium with a boot loader of its own, instead of QEMU's loader and the modules below.
    pub medium: Option<PathBuf>,
    /// dom0's kernel; none is an error that the hypervisor must explain.
    pub kernel: Option<PathBuf>,
    /// Its command line.
    pub kernel_arguments: String,
    /// Its initramfs; a micro-kernel has none.
    pub initramfs: Option<PathBuf>,
    /// More of the hypervisor's command line.
    pub hypervisor_arguments: String,
    /// Virtual time by counted instructions: slower, but repeatable. An instruction takes two to the power of this in
    /// nanoseconds.
    pub counted_time: Option<u8>,
}

impl Machine {
    /// A machine with the usual sizes.
    pub fn usual(hypervisor: Hypervisor, kernel: PathBuf) -> Machine {
        Machine {
            hypervisor,
            flavour: Flavour::Release,
            cpus: hypervisor.usual_cpus(),
            dom0_vcpus: hypervisor.usual_cpus(),
            memory: 4096,
            dom0_memory: 1024,
            cpu_model: None,
            medium: None,
            kernel: Some(kernel),
            kernel_arguments: String::new(),
            initramfs: None,
            hypervisor_arguments: String::new(),
            counted_time: None,
        }
    }

    /// The QEMU command; serial port and keyboard are its standard output and input.
    pub fn command(&self, house: &House) -> Result<Command> {
        let image = match self.hypervisor {
            Hypervisor::Xenolith => house.hypervisor_image(self.flavour),
            Hypervisor::Xen => packages::xen_image(house),
        };
        let needed = [
            Some(&image),
            self.medium.as_ref(),
            self.kernel.as_ref(),
            self.initramfs.as_ref(),
        ];
        if let Some(missing) = needed.into_iter().flatten().find(|file| !file.is_file()) {
            bail!(
                "{} is not there: `cargo xtask build` makes it",
                house.shown(missing)
            );
        }
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=single", "-machine", "q35"]);
        qemu.args(["-smp", &self.cpus.to_string(), "-m", &self.memory.to_string()]);
        qemu.args(["-nodefaults", "-display", "none", "-vga", "none", "-no-reboot"]);
        qemu.args([
            "-chardev",
            "stdio,id=serial,signal=off",
            "-serial",
            "chardev:serial",
        ]);
        if let Some(shift) = self.counted_time {
            qemu.arg("-icount").arg(format!("shift={shift},sleep=off"));
        }
        qemu.args(["-cpu", self.cpu_model()]);
        if self.hypervisor == Hypervisor::Xen {
            qemu.args(["-device", "amd-iommu"]); // Xen builds no PVH dom0 without one.
        }
        if let Some(medium) = &self.medium {
            qemu.arg("-drive").arg(format!(
                "media=cdrom,readonly=on,format=raw,file={}",
                medium.display()
            ));
            return Ok(qemu);
        }
        qemu.arg("-kernel")
            .arg(&image)
            .arg("-append")
            .arg(self.hypervisor_command_line());
        if let Some(modules) = self.modules() {
            qemu.arg("-initrd").arg(modules);
        }
        Ok(qemu)
    }

    /// For Xen a model without what this emulator gets wrong in ways that Xen cannot steer around.
    fn cpu_model(&self) -> &'static str {
        if let Some(model) = self.cpu_model {
            return model;
        }
        match self.hypervisor {
            Hypervisor::Xenolith => "EPYC,+svm,+npt",
            Hypervisor::Xen => {
                "EPYC,+svm,+npt,-monitor,-nrip-save,-rdseed,-sha-ni,-fxsr-opt,-misalignsse,-3dnowprefetch,-osvw,\
                 -topoext,-xsavec,+invtsc,x-force-features=on"
            }
        }
    }

    /// What the loader tells the hypervisor.
    pub fn hypervisor_command_line(&self) -> String {
        let sizes = format!(
            "dom0_mem={}M dom0_max_vcpus={}",
            self.dom0_memory, self.dom0_vcpus
        );
        let own = match self.hypervisor {
            Hypervisor::Xenolith => "console=com1",
            Hypervisor::Xen => {
                "dom0=pvh console=com1 com1=115200 loglvl=all guest_loglvl=all console_timestamps=boot xsave=no"
            }
        };
        format!("{own} {sizes} {}", self.hypervisor_arguments)
            .trim_end()
            .to_owned()
    }

    /// Multiboot modules as QEMU separates them: commas between, doubled within.
    fn modules(&self) -> Option<String> {
        let quoted = |text: String| text.replace(',', ",,");
        let kernel = format!("{} {}", self.kernel.as_ref()?.display(), self.kernel_arguments);
        let mut modules = quoted(kernel.trim_end().to_owned());
        if let Some(initramfs) = &self.initramfs {
            modules.push(',');
            modules.push_str(&quoted(initramfs.display().to_string()));
        }
        Some(modules)
    }
}
