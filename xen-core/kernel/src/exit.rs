//! A guest's way through the core: run it, find out why it stopped, do what that asks for, run it again.
//!
//! One match over [`Exit`], each arm a call. What a guest does wrong gets it an exception, as hardware would raise it;
//! what cannot go on ends the domain, and nobody else.

use machine::sync::atomic::Ordering;

use hypercall_abi::sched::shutdown;
use machine::Machine;
use machine::virtual_cpu::{Exception, Exit, VirtualCpu, register};

use crate::Kernel;
use crate::cpu_policy::Asker;
use crate::domain::VcpuHandle;
use crate::hypercall;
use crate::vcpu::stop;

const MACHINE_CHECK: u8 = 18;

impl<M: Machine> Kernel<M> {
    /// Run a loaded vCPU until it blocks, ends, or has to make room.
    pub(crate) fn run_until_it_gives_way(&self, vcpu: &VcpuHandle<M>, context: &mut M::Vcpu) {
        let domain = vcpu.domain();
        loop {
            self.serve_interrupts();
            if self.must_give_way(vcpu) {
                return;
            }
            self.offer_interrupts(vcpu, context);
            let exit = self.machine.run(context, domain.physmap.root(), &domain.ports);
            if let Some(vector) = context.interrupt_taken() {
                self.interrupt_taken(vcpu, vector);
            }
            vcpu.lapic.set_cr8(context.task_priority());
            if let Some(counter) = vcpu.exits.get(exit.kind()) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            self.handle_exit(vcpu, context, exit);
        }
    }

    fn handle_exit(&self, vcpu: &VcpuHandle<M>, context: &mut M::Vcpu, exit: Exit) {
        match exit {
            Exit::Interrupt => {}
            Exit::Hypercall => hypercall::enter(self, vcpu, context),
            Exit::CpuId => self.answer_cpuid(vcpu, context),
            Exit::ReadMsr => self.read_msr(vcpu, context),
            Exit::WriteMsr => self.write_msr(vcpu, context),
            Exit::Port(access) => self.port_access(vcpu, context, access),
            Exit::Halt => self.halt(vcpu, context),
            Exit::StageTwoFault { .. } => self.stage_two_fault(vcpu, context, exit),
            Exit::SetExtendedControl => set_extended_control(vcpu, context),
            // Caches are coherent, and no guest drives a device that is not: nothing to do.
            Exit::WriteBackCaches => context.advance(),
            Exit::SetBreakpoints => self.set_breakpoints(vcpu, context),
            Exit::Forbidden => context.inject(Exception::INVALID_OPCODE),
            Exit::TripleFault => self.triple_fault(vcpu, context),
            // The host's trouble, met while this guest ran: it goes no further than this guest.
            Exit::Exception(Exception {
                vector: MACHINE_CHECK,
                ..
            }) => {
                self.crash_domain(vcpu, context, "a machine check while it ran");
            }
            Exit::Exception(exception) => context.inject(exception),
            Exit::Invalid { code } => {
                log::warn!(
                    "{} v{}: the processor refused its state ({code:#x})",
                    Named(vcpu),
                    vcpu.index
                );
                self.crash_domain(vcpu, context, "invalid processor state");
            }
        }
    }

    fn answer_cpuid(&self, vcpu: &VcpuHandle<M>, context: &mut M::Vcpu) {
        let general = context.registers().general;
        let asker = Asker {
            domain: vcpu.domain_id,
            vcpu: vcpu.index,
            apic_id: vcpu.lapic.id(),
            cr4: context.paging().cr4,
            extended_control: context.extended_control(),
            apic_enabled: vcpu.lapic.is_enabled(),
        };
        let policy = vcpu.domain().cpu_policy.lock().clone();
        let answer = policy.answer(
            general[register::RAX] as u32,
            general[register::RCX] as u32,
            &asker,
        );
        let registers = context.registers_mut();
        let places = [register::RAX, register::RBX, register::RCX, register::RDX];
        for (place, value) in places.into_iter().zip(answer) {
            registers.general[place] = u64::from(value);
        }
        context.advance();
    }

    /// HLT: wait for an interrupt. With interrupts disabled none would ever come: that is how Linux ends.
    fn halt(&self, vcpu: &VcpuHandle<M>, context: &mut M::Vcpu) {
        // First over the instruction: it ends the shadow of an STI before it.
        context.advance();
        let interruptible = context.interrupts_enabled();
        if interruptible || vcpu.nmi_pending.load(Ordering::SeqCst) {
            self.block(vcpu);
            return;
        }
        vcpu.stops.fetch_or(stop::DOWN, Ordering::SeqCst);
        if self.all_down(vcpu) {
            self.shutdown_domain(vcpu.domain(), shutdown::POWEROFF as u8);
        }
    }

    /// Block until something happens, unless it already has.
    pub(crate) fn block(&self, vcpu: &VcpuHandle<M>) {
        vcpu.stops.fetch_or(stop::BLOCKED, Ordering::SeqCst);
        // Whoever raised something before this point did not find us blocked: look for ourselves.
        if self.has_work(vcpu) {
            vcpu.stops.fetch_and(!stop::BLOCKED, Ordering::SeqCst);
        }
    }

    fn all_down(&self, vcpu: &VcpuHandle<M>) -> bool {
        let mut down = true;
        self.each_vcpu(vcpu.domain(), |other| down &= !other.is_up());
        down
    }

    fn triple_fault(&self, vcpu: &VcpuHandle<M>, context: &mut M::Vcpu) {
        // HVM_PARAM_TRIPLE_FAULT_REASON.
        let reason = vcpu.domain().hvm_parameters.lock()[31] as u8;
        log::warn!(
            "{} v{}: triple fault, shutdown reason {reason}",
            Named(vcpu),
            vcpu.index
        );
        if u32::from(reason) == shutdown::CRASH || vcpu.domain().privileged {
            self.crash_domain(vcpu, context, "triple fault");
        } else {
            self.shutdown_domain(vcpu.domain(), reason);
        }
    }
}

fn set_extended_control<M: Machine>(vcpu: &VcpuHandle<M>, context: &mut M::Vcpu) {
    let general = context.registers().general;
    let index = general[register::RCX] as u32;
    let value = (general[register::RAX] & 0xffff_ffff) | (general[register::RDX] << 32);
    let offered = vcpu.domain().cpu_policy.lock().extended_features();
    let allowed = context.paging().privilege == 0 && index == 0 && value & !offered == 0 && value & 1 != 0;
    if allowed && context.set_extended_control(value) {
        context.advance();
    } else {
        context.inject(Exception::GENERAL_PROTECTION);
    }
}

/// A domain as messages name it.
pub(crate) struct Named<'a, M: Machine>(pub &'a VcpuHandle<M>);

impl<M: Machine> core::fmt::Display for Named<'_, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "d{}", self.0.domain_id.0)
    }
}

#[cfg(test)]
mod tests;
