//! Interrupts for a vCPU: event upcalls, the local APIC's, interprocessor interrupts and devices' lines.

use alloc::sync::Arc;
use machine::sync::atomic::Ordering;

use machine::Machine;
use machine::virtual_cpu::VirtualCpu;

use crate::Kernel;
use crate::domain::{Domain, VcpuHandle};
use crate::lapic::{Command, Effect};
use crate::vcpu::stop;

/// `HVM_PARAM_CALLBACK_IRQ`.
pub(crate) const CALLBACK_PARAMETER: usize = 0;
/// Its delivery type, in bits 56-63, for a vector of all vCPUs.
const CALLBACK_VECTOR: u64 = 2;

impl<M: Machine> Kernel<M> {
    /// An event waits for this vCPU: mark it in its `vcpu_info`, raise the upcall vector, and see that it runs or looks.
    pub fn raise_upcall(&self, vcpu: &VcpuHandle<M>) {
        if vcpu.set_upcall_pending() {
            let vector = vcpu.upcall_vector.load(Ordering::Acquire);
            if vector != 0 {
                vcpu.lapic.post(vector);
            }
        }
        self.unblock(vcpu);
    }

    /// The vector of the domain-wide callback, if that is how this vCPU is called and an event waits.
    fn callback(&self, vcpu: &VcpuHandle<M>) -> Option<u8> {
        if vcpu.upcall_vector.load(Ordering::Relaxed) != 0 {
            return None;
        }
        let value = vcpu.domain().callback.load(Ordering::Relaxed);
        (value >> 56 == CALLBACK_VECTOR && vcpu.upcall_pending()).then_some(value as u8)
    }

    /// Whether something waits that ends a HLT.
    pub(crate) fn has_work(&self, vcpu: &VcpuHandle<M>) -> bool {
        vcpu.nmi_pending.load(Ordering::SeqCst)
            || vcpu.lapic.pending().is_some()
            || self.callback(vcpu).is_some()
    }

    /// Before a run: what the guest should be interrupted with.
    pub(crate) fn offer_interrupts(&self, vcpu: &VcpuHandle<M>, context: &mut M::Vcpu) {
        if vcpu.nmi_pending.load(Ordering::Relaxed) && vcpu.nmi_pending.swap(false, Ordering::SeqCst) {
            context.inject_nmi();
        }
        // The callback does not pass through the APIC: no request, no completion, and no exit when it has been served. So it
        // comes after what the APIC has, whose completion is an exit: the other way round that would wait for any exit.
        let vector = vcpu.lapic.pending().or_else(|| self.callback(vcpu));
        context.offer_interrupt(vector);
        context.set_task_priority(vcpu.lapic.cr8());
    }

    /// After a run: the guest took what it was offered.
    pub(crate) fn interrupt_taken(&self, vcpu: &VcpuHandle<M>, vector: u8) {
        let callback = vcpu.domain().callback.load(Ordering::Relaxed);
        let direct = vcpu.upcall_vector.load(Ordering::Relaxed) == 0
            && callback >> 56 == CALLBACK_VECTOR
            && callback as u8 == vector;
        if !direct {
            vcpu.lapic.accept(vector);
        }
    }

    /// A vector is set for all vCPUs' callback (`HVM_PARAM_CALLBACK_IRQ`).
    pub fn set_callback(&self, domain: &Arc<Domain<M>>, value: u64) {
        let mut parameters = domain.hvm_parameters.lock();
        parameters[CALLBACK_PARAMETER] = value;
        // Under the lock: of two vCPUs that set it at once, the same one is last in both.
        domain.callback.store(value, Ordering::Release);
    }

    /// Carry out what an access to the local APIC means.
    pub(crate) fn apic_effect(&self, vcpu: &VcpuHandle<M>, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Completed { vector, level } => {
                if level {
                    self.complete_device_interrupt(vcpu, vector);
                }
            }
            Effect::Timer(deadline) => self.change_deadlines(vcpu, |deadlines| deadlines.apic = deadline),
            Effect::Command(command) => self.send_ipi(vcpu, &command),
        }
    }

    fn send_ipi(&self, sender: &VcpuHandle<M>, command: &Command) {
        self.each_vcpu(sender.domain(), |target| {
            let itself = target.index == sender.index;
            let addressed = match command.shorthand {
                1 => itself,
                2 => true,
                3 => !itself,
                _ => target.lapic.is_addressed(command),
            };
            if addressed {
                self.deliver_ipi(sender, target, command);
            }
        });
    }

    fn deliver_ipi(&self, sender: &VcpuHandle<M>, target: &VcpuHandle<M>, command: &Command) {
        const FIXED: u8 = 0;
        const LOWEST_PRIORITY: u8 = 1;
        const NMI: u8 = 4;
        const INIT: u8 = 5;
        const START_UP: u8 = 6;
        match command.mode {
            FIXED | LOWEST_PRIORITY => {
                target.lapic.post(command.vector);
                self.unblock(target);
            }
            NMI => {
                target.nmi_pending.store(true, Ordering::SeqCst);
                self.unblock(target);
            }
            // INIT to oneself would stop the caller in the middle of its instruction; nobody does that.
            INIT if command.assert && target.index != sender.index => {
                target.stops.fetch_or(stop::DOWN, Ordering::SeqCst);
                self.make_look(target);
            }
            START_UP if target.index != sender.index => self.start_up(target, command.vector),
            _ => {}
        }
    }

    /// Start a vCPU that waits after INIT, in real mode at `page` * 4096. Ignored, as on hardware, by one that runs.
    fn start_up(&self, target: &VcpuHandle<M>, page: u8) {
        if target.is_up() {
            return;
        }
        // It may still be on its way off a processor; senders repeat a start-up that was too early. Never wait here: two
        // vCPUs could start each other up.
        let Some(mut context) = target.context.try_lock() else {
            return;
        };
        context.reset();
        target.lapic.reset();
        // What waits in its `vcpu_info` is not forgotten with the APIC's requests: nobody would ever tell it again.
        let vector = target.upcall_vector.load(Ordering::Acquire);
        if vector != 0 && target.upcall_pending() {
            target.lapic.post(vector);
        }
        let state = machine::virtual_cpu::ArchitecturalState {
            cs: machine::virtual_cpu::Segment {
                selector: u16::from(page) << 8,
                base: u64::from(page) << 12,
                ..context.save().cs
            },
            registers: machine::virtual_cpu::Registers {
                rip: 0,
                ..context.save().registers
            },
            ..context.save()
        };
        if context.restore(&state).is_err() {
            return;
        }
        drop(context);
        target.initialised.store(true, Ordering::SeqCst);
        target
            .stops
            .fetch_and(!(stop::DOWN | stop::BLOCKED | stop::POLLING), Ordering::SeqCst);
        self.reconsider(target);
    }
}

#[cfg(test)]
mod tests;
