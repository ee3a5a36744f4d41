//! Ports that become pending: the 2-level ABI's bitmaps in the shared page, and who is told.

use hypercall_abi::Error;
use hypercall_abi::event_channel::TWO_LEVEL_CHANNELS;

use super::Model;
use super::event_channel::Binding;

/// Offsets of the bitmaps in the shared page.
const PENDING: usize = 2048;
const MASK: usize = 2560;

/// What a port that became pending asks for.
#[derive(Clone, Copy, Default)]
pub struct Raised {
    /// It was not pending before.
    pub newly: bool,
    /// Its vCPU must be told.
    pub tell: bool,
}

/// A port's word in a bitmap, as an offset, and its bit; the 2-level ABI has no more than 4096.
fn place(port: u32) -> Option<(usize, u64)> {
    (port < TWO_LEVEL_CHANNELS).then(|| (port as usize / 64 * 8, 1 << (port % 64)))
}

impl Model {
    /// A vCPU's virtual interrupt happens. If it is bound to no port, nothing does.
    pub(super) fn raise_virq(&mut self, domain: u16, vcpu: u32, number: u32) {
        if let Some(port) = self.at(domain).events.virq(vcpu, number) {
            self.raise(domain, port);
        }
    }

    /// A port becomes pending, and who waits for that is told.
    pub(super) fn raise(&mut self, domain: u16, port: u32) {
        let raised = self.mark(domain, port);
        if raised.newly {
            self.wake_pollers(domain, Some(port));
        }
        if raised.tell {
            let vcpu = self.at(domain).events.ports[port as usize].vcpu;
            self.raise_upcall(domain, vcpu);
        }
    }

    pub(super) fn mark(&mut self, domain: u16, port: u32) -> Raised {
        if self.at(domain).events.fifo.is_some() {
            return self.mark_in_fifo(domain, port);
        }
        let page = &self.at(domain).shared_info;
        let Some((word, bit)) = place(port) else {
            return Raised::default();
        };
        if page.set_bits(PENDING + word, bit) & bit != 0 {
            return Raised::default();
        }
        let masked = page.load::<u64>(MASK + word) & bit != 0;
        Raised {
            newly: true,
            tell: !masked && self.select(domain, port),
        }
    }

    /// Note in the vCPU's selector where to look; whether it must be told.
    fn select(&self, domain: u16, port: u32) -> bool {
        let vcpu = self.at(domain).events.ports[port as usize].vcpu;
        let vcpus = &self.at(domain).vcpus;
        vcpus
            .get(vcpu as usize)
            .is_some_and(|vcpu| vcpu.select(port / 64))
    }

    pub(super) fn unmask(&mut self, port: u32) -> Result<(), Error> {
        let me = self.caller.domain;
        if self.me().events.port(port)?.binding == Binding::Closed {
            return Ok(());
        }
        if let Some(fifo) = &self.me().events.fifo {
            if fifo.unmask(port) {
                self.raise(me, port);
            }
        } else if let Some((word, bit)) = place(port) {
            let page = &self.me().shared_info;
            let was_masked = page.clear_bits(MASK + word, bit) & bit != 0;
            let pending = page.load::<u64>(PENDING + word) & bit != 0;
            if was_masked && pending && self.select(me, port) {
                self.raise_upcall(me, self.me().events.ports[port as usize].vcpu);
            }
        }
        Ok(())
    }

    pub(super) fn clear_pending(&self, domain: u16, port: u32) {
        let domain = self.at(domain);
        match (&domain.events.fifo, place(port)) {
            (Some(fifo), _) => fifo.clear_pending(port),
            (None, Some((word, bit))) => {
                domain.shared_info.clear_bits(PENDING + word, bit);
            }
            (None, None) => {}
        }
    }

    pub(super) fn is_pending_in_page(&self, domain: u16, port: u32) -> bool {
        let page = &self.at(domain).shared_info;
        place(port).is_some_and(|(word, bit)| page.load::<u64>(PENDING + word) & bit != 0)
    }

    pub(super) fn is_pending(&self, domain: u16, port: u32) -> Result<bool, Error> {
        let events = &self.at(domain).events;
        let deferred = events.port(port)?.deferred;
        Ok(match &events.fifo {
            Some(fifo) => fifo.is_pending(port) || deferred,
            None => self.is_pending_in_page(domain, port),
        })
    }

    /// End the polls for a port, or for any.
    pub(super) fn wake_pollers(&mut self, domain: u16, port: Option<u32>) {
        for index in 0..self.at(domain).vcpus().len() as u32 {
            let vcpu = self.vcpu_mut(domain, index);
            let waits_for = |port: u32| vcpu.polling == port.wrapping_add(1) || vcpu.polling == u32::MAX;
            if vcpu.polls && port.is_none_or(waits_for) {
                vcpu.polls = false;
                self.reconsider(domain, index);
            }
        }
    }

    /// Tell a vCPU that an event waits.
    pub(super) fn raise_upcall(&mut self, domain: u16, index: u32) {
        if !self.at(domain).has_vcpu(index) {
            return;
        }
        let vcpu = self.vcpu(domain, index);
        if vcpu.has_info() && !vcpu.upcall_pending() {
            vcpu.info.0.store(vcpu.info.1, 1u8);
        }
        self.unblock(domain, index);
    }
}
